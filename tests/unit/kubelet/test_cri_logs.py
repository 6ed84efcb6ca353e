"""Log files of the container runtime interface, and all options of `kubectl logs` over them."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bareboat.kubelet import cri_logs, logs

START_S = 1_790_000_000
FILE = b"".join(
    [
        b"2026-09-21T14:13:20.000000000Z stdout F first\n",
        b"2026-09-21T14:13:21.5Z stderr F second\n",
        b"2026-09-21T16:13:22.000000001+02:00 stdout P a long \n",
        b"2026-09-21T14:13:22.500000000Z stderr F between\n",
        b"2026-09-21T14:13:23.000000000Z stdout F line\n",
        b"2026-09-21T14:13:24.000000000Z stdout F \n",
    ]
)
LINES = [
    logs.LogLine(START_S * logs.NS, b"first", "stdout"),
    logs.LogLine((START_S + 1) * logs.NS + 500_000_000, b"second", "stderr"),
    logs.LogLine((START_S + 2) * logs.NS + 500_000_000, b"between", "stderr"),
    logs.LogLine((START_S + 2) * logs.NS + 1, b"a long line", "stdout"),
    logs.LogLine((START_S + 4) * logs.NS, b"", "stdout"),
]


def read(pieces: Iterable[bytes]) -> list[logs.LogLine]:
    reader = cri_logs.Reader()
    lines = [line for piece in pieces for line in reader.feed(piece)]
    return [*lines, *reader.end()]


@settings(deadline=None)
@given(st.lists(st.integers(0, len(FILE))))
def test_lines_survive_any_split_and_parts_are_joined(cuts: list[int]) -> None:
    assert read(FILE[start:end] for start, end in itertools.pairwise([0, *sorted(cuts), len(FILE)])) == LINES


def test_what_is_no_such_line_is_shown_under_the_time_before_it() -> None:
    assert read([b"torn\n2026-09-21T14:13:20Z stdout F whole\nmore tor", b"n"]) == [
        logs.LogLine(0, b"torn"),
        logs.LogLine(START_S * logs.NS, b"whole"),
        logs.LogLine(START_S * logs.NS, b"more torn"),
    ]


def test_an_unfinished_line_is_shown_at_the_end() -> None:
    assert [line.text for line in read([b"2026-09-21T14:13:20Z stdout P half"])] == [b"half"]


@pytest.mark.parametrize("time", [b"2026-13-45T99:99:99Z", b"9999-12-31T23:59:59-23:59"])
def test_an_impossible_time_loses_no_text(time: bytes) -> None:
    assert [line.text for line in read([time + b" stdout F text\n"])] == [b"text"]


def test_a_line_without_end_is_cut_rather_than_held() -> None:
    reader = cri_logs.Reader()
    part = b"2026-09-21T14:13:20Z stdout P " + b"x" * 16384 + b"\n"
    shown = [line for _ in range(200) for line in reader.feed(part)]
    assert sum(len(line.text) for line in [*shown, *reader.end()]) == 200 * 16384
    assert max(len(line.text) for line in shown) <= cri_logs.MAX_LINE_BYTES + 16384
    unbroken = [line for _ in range(64) for line in reader.feed(b"y" * 65536)]
    assert unbroken and max(len(line.text) for line in unbroken) <= 3 * cri_logs.MAX_LINE_BYTES


@pytest.mark.parametrize(
    "query, shown",
    [
        ([], b"first\nsecond\nbetween\na long line\n\n"),
        ([("tailLines", "2")], b"a long line\n\n"),
        ([("tailLines", "0")], b""),
        ([("tail", "all")], b"first\nsecond\nbetween\na long line\n\n"),
        ([("sinceTime", "2026-09-21T14:13:22.4Z")], b"between\n\n"),
        ([("sinceSeconds", "3")], b"between\na long line\n\n"),
        # Tail counts before since looks.
        ([("tailLines", "3"), ("sinceTime", "2026-09-21T14:13:22.4Z")], b"between\n\n"),
        ([("limitBytes", "9")], b"first\nsec"),
        ([("stream", "Stderr")], b"second\nbetween\n"),
        ([("stream", "Stdout"), ("limitBytes", "10")], b"first\na lo"),
        (
            [("timestamps", "true"), ("tailLines", "2")],
            b"2026-09-21T14:13:22.000000001Z a long line\n2026-09-21T14:13:24.000000000Z \n",
        ),
    ],
)
def test_options_apply_in_the_kubelets_order(query: list[tuple[str, str]], shown: bytes) -> None:
    renderer = logs.Renderer(logs.parse(query, START_S + 5))
    assert b"".join(renderer.feed(line) for line in read([FILE])) + renderer.end() == shown
