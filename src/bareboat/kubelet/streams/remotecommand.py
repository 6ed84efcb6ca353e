"""What exec and attach say over SPDY and over WebSocket: channels, sub-protocols v1 to v5, status, terminal sizes.

Pure: bytes and words in, bytes and words out. Which protocol a connection speaks is chosen once; what differs between
the versions stands here and nowhere else.
"""

import base64
import binascii
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

V1, V2, V3, V4, V5 = (
    "channel.k8s.io",
    "v2.channel.k8s.io",
    "v3.channel.k8s.io",
    "v4.channel.k8s.io",
    "v5.channel.k8s.io",
)
V1_BASE64, V4_BASE64 = "base64.channel.k8s.io", "v4.base64.channel.k8s.io"
NONE = ""
"""A WebSocket client that names no protocol speaks v1."""

SPDY_PROTOCOLS = (V5, V4, V3, V2, V1)
WEBSOCKET_PROTOCOLS = (V5, V4, V4_BASE64, V1, V1_BASE64, NONE)
_BASE64 = (V1_BASE64, V4_BASE64)
_WITH_STATUS = (V4, V5, V4_BASE64)
_WITHOUT_RESIZE = (V1, V2)

CHUNK_BYTES = 64 * 1024
"""Smaller writes cost three times the CPU, larger ones hold up the other streams."""
_CLOSE = 255
_MAX_SIZE_TEXT = 4096


class BadOptions(Exception):
    """The request makes no sense; the text is the body of the 400."""


class BadMessage(Exception):
    """The peer doesn't speak the protocol that was agreed on."""


class Channel(IntEnum):
    """Numbers as in WebSocket messages; the lower-case names are SPDY's `streamtype`."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3
    RESIZE = 4

    @property
    def stream_type(self) -> str:
        return self.name.lower()


BY_STREAM_TYPE = {channel.stream_type: channel for channel in Channel}


@dataclass(frozen=True)
class Asked:
    """Which streams the client wants."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


@dataclass(frozen=True, slots=True)
class Size:
    columns: int
    rows: int


@dataclass(frozen=True)
class Outcome:
    """How a command ended: with `exit_code`, or not at all by itself, and then `failure` says why."""

    exit_code: int = 0
    failure: str = ""


def asked(query: Iterable[tuple[str, str]]) -> Asked:
    """From the request's query. A terminal has no stderr of its own, whatever is asked. Raises `BadOptions`."""
    given = {name: value for name, value in query if name in ("input", "output", "error", "tty")}
    stdin, stdout, stderr, tty = (_is_on(given.get(name)) for name in ("input", "output", "error", "tty"))
    if not (stdin or stdout or stderr):
        raise BadOptions("you must specify at least 1 of stdin, stdout, stderr")
    return Asked(stdin, stdout, stderr and not tty, tty)


def _is_on(value: str | None) -> bool:
    return value is not None and value.lower() in ("1", "true", "t")


def choose(offered: Sequence[str], supported: Sequence[str]) -> str | None:
    """The client's first choice that is supported."""
    return next((protocol for protocol in offered if protocol in supported), None)


def expected(asked: Asked, protocol: str) -> frozenset[Channel]:
    """The streams that a SPDY client opens before the command may start."""
    wanted = {Channel.ERROR}
    if asked.stdin:
        wanted.add(Channel.STDIN)
    if asked.stdout:
        wanted.add(Channel.STDOUT)
    if asked.stderr:
        wanted.add(Channel.STDERR)
    if asked.tty and protocol not in _WITHOUT_RESIZE:
        wanted.add(Channel.RESIZE)
    return frozenset(wanted)


def status(protocol: str, outcome: Outcome) -> bytes:
    """What goes over the error channel at the end; may be empty for v1 to v3, where nothing means success.

    An empty channel, or one that just breaks off, is success for kubectl: whoever sends none of this lets it exit 0.
    """
    if protocol not in _WITH_STATUS:
        if outcome.failure:
            return outcome.failure.encode(errors="replace")
        return _exit_text(outcome.exit_code).encode() if outcome.exit_code else b""
    return json.dumps(_status(outcome), separators=(",", ":")).encode()


def _status(outcome: Outcome) -> dict[str, Any]:
    if outcome.failure:
        return {
            "metadata": {},
            "status": "Failure",
            "message": outcome.failure,
            "reason": "InternalError",
            "details": {"causes": [{"message": outcome.failure}]},
            "code": 500,
        }
    if not outcome.exit_code:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": _exit_text(outcome.exit_code),
        "reason": "NonZeroExitCode",
        # The type of a cause is called "reason" on the wire.
        "details": {"causes": [{"reason": "ExitCode", "message": str(outcome.exit_code)}]},
    }


def _exit_text(exit_code: int) -> str:
    return f"command terminated with non-zero exit code: {exit_code}"


class SizeDecoder:
    """Terminal sizes from the resize channel: JSON objects one after the other, cut anywhere."""

    def __init__(self) -> None:
        self._text = ""
        self._decoder = json.JSONDecoder()

    def feed(self, data: bytes) -> list[Size]:
        """Raises `BadMessage` for what can't become a size any more."""
        self._text = (self._text + data.decode("ascii", "replace")).lstrip()
        sizes = []
        while self._text:
            try:
                value, end = self._decoder.raw_decode(self._text)
            except (ValueError, RecursionError):
                if len(self._text) > _MAX_SIZE_TEXT or not self._text.startswith("{"):
                    raise BadMessage("a terminal size that is no JSON object") from None
                break
            self._text = self._text[end:].lstrip()
            sizes.append(_size(value))
        return sizes


def _size(value: Any) -> Size:
    columns, rows = (value.get(name) if isinstance(value, dict) else None for name in ("Width", "Height"))
    for number in (columns, rows):
        if type(number) is not int or not 0 <= number <= 0xFFFF:
            raise BadMessage("a terminal size without Width and Height from 0 to 65535")
    assert isinstance(columns, int) and isinstance(rows, int)
    return Size(columns, rows)


@dataclass(frozen=True, slots=True)
class Sent:
    """A client's message: bytes of a channel, or its end (v5 alone)."""

    channel: int
    data: bytes = b""
    end: bool = False


def unpack(protocol: str, message: bytes | str) -> Sent | None:
    """Of a WebSocket message; None for an empty one. Channels that nobody knows are for the caller to ignore."""
    if protocol in _BASE64:
        text = message if isinstance(message, str) else message.decode("ascii", "replace")
        if not text:
            return None
        try:
            return Sent(ord(text[0]) - ord("0"), base64.b64decode(text[1:], validate=True))
        except (binascii.Error, ValueError) as error:
            raise BadMessage(f"a message that is not base64 ({error})") from error
    raw = message.encode() if isinstance(message, str) else message
    if not raw:
        return None
    if protocol == V5 and raw[0] == _CLOSE:
        if len(raw) != 2:
            raise BadMessage("an end of a channel that names none")
        return Sent(raw[1], end=True)
    return Sent(raw[0], raw[1:])


def pack(protocol: str, channel: int, data: bytes) -> bytes | str:
    """A WebSocket message: text for the base64 protocols, else binary."""
    if protocol in _BASE64:
        return chr(ord("0") + channel) + base64.b64encode(data).decode()
    return struct.pack("B", channel) + data
