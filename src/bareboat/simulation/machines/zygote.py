"""The warmed process that machines are forked from: everything is imported before, so a machine costs a fork.

It stays single-threaded and runs no event loop. A request is one byte with open files: the control socket, over which
the plan comes as one line, and the machine's listening sockets. The end of its own socket, or the death of the
simulator, ends all machines and then the zygote.
"""

import array
import contextlib
import gc
import json
import os
import signal
import socket
import time
from typing import Any

from bareboat.simulation.machines import cgroups, ladder, monitor, ns

_MOST_FILES = 128
_LONGEST_BURIAL_S = 10.0


def main(fd: int) -> None:
    """Runs until the simulator is gone. First says on its socket which rung of the ladder carries."""
    requests = socket.socket(fileno=fd)

    def end(*_: object) -> None:
        # The signal and the end of the socket come at any two moments: one that raised could cut the burial short.
        with contextlib.suppress(OSError):
            requests.shutdown(socket.SHUT_RDWR)

    signal.signal(signal.SIGTERM, end)
    ns.die_with_parent(signal.SIGTERM)
    ns.adopt_orphans()
    cgroups.clean()
    rung = ladder.climb()
    said = {key: getattr(rung, key) for key in ("number", "sentence", "losses", "one_id", "usr_writable")}
    requests.sendall(json.dumps(said).encode() + b"\n")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the simulator's to handle
    gc.collect()
    gc.freeze()
    try:
        while files := _receive(requests):
            pid = os.fork()
            if pid == 0:
                requests.close()
                ns.run_in_child(lambda: _watch_over(files, rung))
            for file in files:
                os.close(file)
    finally:
        _bury()
        cgroups.clean(ended=os.getpid())


def _bury() -> None:
    """Ends everything below. Every orphan comes here and is reaped, which a process namespace needs to come to an end:

    one process in it whose parent was outside, dead but not reaped, would hold back its first one for ever.
    """
    deadline_s = time.monotonic() + _LONGEST_BURIAL_S
    while (rest := list(ns.descendants(os.getpid()))) and time.monotonic() < deadline_s:
        for pid in rest:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def _receive(requests: socket.socket) -> list[int]:
    """The files of the next request; none at the end."""
    fds = array.array("i")
    room = socket.CMSG_SPACE(_MOST_FILES * fds.itemsize)
    data, control, _, _ = requests.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in control:
        if data and level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return list(fds)


def _watch_over(files: list[int], rung: ladder.Rung) -> None:
    control, *listeners = (socket.socket(fileno=file) for file in files)
    sent = bytearray()
    while not sent.endswith(b"\n"):
        data = control.recv(1 << 16)
        if not data:
            return
        sent += data
    plan: dict[str, Any] = json.loads(sent) | rung.settings()
    monitor.Monitor(plan, control, listeners).run()
