"""The log of a machine: lines, pieces, tails, and the turn at a bound."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bareboat.simulation.machines import logs


def test_stamps_have_nanoseconds() -> None:
    assert logs.stamp(1_790_000_000_000_000_042) == "2026-09-21T14:13:20.000000042Z"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40).filter(lambda data: b"\n" not in data), max_size=8), st.lists(st.integers(1, 9)))
def test_lines_come_back_however_they_were_cut(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], cuts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    writer = logs.Writer(path)
    data = b"".join(line + b"\n" for line in lines)
    for cut in cuts:
        writer.feed("stdout", data[:cut])
        data = data[cut:]
    writer.feed("stdout", data)
    writer.finish()
    writer.close()
    assert [line.text for line in logs.read(path)] == [line.decode(errors="replace") for line in lines]


def test_streams_do_not_mix_within_a_line(tmp_path: Path) -> None:
    writer = logs.Writer(tmp_path / "log")
    for stream, data in (("stdout", b"a"), ("stderr", b"x"), ("stdout", b"b\n"), ("stderr", b"y\n")):
        writer.feed(stream, data)
    assert [(line.stream, line.text) for line in logs.read(tmp_path / "log")] == [("stdout", "ab"), ("stderr", "xy")]


def test_line_longer_than_a_piece_is_one_line_again(tmp_path: Path) -> None:
    long = b"z" * (2 * logs.PIECE_BYTES + 5)
    writer = logs.Writer(tmp_path / "log")
    writer.feed("stdout", long[:-2])
    writer.feed("stdout", long[-2:] + b"\n" + long + b"\nend\n")
    lines = logs.read(tmp_path / "log")
    assert [len(line.text) for line in lines] == [len(long), len(long), 3]
    assert [line.text[:3] for line in logs.read(tmp_path / "log", tail=2)] == ["zzz", "end"]


@pytest.mark.parametrize("tail", [0, 1, 2, 99, 100, 101, 5000])
def test_tail_gives_the_last_lines(tmp_path: Path, tail: int) -> None:
    writer = logs.Writer(tmp_path / "log")
    every = [f"line {number} " + "F " * (number % 7) + "x" * (number * 5) for number in range(100)]
    writer.feed("stdout", "".join(line + "\n" for line in every).encode())
    expected = every[-tail:] if tail else []
    assert [line.text for line in logs.read(tmp_path / "log", tail)] == expected


def test_endless_talker_keeps_its_last_lines_and_not_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = logs.Writer(path, turn_bytes=10_000)
    for number in range(2000):
        writer.feed("stdout", f"line {number}\n".encode())
    assert path.stat().st_size + logs.older(path).stat().st_size <= 20_000
    assert [line.text for line in logs.read(path, 150)] == [f"line {number}" for number in range(1850, 2000)]


def test_machine_that_printed_nothing_has_no_lines(tmp_path: Path) -> None:
    assert logs.read(tmp_path / "none") == []
    assert logs.read(tmp_path / "none", 5) == []
