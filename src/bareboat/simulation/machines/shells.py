"""One command of an ssh session as a process of the machine: pipes or a terminal, signals, the end.

As with OpenSSH: the session ends when the command has ended and nobody holds its output open; a command without a
terminal outlives a connection that breaks, one with a terminal gets a hang-up.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import termios
import tty
from collections.abc import Mapping
from typing import Any

import asyncssh

_CHUNK_BYTES = 1 << 17
_PIPE_BYTES = 1 << 20
_SET_PIPE_SIZE = 1031

Session = asyncssh.SSHServerProcess[bytes]


async def run(session: Session, program: str, argv: list[str], environment: Mapping[str, str]) -> None:
    """Returns when the session is over, by whichever end."""
    terminal = session.term_type is not None
    try:
        child, given, took = (_with_terminal if terminal else _with_pipes)(session, program, argv, environment)
    except OSError as error:
        session.stderr.write(f"{program}: {os.strerror(error.errno or 0)}\n".encode())
        session.exit(127)
        return
    files = {given, *took}
    readers = [
        asyncio.create_task(_copy_out(fd, writer), name="sshd.output")
        for fd, writer in zip(took, (session.stdout, session.stderr), strict=False)
    ]
    feeder = asyncio.create_task(_feed(session, given, child, files, terminal=terminal), name="sshd.input")
    ended = asyncio.create_task(_ended(child), name="sshd.child")
    closed = asyncio.create_task(session.wait_closed(), name="sshd.closed")
    over = asyncio.create_task(_all(ended, *readers), name="sshd.over")
    try:
        await asyncio.wait([closed, over], return_when=asyncio.FIRST_COMPLETED)
        if over.done():
            code = ended.result()
            if code >= 0:
                session.exit(code)
            else:
                session.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
    finally:
        for task in (over, *readers, feeder, closed):
            task.cancel()
        await asyncio.gather(over, *readers, feeder, closed, return_exceptions=True)
        for fd in files:
            with contextlib.suppress(OSError):
                os.close(fd)
        # Whoever outlives its connection is reaped all the same: by this task, while the server lives.
        await ended


def _with_pipes(
    session: Session, program: str, argv: list[str], environment: Mapping[str, str]
) -> tuple["subprocess.Popen[bytes]", int, tuple[int, ...]]:
    pipes = [os.pipe() for _ in range(3)]
    for read_end, _ in pipes:
        with contextlib.suppress(OSError):
            fcntl.fcntl(read_end, _SET_PIPE_SIZE, _PIPE_BYTES)
    (stdin, given), (out, stdout), (err, stderr) = pipes
    try:
        child = _spawn(program, argv, environment, (stdin, stdout, stderr))
    except OSError:
        for fd in (given, out, err):
            os.close(fd)
        raise
    finally:
        for fd in (stdin, stdout, stderr):
            os.close(fd)
    for fd in (given, out, err):
        os.set_blocking(fd, False)
    return child, given, (out, err)


def _with_terminal(
    session: Session, program: str, argv: list[str], environment: Mapping[str, str]
) -> tuple["subprocess.Popen[bytes]", int, tuple[int, ...]]:
    ours, theirs = os.openpty()
    _resize(ours, session.term_size)
    _set_modes(theirs, session.term_modes)

    def take() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    try:
        told = {**environment, "SSH_TTY": os.ttyname(theirs)}
        child = _spawn(program, argv, told, (theirs, theirs, theirs), take)
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    os.set_blocking(ours, False)
    return child, ours, (ours,)


def _spawn(
    program: str,
    argv: list[str],
    environment: Mapping[str, str],
    streams: tuple[int, int, int],
    take_terminal: Any = None,
) -> "subprocess.Popen[bytes]":
    home = environment["HOME"]
    child = subprocess.Popen(
        argv,
        executable=program,
        env=dict(environment),
        stdin=streams[0],
        stdout=streams[1],
        stderr=streams[2],
        cwd=home if os.path.isdir(home) else "/",  # noqa: PTH112
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    # The machine's memory is short at times: then the kernel is to pick the workload, not this server.
    with contextlib.suppress(OSError), open(f"/proc/{child.pid}/oom_score_adj", "w") as score:  # noqa: PTH123
        score.write("300")
    return child


async def _ended(child: "subprocess.Popen[bytes]") -> int:
    """Its exit code, or the signal's number below zero."""
    watched = os.pidfd_open(child.pid)
    try:
        await _ready(watched)
        return child.wait()
    finally:
        os.close(watched)


async def _copy_out(fd: int, writer: "asyncssh.SSHWriter[bytes]") -> None:
    """Until nobody holds the other end; for a terminal that is an error of the read."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while True:
            try:
                data = os.read(fd, _CHUNK_BYTES)
            except BlockingIOError:
                await _ready(fd)
                continue
            if not data:
                return
            writer.write(data)
            await writer.drain()


async def _feed(
    session: Session, given: int, child: "subprocess.Popen[bytes]", files: set[int], *, terminal: bool
) -> None:
    """Input, and what a client sends beside it: signals and new terminal sizes."""
    while True:
        try:
            data = await session.stdin.read(_CHUNK_BYTES)
        except asyncssh.TerminalSizeChanged as change:
            if terminal:
                _resize(given, change.term_size)
            continue
        except asyncssh.SignalReceived as received:
            _signal(child, received.signal)
            continue
        except asyncssh.BreakReceived:
            continue
        except (asyncssh.Error, OSError):
            return
        if not data:
            break
        if not await _write(given, data):
            break
    if not terminal:
        files.discard(given)
        os.close(given)


async def _write(fd: int, data: bytes) -> bool:
    """False when nobody reads any more."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            await _ready(fd, for_writing=True)
        except OSError:
            return False
    return True


async def _ready(fd: int, *, for_writing: bool = False) -> None:
    loop = asyncio.get_running_loop()
    happened: asyncio.Future[None] = loop.create_future()
    watch, forget = (loop.add_writer, loop.remove_writer) if for_writing else (loop.add_reader, loop.remove_reader)
    watch(fd, _happens, happened)
    try:
        await happened
    finally:
        forget(fd)


def _happens(happened: "asyncio.Future[None]") -> None:
    if not happened.done():
        happened.set_result(None)


async def _all(*tasks: "asyncio.Task[Any]") -> None:
    await asyncio.wait(tasks)


def _signal(child: "subprocess.Popen[bytes]", name: str) -> None:
    number = getattr(signal, f"SIG{name}", None)
    if isinstance(number, signal.Signals):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)


def _resize(fd: int, size: tuple[int, int, int, int]) -> None:
    columns, rows, wide, high = size
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows or 24, columns or 80, wide, high))


def _set_modes(fd: int, modes: Mapping[int, int]) -> None:
    """The few that programs ask for: a terminal without echo, without line editing, or raw altogether."""
    state = termios.tcgetattr(fd)
    for mode, index, flag in (
        (asyncssh.PTY_ECHO, tty.LFLAG, termios.ECHO),
        (asyncssh.PTY_ICANON, tty.LFLAG, termios.ICANON),
        (asyncssh.PTY_ISIG, tty.LFLAG, termios.ISIG),
        (asyncssh.PTY_ONLCR, tty.OFLAG, termios.ONLCR),
        (asyncssh.PTY_ICRNL, tty.IFLAG, termios.ICRNL),
    ):
        if mode in modes:
            state[index] = state[index] | flag if modes[mode] else state[index] & ~flag
    termios.tcsetattr(fd, termios.TCSANOW, state)
