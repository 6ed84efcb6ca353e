"""Container logs as files of the container runtime interface have them: `time stream F|P text`, a line each. Pure.

A line that is too long comes in parts (P) and ends with F: the parts of a stream are joined, under the time of the
first. What is no such line (a torn end of a file) is shown as it stands rather than lost. Memory is bounded: a line
that goes on past `MAX_LINE_BYTES` is cut into several.
"""

import functools
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from bareboat.kubelet import logs

MAX_LINE_BYTES = 1 << 20
_LINE = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) (stdout|stderr) ([FP])(?::\S*)?(?: |$)(.*)",
    re.DOTALL,
)


class Reader:
    """Bytes in, in whatever pieces, lines out."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._parts: dict[logs.Stream, tuple[int, bytearray]] = {}
        self._last_ns = 0

    def feed(self, data: bytes) -> Iterator[logs.LogLine]:
        """The lines that are complete with this."""
        if b"\n" not in data:
            self._rest += data
            # No file of this form has such a line; whatever it is must not fill the memory.
            if len(self._rest) > 2 * MAX_LINE_BYTES:
                yield from self._line(self._taken())
            return
        first, *lines = data.split(b"\n")
        self._rest += first
        last = lines.pop()
        yield from self._line(self._taken())
        for raw in lines:
            yield from self._line(raw)
        self._rest += last

    def end(self) -> Iterator[logs.LogLine]:
        """What is left when nothing more will come."""
        if self._rest:
            yield from self._line(self._taken())
        for stream, (time_ns, text) in self._parts.items():
            yield logs.LogLine(time_ns, bytes(text), stream)
        self._parts = {}

    def _taken(self) -> bytes:
        taken = bytes(self._rest)
        self._rest.clear()
        return taken

    def _line(self, raw: bytes) -> Iterator[logs.LogLine]:
        found = _LINE.fullmatch(raw)
        if found is None:
            yield logs.LogLine(self._last_ns, raw)
            return
        second, fraction, zone, name, tag, text = found.groups()
        stream: logs.Stream = "stderr" if name == b"stderr" else "stdout"
        time_ns = _unix_s(second, zone) * logs.NS + int((fraction or b"0").ljust(9, b"0"))
        self._last_ns = time_ns
        if tag == b"F" and stream not in self._parts:
            yield logs.LogLine(time_ns, text, stream)
            return
        began_ns, joined = self._parts.pop(stream, (time_ns, bytearray()))
        joined += text
        if tag == b"P" and len(joined) <= MAX_LINE_BYTES:
            self._parts[stream] = (began_ns, joined)
        else:
            yield logs.LogLine(began_ns, bytes(joined), stream)


# Lines come in order, so that many share a second; reading a date takes longer than all else about a line.
@functools.lru_cache(maxsize=64)
def _unix_s(second: bytes, zone: bytes) -> int:
    offset = "+00:00" if zone == b"Z" else zone.decode()
    try:
        return int(datetime.fromisoformat(second.decode() + offset).astimezone(UTC).timestamp())
    except (ValueError, OverflowError):
        return 0
