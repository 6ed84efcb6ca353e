"""The log of one machine: lines with the time they came, in the layout of the Kubernetes container runtimes.

`TIME stream F|P text`: P marks a piece of a line that goes on. The writer runs beside the machine and turns the file
over once at a bound, so that an endless talker keeps its last lines and not the disk.
"""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

PIECE_BYTES = 16 * 1024
TURN_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of output without its newline. `at` is RFC 3339 with nanoseconds, as `docker logs -t` has it."""

    at: str
    stream: str
    text: str


def stamp(time_ns: int) -> str:
    """RFC 3339, nanoseconds, UTC."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def older(path: Path) -> Path:
    """Where the part before the last turn is."""
    return path.with_name(path.name + ".1")


class Writer:
    """Cuts what streams print into stamped lines."""

    def __init__(self, path: Path, turn_bytes: int = TURN_BYTES) -> None:
        self._path = path
        self._turn_bytes = turn_bytes
        self._fd = self._open()
        self._written = 0
        self._rest: dict[str, bytes] = {}

    def feed(self, stream: str, data: bytes) -> None:
        """Takes bytes as they come; a line is written once its newline is here or it is a piece long."""
        *lines, rest = (self._rest.pop(stream, b"") + data).split(b"\n")
        head = f"{stamp(time.time_ns())} {stream} ".encode()
        out = bytearray()
        for line in lines:
            whole = len(line) - len(line) % PIECE_BYTES
            for start in range(0, whole, PIECE_BYTES):
                out += head + b"P " + line[start : start + PIECE_BYTES] + b"\n"
            out += head + b"F " + line[whole:] + b"\n"
        while len(rest) >= PIECE_BYTES:
            out += head + b"P " + rest[:PIECE_BYTES] + b"\n"
            rest = rest[PIECE_BYTES:]
        if rest:
            self._rest[stream] = rest
        self._write(bytes(out))

    def finish(self) -> None:
        """Writes what came without a last newline."""
        for stream in list(self._rest):
            self.feed(stream, b"\n")

    def close(self) -> None:
        os.close(self._fd)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def _write(self, data: bytes) -> None:
        if self._written and self._written + len(data) > self._turn_bytes:
            os.close(self._fd)
            self._path.rename(older(self._path))
            self._fd = self._open()
            self._written = 0
        # A full disk loses lines, as it would under docker; the machine goes on.
        with contextlib.suppress(OSError):
            os.write(self._fd, data)
        self._written += len(data)


def read(path: Path, tail: int | None = None) -> list[LogLine]:
    """The last `tail` lines, or all that is kept; none while nothing was printed. Reads no more than it needs."""
    if tail is not None and tail <= 0:
        return []
    lines = _last(path, tail)
    if tail is None or len(lines) < tail:
        lines = _last(older(path), tail) + lines
    return lines if tail is None else lines[-tail:]


def _last(path: Path, tail: int | None) -> list[LogLine]:
    """The lines at the end of the file: at least `tail` whole ones, if it has them."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            wanted = size if tail is None else min(size, 256 * (tail + 1))
            while True:
                file.seek(size - wanted)
                data = file.read(wanted)
                if wanted == size:
                    return _lines(data)
                # The first may lack its beginning, so one more than asked for has to be there.
                lines = _lines(data.partition(b"\n")[2])
                if tail is not None and len(lines) > tail:
                    return lines[1:]
                wanted = min(size, wanted * 4)
    except FileNotFoundError:
        return []


def _lines(data: bytes) -> list[LogLine]:
    found: list[LogLine] = []
    open_pieces: dict[str, str] = {}
    for line in data.split(b"\n"):
        parts = line.decode(errors="replace").split(" ", 3)
        if len(parts) < 4:
            continue
        at, stream, mark, text = parts
        text = open_pieces.pop(stream, "") + text
        if mark == "P":
            open_pieces[stream] = text
        else:
            found.append(LogLine(at, stream, text))
    return found
