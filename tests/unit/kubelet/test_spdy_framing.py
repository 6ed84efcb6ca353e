"""SPDY/3.1 frames against the specification's own bytes, cut anywhere, and broken in every way."""

import itertools
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bareboat.kubelet.streams import spdy_dictionary
from bareboat.kubelet.streams import spdy_framing as framing

names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
headers = st.dictionaries(names, st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=5)
ids = st.integers(1, 0x7FFFFFFF)
frames = st.one_of(
    st.builds(framing.SynStream, ids, headers, st.booleans()),
    st.builds(framing.SynReply, ids, headers),
    st.builds(framing.Headers, ids, headers),
    st.builds(framing.Reset, ids, st.integers(1, 11)),
    st.builds(framing.Ping, st.integers(1, 0xFFFFFFFF)),
    st.builds(framing.GoAway, ids, st.integers(0, 2)),
    st.builds(framing.Data, ids, st.binary(max_size=200), st.booleans()),
)


def written(encoder: framing.Encoder, frame: framing.Frame) -> bytes:
    if isinstance(frame, framing.SynStream):
        return encoder.syn_stream(frame.stream_id, frame.headers, fin=frame.fin)
    if isinstance(frame, framing.SynReply):
        return encoder.syn_reply(frame.stream_id, frame.headers)
    if isinstance(frame, framing.Headers):
        return encoder.headers(frame.stream_id, frame.headers)
    if isinstance(frame, framing.Reset):
        return framing.reset(frame.stream_id, frame.status)
    if isinstance(frame, framing.Ping):
        return framing.ping(frame.ping_id)
    if isinstance(frame, framing.GoAway):
        return framing.go_away(frame.last_stream_id, frame.status)
    return framing.data_header(frame.stream_id, len(frame.payload), fin=frame.fin) + frame.payload


def joined(decoded: list[framing.Frame]) -> list[framing.Frame]:
    """Parts of one data frame put together again: a part without `fin` before another of the same stream."""
    whole: list[framing.Frame] = []
    for frame in decoded:
        last = whole[-1] if whole else None
        if (
            isinstance(frame, framing.Data)
            and isinstance(last, framing.Data)
            and last.stream_id == frame.stream_id
            and not last.fin
        ):
            whole[-1] = framing.Data(frame.stream_id, last.payload + frame.payload, frame.fin)
        else:
            whole.append(frame)
    return whole


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, *(cut % (len(stream) + 1) for cut in cuts), len(stream)})
    return [stream[start:end] for start, end in itertools.pairwise(at)]


@settings(max_examples=150, deadline=None)
@given(st.lists(frames, max_size=12), st.lists(st.integers(0, 10_000), max_size=12))
def test_frames_survive_any_split(sent: list[framing.Frame], cuts: list[int]) -> None:
    encoder, decoder = framing.Encoder(), framing.Decoder()
    stream = b"".join(written(encoder, frame) for frame in sent)
    received = [frame for piece in pieces(stream, cuts) for frame in decoder.feed(piece)]
    assert joined(received) == joined(sent)


def test_frames_survive_being_cut_at_every_byte() -> None:
    encoder, decoder = framing.Encoder(), framing.Decoder()
    sent: list[framing.Frame] = [
        framing.SynStream(1, {"streamtype": "error"}),
        framing.Data(1, b"hello", True),
        framing.Ping(7),
    ]
    stream = b"".join(written(encoder, frame) for frame in sent)
    received = [frame for number in range(len(stream)) for frame in decoder.feed(stream[number : number + 1])]
    assert joined(received) == sent


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_refused_or_ignored_and_never_crashes(noise: bytes) -> None:
    decoder = framing.Decoder()
    try:
        decoder.feed(noise)
    except framing.ProtocolError as error:
        assert str(error)


def test_a_partial_payload_is_given_on_at_once() -> None:
    decoder = framing.Decoder()
    assert decoder.feed(framing.data_header(5, 10, fin=True) + b"abc") == [framing.Data(5, b"abc")]
    assert decoder.feed(b"defghij") == [framing.Data(5, b"defghij", True)]


def test_the_dictionary_is_the_specifications() -> None:
    assert len(spdy_dictionary.DICTIONARY) == 1423
    assert zlib.adler32(spdy_dictionary.DICTIONARY) == 0xE3C6A7C2


def test_a_block_as_go_writes_it_is_read() -> None:
    """Go compresses at level 9 with a window of 32 KiB; several values are joined by NUL."""
    deflate = zlib.compressobj(9, zdict=spdy_dictionary.DICTIONARY)
    plain = struct.pack(">II10sI8s", 1, 10, b"streamtype", 8, b"a\0stdout")
    block = deflate.compress(plain) + deflate.flush(zlib.Z_SYNC_FLUSH)
    assert block[:6] == bytes.fromhex("78f9e3c6a7c2")
    frame = framing.control(framing.SYN_STREAM, struct.pack(">IIH", 1, 0, 0) + block)
    assert framing.Decoder().feed(frame) == [framing.SynStream(1, {"streamtype": "a\0stdout"})]


def test_frames_that_nobody_uses_are_ignored() -> None:
    settings_frame = framing.control(framing.SETTINGS, struct.pack(">IIi", 1, 4, 100))
    window = framing.control(framing.WINDOW_UPDATE, struct.pack(">II", 1, 65536))
    unknown = framing.control(77, b"any")
    decoder = framing.Decoder()
    assert decoder.feed(settings_frame + window + unknown + framing.ping(1)) == [framing.Ping(1)]


def compressed(plain: bytes) -> bytes:
    deflate = zlib.compressobj(zdict=spdy_dictionary.DICTIONARY)
    return deflate.compress(plain) + deflate.flush(zlib.Z_SYNC_FLUSH)


def syn(block: bytes) -> bytes:
    return framing.control(framing.SYN_STREAM, struct.pack(">IIH", 1, 0, 0) + block)


def pair(name: bytes, value: bytes = b"") -> bytes:
    return struct.pack(">I", len(name)) + name + struct.pack(">I", len(value)) + value


@pytest.mark.parametrize(
    "broken, why",
    [
        (b"\x80\x02\x00\x01\x00\x00\x00\x00", "version 2"),
        (struct.pack(">II", 0x80030001, framing.MAX_CONTROL_BYTES + 1), "control frame of 1048577 bytes"),
        (framing.control(framing.PING, b"abc"), "PING frame of 3 bytes"),
        (framing.control(framing.GOAWAY, b"abcd"), "GOAWAY frame of 4 bytes"),
        (framing.control(framing.RST_STREAM, b"abcd"), "RST_STREAM frame of 4 bytes"),
        (framing.control(framing.SYN_STREAM, b"abcd"), "SYN_STREAM frame of 4 bytes"),
        (framing.control(framing.SYN_REPLY, b""), "SYN_REPLY frame of 0 bytes"),
        (syn(b"not zlib"), "can't be unpacked"),
        (syn(compressed(struct.pack(">I", 1001))), "1001 headers"),
        (syn(compressed(struct.pack(">I", 2) + pair(b"a"))), "breaks off"),
        (syn(compressed(struct.pack(">I", 1) + pair(b"a") + b"more")), "more bytes than headers"),
        (syn(compressed(struct.pack(">I", 1) + pair(b"Upper"))), "not in lower case"),
        (syn(compressed(struct.pack(">I", 2) + pair(b"a") * 2)), "there twice"),
        (syn(compressed(struct.pack(">I", 1) + pair(b""))), "empty"),
        (syn(compressed(struct.pack(">II", 1, 0xFFFFFFFF))), "breaks off"),
        (syn(compressed(struct.pack(">I", 1) + pair(b"bomb", b"x" * (2 << 20)))), "more than 1048576 bytes"),
    ],
)
def test_a_broken_frame_is_named(broken: bytes, why: str) -> None:
    with pytest.raises(framing.ProtocolError, match=why):
        framing.Decoder().feed(broken)
