"""Runs one command and makes sure that it never outlives the process that asked for it. Standard library only.

Started as a program of its own (`python -I -S keeper.py command…`) with a pipe on its standard input whose other end
the asking process holds. The pipe closes however that process ends, SIGKILL included; the command is then killed.
Should the keeper itself be killed, the kernel kills the command (Linux): the keeper has one thread, so the kernel's
"parent death" signal, which follows the thread that forked, cannot fire too early.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
COMMAND_NOT_STARTED = 127


def main(command: Sequence[str]) -> int:
    """Returns the command's exit code, or 128 + signal as shells do."""
    _lead_group(0)  # Ctrl-C at a terminal is for the asking process to act upon, not for each child by itself
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)  # each signal becomes one byte, its number
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    child = _start(command)
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        signals = os.read(wake_read, 64) if wake_read in ready else b""
        if signal.SIGCHLD in signals:
            finished, status = os.waitpid(child, os.WNOHANG)
            if finished:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        if signal.SIGTERM in signals or (0 in ready and not os.read(0, 64)):
            os.killpg(child, signal.SIGKILL)  # and what it has started, such as Go's compilers
            os.waitpid(child, 0)
            return 128 + signal.SIGKILL


def _start(command: Sequence[str]) -> int:
    keeper = os.getpid()
    child = os.fork()
    if child:
        _lead_group(child)
        return child
    _lead_group(0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:  # died between fork and prctl
        os._exit(COMMAND_NOT_STARTED)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    try:
        os.execv(command[0], list(command))
    except OSError as error:
        os.write(2, f"{command[0]} can't be started: {error.strerror}\n".encode())
        os._exit(COMMAND_NOT_STARTED)


def _lead_group(pid: int) -> None:
    # Keeper and child both do this to the child, so that it is done before either goes on; the later one may fail.
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # without the interpreter's farewell, during which a signal would change the exit code
