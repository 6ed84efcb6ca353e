"""A part that crashes is started again and told; only what no restart mends ends the program."""

import asyncio
import itertools

import pytest
from structlog.testing import capture_logs

from bareboat.plumbing import clock as clocks
from bareboat.plumbing import supervise

FATAL, BUG = supervise.Fatal("no key", 2), ValueError("a bug")


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (BUG, BUG),
        (FATAL, FATAL),
        (ExceptionGroup("one", [FATAL]), FATAL),
        (ExceptionGroup("nested", [ExceptionGroup("inner", [FATAL]), supervise.Fatal("later")]), FATAL),
    ],
)
def test_the_cause_of_an_end_is_told_without_the_groups_around_it(failure: Exception, told: Exception) -> None:
    assert supervise.cause(failure) is told


def test_a_bug_beside_a_fatal_end_is_not_hidden() -> None:
    several = ExceptionGroup("both", [FATAL, ExceptionGroup("inner", [BUG])])
    assert supervise.cause(several) is several


async def test_a_part_that_crashes_is_started_again_after_a_pause_and_told_of() -> None:
    clock, starts, crashes = clocks.ManualClock(), [0.0], list[str]()

    async def part() -> None:
        starts.append(clock.monotonic_s())
        raise BUG

    with capture_logs() as said:
        task = asyncio.create_task(
            supervise.supervise("sim.part", part, clock=clock, on_crash=lambda name, _: crashes.append(name))
        )
        await clock.advance(60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    pauses = [later - sooner for sooner, later in itertools.pairwise(starts[1:])]
    assert 4 < len(pauses) < 12 and pauses[3] > 2 * pauses[0], pauses
    assert len(crashes) == len(said) == len(starts) - 1
    assert {(each["event"], each["part"]) for each in said} == {("part.crashed", "sim.part")}


async def test_a_part_that_returns_is_a_crash_too() -> None:
    clock, runs = clocks.ManualClock(), list[int]()

    async def part() -> None:
        runs.append(1)

    with capture_logs():
        task = asyncio.create_task(supervise.supervise("part", part, clock=clock))
        await clock.advance(5)
        task.cancel()
        await asyncio.wait((task,))
    assert len(runs) > 1 and task.cancelled()


async def test_a_fatal_end_of_a_part_passes_through() -> None:
    async def part() -> None:
        raise FATAL

    with pytest.raises(supervise.Fatal):
        await supervise.supervise("part", part, clock=clocks.ManualClock())
    with pytest.raises(supervise.Fatal):
        await supervise.guarded(part())


async def test_guarded_work_gives_its_result_or_its_failure() -> None:
    async def works(failure: Exception | None) -> int:
        if failure is not None:
            raise failure
        return 7

    assert await supervise.guarded(works(None)) == 7
    assert await supervise.guarded(works(BUG)) is BUG
