"""`bareboat sweep`: instances of this cluster whose owner does not exist any more; shown, and ended with `--yes`."""

import sys
from typing import Annotated, Any

import typer

from bareboat.cli import instances, looking
from bareboat.fleet import ending
from bareboat.node import sweeping


def command(
    yes: Annotated[bool, typer.Option("--yes", help="End them; without it they are only shown.")] = False,
    proxy: Annotated[bool, typer.Option("--proxy", help="Those of `bareboat proxy` instead.")] = False,
    unnamed: Annotated[
        bool, typer.Option("--unnamed", help="With --proxy: also those made without BAREBOAT_CLUSTER_ID.")
    ] = False,
    output: looking.Output = looking.Format.TABLE,
    clouds: looking.Clouds = None,
    kubeconfig: looking.Kubeconfig = None,
    context: looking.Context = None,
) -> None:
    """Show rented instances of this cluster whose pod does not exist any more; with --yes end them.

    Exit code 0 when none is left over, 1 when some are or a cloud could not be asked.
    """
    if proxy:
        from bareboat.cli import proxy_sweep  # another front door, with settings of its own

        if output is looking.Format.JSON:
            raise typer.Exit(looking.tell("sweep", "-o json is not for --proxy", 2))
        raise typer.Exit(proxy_sweep.run(yes=yes, unnamed=unnamed, kubeconfig=kubeconfig, context=context))

    async def work() -> int:
        async with looking.opened(kubeconfig, context, clouds) as view:
            return await _swept(view, yes, output)

    looking.run("sweep", work)


async def _swept(view: looking.View, yes: bool, output: looking.Format) -> int:
    findings, troubles = await _judged(view)
    over = [each for each in findings if not each.keep]
    left: list[str] = []
    ended: list[str] = []
    if yes and over:
        # What is ended is judged anew, on lists that began after the word was given.
        findings, troubles = await _judged(view)
        over = [each for each in findings if not each.keep]
        several = [each.held.instance for each in over]
        remaining = await ending.end(several, view.clouds, view.clock, why="its pod does not exist")
        left = [f"{each.cloud}/{each.id}" for each in remaining]
        ended = [name for each in several if (name := f"{each.cloud}/{each.id}") not in left]
    if output is looking.Format.JSON:
        looking.write(as_json(findings, ended, left, troubles))
    else:
        _show(findings, yes, ended, left)
    for trouble in troubles.values():
        looking.tell("sweep", f"what it holds is unknown: {trouble}")
    return 1 if troubles or left or (over and not yes) else 0


async def _judged(view: looking.View) -> tuple[list[sweeping.Finding], dict[str, str]]:
    found = await view.inventory()
    return sweeping.judge(found, view.renting.guard_age_s), dict(found.troubles)


def as_json(
    findings: list[sweeping.Finding], ended: list[str], left: list[str], unknown: dict[str, str]
) -> dict[str, Any]:
    """Keys are only ever added."""
    return {
        "instances": [
            instances.one(each.held) | {"over": not each.keep, "kept_because": each.keep} for each in findings
        ],
        "ended": ended,
        "not_gone": left,
        "unknown": unknown,
    }


def _show(findings: list[sweeping.Finding], yes: bool, ended: list[str], left: list[str]) -> None:
    shown = [each for each in findings if each.held.pod is None]
    if shown:
        made = looking.table("INSTANCE", "OWNER", "$/H", "AGE", "SPENT", "VERDICT", right=("$/H", "AGE", "SPENT"))
        for each in shown:
            held = each.held
            name = f"{held.instance.cloud}/{held.instance.id}"
            row = (held.owner_uid, instances.price(held), looking.age(held.age_s), looking.usd(held.usd))
            made.add_row(name, *row, f"left alone: {each.keep}" if each.keep else "its pod is gone")
        looking.show(made)
    over = sum(not each.keep for each in findings)
    owned = len(findings) - len(shown)
    sys.stdout.write(f"of {len(findings)} rented {owned} belong to pods that exist; {over} may be ended\n")
    if over and not yes:
        sys.stdout.write("say --yes to end them\n")
    sys.stdout.writelines(f"{name} is ended\n" for name in ended)
    sys.stdout.writelines(f"{name} is not gone yet: run this again\n" for name in left)
