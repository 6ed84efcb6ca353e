"""What one does over an instance's connection: run commands, open ports of the machine, be reached from it.

Everything waits for the connection at most `patience_s` of the clock, and raises the errors of `failures`.
"""

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import asyncssh

from bareboat.access import connections, failures, processes

Handler = Callable[["asyncssh.SSHReader[bytes]", "asyncssh.SSHWriter[bytes]"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Finished:
    """A command from start to end."""

    exit: processes.Exit
    stdout: bytes
    stderr: bytes


class Channel:
    """A TCP connection from within the machine. Both directions end on their own."""

    def __init__(
        self, instance_id: str, reader: "asyncssh.SSHReader[bytes]", writer: "asyncssh.SSHWriter[bytes]"
    ) -> None:
        self._instance_id = instance_id
        self._reader = reader
        self._writer = writer

    async def read(self, most: int = processes.CHUNK_BYTES) -> bytes:
        """What has come, at least a byte; empty at the end. Raises Dropped."""
        try:
            return await self._reader.read(most)
        except (asyncssh.Error, OSError) as problem:
            raise self._dropped(problem) from None

    async def write(self, data: bytes) -> None:
        """Returns once there is room for more. Raises Dropped."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except (asyncssh.Error, OSError) as problem:
            raise self._dropped(problem) from None

    def end_writing(self) -> None:
        if self._writer.can_write_eof() and not self._writer.is_closing():
            self._writer.write_eof()

    async def close(self) -> None:
        self._writer.channel.abort()
        await self._writer.channel.wait_closed()

    async def __aenter__(self) -> "Channel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _dropped(self, problem: Exception) -> failures.Dropped:
        return failures.Dropped(self._instance_id, f"the connection to a port broke: {problem}")


class Forward:
    """A port of the machine whose callers come to us, at each connection anew. `problem` is why it is not so now."""

    def __init__(self, port: int, handler: Handler, host: str) -> None:
        self.port = port
        self.problem = ""
        self._handler = handler
        self._host = host
        self._listener: asyncssh.SSHListener | None = None
        self._forget: Callable[[], None] | None = None

    async def listen(self, connection: asyncssh.SSHClientConnection) -> None:
        try:
            self._listener = await connection.start_server(
                lambda host, port: self._handler,
                self._host,
                self.port,
                encoding=None,
                window=processes.WINDOW_BYTES,
                max_pktsize=processes.PACKET_BYTES,
            )
            self.problem = ""
        except (asyncssh.ChannelListenError, asyncssh.Error, OSError) as refusal:
            self.problem = f"port {self.port} of the machine can't be had: {refusal}"

    def kept_by(self, forget: Callable[[], None]) -> None:
        self._forget = forget

    def close(self) -> None:
        """Callers who are in stay in."""
        if self._forget is not None:
            self._forget()
            self._forget = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None


class Machine:
    """The instance at the other end of `connection`."""

    def __init__(self, connection: connections.Connection, *, patience_s: float = 30.0) -> None:
        self.connection = connection
        self.patience_s = patience_s

    @property
    def instance_id(self) -> str:
        return self.connection.instance_id

    async def start(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        terminal: processes.Terminal | None = None,
        joined: bool = False,
    ) -> processes.Process:
        """Starts a command: a line for the user's shell, or words, which are quoted for it. One round trip on a warm
        connection. `env` goes into the command line, since an ssh server takes no variables: no place for secrets,
        which belong into a file. `joined` sends standard error into standard output."""
        line = _line(command, env)

        async def begin(connection: asyncssh.SSHClientConnection, leave: Callable[[], None]) -> processes.Process:
            session = processes.Session(leave)
            try:
                await connection.create_session(
                    lambda: session,
                    f"exec 2>&1; {line}" if joined else line,
                    encoding=None,
                    window=processes.WINDOW_BYTES,
                    max_pktsize=processes.PACKET_BYTES,
                    request_pty=False if terminal is None else "force",
                    term_type=None if terminal is None else terminal.kind,
                    term_size=None if terminal is None else (terminal.columns, terminal.rows),
                )
            except BaseException:
                session.abandon()
                raise
            return processes.Process(self.instance_id, session)

        try:
            return await self.connection.open_session(self.patience_s, begin)
        except asyncssh.ChannelOpenError:
            raise
        except (asyncssh.Error, OSError) as problem:
            raise failures.Dropped(
                self.instance_id, f"the connection broke as a command was begun: {problem}"
            ) from None

    async def run(
        self,
        command: str | Sequence[str],
        *,
        input: bytes = b"",
        timeout_s: float,
        env: Mapping[str, str] | None = None,
    ) -> Finished:
        """A command from start to end with all its output. Raises RemoteFailed when it took longer than `timeout_s` of
        real time; it may go on then. Any exit code is an answer."""
        try:
            async with asyncio.timeout(timeout_s), await self.start(command, env=env) as process:
                stdout, stderr, _ = await asyncio.gather(
                    _all(process.read_stdout), _all(process.read_stderr), _feed(process, input)
                )
                return Finished(await process.wait(), stdout, stderr)
        except TimeoutError:
            first = shlex.split(command)[0] if isinstance(command, str) else command[0]
            raise failures.RemoteFailed(self.instance_id, f"{first} took longer than {timeout_s:g} s") from None

    async def dial(self, port: int, host: str = "127.0.0.1") -> Channel:
        """A TCP connection made in the machine. Raises NotListening."""
        connection = await self.connection.ready(self.patience_s)
        try:
            reader, writer = await connection.open_connection(
                host, port, encoding=None, window=processes.WINDOW_BYTES, max_pktsize=processes.PACKET_BYTES
            )
        except asyncssh.ChannelOpenError as refusal:
            if connection.is_closed():
                raise failures.Dropped(self.instance_id, "the connection broke as a port was opened") from None
            why = f"nothing takes connections on {host}:{port}: {refusal.reason}"
            raise failures.NotListening(self.instance_id, why) from None
        except (asyncssh.Error, OSError) as problem:
            raise failures.Dropped(self.instance_id, f"the connection broke as a port was opened: {problem}") from None
        return Channel(self.instance_id, reader, writer)

    async def listen(self, port: int, handler: Handler, *, host: str = "127.0.0.1") -> Forward:
        """From now on and over reconnections, callers of that port of the machine are given to `handler`, which runs in
        a task of asyncssh's and has to close its writer. Returns at once; `problem` of what it returns says why the
        port could not be had."""
        forward = Forward(port, handler, host)
        connection = await self.connection.ready(self.patience_s)
        forward.kept_by(self.connection.each_time(forward.listen))
        await forward.listen(connection)
        return forward


def _line(command: str | Sequence[str], env: Mapping[str, str] | None) -> str:
    words = " ".join(f"{name}={shlex.quote(value)}" for name, value in (env or {}).items())
    if isinstance(command, str):
        return f"export {words}; {command}" if words else command
    # Without `exec` some shells stay in between, and die of signals that the command means to live through.
    return f"exec env {words} {shlex.join(command)}" if words else f"exec {shlex.join(command)}"


async def _all(read: Callable[[], Awaitable[bytes]]) -> bytes:
    parts = []
    while data := await read():
        parts.append(data)
    return b"".join(parts)


async def _feed(process: processes.Process, data: bytes) -> None:
    """A command that takes no input, or not all of it, is no error: its end says what there is to say."""
    view = memoryview(data)
    try:
        for start in range(0, len(view), processes.PACKET_BYTES):
            await process.write(bytes(view[start : start + processes.PACKET_BYTES]))
    except failures.Dropped:
        return
    process.end_input()
