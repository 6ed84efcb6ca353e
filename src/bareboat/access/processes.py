"""One command over a connection: its streams with back-pressure, its terminal, its signals, and an end that is known.

A stream that nobody reads stops the other one too, for both share one window of the channel: read both, or have them
joined. Whatever breaks, `wait` says so: a process without an exit status never counts as one that succeeded.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import asyncssh

from bareboat.access import failures

CHUNK_BYTES = 1 << 16
WINDOW_BYTES = 1 << 22
PACKET_BYTES = 1 << 17


@dataclass(frozen=True, slots=True)
class Terminal:
    """A pseudo-terminal's kind and size in characters."""

    columns: int = 80
    rows: int = 24
    kind: str = "xterm"


@dataclass(frozen=True, slots=True)
class Exit:
    """How a command ended: `code` as a shell tells it, 128 + n for a signal, whose name is in `signal` then."""

    code: int
    signal: str = ""


class Session(asyncssh.SSHClientProcess[bytes]):
    """asyncssh's process, which says when its channel is gone."""

    def __init__(self, leave: Callable[[], None]) -> None:
        super().__init__()
        self._leave = leave

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._leave()

    def abandon(self) -> None:
        """Closes the channel of a command whose caller no longer waits for its start."""
        if getattr(self, "_chan", None) is not None:
            self._chan.abort()


_SIGNALS = {"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12}
_SIGNALS |= {"PIPE": 13, "ALRM": 14, "TERM": 15}


class Process:
    """A command that runs. Close it, or use it as a context."""

    def __init__(self, instance_id: str, session: Session) -> None:
        self._instance_id = instance_id
        self._session = session

    async def read_stdout(self, most: int = CHUNK_BYTES) -> bytes:
        """What has come, at least a byte; empty at the end. Raises Dropped."""
        return await self._read(self._session.stdout, most)

    async def read_stderr(self, most: int = CHUNK_BYTES) -> bytes:
        """The same of standard error; with a terminal there is none."""
        return await self._read(self._session.stderr, most)

    async def read_line(self) -> bytes:
        """One line of standard output with its end; without one at the end of the output. Raises Dropped."""
        try:
            return await self._session.stdout.readline()
        except (asyncssh.Error, OSError) as problem:
            raise self._dropped(problem) from None

    async def write(self, data: bytes) -> None:
        """Returns once there is room for more. Raises Dropped, also when the command takes no more input."""
        try:
            self._session.stdin.write(data)
            await self._session.stdin.drain()
        except (asyncssh.Error, OSError) as problem:
            raise self._dropped(problem) from None

    def end_input(self) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            self._session.stdin.write_eof()

    def resize(self, columns: int, rows: int) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            self._session.change_terminal_size(columns, rows)

    def signal(self, name: str) -> None:
        """To the command's process group; `name` without SIG. An ended command takes none."""
        with contextlib.suppress(OSError, asyncssh.Error):
            self._session.send_signal(name.removeprefix("SIG"))

    async def wait(self) -> Exit:
        """How it ended. Its output has to be read beside or before. Raises Dropped when the connection broke first."""
        await self._session.wait_closed()
        status, signal = self._session.exit_status, self._session.exit_signal
        if signal is not None:
            return Exit(128 + _SIGNALS.get(signal[0], 127), signal[0])
        if status is None or status < 0:
            raise failures.Dropped(self._instance_id, "the connection broke before the command's end was known")
        return Exit(status)

    async def close(self) -> None:
        """Closes the channel at once. A command without a terminal may go on; one with a terminal gets a hang-up."""
        self._session.channel.abort()
        with contextlib.suppress(asyncssh.Error, OSError):
            await self._session.wait_closed()

    async def __aenter__(self) -> "Process":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _read(self, stream: "asyncssh.SSHReader[bytes]", most: int) -> bytes:
        try:
            return await stream.read(most)
        except (asyncssh.Error, OSError) as problem:
            raise self._dropped(problem) from None

    def _dropped(self, problem: Exception) -> failures.Dropped:
        return failures.Dropped(self._instance_id, f"the connection to a command broke: {problem}")
