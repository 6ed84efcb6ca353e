"""`bareboat demo`: a GPU pod from its manifest to its last cent, on this machine, for nothing."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from bareboat.cli import offers
from bareboat.cli.demo import offload_story, provision_story, proxy_story, stage, story, terminal
from bareboat.kube import errors as kube_errors
from bareboat.sandbox import controlplane, processes
from bareboat.simulation import clock

DEFAULT_SPEED = 20.0
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130
DOORS: dict[str, type[story.Story]] = {
    "node": story.Story,
    "offload": offload_story.Story,
    "provision": provision_story.Story,
    "proxy": proxy_story.Story,
}


def command(
    door: Annotated[str, typer.Argument(help=f"Which front door to show: {', '.join(DOORS)}.")] = "node",
    pod: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Your own manifest: a Pod, Deployment, Job … Default: one that shows its GPU."
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything up to look around in, until Ctrl-C.")] = False,
    speed: Annotated[float, typer.Option(help="Seconds of the simulated cloud in a real one.")] = DEFAULT_SPEED,
) -> None:
    """A GPU pod from apply to ledger, on this machine, for nothing.

    Starts a real Kubernetes control plane, a simulated Vast.ai and the virtual node, shows what a pod's life looks
    like with the commands that you would type, and takes everything down again. The other doors are shown likewise.
    """
    teller = terminal.Teller()
    terminal.prepare_output()
    try:
        clock.check_speed(speed)
        _check_door(door, pod)
        plan = story.Plan(pod, "" if pod is None else _namespace(pod), speed, keep)
        told = asyncio.run(_perform(teller, plan, DOORS[door]))
    except (offers.BadInput, story.Refused, ValueError) as wrong:
        teller.error(str(wrong))
        raise typer.Exit(2) from None
    except (stage.Failed, *controlplane.START_ERRORS, kube_errors.KubeError, OSError) as trouble:
        teller.error(str(trouble))
        raise typer.Exit(1) from None
    raise typer.Exit(told)


def _namespace(manifest: Path) -> str:
    """The one that the manifest names, if any. Raises `offers.BadInput` when nothing in it makes a pod."""
    offers.from_file(manifest)
    documents = [each for each in yaml.safe_load_all(manifest.read_text()) if isinstance(each, dict)]
    items = [item for each in documents for item in (each.get("items") or [each]) if isinstance(item, dict)]
    named = ((item.get("metadata") or {}).get("namespace") for item in items)
    return str(next((name for name in named if name), ""))


def _check_door(door: str, pod: Path | None) -> None:
    if door not in DOORS:
        raise ValueError(f"there is no door {door!r}; there are {', '.join(DOORS)}")
    if pod is not None and door != "node":
        raise ValueError(f"--pod is for the node's demo; {door} shows what it makes by itself")


async def _perform(teller: terminal.Teller, plan: story.Plan, kind: type[story.Story]) -> int:
    """The exit code. A signal ends the show early, or ends the looking around at the end of it."""
    received: list[signal.Signals] = []
    async with stage.Stage(teller, plan.speed) as on:
        show = kind(on, teller, plan)
        work = asyncio.create_task(_while_all_lives(show.tell(), on), name="demo")
        loop = asyncio.get_running_loop()
        for number in ENDING_SIGNALS:
            loop.add_signal_handler(number, _hear, number, received, show, work)
        try:
            code = await work
        except processes.ComponentDied as death:
            raise stage.Failed(f"{death}\nThe logs stay in {on.folder} until the next demo.") from None
        except asyncio.CancelledError:
            if not received:
                raise
            code = INTERRUPTED
    if code == INTERRUPTED:
        teller.error("interrupted; nothing was left running")
    return code


def _hear(number: signal.Signals, received: list[signal.Signals], show: story.Story, work: asyncio.Task[int]) -> None:
    """The first signal counts; whoever is impatient can't keep us from cleaning up."""
    if show.looking.is_set() and not show.looked.is_set():
        show.looked.set()
    elif not received:
        received.append(number)
        work.cancel()


async def _while_all_lives(telling: Coroutine[Any, Any, int], on: stage.Stage) -> int:
    """Raises `processes.ComponentDied` when a part ends in the middle of it."""
    async with contextlib.AsyncExitStack() as stack:
        story_task = asyncio.create_task(telling, name="demo.story")
        watch_task = asyncio.create_task(on.watch(), name="demo.watch")
        stack.push_async_callback(_cancelled, (story_task, watch_task))
        await asyncio.wait((story_task, watch_task), return_when=asyncio.FIRST_COMPLETED)
        if not story_task.done():
            watch_task.result()
        return await story_task


async def _cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
