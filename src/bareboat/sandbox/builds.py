"""Builds one program with Go from the sources that `gomodules/` pins by hash. Minutes for the first, seconds later."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from bareboat.sandbox import processes, programs

MODULES = Path(__file__).parent / "gomodules"
POLL_S = 0.2
# A workspace or flags that the user set for other work would change what is built.
CLEAN_GO = {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly"}
# Where Go's own installer puts it; not every shell has that on its PATH.
USUAL_GO = Path("/usr/local/go/bin/go")


class GoMissing(Exception):
    """There is no Go on this machine."""


class BuildFailed(Exception):
    """Go ended with an error; the message holds the end of what it said."""


def find_go() -> Path:
    """The `go` command. Raises `GoMissing`."""
    on_path = shutil.which("go")
    if on_path is not None:
        return Path(on_path)
    if os.access(USUAL_GO, os.X_OK):
        return USUAL_GO
    raise GoMissing


async def build(program: programs.Program, *, target: Path, on_tick: Callable[[], None]) -> None:
    """Writes the executable to `target`; calls `on_tick` a few times a second. Ends the compilers when cancelled.

    Sources come from the module proxy that Go is set up with, checked against `go.sum`.
    Raises `GoMissing` or `BuildFailed`.
    """
    go = find_go()
    command: list[str | Path] = [
        go,
        "build",
        "-trimpath",
        f"-ldflags={program.linker_flags}",
        f"-o={target}",
        program.package,
    ]
    log_path = target.with_name(f"{target.name}.log")
    log_path.unlink(missing_ok=True)
    # Go cleans up behind itself only when it is not killed.
    scratch = target.with_name(".go-build")
    scratch.mkdir(exist_ok=True)
    running = processes.Component(
        program.name,
        command,
        folder=MODULES / program.module,
        log_path=log_path,
        environment={**os.environ, **CLEAN_GO, "GOTMPDIR": str(scratch)},
    )
    try:
        while running.exit_code is None:
            on_tick()
            await asyncio.sleep(POLL_S)
    finally:
        running.stop()
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
    if running.exit_code != 0:
        raise BuildFailed(f"go build {program.package} failed:\n{processes.log_end(log_path)}")
    log_path.unlink(missing_ok=True)
