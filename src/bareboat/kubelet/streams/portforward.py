"""What port-forward says: the pairs of SPDY streams that make a connection, and the older WebSocket form.

Pure. Over SPDY each forwarded connection is an error stream and a data stream with the same request id; over WebSocket
each port of the query is one connection on two channels.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SPDY_PROTOCOL = "portforward.k8s.io"
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"
"""A WebSocket whose messages, put together, are a SPDY connection."""
WEBSOCKET_PROTOCOLS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io", "")
PAIR_WAIT_S = 30.0
MAX_PORTS = 100


class BadStream(Exception):
    """A stream with headers that make no connection; to be reset."""


class BadOptions(Exception):
    """The request makes no sense; the text is the body of the 400."""


@dataclass(frozen=True, slots=True)
class Pair:
    port: int
    error_id: int
    data_id: int


@dataclass(slots=True)
class _Half:
    port: int
    since_s: float
    error_id: int | None = None
    data_id: int | None = None


class Pairing:
    """The halves that wait for each other."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Half] = {}

    def add(self, stream_id: int, headers: Mapping[str, str], now_s: float) -> Pair | None:
        """The connection that this stream completes, or None while the other half is missing. Raises `BadStream`."""
        kind = _first(headers, "streamtype")
        if kind not in ("error", "data"):
            raise BadStream(f"stream type {kind!r}; allowed are error and data")
        port = _port(_first(headers, "port"))
        # The oldest clients send no request id, and open the two streams one after the other, the error one first.
        request = _first(headers, "requestid") or f"stream {stream_id if kind == 'error' else stream_id - 2}"
        half = self._waiting.setdefault(request, _Half(port, now_s))
        if half.port != port:
            raise BadStream(f"request {request} names port {half.port} and port {port}")
        if (half.error_id if kind == "error" else half.data_id) is not None:
            raise BadStream(f"request {request} has two {kind} streams")
        if kind == "error":
            half.error_id = stream_id
        else:
            half.data_id = stream_id
        if half.error_id is None or half.data_id is None:
            return None
        del self._waiting[request]
        return Pair(port, half.error_id, half.data_id)

    def gone(self, stream_id: int) -> None:
        """A stream was reset: the half that it was waits no longer."""
        self._waiting = {
            request: half for request, half in self._waiting.items() if stream_id not in (half.error_id, half.data_id)
        }

    def overdue(self, now_s: float) -> list[int]:
        """Streams whose other half did not come in time; each is told once."""
        late = [request for request, half in self._waiting.items() if now_s - half.since_s >= PAIR_WAIT_S]
        halves = [self._waiting.pop(request) for request in late]
        return [stream for half in halves for stream in (half.error_id, half.data_id) if stream is not None]


def _first(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name, "").partition("\0")[0]


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise BadStream(f"port {text!r}; allowed are 1 to 65535")
    return int(text)


def ports(query: Iterable[tuple[str, str]]) -> list[int]:
    """Of the WebSocket form's query: several `port`, each one number or several with commas. Raises `BadOptions`."""
    texts = [text for name, value in query if name == "port" for text in value.split(",")]
    if not texts:
        raise BadOptions('query parameter "port" is required')
    if len(texts) > MAX_PORTS:
        raise BadOptions(f"{len(texts)} ports; allowed are {MAX_PORTS} in one request")
    try:
        return [_port(text.strip()) for text in texts]
    except BadStream as error:
        raise BadOptions(str(error)) from error


def data_channel(number: int) -> int:
    return 2 * number


def error_channel(number: int) -> int:
    return 2 * number + 1


def greeting(port: int) -> bytes:
    """The first thing on both channels of a port: its number, little-endian."""
    return struct.pack("<H", port)
