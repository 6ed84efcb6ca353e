"""`bareboat simulate …`: a cloud that costs nothing, in a process of its own."""

import asyncio
import contextlib
import importlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import rich.console
import typer
import yaml

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

Port = Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")]
ApiKey = Annotated[str | None, typer.Option(help="The key it accepts. Default: a new one.")]
Speed = Annotated[float, typer.Option(help="Simulated seconds in a real one.")]
Machines = Annotated[
    Literal["auto", "real", "none"],
    typer.Option("--machines", help="Run what is rented as processes, or only pretend. auto: real where possible."),
]
WithStdin = Annotated[bool, typer.Option("--exit-with-stdin", help="End when standard input is closed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON line, on a terminal too.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same world.", rich_help_panel=WORLD)]
Offers = Annotated[int, typer.Option(min=1, max=100_000, help="At least so many.", rich_help_panel=WORLD)]
Foreign = Annotated[int, typer.Option(min=0, max=3, help="Pods of others on the same account.", rich_help_panel=WORLD)]
Credit = Annotated[float, typer.Option(help="Dollars on the account.", rich_help_panel=WORLD)]
Boot = Annotated[
    Literal["normal", "instant"], typer.Option(help="How long machines take to start.", rich_help_panel=WORLD)
]
Churn = Annotated[bool, typer.Option(help="Prices and offers change.", rich_help_panel=WORLD)]
Profile = Annotated[
    Literal["none", "quirks", "nasty"] | None,
    typer.Option(help="quirks: a good day of the real cloud; nasty: a bad one.", rich_help_panel=MISBEHAVIOUR),
]
FaultScript = Annotated[
    Path | None, typer.Option("--faults", help="A YAML fault script.", rich_help_panel=MISBEHAVIOUR)
]
RateLimits = Annotated[
    bool | None, typer.Option(help="429 for calls too close together (on).", rich_help_panel=MISBEHAVIOUR)
]
Switch = Annotated[
    list[str] | None,
    typer.Option(help="name=value, for behaviour that is disputed; repeatable.", rich_help_panel=MISBEHAVIOUR),
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command line says, the same for every cloud. `more` goes to the cloud's `served` as it is."""

    cloud: str
    port: int
    api_key: str | None
    speed: float
    machines: str
    with_stdin: bool
    as_json: bool
    script: Path | None
    profile: str | None
    rate_limits: bool | None
    switch: tuple[str, ...]
    plan: Mapping[str, Any]
    churn: bool
    instant: bool
    more: Mapping[str, Any]


@app.callback()
def root() -> None:
    """Simulated clouds: the real API, real processes, no money."""


@app.command()
def vast(
    port: Port = 0,
    api_key: ApiKey = None,
    speed: Speed = 1.0,
    run: Machines = "auto",
    with_stdin: WithStdin = False,
    as_json: AsJson = False,
    seed: Seed = 1,
    offers: Offers = 320,
    credit: Credit = 100.0,
    boot: Boot = "normal",
    churn: Churn = True,
    profile: Profile = None,
    fault_script: FaultScript = None,
    rate_limits: RateLimits = None,
    switch: Switch = None,
) -> None:
    """Serve a simulated Vast.ai on this machine until Ctrl-C."""
    plan = {"seed": seed, "offers": offers, "credit_usd": credit}
    _run(
        Wanted(
            "vast",
            port,
            api_key,
            speed,
            run,
            with_stdin,
            as_json,
            fault_script,
            profile,
            rate_limits,
            tuple(switch or ()),
            plan,
            churn,
            boot == "instant",
            {},
        )
    )


@app.command()
def runpod(
    port: Port = 0,
    api_key: ApiKey = None,
    speed: Speed = 1.0,
    run: Machines = "auto",
    with_stdin: WithStdin = False,
    as_json: AsJson = False,
    seed: Seed = 1,
    foreign: Foreign = 3,
    credit: Credit = 100.0,
    boot: Boot = "normal",
    churn: Churn = True,
    profile: Profile = None,
    fault_script: FaultScript = None,
    rate_limits: RateLimits = None,
    switch: Switch = None,
) -> None:
    """Serve a simulated RunPod (REST v2, REST v1, GraphQL) on this machine until Ctrl-C."""
    _run(
        Wanted(
            "runpod",
            port,
            api_key,
            speed,
            run,
            with_stdin,
            as_json,
            fault_script,
            profile,
            rate_limits,
            tuple(switch or ()),
            {"seed": seed, "credit_usd": credit},
            churn,
            boot == "instant",
            {"foreign": foreign},
        )
    )


def _run(wanted: Wanted) -> None:
    sim = importlib.import_module(f"bareboat.clouds.{wanted.cloud}.sim")  # only the cloud that is asked for
    try:
        script = _script(wanted.script, wanted.profile)
        chosen = sim.Switches()
        values = {**(script.pop("switches", None) or {}), **_switches(wanted.switch)}
        chosen.change(values if wanted.rate_limits is None else {**values, "rate_limits": wanted.rate_limits})
        clock.check_speed(wanted.speed)
        world: dict[str, Any] = dict(wanted.plan)
        if not wanted.churn:
            world["churn"] = market.Churn.none()
        if wanted.instant:
            world["boot"] = rentals.BootTimes.instant()
        plan = getattr(sim, "planned", estate.Plan)(**world)
        logs.configure("text" if sys.stderr.isatty() else "json", "warning")
        asyncio.run(_serve(sim, wanted, plan, script, chosen))
    except (faults.BadScript, ValueError, machines.MachineError, OSError) as error:
        err.print(f"bareboat simulate {wanted.cloud}: {error}", markup=False, soft_wrap=True)
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


def _switches(given: tuple[str, ...]) -> dict[str, Any]:
    """`name=value` words; values are read as YAML, so that true and 5 are what they look like."""
    pairs = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"--switch {word}: it has to be name=value")
        pairs[name] = yaml.safe_load(value)
    return pairs


async def _serve(sim: Any, wanted: Wanted, plan: estate.Plan, script: dict[str, Any], chosen: Any) -> None:
    told = _told_to_stop(with_stdin=wanted.with_stdin)
    catalog = images.Catalog()
    terminal = sys.stdout.isatty() and not wanted.as_json
    async with _park(wanted.machines) as (park, losses):
        running = sim.served(
            port=wanted.port,
            clock=clock.SimulatedClock(wanted.speed),
            seed=plan.seed,
            script=script,
            switches=chosen,
            plan=plan,
            park=park,
            catalog=catalog,
            api_key=wanted.api_key,
            **wanted.more,
        )
        async with running as simulator:
            if terminal:
                _tell(simulator, wanted, park, losses)
            else:
                _announce(simulator, park, losses)
            await told.wait()
            usd = simulator.ledger.spend()
            left = len(simulator.ledger.running_now())
    if terminal:
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


def _announce(simulator: Any, park: machines.Machines | None, losses: tuple[str, ...]) -> None:
    """One JSON line for programs."""
    line = {
        "url": simulator.url,
        "api_key": simulator.api_key,
        "result_url": getattr(simulator, "result_url", None),
        "registry_url": simulator.registry_url,
        "control_url": f"{simulator.url}/control/",
        "pid": os.getpid(),
        "machines": park.rung if park is not None else "none",
        "losses": losses,
    }
    told = {key: value for key, value in line.items() if value is not None}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def _tell(simulator: Any, wanted: Wanted, park: machines.Machines | None, losses: tuple[str, ...]) -> None:
    asks = len(list(simulator.estate.market.asks(simulator.estate.now())))
    name = {"vast": "Vast.ai", "runpod": "RunPod"}[wanted.cloud]
    variable = wanted.cloud.upper()
    out.print(f"Simulated {name} with {asks} offers, {wanted.speed:g} times as fast as real time.", style="bold")
    out.print(
        f"  export {variable}_URL={simulator.url}\n  export {variable}_API_KEY={simulator.api_key}", soft_wrap=True
    )
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
