"""SPDY/3.1 frames: bytes in, frames out, and the other way. No I/O, no notion of what a stream is for.

Owns both header-compression contexts: every block that arrives is unpacked, in order, or the rest can't be. The payload
of a data frame is given on as it comes, never collected. What breaks the format raises `ProtocolError`: the connection
can't go on then.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from bareboat.kubelet.streams import spdy_dictionary

VERSION = 3
FIN = 0x01
UNIDIRECTIONAL = 0x02

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9

PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, UNSUPPORTED_VERSION, CANCEL, INTERNAL_ERROR = 1, 2, 3, 4, 5, 6

MAX_CONTROL_BYTES = 1 << 20
MAX_HEADERS_BYTES = 1 << 20
"""Unpacked, of one block."""
MAX_HEADERS = 1000
MAX_PAYLOAD_BYTES = (1 << 24) - 1
_MAX_ID = 0x7FFFFFFF
_HEADER_BYTES = 8


class ProtocolError(Exception):
    """The peer doesn't speak SPDY/3.1. The text says what was wrong."""


@dataclass(frozen=True, slots=True)
class SynStream:
    stream_id: int
    headers: Mapping[str, str]
    """Lower-case names; several values of one name are joined by NUL."""
    fin: bool = False


@dataclass(frozen=True, slots=True)
class SynReply:
    stream_id: int
    headers: Mapping[str, str]
    fin: bool = False


@dataclass(frozen=True, slots=True)
class Headers:
    stream_id: int
    headers: Mapping[str, str]
    fin: bool = False


@dataclass(frozen=True, slots=True)
class Reset:
    stream_id: int
    status: int


@dataclass(frozen=True, slots=True)
class Ping:
    ping_id: int


@dataclass(frozen=True, slots=True)
class GoAway:
    last_stream_id: int
    status: int


@dataclass(frozen=True, slots=True)
class Data:
    """A part of a data frame, or all of it; `fin` with the last part."""

    stream_id: int
    payload: bytes
    fin: bool = False


Frame = SynStream | SynReply | Headers | Reset | Ping | GoAway | Data


class Decoder:
    """One direction of one connection."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._needed = 0
        self._inflate = zlib.decompressobj(zdict=spdy_dictionary.DICTIONARY)
        self._data_id = 0
        self._data_fin = False
        self._data_left = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes, in order; frame types that nobody uses here are left out."""
        if self._held:
            # Only ever a frame's head or a bounded control frame: never looked at again before it is whole.
            self._held += data
            if len(self._held) < self._needed:
                return []
            data = bytes(self._held)
            self._held.clear()
        frames: list[Frame] = []
        at = 0
        while at < len(data):
            if self._data_left:
                at = self._part(data, at, frames)
                continue
            taken = self._frame(data, at, frames)
            if not taken:
                self._held += data[at:]
                break
            at += taken
        return frames

    def _part(self, data: bytes, at: int, frames: list[Frame]) -> int:
        part = data[at : at + self._data_left]
        self._data_left -= len(part)
        frames.append(Data(self._data_id, part, self._data_fin and not self._data_left))
        return at + len(part)

    def _frame(self, data: bytes, at: int, frames: list[Frame]) -> int:
        """Reads a control frame, or the head of a data frame, from `at`: how many bytes it took, 0 for too few."""
        self._needed = _HEADER_BYTES
        if len(data) - at < _HEADER_BYTES:
            return 0
        first, second = struct.unpack_from(">II", data, at)
        flags, length = second >> 24, second & 0xFFFFFF
        if not first >> 31:
            self._data_id, self._data_fin, self._data_left = first, bool(flags & FIN), length
            if not length:
                frames.append(Data(first, b"", self._data_fin))
            return _HEADER_BYTES
        version, kind = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != VERSION:
            raise ProtocolError(f"a frame of SPDY version {version}; spoken is {VERSION}")
        if length > MAX_CONTROL_BYTES:
            raise ProtocolError(f"a control frame of {length} bytes; allowed are {MAX_CONTROL_BYTES}")
        self._needed = _HEADER_BYTES + length
        if len(data) - at < self._needed:
            return 0
        frame = self._control(kind, flags, data[at + _HEADER_BYTES : at + self._needed])
        if frame is not None:
            frames.append(frame)
        return self._needed

    def _control(self, kind: int, flags: int, body: bytes) -> Frame | None:
        fin = bool(flags & FIN)
        if kind == SYN_STREAM:
            (stream_id,) = _numbers(body, "SYN_STREAM", 1, at_least=10)
            return SynStream(stream_id, self._headers(body[10:]), fin)
        if kind == SYN_REPLY:
            (stream_id,) = _numbers(body, "SYN_REPLY", 1, at_least=4)
            return SynReply(stream_id, self._headers(body[4:]), fin)
        if kind == HEADERS:
            (stream_id,) = _numbers(body, "HEADERS", 1, at_least=4)
            return Headers(stream_id, self._headers(body[4:]), fin)
        if kind == RST_STREAM:
            return Reset(*_numbers(body, "RST_STREAM", 2, exactly=8))
        if kind == PING:
            return Ping(*_numbers(body, "PING", 1, exactly=4, mask=0xFFFFFFFF))
        if kind == GOAWAY:
            return GoAway(*_numbers(body, "GOAWAY", 2, exactly=8))
        # SETTINGS and WINDOW_UPDATE among them: Kubernetes' SPDY has no windows.
        return None

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, MAX_HEADERS_BYTES)
        except zlib.error as error:
            raise ProtocolError(f"headers that can't be unpacked ({error})") from error
        if self._inflate.unconsumed_tail:
            raise ProtocolError(f"headers of more than {MAX_HEADERS_BYTES} bytes")
        if self._inflate.eof:
            raise ProtocolError("the end of the header compression, which lasts as long as the connection")
        return _parsed(plain) if plain else {}


class Encoder:
    """The other direction. Blocks have to be sent in the order in which they are built."""

    def __init__(self) -> None:
        # A window as small as the dictionary allows: 10 KiB for each connection in place of 256.
        self._deflate = zlib.compressobj(wbits=11, memLevel=1, zdict=spdy_dictionary.DICTIONARY)

    def syn_stream(self, stream_id: int, headers: Mapping[str, str], *, fin: bool = False) -> bytes:
        return control(SYN_STREAM, struct.pack(">IIH", stream_id, 0, 0) + self._block(headers), FIN if fin else 0)

    def syn_reply(self, stream_id: int, headers: Mapping[str, str]) -> bytes:
        return control(SYN_REPLY, struct.pack(">I", stream_id) + self._block(headers))

    def headers(self, stream_id: int, headers: Mapping[str, str]) -> bytes:
        return control(HEADERS, struct.pack(">I", stream_id) + self._block(headers))

    def _block(self, headers: Mapping[str, str]) -> bytes:
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        plain = struct.pack(">I", len(pairs)) + b"".join(
            struct.pack(">I", len(name)) + name + struct.pack(">I", len(value)) + value for name, value in pairs
        )
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def control(kind: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack(">II", 1 << 31 | VERSION << 16 | kind, flags << 24 | len(body)) + body


def data_header(stream_id: int, length: int, *, fin: bool = False) -> bytes:
    """What stands before `length` bytes of payload, at most `MAX_PAYLOAD_BYTES`."""
    return struct.pack(">II", stream_id, (FIN if fin else 0) << 24 | length)


def reset(stream_id: int, status: int) -> bytes:
    return control(RST_STREAM, struct.pack(">II", stream_id, status))


def ping(ping_id: int) -> bytes:
    return control(PING, struct.pack(">I", ping_id))


def go_away(last_stream_id: int, status: int = 0) -> bytes:
    return control(GOAWAY, struct.pack(">II", last_stream_id, status))


def _numbers(
    body: bytes, kind: str, count: int, *, at_least: int = 0, exactly: int | None = None, mask: int = _MAX_ID
) -> tuple[int, ...]:
    """The first `count` numbers, of 31 bits if nothing else is said."""
    if len(body) < at_least or (exactly is not None and len(body) != exactly):
        raise ProtocolError(f"a {kind} frame of {len(body)} bytes")
    return tuple(number & mask for number in struct.unpack_from(f">{count}I", body))


def _parsed(plain: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    try:
        (count,) = struct.unpack_from(">I", plain)
        if count > MAX_HEADERS:
            raise ProtocolError(f"{count} headers in one block; allowed are {MAX_HEADERS}")
        at = 4
        for _ in range(count):
            name, at = _text(plain, at)
            value, at = _text(plain, at)
            if not name or name != name.lower() or name in headers:
                raise ProtocolError(f"a header name that is empty, not in lower case or there twice: {name[:40]!r}")
            headers[name] = value
    except struct.error as error:
        raise ProtocolError("a header block that breaks off") from error
    if at != len(plain):
        raise ProtocolError("a header block with more bytes than headers")
    return headers


def _text(plain: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">I", plain, at)
    end = at + 4 + length
    if end > len(plain):
        raise ProtocolError("a header block that breaks off")
    return plain[at + 4 : end].decode("utf-8", "replace"), end
