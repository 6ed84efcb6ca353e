"""What exec and attach say in each version of their protocol."""

import base64
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bareboat.kubelet.streams import remotecommand as words
from bareboat.kubelet.streams.remotecommand import Channel, Size


@pytest.mark.parametrize(
    "query, expected",
    [
        ([("input", "1"), ("output", "1")], words.Asked(stdin=True, stdout=True)),
        ([("output", "true"), ("error", "1"), ("tty", "0")], words.Asked(stdout=True, stderr=True)),
        ([("output", "1"), ("error", "1"), ("tty", "1")], words.Asked(stdout=True, tty=True)),
    ],
)
def test_options_are_read_as_the_kubelet_does(query: list[tuple[str, str]], expected: words.Asked) -> None:
    assert words.asked(query) == expected


@pytest.mark.parametrize("query", [[], [("tty", "1")], [("output", "0")], [("command", "ls")]])
def test_at_least_one_stream_has_to_be_asked_for(query: list[tuple[str, str]]) -> None:
    with pytest.raises(words.BadOptions, match="at least 1 of stdin, stdout, stderr"):
        words.asked(query)


def test_the_clients_first_choice_wins() -> None:
    assert words.choose([words.V3, words.V4], words.SPDY_PROTOCOLS) == words.V3
    assert words.choose(["other", words.V5, words.V4], words.WEBSOCKET_PROTOCOLS) == words.V5
    assert words.choose(["other"], words.WEBSOCKET_PROTOCOLS) is None


def test_a_terminal_has_a_resize_stream_from_v3_on() -> None:
    tty = words.Asked(stdin=True, stdout=True, tty=True)
    with_resize = {Channel.ERROR, Channel.STDIN, Channel.STDOUT, Channel.RESIZE}
    assert words.expected(tty, words.V4) == with_resize
    assert words.expected(tty, words.V3) == with_resize
    assert words.expected(tty, words.V2) == with_resize - {Channel.RESIZE}


@pytest.mark.parametrize("protocol", [words.V4, words.V5, words.V4_BASE64])
def test_status_is_json_from_v4_on(protocol: str) -> None:
    assert json.loads(words.status(protocol, words.Outcome())) == {"metadata": {}, "status": "Success"}
    failed = json.loads(words.status(protocol, words.Outcome(137)))
    assert (failed["status"], failed["reason"]) == ("Failure", "NonZeroExitCode")
    assert failed["details"]["causes"] == [{"reason": "ExitCode", "message": "137"}]
    broken = json.loads(words.status(protocol, words.Outcome(failure="gone")))
    assert (broken["reason"], broken["code"], broken["message"]) == ("InternalError", 500, "gone")


@pytest.mark.parametrize("protocol", [words.V1, words.V2, words.V3, words.V1_BASE64, words.NONE])
def test_status_is_plain_text_before_v4_and_nothing_on_success(protocol: str) -> None:
    assert words.status(protocol, words.Outcome()) == b""
    assert words.status(protocol, words.Outcome(4)) == b"command terminated with non-zero exit code: 4"
    assert words.status(protocol, words.Outcome(failure="gone")) == b"gone"


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 65535)), max_size=6), st.lists(st.integers(0, 300)))
def test_terminal_sizes_survive_any_split(sizes: list[tuple[int, int]], cuts: list[int]) -> None:
    stream = b"".join(json.dumps({"Width": w, "Height": h}).encode() + b"\n" for w, h in sizes)
    at = sorted({0, *(cut % (len(stream) + 1) for cut in cuts), len(stream)})
    decoder = words.SizeDecoder()
    got = [size for start, end in itertools.pairwise(at) for size in decoder.feed(stream[start:end])]
    assert got == [Size(w, h) for w, h in sizes]


@pytest.mark.parametrize(
    "data", [b"[1]", b"hello", b'{"Width":1}', b'{"Width":-1,"Height":2}', b'{"Width":70000,"Height":2}', b"{" * 5000]
)
def test_what_is_no_terminal_size_is_refused(data: bytes) -> None:
    with pytest.raises(words.BadMessage, match="terminal size"):
        words.SizeDecoder().feed(data)


@settings(deadline=None)
@given(st.sampled_from(words.WEBSOCKET_PROTOCOLS), st.integers(0, 4), st.binary(max_size=100))
def test_messages_survive_the_round_trip(protocol: str, channel: int, data: bytes) -> None:
    assert words.unpack(protocol, words.pack(protocol, channel, data)) == words.Sent(channel, data)


def test_base64_messages_are_text() -> None:
    assert words.pack(words.V4_BASE64, 1, b"hi") == "1" + base64.b64encode(b"hi").decode()
    assert words.unpack(words.V1_BASE64, b"0aGk=") == words.Sent(0, b"hi")


def test_v5_ends_a_channel_and_v4_knows_no_such_message() -> None:
    assert words.unpack(words.V5, b"\xff\x00") == words.Sent(0, end=True)
    assert words.unpack(words.V4, b"\xff\x00") == words.Sent(255, b"\0")


@pytest.mark.parametrize(
    "protocol, message", [(words.V5, b"\xff"), (words.V1_BASE64, "0not base64!"), (words.V4_BASE64, "0é")]
)
def test_broken_messages_are_refused(protocol: str, message: bytes | str) -> None:
    with pytest.raises(words.BadMessage):
        words.unpack(protocol, message)


@pytest.mark.parametrize("protocol", words.WEBSOCKET_PROTOCOLS)
def test_an_empty_message_says_nothing(protocol: str) -> None:
    assert words.unpack(protocol, b"") is None
    assert words.unpack(protocol, "") is None
