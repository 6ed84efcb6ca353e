"""One SPDY/3.1 connection as Kubernetes uses it: which streams are open, which half has ended, who may say what.

No I/O: `receive` takes bytes and gives events, `take_output` gives what has to be written. Answers pings by itself;
streams are answered by whoever owns the session (`accept` or `reject`), at once, since the peer waits for it and drops
data that comes before. Kubernetes' SPDY has no windows: what was received and not `consumed` is counted instead, and
`wants_data` tells when to stop reading the connection.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bareboat.kubelet.streams import spdy_framing as framing

HIGH_WATER_BYTES = 1 << 20
LOW_WATER_BYTES = 1 << 18
MAX_STREAMS = 4096


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer opened a stream; `accept` or `reject` it before anything else."""

    stream_id: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The peer took a stream that we opened."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class Received:
    """Counts as held until `consumed`."""

    stream_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The peer sends nothing more on this stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class WasReset:
    """The stream is gone in both directions."""

    stream_id: int
    status: int


@dataclass(frozen=True, slots=True)
class GoingAway:
    """The peer opens no more streams."""


@dataclass(frozen=True, slots=True)
class Ponged:
    """The peer answered a ping of ours."""


Event = Opened | Accepted | Received | Ended | WasReset | GoingAway | Ponged


@dataclass(slots=True)
class _Stream:
    answered: bool
    sending: bool = True
    receiving: bool = True


class Session:
    """Server role unless `client`."""

    def __init__(self, *, client: bool = False) -> None:
        self._decoder = framing.Decoder()
        self._encoder = framing.Encoder()
        self._streams: dict[int, _Stream] = {}
        self._out: list[bytes] = []
        self._parity = 0 if client else 1
        """Of the peer's ids, modulo 2: clients' are odd."""
        self._last_peer_id = 0
        self._next_id = 1 if client else 2
        self._next_ping_id = 1 if client else 2
        self._held_bytes = 0
        self._paused = False

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    def is_open(self, stream_id: int) -> bool:
        """Whether either half of the stream still is."""
        return stream_id in self._streams

    @property
    def wants_data(self) -> bool:
        """False from the moment that more than 1 MiB is held until it is down to 256 KiB."""
        if self._held_bytes > HIGH_WATER_BYTES:
            self._paused = True
        elif self._held_bytes <= LOW_WATER_BYTES:
            self._paused = False
        return not self._paused

    def consumed(self, count: int) -> None:
        """`count` bytes of `Received` need no memory any more."""
        self._held_bytes -= count

    def receive(self, data: bytes) -> list[Event]:
        """Raises `spdy_framing.ProtocolError`; nothing can be received after that, while output still may be sent."""
        events: list[Event] = []
        for frame in self._decoder.feed(data):
            self._take(frame, events)
        return events

    def take_output(self) -> bytes:
        """What is to be written now, each byte once."""
        out = self._out
        joined = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return joined

    def open(self, headers: Mapping[str, str]) -> int:
        """A stream of our own; data may follow once the peer has accepted."""
        stream_id, self._next_id = self._next_id, self._next_id + 2
        self._streams[stream_id] = _Stream(answered=False)
        self._out.append(self._encoder.syn_stream(stream_id, headers))
        return stream_id

    def accept(self, stream_id: int) -> None:
        """Nothing if the stream is gone."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.answered:
            stream.answered = True
            self._out.append(self._encoder.syn_reply(stream_id, {}))

    def reject(self, stream_id: int, status: int = framing.REFUSED_STREAM) -> None:
        """Also ends a stream that was accepted; nothing if it is gone."""
        if self._streams.pop(stream_id, None) is not None:
            self._out.append(framing.reset(stream_id, status))

    def send(self, stream_id: int, data: bytes, *, fin: bool = False) -> bool:
        """False, and nothing sent, when our half of the stream has ended. Frames take up to 16 MiB; 64 KiB is best."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.sending:
            return False
        if not stream.answered:
            raise ValueError(f"data on stream {stream_id} before it was accepted would be lost")
        self._out.append(framing.data_header(stream_id, len(data), fin=fin))
        if data:
            self._out.append(data)
        if fin:
            self._half_closed(stream_id, sending=True)
        return True

    def finish(self, stream_id: int) -> None:
        """Ends our half; nothing if it has ended."""
        self.send(stream_id, b"", fin=True)

    def ping(self) -> None:
        self._out.append(framing.ping(self._next_ping_id))
        self._next_ping_id = (self._next_ping_id + 2) & 0x7FFFFFFF or 2

    def go_away(self) -> None:
        self._out.append(framing.go_away(self._last_peer_id))

    def _take(self, frame: framing.Frame, events: list[Event]) -> None:
        if isinstance(frame, framing.Data):
            self._take_data(frame, events)
        elif isinstance(frame, framing.SynStream):
            self._take_stream(frame, events)
        elif isinstance(frame, framing.Ping):
            if frame.ping_id % 2 == self._parity:
                self._out.append(framing.ping(frame.ping_id))
            else:
                events.append(Ponged())
        elif isinstance(frame, framing.GoAway):
            events.append(GoingAway())
        elif isinstance(frame, framing.Reset):
            if self._streams.pop(frame.stream_id, None) is not None:
                events.append(WasReset(frame.stream_id, frame.status))
        else:
            self._take_reply(frame, events)

    def _take_data(self, frame: framing.Data, events: list[Event]) -> None:
        stream = self._streams.get(frame.stream_id)
        if stream is None or not stream.receiving:
            # Of a stream that we have just ended there may be data under way; of one that never was there can't.
            if stream is None and not self._was_open(frame.stream_id):
                self._out.append(framing.reset(frame.stream_id, framing.INVALID_STREAM))
            return
        if frame.payload:
            self._held_bytes += len(frame.payload)
            events.append(Received(frame.stream_id, frame.payload))
        if frame.fin:
            self._peer_ended(frame.stream_id, events)

    def _take_stream(self, frame: framing.SynStream, events: list[Event]) -> None:
        stream_id = frame.stream_id
        if stream_id % 2 != self._parity or stream_id <= self._last_peer_id:
            self._out.append(framing.reset(stream_id, framing.PROTOCOL_ERROR))
            return
        self._last_peer_id = stream_id
        if len(self._streams) >= MAX_STREAMS:
            self._out.append(framing.reset(stream_id, framing.REFUSED_STREAM))
            return
        self._streams[stream_id] = _Stream(answered=False)
        events.append(Opened(stream_id, frame.headers))
        if frame.fin:
            self._peer_ended(stream_id, events)

    def _take_reply(self, frame: framing.SynReply | framing.Headers, events: list[Event]) -> None:
        stream = self._streams.get(frame.stream_id)
        if stream is None:
            return
        if isinstance(frame, framing.SynReply) and not stream.answered and frame.stream_id % 2 != self._parity:
            stream.answered = True
            events.append(Accepted(frame.stream_id))
        if frame.fin and stream.receiving:
            self._peer_ended(frame.stream_id, events)

    def _peer_ended(self, stream_id: int, events: list[Event]) -> None:
        self._half_closed(stream_id, sending=False)
        events.append(Ended(stream_id))

    def _half_closed(self, stream_id: int, *, sending: bool) -> None:
        stream = self._streams[stream_id]
        if sending:
            stream.sending = False
        else:
            stream.receiving = False
        if not stream.sending and not stream.receiving:
            del self._streams[stream_id]

    def _was_open(self, stream_id: int) -> bool:
        if stream_id % 2 == self._parity:
            return 0 < stream_id <= self._last_peer_id
        return 0 < stream_id < self._next_id
