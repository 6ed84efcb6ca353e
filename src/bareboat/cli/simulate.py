"""`bareboat simulate …`: a cloud that costs nothing, in a process of its own."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

import rich.console
import typer
import yaml

from bareboat.clouds.vast import sim
from bareboat.clouds.vast.sim import switches
from bareboat.plumbing import logs
from bareboat.simulation import clock, estate, faults, images, market, rentals
from bareboat.simulation.machines import forked
from bareboat.simulation.machines import machine as machines

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Simulated clouds: the real API, real processes, no money."
)
out = rich.console.Console(highlight=False)
err = rich.console.Console(stderr=True, highlight=False)

WORLD = "The world"
MISBEHAVIOUR = "How it misbehaves"


@app.callback()
def root() -> None:
    """Simulated clouds: the real API, real processes, no money."""


@app.command()
def vast(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 0,
    api_key: Annotated[str | None, typer.Option(help="The key it accepts. Default: a new one.")] = None,
    speed: Annotated[float, typer.Option(help="Simulated seconds in a real one.")] = 1.0,
    run: Annotated[
        Literal["auto", "real", "none"],
        typer.Option("--machines", help="Run what is rented as processes, or only pretend. auto: real where possible."),
    ] = "auto",
    with_stdin: Annotated[bool, typer.Option("--exit-with-stdin", help="End when standard input is closed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line, on a terminal too.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same world.", rich_help_panel=WORLD)] = 1,
    offers: Annotated[int, typer.Option(min=1, max=100_000, help="At least so many.", rich_help_panel=WORLD)] = 320,
    credit: Annotated[float, typer.Option(help="Dollars on the account.", rich_help_panel=WORLD)] = 100.0,
    boot: Annotated[
        Literal["normal", "instant"], typer.Option(help="How long machines take to start.", rich_help_panel=WORLD)
    ] = "normal",
    churn: Annotated[bool, typer.Option(help="Prices and offers change.", rich_help_panel=WORLD)] = True,
    profile: Annotated[
        Literal["none", "quirks", "nasty"] | None,
        typer.Option(help="quirks: a good day of the real cloud; nasty: a bad one.", rich_help_panel=MISBEHAVIOUR),
    ] = None,
    fault_script: Annotated[
        Path | None, typer.Option("--faults", help="A YAML fault script.", rich_help_panel=MISBEHAVIOUR)
    ] = None,
    rate_limits: Annotated[
        bool | None, typer.Option(help="429 for calls too close together (on).", rich_help_panel=MISBEHAVIOUR)
    ] = None,
    switch: Annotated[
        list[str] | None,
        typer.Option(help="name=value, for behaviour that is disputed; repeatable.", rich_help_panel=MISBEHAVIOUR),
    ] = None,
) -> None:
    """Serve a simulated Vast.ai on this machine until Ctrl-C."""
    try:
        script = _script(fault_script, profile)
        chosen = switches.Switches()
        wanted = {**(script.pop("switches", None) or {}), **_switches(switch or [])}
        chosen.change(wanted if rate_limits is None else {**wanted, "rate_limits": rate_limits})
        clock.check_speed(speed)
        plan = estate.Plan(
            seed=seed,
            offers=offers,
            credit_usd=credit,
            churn=market.Churn() if churn else market.Churn.none(),
            boot=rentals.BootTimes() if boot == "normal" else rentals.BootTimes.instant(),
        )
        logs.configure("text" if sys.stderr.isatty() else "json", "warning")
        asyncio.run(_serve(port, speed, run, plan, script, chosen, api_key, with_stdin=with_stdin, as_json=as_json))
    except (faults.BadScript, switches.BadSwitch, ValueError, machines.MachineError, OSError) as error:
        err.print(f"bareboat simulate vast: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None


def _script(path: Path | None, profile: str | None) -> dict[str, Any]:
    document: Any = {}
    if path is not None:
        try:
            document = yaml.safe_load(path.read_text()) or {}
        except yaml.YAMLError as error:
            raise faults.BadScript(f"{path} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(document, dict):
            raise faults.BadScript(f"{path} has to be a mapping with `profile`, `faults` and `switches`")
    return {**document, "profile": profile} if profile is not None else document


def _switches(given: list[str]) -> dict[str, Any]:
    """`name=value` words; values are read as YAML, so that true and 5 are what they look like."""
    pairs = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals:
            raise switches.BadSwitch(f"--switch {word}: it has to be name=value")
        pairs[name] = yaml.safe_load(value)
    return pairs


async def _serve(
    port: int,
    speed: float,
    run: str,
    plan: estate.Plan,
    script: dict[str, Any],
    chosen: switches.Switches,
    api_key: str | None,
    *,
    with_stdin: bool,
    as_json: bool,
) -> None:
    told = _told_to_stop(with_stdin=with_stdin)
    catalog = images.Catalog()
    async with _park(run) as (park, losses):
        running = sim.served(
            port=port,
            clock=clock.SimulatedClock(speed),
            seed=plan.seed,
            script=script,
            switches=chosen,
            plan=plan,
            park=park,
            catalog=catalog,
            api_key=api_key,
        )
        async with running as simulator:
            _announce(simulator, park, losses, speed, as_json=as_json or not sys.stdout.isatty())
            await told.wait()
            usd = simulator.ledger.spend()
            left = len(simulator.ledger.running_now())
    if sys.stdout.isatty() and not as_json:
        out.print(f"\nEnded. Simulated spending ${usd.total:.4f}; instances that were still rented: {left}.")


@contextlib.asynccontextmanager
async def _park(run: str) -> AsyncIterator[tuple[machines.Machines | None, tuple[str, ...]]]:
    """Machines, or none with the reason said."""
    if run == "none":
        yield None, ("nothing really runs: machines are switched off",)
        return
    park = forked.ForkedMachines()
    try:
        await park.__aenter__()
    except machines.MachineError as error:
        if run == "real":
            raise
        yield None, (f"nothing really runs: {error.reason}",)
        return
    try:
        yield park, tuple(park.losses)
    finally:
        await park.close()


def _announce(
    simulator: sim.Simulator, park: machines.Machines | None, losses: tuple[str, ...], speed: float, *, as_json: bool
) -> None:
    if as_json:
        line = {
            "url": simulator.url,
            "api_key": simulator.api_key,
            "result_url": simulator.result_url,
            "registry_url": simulator.registry_url,
            "control_url": f"{simulator.url}/control/",
            "pid": os.getpid(),
            "machines": park.rung if park is not None else "none",
            "losses": losses,
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        return
    asks = len(list(simulator.estate.market.asks(simulator.estate.now())))
    out.print(f"Simulated Vast.ai with {asks} offers, {speed:g} times as fast as real time.", style="bold")
    out.print(f"  export VAST_URL={simulator.url}\n  export VAST_API_KEY={simulator.api_key}", soft_wrap=True)
    out.print(f"Image registry: {simulator.registry_url}\nLedger:         {simulator.url}/control/ledger")
    out.print(f"Machines:       {park.rung if park is not None else 'none'}", soft_wrap=True)
    for loss in losses:
        err.print(f"note: {loss}", style="dim", markup=False)
    out.print("Ctrl-C ends it, and everything that runs in it.")


def _told_to_stop(*, with_stdin: bool) -> asyncio.Event:
    """Set by a signal or the end of standard input; asked for before the world hears that we are ready."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    if with_stdin:
        loop.add_reader(sys.stdin.fileno(), _drain_stdin, loop, told)
    return told


def _drain_stdin(loop: asyncio.AbstractEventLoop, told: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        loop.remove_reader(sys.stdin.fileno())
        told.set()
