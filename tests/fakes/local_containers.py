"""Containers that are processes of this machine: pipes or a pty, real ports on loopback. For tests and benchmarks."""

import asyncio
import contextlib
import errno
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Sequence
from dataclasses import dataclass, field

from bareboat.kubelet import containers

PIPE_BYTES = 1 << 20
F_SETPIPE_SZ = 1031


class LocalProcess:
    """A `containers.Process`."""

    def __init__(self, process: asyncio.subprocess.Process, stdin: "Outlet", stdout: "Inlet", stderr: "Inlet") -> None:
        self.pid = process.pid
        self._process = process
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr
        self._terminal: int | None = None
        self.closed = asyncio.Event()
        self.sizes: list[tuple[int, int]] = []
        self._resized = asyncio.Event()

    async def read_stdout(self, limit: int) -> bytes:
        return await self._stdout.read(limit)

    async def read_stderr(self, limit: int) -> bytes:
        return await self._stderr.read(limit)

    async def write_stdin(self, data: bytes) -> None:
        await self._stdin.write(data)

    async def close_stdin(self) -> None:
        if self._terminal is not None:
            with contextlib.suppress(containers.StdinClosed):
                await self._stdin.write(b"\x04")
        else:
            self._stdin.close()

    def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))
        self._resized.set()
        if self._terminal is not None:
            set_size(self._terminal, columns=columns, rows=rows)

    async def resized(self) -> None:
        """Until the next `resize`."""
        self._resized.clear()
        await self._resized.wait()

    async def wait(self) -> int:
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    async def close(self) -> None:
        if self.closed.is_set():
            return
        self.closed.set()
        # Its own session: whatever it has started goes with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()
        for end in (self._stdin, self._stdout, self._stderr):
            end.close()


class Inlet:
    """Reads a descriptor without blocking; nothing is read ahead, so that back-pressure is the kernel's."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._waiting: asyncio.Future[None] | None = None
        if descriptor is not None:
            os.set_blocking(descriptor, False)

    async def read(self, limit: int) -> bytes:
        while self._descriptor is not None:
            try:
                return os.read(self._descriptor, limit)
            except BlockingIOError:
                await self._ready(self._descriptor)
            except OSError as error:
                if error.errno == errno.EIO:  # a pty whose other side is closed
                    return b""
                raise
        return b""

    async def _ready(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        waiting = self._waiting = loop.create_future()
        loop.add_reader(descriptor, _wake, waiting)
        try:
            await waiting
        finally:
            self._waiting = None
            loop.remove_reader(descriptor)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if self._waiting is not None:
            _wake(self._waiting)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)


class Outlet:
    """Writes a descriptor without blocking."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._waiting: asyncio.Future[None] | None = None
        if descriptor is not None:
            os.set_blocking(descriptor, False)

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._descriptor is None:
                raise containers.StdinClosed
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                await self._ready(self._descriptor)
            except OSError as error:
                raise containers.StdinClosed from error

    async def _ready(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        waiting = self._waiting = loop.create_future()
        loop.add_writer(descriptor, _wake, waiting)
        try:
            await waiting
        finally:
            self._waiting = None
            loop.remove_writer(descriptor)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if self._waiting is not None:
            _wake(self._waiting)
        if descriptor is not None:
            asyncio.get_running_loop().remove_writer(descriptor)
            os.close(descriptor)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def start(argv: Sequence[str], *, stdin: bool, tty: bool) -> LocalProcess:
    """Raises `containers.CannotStart` when the program can't be run."""
    try:
        return await (_on_terminal(argv) if tty else _on_pipes(argv, stdin))
    except OSError as error:
        raise containers.CannotStart(f"exec: {argv[0]!r}: {error.strerror}") from error


async def _on_pipes(argv: Sequence[str], stdin: bool) -> LocalProcess:
    (in_read, in_write), (out_read, out_write), (error_read, error_write) = os.pipe(), os.pipe(), os.pipe()
    for descriptor in (in_write, out_read):
        fcntl.fcntl(descriptor, F_SETPIPE_SZ, PIPE_BYTES)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=in_read, stdout=out_write, stderr=error_write, start_new_session=True
        )
    except OSError:
        for descriptor in (in_write, out_read, error_read):
            os.close(descriptor)
        raise
    finally:
        for descriptor in (in_read, out_write, error_write):
            os.close(descriptor)
    outlet = Outlet(in_write)
    if not stdin:
        outlet.close()
    return LocalProcess(process, outlet, Inlet(out_read), Inlet(error_read))


async def _on_terminal(argv: Sequence[str]) -> LocalProcess:
    ours, theirs = pty.openpty()

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=own_terminal
        )
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    started = LocalProcess(process, Outlet(os.dup(ours)), Inlet(ours), Inlet(None))
    started._terminal = ours
    return started


class LocalConnection:
    """A `containers.Connection`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, limit: int) -> bytes:
        try:
            return await self._reader.read(limit)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError as error:
            raise containers.StdinClosed from error

    async def close_write(self) -> None:
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


@dataclass
class LocalContainers:
    """A `containers.Containers`: every container is this machine; its main process is what the test puts there."""

    main: dict[str, LocalProcess] = field(default_factory=dict)
    """By pod name, for attach."""
    refusal: containers.ContainersError | None = None
    """Of `check`."""
    failure: containers.ContainersError | None = None
    """Of everything after `check`."""
    used: list[containers.Usage] = field(default_factory=list)
    started: list[LocalProcess] = field(default_factory=list)
    has_started: asyncio.Event = field(default_factory=asyncio.Event)

    async def check(self, pod: containers.PodRef, container: str | None, verb: containers.Verb) -> None:
        if self.refusal is not None:
            raise self.refusal
        if container not in (None, "main"):
            raise containers.not_found(container or "")

    async def exec(
        self, pod: containers.PodRef, container: str, argv: Sequence[str], *, stdin: bool, tty: bool
    ) -> LocalProcess:
        if self.failure is not None:
            raise self.failure
        process = await start(argv, stdin=stdin, tty=tty)
        self.started.append(process)
        self.has_started.set()
        return process

    async def attach(self, pod: containers.PodRef, container: str, *, stdin: bool, tty: bool) -> containers.Process:
        if self.failure is not None:
            raise self.failure
        return Attached(self.main[pod.name])

    async def connect(self, pod: containers.PodRef, port: int) -> containers.Connection:
        if self.failure is not None:
            raise self.failure
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            raise containers.Refused(f"port {port}: {error.strerror}") from error
        return LocalConnection(reader, writer)

    def usage(self, pod: containers.PodRef) -> Sequence[containers.Usage]:
        return self.used

    async def close(self) -> None:
        for process in (*self.started, *self.main.values()):
            await process.close()


class Attached(LocalProcess):
    """To a process that outlives the attachment."""

    def __init__(self, process: LocalProcess) -> None:
        self.__dict__ = dict(process.__dict__)
        self.closed = asyncio.Event()

    async def close(self) -> None:
        self.closed.set()


def set_size(terminal: int, *, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
