"""Container logs as files of the container runtime interface have them: `time stream F|P text`, a line each. Pure.

A line that is too long comes in parts (P) and ends with F: the parts of a stream are joined, under the time of the
first. What is no such line (a torn end of a file) is shown as it stands rather than lost.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from bareboat.kubelet import logs

_LINE = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) (stdout|stderr) ([FP](?::\S*)?) ?(.*)",
    re.DOTALL,
)


class Reader:
    """Bytes in, in whatever pieces, lines out."""

    def __init__(self) -> None:
        self._rest = b""
        self._parts: dict[logs.Stream, tuple[int, list[bytes]]] = {}
        self._last_ns = 0

    def feed(self, data: bytes) -> Iterator[logs.LogLine]:
        """The lines that are complete with this."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for raw in whole:
            yield from self._line(raw)

    def end(self) -> Iterator[logs.LogLine]:
        """What is left when nothing more will come."""
        if self._rest:
            yield from self._line(self._rest)
        for stream, (time_ns, parts) in self._parts.items():
            yield logs.LogLine(time_ns, b"".join(parts), stream)
        self._rest, self._parts = b"", {}

    def _line(self, raw: bytes) -> Iterator[logs.LogLine]:
        found = _LINE.fullmatch(raw)
        if found is None:
            yield logs.LogLine(self._last_ns, raw)
            return
        second, fraction, zone, name, tag, text = found.groups()
        stream: logs.Stream = "stderr" if name == b"stderr" else "stdout"
        self._last_ns = time_ns = _unix_ns(second, fraction, zone)
        began_ns, parts = self._parts.pop(stream, (time_ns, []))
        parts.append(text)
        if tag.startswith(b"P"):
            self._parts[stream] = (began_ns, parts)
        else:
            yield logs.LogLine(began_ns, b"".join(parts), stream)


def _unix_ns(second: bytes, fraction: bytes | None, zone: bytes) -> int:
    offset = "+00:00" if zone == b"Z" else zone.decode()
    try:
        whole = datetime.fromisoformat(second.decode() + offset).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return 0
    return int(whole) * logs.NS + int((fraction or b"0").ljust(9, b"0"))
