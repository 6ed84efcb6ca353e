"""Watches over one machine from outside: makes it, writes its log, hands on signals, says how it ended.

One process per machine, forked by the zygote; it stays in the host's namespaces and dies with the zygote. The end of
its control socket means: take everything down.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bareboat.simulation.machines import agent, cgroups, doors, logs, ns, view, workload

_CHUNK_BYTES = 1 << 16
_JOINED = ("user", "mnt", "net", "uts", "ipc")


class Monitor:
    """`plan` is what the simulator sent; listeners are sockets of the host, in the order of `plan["ports"]`."""

    def __init__(self, plan: dict[str, Any], control: socket.socket, listeners: list[socket.socket]) -> None:
        self._plan = plan
        self._control = control
        self._listeners = list(zip(listeners, plan["ports"], strict=True))
        self._door: doors.Door | None = None
        self._selector = selectors.DefaultSelector()
        self._log = logs.Writer(Path(plan["log_path"]))
        self._main: int | None = None
        self._agent: int | None = None
        self._streams: dict[int, str] = {}
        self._kept: list[int] = []
        self._group: cgroups.Group | None = None
        self._oom_before = 0
        self._asked = b""
        self._gone = False

    def run(self) -> None:
        """Until the machine is removed or the simulator is no more."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ns.die_with_parent()
        if self._plan["rung"] == 4:
            ns.adopt_orphans()
        self._selector.register(self._control, selectors.EVENT_READ, self._on_control)
        for listener, _ in self._listeners:
            listener.setblocking(False)
        self._hang_door()
        self._listen()
        try:
            self._launch()
            while not self._gone:
                for key, _ in self._selector.select():
                    key.data(key.fileobj)
        finally:
            self._take_down()

    def _say(self, **event: Any) -> None:
        with contextlib.suppress(OSError):
            self._control.sendall(json.dumps(event).encode() + b"\n")

    def _launch(self) -> None:
        go_read, go_write = os.pipe()
        outcome_read, outcome_write = os.pipe()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        again = bool(self._kept)
        pid = self._clone(again=again)
        if pid == 0:
            for fd in (go_write, outcome_read):
                os.close(fd)
            ns.run_in_child(
                lambda: workload.enter(
                    self._plan, go=go_read, outcome=outcome_write, streams=(out_write, err_write), again=again
                )
            )
        self._main = pid
        for fd in (go_read, outcome_write, out_write, err_write):
            os.close(fd)
        try:
            self._admit(pid, again=again)
            os.write(go_write, b"g")
            said = b"".join(iter(lambda: os.read(outcome_read, _CHUNK_BYTES), b""))
        except OSError as error:
            said = json.dumps({"failed": str(error)}).encode()
        finally:
            os.close(go_write)
            os.close(outcome_read)
        for fd, stream in ((out_read, "stdout"), (err_read, "stderr")):
            os.set_blocking(fd, False)
            self._streams[fd] = stream
            self._selector.register(fd, selectors.EVENT_READ, self._on_output)
        self._outcome(json.loads(said) if said else {}, pid)

    def _outcome(self, said: dict[str, Any], pid: int) -> None:
        if "failed" in said:
            _kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._main = None
            self._say(event="failed", reason=said["failed"])
            self._gone = True
            return
        if "code" in said:
            os.waitpid(pid, 0)
            self._ended(said["code"], said["reason"])
        else:
            self._watch(pid, self._on_exit)
            self._say(event="started")

    def _kinds(self) -> tuple[str, ...]:
        return _JOINED if self._plan["user_namespace"] else _JOINED[1:]

    def _clone(self, *, again: bool) -> int:
        if not self._plan["kept_apart"]:
            return os.fork()
        if not again:
            return ns.clone(ns.ALL | (ns.NEWUSER if self._plan["user_namespace"] else 0))
        # A further run joins everything the first one made, but for its processes.
        return ns.joined(self._kept, ns.NEWPID)

    def _admit(self, pid: int, *, again: bool) -> None:
        plan = self._plan
        if plan["kept_apart"] and not again:
            self._kept = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in self._kinds()]
        if plan["user_namespace"] and not again:
            ns.map_ids(pid, full=plan["full_ids"])
        if plan["memory_bytes"] and self._group is None:
            self._group = cgroups.create(os.getppid(), str(os.getpid()), plan["memory_bytes"])
        if self._group:
            self._oom_before = self._group.oom_kills()
            self._group.add(pid)

    def _on_output(self, fd: int) -> None:
        data = os.read(fd, _CHUNK_BYTES)
        if data:
            self._log.feed(self._streams[fd], data)
        else:
            self._close_stream(fd)

    def _drain(self) -> None:
        """What is still in the pipes once the run is over."""
        for fd, stream in list(self._streams.items()):
            with contextlib.suppress(BlockingIOError):
                while data := os.read(fd, _CHUNK_BYTES):
                    self._log.feed(stream, data)
            self._close_stream(fd)
        self._log.finish()

    def _close_stream(self, fd: int) -> None:
        del self._streams[fd]
        self._selector.unregister(fd)
        os.close(fd)

    def _watch(self, pid: int, on_exit: Callable[[int], None]) -> None:
        self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, on_exit)

    def _forget(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)

    def _on_exit(self, pidfd: int) -> None:
        self._forget(pidfd)
        if self._main is not None:
            code = os.waitstatus_to_exitcode(os.waitpid(self._main, 0)[1])
            self._ended(code if code >= 0 else 128 - code)

    def _ended(self, code: int, reason: str = "") -> None:
        self._main = None
        if self._door is not None:
            self._door.set_open(self._plan["ssh"]["is_open"])
        self._kill_rest()
        self._drain()
        oom = self._group is not None and self._group.oom_kills() > self._oom_before
        self._say(event="ended", code=code, oom=oom, reason=reason)

    def _kill_rest(self) -> None:
        """What a command leaves behind where no process namespace takes it along."""
        if self._plan["kept_apart"]:
            return
        while rest := list(ns.descendants(os.getpid())):
            for pid in rest:
                _kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)

    def _on_connection(self, listener: socket.socket) -> None:
        if self._main is not None:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                self._start_agent(self._main)
                return
        with contextlib.suppress(OSError):
            caller, _ = listener.accept()
            agent.reset(caller)
            caller.close()

    def _start_agent(self, main: int) -> None:
        """The first connection of a run: from here on the agent takes them all, until the run ends."""
        pid = self._fork_inside(main)
        if pid == 0:
            ns.run_in_child(self._be_agent)
        self._agent = pid
        for listener, _ in self._listeners:
            self._selector.unregister(listener)
        self._watch(pid, self._on_agent_exit)

    def _fork_inside(self, main: int) -> int:
        if not self._plan["kept_apart"]:
            return os.fork()
        processes = os.open(f"/proc/{main}/ns/pid", os.O_RDONLY)
        try:
            return ns.joined([*self._kept, processes], 0)
        finally:
            os.close(processes)

    def _hang_door(self) -> None:
        """Takes the listener of the ssh port, if the machine has a server for it, away from the relay."""
        asked = self._plan["ssh"]
        for pair in self._listeners if asked else ():
            if pair[1] == asked["port"]:
                self._listeners.remove(pair)
                self._door = doors.Door(
                    pair[0], self._selector, self._enter_as_workload, self._be_sshd, is_open=asked["is_open"]
                )
                return

    def _enter_as_workload(self, work: Callable[[], None]) -> int | None:
        """Forks `work` into the machine, under its memory limit."""
        if self._main is None:
            return None
        go_read, go_write = os.pipe()
        try:
            pid = self._fork_inside(self._main)
            if pid == 0:
                os.close(go_write)
                # Whatever it forks is bound by the limit only once it is itself.
                ns.run_in_child(lambda: work() if os.read(go_read, 1) else None)
            if self._group:
                with contextlib.suppress(OSError):
                    self._group.add(pid)
            os.write(go_write, b"g")
        except (ProcessLookupError, FileNotFoundError):
            return None
        finally:
            os.close(go_read)
            os.close(go_write)
        return pid

    def _be_sshd(self, listener: socket.socket) -> None:
        from bareboat.simulation.machines import sshd  # the zygote has imported it, for machines that ask for one

        ns.die_with_parent()
        self._control.close()
        sshd.serve(listener, self._plan["ssh"])

    def _be_agent(self) -> None:
        ns.die_with_parent()
        self._control.close()
        agent.serve(self._listeners)

    def _on_agent_exit(self, pidfd: int) -> None:
        # Until it is reaped the kernel holds back the end of the machine's first process.
        self._forget(pidfd)
        if self._agent is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._agent, 0)
            self._agent = None
            self._listen()

    def _listen(self) -> None:
        for listener, _ in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ, self._on_connection)

    def _on_control(self, control: socket.socket) -> None:
        data = control.recv(_CHUNK_BYTES)
        if not data:
            self._gone = True
            return
        *lines, self._asked = (self._asked + data).split(b"\n")
        for line in lines:
            self._do(json.loads(line))

    def _do(self, asked: dict[str, Any]) -> None:
        if asked["do"] == "signal" and self._main is not None:
            _kill(self._main, asked["number"])
        elif asked["do"] == "start" and self._main is None:
            self._launch()
        elif asked["do"] == "ssh" and self._door is not None:
            self._door.set_open(asked["is_open"])
            if asked["drop"]:
                self._door.drop()
        elif asked["do"] == "write":
            self._write(asked["files"], append=asked["append"])

    def _write(self, files: dict[str, Any], *, append: bool) -> None:
        pid = self._enter_as_workload(lambda: view.lay_all(files, append=append))
        if pid is not None:
            os.waitpid(pid, 0)

    def _take_down(self) -> None:
        for pid in (self._main, self._agent):
            if pid is not None:
                _kill(pid, signal.SIGKILL)
        if self._door is not None:
            self._door.bury()
        for pid in (self._agent, self._main):
            if pid is not None:
                os.waitpid(pid, 0)
        self._kill_rest()
        if self._group:
            self._group.remove()


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
