"""The query of a log request: what is understood, what is 400 and what is 422."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareboat.kubelet import logs

NOW_S = 1_790_000_000.0


def parse(**query: str) -> logs.LogOptions:
    return logs.parse(list(query.items()), NOW_S)


def test_nothing_given_means_everything_once() -> None:
    assert parse() == logs.LogOptions()


def test_every_option_is_read() -> None:
    options = parse(follow="true", previous="1", timestamps="TRUE", tailLines="0", sinceSeconds="60", limitBytes="1")
    assert options == logs.LogOptions(
        follow=True,
        previous=True,
        timestamps=True,
        tail_lines=0,
        since_ns=(1_790_000_000 - 60) * logs.NS,
        limit_bytes=1,
    )


@pytest.mark.parametrize(
    "value, expected", [("false", False), ("0", False), ("", True), ("yes", True), ("False", False)]
)
def test_booleans_are_true_unless_they_say_otherwise(value: str, expected: bool) -> None:
    assert parse(follow=value).follow is expected


@pytest.mark.parametrize(
    "text, expected_ns",
    [
        ("2026-09-21T14:13:20Z", 1_790_000_000 * logs.NS),
        ("2026-09-21T16:13:20+02:00", 1_790_000_000 * logs.NS),
        ("2026-09-21T14:13:20.000000001Z", 1_790_000_000 * logs.NS + 1),
        ("2026-09-21T14:13:20.5Z", 1_790_000_000 * logs.NS + 500_000_000),
        ("", 0),
    ],
)
def test_since_time_is_rfc_3339_to_the_nanosecond(text: str, expected_ns: int) -> None:
    assert parse(sinceTime=text).since_ns == expected_ns


def test_the_old_spelling_of_tail_is_understood() -> None:
    assert parse(tail="5").tail_lines == 5
    assert parse(tail="all", tailLines="5").tail_lines is None


@pytest.mark.parametrize(
    "query",
    [
        {"tailLines": "many"},
        {"tailLines": ""},
        {"tailLines": "1_0"},
        {"tailLines": "99999999999999999999"},
        {"tailLines": "9223372036854775808"},
        {"tailLines": "٣"},
        {"sinceSeconds": "1.5"},
        {"limitBytes": "0x10"},
        {"sinceTime": "yesterday"},
        {"sinceTime": "2026-13-01T00:00:00Z"},
        {"sinceTime": "2026-09-21 14:13:20"},
    ],
)
def test_a_value_that_is_not_of_its_type_is_400(query: dict[str, str]) -> None:
    with pytest.raises(logs.Undecodable) as refused:
        parse(**query)
    assert (refused.value.status, refused.value.body) == (400, '{"message": "Unable to decode query."}')


@pytest.mark.parametrize(
    "query",
    [
        {"tailLines": "-1"},
        {"sinceSeconds": "0"},
        {"sinceSeconds": "-5"},
        {"limitBytes": "0"},
        {"sinceSeconds": "5", "sinceTime": "2026-09-21T14:13:20Z"},
        {"stream": "Both"},
        {"stream": "Stdout", "tailLines": "3"},
    ],
)
def test_values_that_make_no_sense_are_422(query: dict[str, str]) -> None:
    with pytest.raises(logs.Invalid) as refused:
        parse(**query)
    assert (refused.value.status, refused.value.body) == (422, '{"message": "Invalid request."}')


@given(
    st.dictionaries(st.sampled_from(["tailLines", "sinceSeconds", "sinceTime", "limitBytes", "follow", "x"]), st.text())
)
def test_no_query_breaks_the_parser(query: dict[str, str]) -> None:
    try:
        options = parse(**query)
    except logs.BadQuery:
        return
    assert options.tail_lines is None or options.tail_lines >= 0


@pytest.mark.parametrize(
    "time_ns, expected",
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (1_790_000_000 * logs.NS + 7, "2026-09-21T14:13:20.000000007Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
    ],
)
def test_timestamps_have_a_fixed_width(time_ns: int, expected: str) -> None:
    assert logs.timestamp(time_ns) == expected


def lines(*texts: str, stream: logs.Stream = "stdout") -> list[logs.LogLine | logs.Mark]:
    return [logs.LogLine(number * logs.NS, text.encode(), stream) for number, text in enumerate(texts)]


def rendered(source: list[logs.LogLine | logs.Mark], options: logs.LogOptions) -> bytes:
    renderer = logs.Renderer(options)
    sent = b""
    for line in source:
        sent += renderer.feed(line)
        if renderer.full:
            return sent
    return sent + renderer.end()


def test_tail_applies_before_since() -> None:
    options = logs.LogOptions(tail_lines=2, since_ns=3 * logs.NS)
    assert rendered([*lines("a", "b", "c", "d")], options) == b"d\n"


def test_tail_counts_back_from_where_the_source_caught_up() -> None:
    source = [*lines("a", "b", "c"), logs.CAUGHT_UP, *lines("d", "e", "f")]
    assert rendered(source, logs.LogOptions(tail_lines=1)) == b"c\nd\ne\nf\n"
    assert rendered(source, logs.LogOptions(tail_lines=0)) == b"d\ne\nf\n"


def test_the_byte_limit_counts_timestamps_and_cuts_the_last_line() -> None:
    options = logs.LogOptions(timestamps=True, limit_bytes=40)
    assert rendered([*lines("abc", "def")], options) == b"1970-01-01T00:00:00.000000000Z abc\n1970-"


def test_one_stream_can_be_chosen() -> None:
    source = [*lines("out"), *lines("err", stream="stderr")]
    assert rendered(source, logs.LogOptions(stream="stderr")) == b"err\n"


@given(st.lists(st.binary(max_size=5)), st.integers(0, 10), st.integers(1, 40))
def test_never_more_than_the_limits_allow(texts: list[bytes], tail: int, limit: int) -> None:
    source: list[logs.LogLine | logs.Mark] = [logs.LogLine(0, text.replace(b"\n", b"")) for text in texts]
    everything = rendered(source, logs.LogOptions())
    sent = rendered(source, logs.LogOptions(tail_lines=tail, limit_bytes=limit))
    kept = everything.splitlines(keepends=True)[-tail:] if tail else []
    assert sent == b"".join(kept)[:limit] or b"\r" in everything
