"""Keeps one control plane up in a process of its own, until a signal or the death of a component ends it.

`start` runs this module as a detached process. That process tells by one line of JSON on its standard output whether
the control plane is ready; a starter that has gone by then gets nothing started.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Literal

from bareboat.sandbox import controlplane, folders, processes
from bareboat.sandbox import settings as sandbox_settings

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_TIMEOUT_S = 20.0
POLL_S = 0.05


class StartFailed(Exception):
    """The detached control plane did not come up; the message says why. Nothing is left running."""


class NotOurs(Exception):
    """The sandbox lives inside another program, such as a test run; it goes when that program ends."""


async def run(control: controlplane.ControlPlane, on_ready: Callable[[], None]) -> None:
    """Starts `control`, calls `on_ready`, and returns once SIGINT, SIGTERM or SIGHUP has ended it.

    A dead component ends it too, with `processes.ComponentDied`; the folder then stays as a report.
    """
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(_serve(control, on_ready), name="sandbox.supervisor")
    received: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        received.append(number)
        work.cancel()

    for number in ENDING_SIGNALS:
        loop.add_signal_handler(number, end, number)
    try:
        await work
    except asyncio.CancelledError:
        if not received:
            raise
    finally:
        for number in ENDING_SIGNALS:
            loop.remove_signal_handler(number)


async def _serve(control: controlplane.ControlPlane, on_ready: Callable[[], None]) -> None:
    try:
        await control.start()
        on_ready()
        await control.watch()
    except processes.ComponentDied as death:
        await control.stop(failure=str(death))
        raise
    finally:
        await control.stop()


def start(name: str, settings: sandbox_settings.Settings) -> None:
    """Brings a sandbox up that outlives this process. Blocks until it is ready; raises `StartFailed`.

    The programs should be at hand (`binaries.ensure`), since nobody hears of progress from here.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "bareboat.sandbox.supervisor", name, settings.model_dump_json()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
            cwd="/",
        )
        assert process.stdout is not None
        try:
            answer = json.loads(process.stdout.readline() or "{}")
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            process.stdout.close()
        if answer.get("ready"):
            process.returncode = 0  # it lives on by design; Popen would warn of that when it is collected
            return
        code = process.wait()
        said.seek(0)
        message = answer.get("error") or said.read().decode(errors="replace").strip()
        raise StartFailed(message or f"the sandbox's supervisor ended with exit code {code} and said nothing")


def stop(name: str, settings: sandbox_settings.Settings) -> Literal["stopped", "removed", "absent"]:
    """Takes a sandbox down and removes what is left of it; `removed` when it had ended before. Blocks.

    Raises `NotOurs` and `folders.BadName`.
    """
    folder = settings.state_folder / folders.check_name(name)
    claim = folders.read(folder)
    if claim is None:
        return "removed" if name in folders.remove_stale(settings.state_folder, also=folder) else "absent"
    if not claim.supervised:
        raise NotOurs(f"sandbox {name!r} belongs to process {claim.owner.pid} and goes when that ends")
    _signal(claim.owner, signal.SIGTERM)
    give_up_s = time.monotonic() + STOP_TIMEOUT_S
    while claim.owner.alive:
        if time.monotonic() > give_up_s:
            _signal(claim.owner, signal.SIGKILL)  # the components' keepers see to the rest
        time.sleep(POLL_S)
    folders.remove_stale(settings.state_folder, also=folder)
    return "stopped"


def _signal(owner: folders.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        if owner.alive:
            os.kill(owner.pid, number)


def _answer(**content: str | bool) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def main(name: str, settings: sandbox_settings.Settings) -> int:
    """The detached process. Returns its exit code."""
    control = controlplane.ControlPlane(name, settings=settings, supervised=True)
    try:
        asyncio.run(run(control, on_ready=lambda: _answer(ready=True)))
    except BrokenPipeError:
        return 1  # whoever started us has gone, and what was started is stopped again
    except (*controlplane.START_ERRORS, OSError) as error:
        with contextlib.suppress(BrokenPipeError):
            _answer(error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sandbox_settings.Settings.model_validate_json(sys.argv[2])))
