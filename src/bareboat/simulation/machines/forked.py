"""Machines that really run: the simulator's side of the zygote, one control socket per machine.

Owns host ports, logs on disk and the folder they live in; the kernel side is the monitor's. Whatever becomes of this
process, its machines end with it.
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import bareboat
from bareboat.simulation.machines import logs, machine, plans

_PREFIX = "bareboat-machines-"
_READY_S = 30.0
_ANSWER_S = 60.0
_CODE = """\
import sys
sys.path.insert(0, sys.argv[2])
from bareboat.simulation.machines import zygote
zygote.main(int(sys.argv[1]))
"""
_NO_BUSYBOX = "images of busybox alone (busybox, alpine) have this computer's programs: it has no static busybox"
# More at once only make each other wait on a small computer, and fill the zygote's socket.
_AT_ONCE = 8


class _Control(asyncio.Protocol):
    """One machine's control socket: commands out, events in."""

    def __init__(self) -> None:
        self.status: machine.ExitStatus | None = None
        self.ended = asyncio.Event()
        self.closed = asyncio.Event()
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.is_set():
            self._end(machine.ExitStatus(137, reason="the machine was taken down"))
        self._answer("the machine's monitor ended without a word")
        self.closed.set()

    def send(self, message: Mapping[str, Any]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(json.dumps(message).encode() + b"\n")

    def hang_up(self) -> None:
        """Has the monitor take everything down; `closed` is set when it is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def expect_answer(self) -> None:
        self.ended.clear()
        self.status = None
        self.answer = asyncio.get_running_loop().create_future()

    def _take(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "failed":
            self._answer(event["reason"])
            return
        if event["event"] == "ended":
            self._end(machine.ExitStatus(event["code"], event["oom"], event["reason"]))
        self._answer("")

    def _end(self, status: machine.ExitStatus) -> None:
        self.status = status
        self.ended.set()

    def _answer(self, reason: str) -> None:
        if not self.answer.done():
            self.answer.set_result(reason)


class ForkedMachine:
    """See `machine.Machine`."""

    def __init__(
        self,
        control: _Control,
        host_ports: Mapping[machine.Port, int],
        log_path: Path,
        forget: Callable[["ForkedMachine"], None],
    ) -> None:
        self._control = control
        self._forget = forget
        self._host_ports = dict(host_ports)
        self._log_path = log_path
        self._oom_injected = False
        self._removed = False

    @property
    def host_ports(self) -> Mapping[machine.Port, int]:
        return self._host_ports

    @property
    def exit_status(self) -> machine.ExitStatus | None:
        status = self._control.status
        if status is not None and self._oom_injected:
            return machine.ExitStatus(status.code, True, status.reason)
        return status

    async def wait(self) -> machine.ExitStatus:
        while (status := self.exit_status) is None:
            await self._control.ended.wait()
        return status

    async def start(self) -> None:
        if self._removed or self._control.closed.is_set():
            raise machine.MachineError("the machine has been removed; it can't be started again")
        if self._control.status is None:
            return
        self._oom_injected = False
        self._control.expect_answer()
        self._control.send({"do": "start"})
        await self.started()

    async def started(self) -> None:
        """Waits for the word of the monitor; a machine that could not be made is an error, not an end."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                reason = await self._control.answer
        except TimeoutError:
            reason = f"it was not up after {_ANSWER_S:.0f} s; this computer is too busy, or short of memory"
        if reason:
            raise machine.MachineError(f"the machine could not be made: {reason}")

    async def stop(self, grace_s: float = 10.0) -> machine.ExitStatus:
        if self.exit_status is None:
            self._control.send({"do": "signal", "number": 15})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    return await self.wait()
        return await self.kill()

    async def kill(self, *, oom: bool = False) -> machine.ExitStatus:
        if self.exit_status is None:
            self._oom_injected = oom
            self._control.send({"do": "signal", "number": 9})
        async with asyncio.timeout(_ANSWER_S):
            return await self.wait()

    async def remove(self) -> None:
        self._removed = True
        self._control.hang_up()
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._control.closed.wait()
        finally:
            self._control.abort()
            self._forget(self)
        for path in (self._log_path, logs.older(self._log_path)):
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def log_lines(self, tail: int | None = None) -> list[machine.LogLine]:
        return await asyncio.to_thread(logs.read, self._log_path, tail)

    async def log_text(self, tail: int | None = None) -> str:
        return "".join(line.text + "\n" for line in await self.log_lines(tail))


class ForkedMachines:
    """See `machine.Machines`. An async context manager; outside of it nothing runs.

    `interpreter` is the command that starts Python for the zygote (3.11 or newer, the standard library is enough).
    `folder` keeps logs; without it a private one is made and removed.
    """

    def __init__(self, *, folder: Path | None = None, interpreter: Sequence[str] = (sys.executable,)) -> None:
        self._given_folder = folder
        self._folder = folder or Path()
        self._interpreter = tuple(interpreter)
        self._process: asyncio.subprocess.Process | None = None
        self._requests: socket.socket | None = None
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._machines: set[ForkedMachine] = set()
        self._count = 0
        self._host = plans.Host()
        self._sentence = ""
        self._losses: tuple[str, ...] = ()

    @property
    def rung(self) -> str:
        return self._sentence

    @property
    def losses(self) -> Sequence[str]:
        return self._losses

    async def __aenter__(self) -> Self:
        if sys.platform != "linux":
            raise machine.Unavailable(
                f"machines need Linux namespaces and this is {sys.platform}; run the simulator on Linux, or without"
                " machines"
            )
        if self._given_folder is None:
            self._folder = await asyncio.to_thread(_private_folder)
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self, spec: machine.MachineSpec) -> ForkedMachine:
        if not spec.argv():
            raise machine.MachineError(
                "no command specified: the image has neither ENTRYPOINT nor CMD, nor does the spec"
            )
        for path in spec.files:
            if not path.startswith("/"):
                raise machine.MachineError(f"file {path!r} has to be an absolute path in the machine")
        if self._requests is None:
            raise machine.MachineError("no machines can be started: their parent is closed")
        async with self._gate:
            return await self._start(self._requests, spec)

    async def close(self) -> None:
        """Removes every machine and the zygote; idempotent."""
        await asyncio.gather(*(made.remove() for made in list(self._machines)), return_exceptions=True)
        self._machines.clear()
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._process is not None:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    await self._process.wait()
            finally:
                if self._process.returncode is None:
                    self._process.kill()
            self._process = None
        if self._given_folder is None and self._folder != Path():
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _open(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        self._requests = ours
        complaints = self._folder / "zygote.log"
        fd = os.open(complaints, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._interpreter,
                "-I",
                "-S",
                "-c",
                _CODE,
                str(theirs.fileno()),
                str(Path(bareboat.__file__).parent.parent),
                pass_fds=(theirs.fileno(),),
                env={"PATH": os.defpath},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=fd,
                stderr=fd,
                start_new_session=True,
            )
        finally:
            os.close(fd)
            theirs.close()
        said = b""
        async with asyncio.timeout(_READY_S):
            while not said.endswith(b"\n"):
                data = await asyncio.get_running_loop().sock_recv(ours, 1 << 16)
                if not data:
                    text = await asyncio.to_thread(complaints.read_text)
                    raise machine.MachineError(f"the machines' parent did not start: {text[-2000:].strip()}")
                said += data
        report = json.loads(said)
        self._sentence, self._losses = report["sentence"], tuple(report["losses"])
        self._host = await asyncio.to_thread(plans.look_around, self._folder, report)
        if not self._host.busybox:
            self._losses += (_NO_BUSYBOX,)

    async def _start(self, requests: socket.socket, spec: machine.MachineSpec) -> ForkedMachine:
        self._count += 1
        number = self._count
        log_path = self._folder / f"machine-{number}.log"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        with contextlib.ExitStack() as handed_over:
            handed_over.enter_context(theirs)
            bound = plans.bind(spec.ports, handed_over)
            control = _Control()
            await asyncio.get_running_loop().create_connection(lambda: control, sock=ours)
            made = ForkedMachine(control, bound.host_ports, log_path, self._machines.discard)
            try:
                files = [theirs.fileno(), *(listener.fileno() for listener in bound.listeners)]
                socket.send_fds(requests, [b"m"], files)
                control.send(plans.plan(spec, bound, log_path, self._host, number))
                # From here the monitor holds them; ours would keep ports open after the machine's end.
                handed_over.close()
                await made.started()
            except OSError as error:
                control.abort()
                raise machine.MachineError(f"the machines' parent can't be reached: {error.strerror}") from error
            except BaseException:
                control.abort()
                raise
        self._machines.add(made)
        return made


def _private_folder() -> Path:
    """A folder named by this process; those of processes that are no more are removed."""
    parent = Path(tempfile.gettempdir())
    for stale in parent.glob(f"{_PREFIX}*"):
        owner = stale.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(stale, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
