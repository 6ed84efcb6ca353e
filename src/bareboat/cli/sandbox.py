"""`bareboat sandbox …`: a real control plane on this machine, for trying things out."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any

import pydantic
import rich.console
import rich.markup
import rich.status
import rich.table
import typer

from bareboat.sandbox import binaries, controlplane, folders, reports, supervisor
from bareboat.sandbox import settings as sandbox_settings

PLAIN_EVERY_S = 15.0
LONG_BUILD = "No release in reach: building from source. This takes 5 to 10 minutes, once."

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="A real Kubernetes control plane on this machine, without containers.",
)
Name = Annotated[str, typer.Option("--name", "-n", help="Several sandboxes can be up side by side, one per name.")]
out = rich.console.Console()
err = rich.console.Console(stderr=True)


@app.command()
def up(
    name: Name = "default",
    foreground: Annotated[bool, typer.Option(help="Stay here until Ctrl-C, then take it down.")] = False,
) -> None:
    """Start etcd, kube-apiserver, kube-controller-manager and kube-scheduler. The first time, get or build them."""
    with _errors_for_people():
        settings = _settings()
        folders.check_name(name)
        holder = folders.read(settings.state_folder / name)
        if holder is not None and not foreground:
            out.print(f"Sandbox {name!r} is already up.")
            _print_use(name, settings)
            return
        started_s = time.monotonic()
        with progress() as on_progress:
            found = asyncio.run(binaries.ensure(settings, on_progress))
        for remark in found.remarks:
            err.print(f"note: {remark}", style="dim", markup=False, highlight=False)
        if foreground:
            asyncio.run(_foreground(name, settings, started_s))
        else:
            with err.status("Starting the control plane …"):
                supervisor.start(name, settings)
            _print_ready(name, settings, started_s)


@app.command()
def down(name: Name = "default") -> None:
    """Stop a sandbox and remove everything in it."""
    with _errors_for_people():
        outcome = supervisor.stop(name, _settings())
    sentence = {"stopped": "is down", "removed": "had ended; what it left is removed", "absent": "was not up"}[outcome]
    out.print(f"Sandbox {name!r} {sentence}.", highlight=False)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show the sandboxes of this user. Exit code 1 when one has failed."""
    with _errors_for_people():
        settings = _settings()
        found = reports.read_all(settings.state_folder)
        folders.remove_stale(settings.state_folder)
    if as_json:
        sys.stdout.write(json.dumps([_as_json(report) for report in found]) + "\n")
    elif not found:
        out.print("No sandbox is up. Start one with: bareboat sandbox up", highlight=False)
    else:
        _print_table(found)
    if any(report.state == "failed" for report in found):
        raise typer.Exit(1)


@app.command()
def kubeconfig(
    name: Name = "default",
    content: Annotated[bool, typer.Option("--content", help="Print the file itself instead of its path.")] = False,
) -> None:
    """Print the path of the administrator's kubeconfig: export KUBECONFIG=$(bareboat sandbox kubeconfig)"""
    with _errors_for_people():
        folder = _settings().state_folder / folders.check_name(name)
        path = folder / "kubeconfig"
        if folders.read(folder) is None or not path.exists():
            raise folders.BadName(f"sandbox {name!r} is not up; start it with: bareboat sandbox up --name {name}")
        text = path.read_text() if content else f"{path}\n"
    sys.stdout.write(text)


@contextlib.contextmanager
def progress() -> Iterator[binaries.Listener]:
    """Shows on standard error what is being fetched or built: one live line on a terminal, else a line now and then."""
    if not err.is_terminal:
        yield _PlainProgress()
        return
    with contextlib.ExitStack() as stack:
        shown: list[rich.status.Status] = []
        warned: list[str] = []

        def show(step: binaries.Progress) -> None:
            if not shown:
                shown.append(stack.enter_context(err.status("")))
            if _is_long(step) and not warned:
                warned.append(step.program)
                err.print(LONG_BUILD)
            shown[0].update(rich.markup.escape(_sentence(step)))

        yield show


class _PlainProgress:
    """Prints a line when the step changes, and every so often while it lasts."""

    def __init__(self) -> None:
        self._step = ("", "")
        self._said_s = 0.0
        self._warned = False

    def __call__(self, step: binaries.Progress) -> None:
        if (step.action, step.program) == self._step and step.elapsed_s - self._said_s < PLAIN_EVERY_S:
            return
        if _is_long(step) and not self._warned:
            self._warned = True
            err.print(LONG_BUILD, highlight=False, soft_wrap=True)
        self._step, self._said_s = (step.action, step.program), step.elapsed_s
        err.print(_sentence(step), markup=False, highlight=False)


def _is_long(step: binaries.Progress) -> bool:
    return step.action == "building" and step.of > 1


def _sentence(step: binaries.Progress) -> str:
    minutes, seconds = divmod(int(step.elapsed_s), 60)
    so_far = f"{minutes}:{seconds:02d} so far"
    if step.action == "waiting":
        return f"Waiting for another start that gets the control plane's programs, {so_far}"
    verb = {"looking": "Looking for a release of", "downloading": "Downloading", "building": "Building"}[step.action]
    done = f", {step.fraction:.0%} of it" if step.fraction is not None else ""
    return f"{verb} {step.program} ({step.n} of {step.of}{done}), {so_far}; only needed this once"


async def _foreground(name: str, settings: sandbox_settings.Settings, started_s: float) -> None:
    control = controlplane.ControlPlane(name, settings=settings, supervised=True)

    def on_ready() -> None:
        _print_ready(name, settings, started_s)
        out.print("Ctrl-C takes it down.")

    await supervisor.run(control, on_ready)
    out.print(f"Sandbox {name!r} is down.", highlight=False)


def _print_ready(name: str, settings: sandbox_settings.Settings, started_s: float) -> None:
    out.print(f"Sandbox {name!r} is up after {time.monotonic() - started_s:.1f} s.", highlight=False)
    _print_use(name, settings)


def _print_use(name: str, settings: sandbox_settings.Settings) -> None:
    # On a line of its own and never wrapped, so that it can be copied.
    out.print(f"  export KUBECONFIG={settings.state_folder / name / 'kubeconfig'}", soft_wrap=True, highlight=False)


def _print_table(found: list[reports.Report]) -> None:
    table = rich.table.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("NAME", no_wrap=True, max_width=20)
    for title in ("STATE", "AGE", "VERSION", "API SERVER"):
        table.add_column(title, no_wrap=True)
    table.add_column("MEMORY", justify="right", no_wrap=True)
    for report in found:
        memory = f"{report.memory_mib} MiB" if report.memory_mib else ""
        table.add_row(report.name, report.state, _age(report.age_s), report.version, report.url, memory)
    out.print(table)
    for report in found:
        if report.state == "failed":
            out.print(f"{report.name}: {report.failure}", markup=False, highlight=False, soft_wrap=True)
        elif report.state == "stale":
            out.print(f"{report.name}: its process was killed; what it left has been removed.", highlight=False)


def _age(seconds: float) -> str:
    for unit, length_s in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length_s:
            return f"{int(seconds // length_s)}{unit}"
    return f"{max(0, int(seconds))}s"


def _as_json(report: reports.Report) -> dict[str, Any]:
    return {
        "name": report.name,
        "state": report.state,
        "age_s": round(report.age_s, 1),
        "owner_pid": report.owner_pid,
        "version": report.version,
        "url": report.url,
        "kubeconfig": str(report.kubeconfig_path) if report.state == "running" else None,
        "memory_mib": report.memory_mib,
        "pids": dict(report.pids),
        "failure": report.failure,
    }


def _settings() -> sandbox_settings.Settings:
    return sandbox_settings.Settings()


@contextlib.contextmanager
def _errors_for_people() -> Iterator[None]:
    """Turns what a person can mend into one message: exit code 2 for what they typed or set, 1 for what went wrong."""
    try:
        yield
    except pydantic.ValidationError as error:
        for problem in error.errors():
            field = "_".join(str(part) for part in problem["loc"]).upper()
            _fail(f"BAREBOAT_SANDBOX_{field} is {problem['input']!r}: {problem['msg']}")
        raise typer.Exit(2) from None
    except folders.BadName as error:
        _fail(str(error))
        raise typer.Exit(2) from None
    except (*controlplane.START_ERRORS, supervisor.StartFailed, supervisor.NotOurs, OSError) as error:
        _fail(str(error))
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        _fail("interrupted; nothing was left running")
        raise typer.Exit(130) from None


def _fail(message: str) -> None:
    err.print(f"bareboat sandbox: {message}", markup=False, highlight=False, soft_wrap=True)
