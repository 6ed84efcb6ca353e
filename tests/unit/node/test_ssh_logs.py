"""A log in ssh access reaches its reader whole and once, whatever becomes of the connection and of the machine."""

import types
from typing import Any, cast

import pytest

from bareboat.access import failures
from bareboat.kubelet import logs
from bareboat.node import endings, ssh_logs


def cri(*numbers: int, second: int = 1) -> bytes:
    """Lines of the same instant."""
    return b"".join(b"2026-01-01T00:00:%02d.5Z stdout F line %d\n" % (second, number) for number in numbers)


class Printed:
    """A `runner logs` that prints these pieces; the connection breaks where one is None."""

    def __init__(self, *pieces: bytes | None) -> None:
        self._pieces = list(pieces)
        self.closed = False

    async def read_stdout(self) -> bytes:
        piece = self._pieces.pop(0) if self._pieces else b""
        if piece is None:
            raise failures.Dropped("vast/1", "it broke")
        return piece

    async def read_stderr(self) -> bytes:
        return b""

    async def wait(self) -> Any:
        return types.SimpleNamespace(code=0)

    def end_input(self) -> None: ...

    async def __aenter__(self) -> "Printed":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed = True


class Machine:
    """Its runner prints one after the other; when there is none left, it is gone."""

    def __init__(self, *printed: Printed) -> None:
        self.printed = list(printed)
        self.asked: list[Any] = []

    async def logs(self, of: Any) -> Printed:
        self.asked.append(of)
        if not self.printed:
            raise failures.Gone("vast/1", "its connection was closed")
        return self.printed.pop(0)


STATE = types.SimpleNamespace(name="main", running=object(), terminated=None, last=None, waiting=None, restarts=0)


async def opened(machine: Machine, kept: endings.KeptLogs, **options: Any) -> logs.Lines:
    told = types.SimpleNamespace(containers=[STATE], init=[])
    session = types.SimpleNamespace(runner=machine, told=told)
    record = types.SimpleNamespace(uid="u", told=told, end=None, has_run=True)
    return await ssh_logs.open_log(
        cast(Any, session), cast(Any, record), kept, "pod", "main", logs.LogOptions(**options), lambda: "Waiting"
    )


async def read(lines: logs.Lines) -> list[str]:
    return [line.text.decode() async for line in lines if isinstance(line, logs.LogLine)]


def named(*numbers: int) -> list[str]:
    return [f"line {number}" for number in numbers]


async def test_it_goes_on_over_a_new_connection_without_a_line_lost_or_doubled() -> None:
    again = Printed(cri(1, 2, 3), cri(4, second=2))
    machine = Machine(Printed(cri(1, 2), None), again)
    assert await read(await opened(machine, endings.KeptLogs(), follow=True, tail_lines=7)) == named(1, 2, 3, 4)
    assert machine.asked[1].since.startswith("2026-01-01T00:00:01.5") and machine.asked[1].tail is None
    assert again.closed


async def test_a_machine_that_goes_while_it_is_read_leaves_the_rest_in_what_was_kept() -> None:
    kept = endings.KeptLogs()
    kept.keep("u/main", (cri(1, 2) + cri(3, second=3)).decode())
    machine = Machine(Printed(cri(1, 2)[:60], None))
    assert await read(await opened(machine, kept, follow=True)) == named(1, 2, 3)
    assert len(machine.asked) == 1, "nobody asks a machine that is given back"


async def test_the_last_lines_alone_are_told_from_what_was_kept_when_only_those_were_asked_for() -> None:
    kept = endings.KeptLogs()
    kept.keep("u/main", cri(1, 2, 3).decode())
    assert await read(await opened(Machine(Printed(None)), kept, follow=True, tail_lines=1)) == named(3)


async def test_lines_that_nobody_kept_are_missed_in_words() -> None:
    kept = endings.KeptLogs()
    kept.keep("u/main", cri(9, second=9).decode())
    with pytest.raises(logs.Unavailable, match="not kept"):
        await read(await opened(Machine(Printed(cri(1), None)), kept, follow=True))


async def test_a_machine_that_nobody_can_reach_any_more_cuts_the_log_in_words() -> None:
    with pytest.raises(logs.Unavailable, match="lost while its log was read: it broke"):
        await read(await opened(Machine(Printed(cri(1), None)), endings.KeptLogs(), follow=True))


async def test_a_reader_who_leaves_closes_the_command_at_once() -> None:
    printed = Printed(cri(1, 2, 3))
    lines = await opened(Machine(printed), endings.KeptLogs())
    async for _ in lines:
        break
    await lines.aclose()
    assert printed.closed
