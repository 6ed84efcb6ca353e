"""Container logs: the options of a request, and the pipeline from a source's lines to bytes for the client.

Owns parsing, validation and the order in which options apply (tail, then since, then bytes). Where lines come from is
the source's business. Pure but for the iteration itself.
"""

import functools
import re
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final, Literal

Stream = Literal["stdout", "stderr"]
_STREAMS: Mapping[str, Stream | None] = {"All": None, "Stdout": "stdout", "Stderr": "stderr"}
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})(?:\.(\d{1,9})\d*)?(Z|[+-]\d{2}:\d{2})", re.ASCII | re.IGNORECASE
)
INT64_MAX = 2**63 - 1
NS = 1_000_000_000


class BadQuery(Exception):
    """The options make no sense. `status` and `body` are what the kubelet answers."""

    status: int
    body: str


class Undecodable(BadQuery):
    """A value that isn't of its type."""

    status = 400
    body = '{"message": "Unable to decode query."}'


class Invalid(BadQuery):
    """Values out of range, or a combination that isn't allowed."""

    status = 422
    body = '{"message": "Invalid request."}'


class LogsError(Exception):
    """Raised by a source instead of lines. The text reaches the user of kubectl, save that of a 404."""

    status = 500


class NotFound(LogsError):
    """No such pod, or no such container in it."""

    status = 404


class NotStarted(LogsError):
    """The container has not run yet; the text says what it waits for."""

    status = 400


class PreviousMissing(LogsError):
    """There is no earlier run of the container whose log could be shown."""

    status = 400


class Unavailable(LogsError):
    """The log exists but can't be had now; the text says why and what to do."""


class Lost(LogsError):
    """The container ran, but its log went with the machine."""

    status = 400


def waiting(container: str, pod: str, reason: str) -> NotStarted:
    """The kubelet's own words for a container that waits with `reason`."""
    why = {
        "ErrImagePull": "image can't be pulled",
        "ImagePullBackOff": "trying and failing to pull image",
    }.get(reason, reason)
    return NotStarted(f'container "{container}" in pod "{pod}" is waiting to start: {why}')


def no_previous(container: str, pod: str) -> PreviousMissing:
    """The kubelet's own words for `--previous` without an earlier run."""
    return PreviousMissing(f'previous terminated container "{container}" in pod "{pod}" not found')


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line without its newline. `time_ns` is when it was written, in Unix nanoseconds, or when it was first seen if
    the cloud tells no times (then `--timestamps` shows and `--since` compares the time of reading)."""

    time_ns: int
    text: bytes
    stream: Stream = "stdout"


class Mark(Enum):
    """Said between lines."""

    CAUGHT_UP = "caught up"


CAUGHT_UP: Final = Mark.CAUGHT_UP
"""Yielded once by a source that follows: what came before was there when asked, what comes now is new. Needed for
`tailLines`, which counts back from that point."""

Lines = AsyncGenerator[LogLine | Mark, None]


@dataclass(frozen=True)
class LogOptions:
    """Options of one request. `tail_lines` 0 means none at all, None means everything."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since_ns: int | None = None
    """Unix nanoseconds; lines before it are left out."""
    limit_bytes: int | None = None
    stream: Stream | None = None
    """None means both."""


ContainerLogs = Callable[[str, str, str, LogOptions], Awaitable[Lines]]
"""(namespace, pod, container, options) → the container's log. Raises a `LogsError` when there is nothing to show; what
it returns may raise one later, which cuts the client's connection. A source may ignore all options but `follow` and
`previous`, and may use the others to fetch less. It cleans up when closed or cancelled, and ends by itself when the
container has ended and its log is drained."""


def parse(query: Sequence[tuple[str, str]], now_s: float) -> LogOptions:
    """Options from the decoded query pairs, first value of each name. Raises `BadQuery`. Unknown names are ignored."""
    given: dict[str, str] = {}
    for name, value in query:
        given.setdefault(name, value)
    # The kubelet keeps an old spelling: tail=all or tail=<n>.
    if given.get("tail"):
        given["tailLines"] = given["tail"]
        if given["tail"] == "all":
            del given["tailLines"]
    tail = _integer(given.get("tailLines"))
    since_s = _integer(given.get("sinceSeconds"))
    since_time_ns = _time_ns(given.get("sinceTime"))
    limit = _integer(given.get("limitBytes"))
    stream = given.get("stream", "All")
    selects_stream = stream != "All"
    if (
        (tail is not None and tail < 0)
        or (since_s is not None and since_s < 1)
        or (limit is not None and limit < 1)
        or (since_s is not None and since_time_ns is not None)
        or stream not in _STREAMS
        or (selects_stream and tail is not None)
    ):
        raise Invalid
    return LogOptions(
        follow=_boolean(given.get("follow")),
        previous=_boolean(given.get("previous")),
        timestamps=_boolean(given.get("timestamps")),
        tail_lines=tail,
        since_ns=int(now_s * NS) - since_s * NS if since_s is not None else since_time_ns,
        limit_bytes=limit,
        stream=_STREAMS[stream],
    )


def _boolean(value: str | None) -> bool:
    # As Kubernetes converts query parameters: present means true unless it says otherwise.
    return value is not None and value.lower() not in ("false", "0")


def _integer(value: str | None) -> int | None:
    if value is None:
        return None
    if not _INTEGER.fullmatch(value) or abs(int(value)) > INT64_MAX:
        raise Undecodable
    return int(value)


def _time_ns(value: str | None) -> int | None:
    if value is None:
        return None
    if value in ("", "null"):
        return 0
    match = _RFC3339.fullmatch(value)
    if match is None:
        raise Undecodable
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{zone.upper()}")
    except ValueError as error:
        raise Undecodable from error
    return int(moment.timestamp()) * NS + int((fraction or "0").ljust(9, "0"))


def timestamp(time_ns: int) -> str:
    """RFC 3339 with nine decimals and fixed width, UTC, as `--timestamps` shows it."""
    seconds, nanoseconds = divmod(time_ns, NS)
    return f"{_second(seconds).decode()}.{nanoseconds:09d}Z"


# Lines come in order, so that many share a second; writing a date out takes longer than all else about a line.
@functools.lru_cache(maxsize=64)
def _second(time_s: int) -> bytes:
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%dT%H:%M:%S}".encode()


class Renderer:
    """Turns a source's lines into the bytes to send: tail first, then since and stream, then the byte limit.

    Holds at most `tail_lines` lines, and only until the source has caught up. Each line ends with a newline unless the
    byte limit cuts it.
    """

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._left = options.limit_bytes
        count = options.tail_lines
        self._backlog: deque[LogLine] | None = None if count is None else deque(maxlen=count)

    @property
    def full(self) -> bool:
        """The byte limit is reached: nothing more will come, even when following."""
        return self._left == 0

    def feed(self, line: LogLine | Mark) -> bytes:
        """What can be sent now; may be empty."""
        if isinstance(line, Mark):
            return self.end()
        if self._backlog is not None:
            self._backlog.append(line)
            return b""
        return self._rendered(line)

    def end(self) -> bytes:
        """The lines that were held back; to be called when the source has ended."""
        held, self._backlog = self._backlog or (), None
        return b"".join([self._rendered(line) for line in held])

    def _rendered(self, line: LogLine) -> bytes:
        options = self._options
        if (options.since_ns is not None and line.time_ns < options.since_ns) or (
            options.stream is not None and line.stream != options.stream
        ):
            return b""
        chunk = b"%s\n" % line.text
        if options.timestamps:
            seconds, nanoseconds = divmod(line.time_ns, NS)
            chunk = b"%s.%09dZ %s" % (_second(seconds), nanoseconds, chunk)
        if self._left is not None:
            chunk = chunk[: self._left]
            self._left -= len(chunk)
        return chunk
