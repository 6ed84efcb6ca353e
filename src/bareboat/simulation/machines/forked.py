"""Machines that really run: the simulator's side of the zygote, one control socket per machine.

Owns host ports, logs on disk and the folder they live in; the kernel side is the monitor's. Whatever becomes of this
process, its machines end with it.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import bareboat
from bareboat.simulation.machines import control, logs, machine, plans, zygote

_PREFIX = "bareboat-machines-"
_READY_S = 30.0
_ANSWER_S = 60.0
_CODE = """\
import sys
sys.path[:0] = sys.argv[2:]
from bareboat.simulation.machines import zygote
zygote.main(int(sys.argv[1]))
"""
_NO_BUSYBOX = "images of busybox alone (busybox, alpine) have this computer's programs: it has no static busybox"
# More at once only make each other wait on a small computer, and fill the zygote's socket.
_AT_ONCE = 8


class ForkedMachine:
    """See `machine.Machine`."""

    def __init__(
        self,
        link: control.Control,
        host_ports: Mapping[machine.Port, int],
        log_path: Path,
        forget: Callable[["ForkedMachine"], None],
    ) -> None:
        self._link = link
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
        status = self._link.status
        if status is not None and self._oom_injected:
            return machine.ExitStatus(status.code, True, status.reason)
        return status

    async def wait(self) -> machine.ExitStatus:
        while (status := self.exit_status) is None:
            await self._link.ended.wait()
        return status

    async def start(self) -> None:
        if self._removed or self._link.closed.is_set():
            raise machine.MachineError("the machine has been removed; it can't be started again")
        if self._link.status is None:
            return
        self._oom_injected = False
        self._link.expect_answer()
        self._link.send({"do": "start"})
        await self.started()

    async def started(self) -> None:
        """Waits for the word of the monitor; a machine that could not be made is an error, not an end."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                reason = await self._link.answer
        except TimeoutError:
            reason = f"it was not up after {_ANSWER_S:.0f} s; this computer is too busy, or short of memory"
        if reason:
            raise machine.MachineError(f"the machine could not be made: {reason}")

    async def stop(self, grace_s: float = 10.0) -> machine.ExitStatus:
        if self.exit_status is None:
            self._link.send({"do": "signal", "number": 15})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    return await self.wait()
        return await self.kill()

    async def kill(self, *, oom: bool = False) -> machine.ExitStatus:
        if self.exit_status is None:
            self._oom_injected = oom
            self._link.send({"do": "signal", "number": 9})
        async with asyncio.timeout(_ANSWER_S):
            return await self.wait()

    def set_ssh(self, *, is_open: bool, drop: bool = False) -> None:
        self._link.send({"do": "ssh", "is_open": is_open, "drop": drop})

    def write_files(self, files: Mapping[str, machine.File], *, append: bool = False) -> None:
        self._link.send({"do": "write", "files": plans.wire(files), "append": append})

    async def remove(self) -> None:
        self._removed = True
        self._link.hang_up()
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._link.closed.wait()
        finally:
            self._link.abort()
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
                *_import_paths(),
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
            bound = plans.bind(plans.ports(spec), handed_over)
            link = control.Control()
            await asyncio.get_running_loop().create_connection(lambda: link, sock=ours)
            made = ForkedMachine(link, bound.host_ports, log_path, self._machines.discard)
            try:
                files = [theirs.fileno(), *(listener.fileno() for listener in bound.listeners)]
                socket.send_fds(requests, [zygote.PLAIN if spec.ssh is None else zygote.WITH_SSH], files)
                link.send(plans.plan(spec, bound, log_path, self._host, number))
                # From here the monitor holds them; ours would keep ports open after the machine's end.
                handed_over.close()
                await made.started()
            except OSError as error:
                link.abort()
                raise machine.MachineError(f"the machines' parent can't be reached: {error.strerror}") from error
            except BaseException:
                link.abort()
                raise
        self._machines.add(made)
        return made


def _import_paths() -> list[str]:
    """Where the zygote finds this package, and asyncssh with what it needs."""
    own = str(Path(bareboat.__file__).parent.parent)
    places = [importlib.util.find_spec(name) for name in ("asyncssh", "cryptography", "cffi", "typing_extensions")]
    found = [str(Path(place.origin).parent) for place in places if place is not None and place.origin is not None]
    folders = (folder if folder.endswith("-packages") else str(Path(folder).parent) for folder in found)
    return list(dict.fromkeys((own, *folders)))


def _private_folder() -> Path:
    """A folder named by this process; those of processes that are no more are removed."""
    parent = Path(tempfile.gettempdir())
    for stale in parent.glob(f"{_PREFIX}*"):
        owner = stale.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(stale, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
