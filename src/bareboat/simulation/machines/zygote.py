"""The warmed process that machines are forked from: everything is imported before, so a machine costs a fork.

It stays single-threaded and runs no event loop. A request is one byte (with an ssh server or without) with open files:
the control socket, over which the plan comes as one line, and the machine's listening sockets. The end of its own
socket, or the death of the simulator, ends all machines and then the zygote.
"""

import array
import contextlib
import functools
import gc
import importlib
import json
import os
import signal
import socket
import time
from typing import Any

from bareboat.simulation.machines import cgroups, ladder, monitor, ns

PLAIN, WITH_SSH = b"m", b"s"
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
    lacking = ""
    warm = False
    try:
        while (request := _receive(requests))[1]:
            kind, files = request
            if kind == WITH_SSH and not warm:
                warm, lacking = True, _warm_up()
            pid = os.fork()
            if pid == 0:
                requests.close()
                ns.run_in_child(functools.partial(_watch_over, files, rung, lacking))
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


def _warm_up() -> str:
    """Imports the ssh server, once the first machine asks for it; returns why that can't be done."""
    try:
        importlib.import_module("bareboat.simulation.machines.sshd")
    except ImportError as error:
        return f"this Python has no ssh server for machines: {error}"
    gc.collect()
    gc.freeze()
    return ""


def _receive(requests: socket.socket) -> tuple[bytes, list[int]]:
    """The kind and the files of the next request; no files at the end."""
    fds = array.array("i")
    room = socket.CMSG_SPACE(_MOST_FILES * fds.itemsize)
    data, control, _, _ = requests.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in control:
        if data and level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, list(fds)


def _watch_over(files: list[int], rung: ladder.Rung, lacking: str) -> None:
    control, *listeners = (socket.socket(fileno=file) for file in files)
    sent = bytearray()
    while not sent.endswith(b"\n"):
        data = control.recv(1 << 16)
        if not data:
            return
        sent += data
    plan: dict[str, Any] = json.loads(sent) | rung.settings()
    if plan["ssh"] and lacking:
        control.sendall(json.dumps({"event": "failed", "reason": lacking}).encode() + b"\n")
        return
    monitor.Monitor(plan, control, listeners).run()
