"""What `instances`, `costs`, `sweep` and `doctor` share: the cluster and its clouds, opened as the node would, and how
trouble is told: exit code 2 for what was typed or set wrong, 1 for what could not be found out."""

import asyncio
import contextlib
import enum
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import rich.box
import rich.console
import rich.table
import typer

from bareboat import assembly
from bareboat import settings as settings_
from bareboat.core import cloud as clouds
from bareboat.core import errors
from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import errors as kube_errors
from bareboat.node import inventory
from bareboat.plumbing import clock as clocks
from bareboat.plumbing import logs


class Format(enum.StrEnum):
    """Of what a command prints."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Format, typer.Option("--output", "-o", help="For people, or for programs.")]
Kubeconfig = Annotated[Path | None, typer.Option(help="Default: KUBECONFIG, ~/.kube/config, in-cluster.")]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig.")]
Clouds = Annotated[str | None, typer.Option(help="Default vast. [env BAREBOAT_CLOUDS]")]


@dataclass(frozen=True, slots=True)
class View:
    """All that a look needs. `clouds` by name."""

    client: clients.Client
    clouds: Mapping[str, clouds.Cloud]
    about: settings_.Node
    renting: settings_.Renting
    clock: clocks.Clock

    async def inventory(self) -> inventory.Inventory:
        """A fresh one."""
        whose = await inventory.cluster_id(self.client, self.about.cluster_id)
        return await inventory.look(self.client, self.clouds, whose, self.clock)


@contextlib.asynccontextmanager
async def opened(kubeconfig: Path | None, context: str | None, names: str | None) -> AsyncIterator[View]:
    """Raises `settings.Bad`, `ConfigError`; makes no call."""
    clock = clocks.SystemClock()
    about: settings_.Node = settings_.read(settings_.Node, clouds=names)
    renting: settings_.Renting = settings_.read(settings_.Renting)
    async with contextlib.AsyncExitStack() as stack:
        several = assembly.open_clouds(about.clouds, clock)
        for each in several.values():
            stack.push_async_callback(each.close)
        config = configs.load(kubeconfig, context)
        client = await stack.enter_async_context(clients.Client(config, clock=clock))
        yield View(client, several, about, renting, clock)


def run(command: str, work: Callable[[], Awaitable[int]]) -> None:
    """Ends the process with what `work` returns, or with a sentence for each line of what went wrong."""

    async def main() -> int:
        return await work()

    logs.configure(level="warning")
    try:
        code = asyncio.run(main())
    except (settings_.Bad, kube_errors.ConfigError, ValueError) as wrong:
        raise typer.Exit(tell(command, str(wrong), 2)) from None
    except (kube_errors.KubeError, errors.CloudError) as trouble:
        raise typer.Exit(tell(command, str(trouble), 1)) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if code:
        raise typer.Exit(code)


def tell(command: str, why: str, code: int = 0) -> int:
    sys.stderr.write("".join(f"bareboat {command}: {line}\n" for line in why.splitlines()))
    return code


def table(*columns: str, right: tuple[str, ...] = ()) -> rich.table.Table:
    """Long words are folded rather than cut: names have to be copied out of it."""
    made = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in right)
    return made


def show(made: rich.table.Table) -> None:
    rich.console.Console().print(made)


def write(told: Any) -> None:
    """For programs."""
    sys.stdout.write(json.dumps(told, indent=2) + "\n")


def age(seconds: float | None) -> str:
    """The two largest units, as kubectl shows ages: 45s, 12m, 3h5m, 2d4h."""
    if seconds is None:
        return "?"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86_400)
    if not minutes:
        return f"{int(seconds)}s"
    if not hours:
        return f"{minutes}m"
    return f"{hours}h{minutes % 60}m" if not days else f"{days}d{hours % 24}h"


def usd(dollars: float) -> str:
    """Cents, and what is less than ten of them exactly."""
    return f"{dollars:.2f}" if dollars >= 0.1 or not dollars else f"{dollars:.4f}"
