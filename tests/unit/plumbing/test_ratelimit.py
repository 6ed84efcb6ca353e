"""Calls are spaced out in order, and further apart after each refusal."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from bareboat.plumbing import clock as clocks
from bareboat.plumbing import ratelimit


@contextlib.asynccontextmanager
async def _callers(limiter: ratelimit.Limiter, clock: clocks.ManualClock, count: int) -> AsyncIterator[list[float]]:
    times: list[float] = []

    async def call() -> None:
        await limiter.turn()
        times.append(clock.monotonic_s())

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call(), name=f"caller {number}") for number in range(count)]
        await clock.advance(0)
        yield times
        for task in tasks:
            task.cancel()


async def test_an_interval_lies_between_calls_with_a_margin() -> None:
    clock = clocks.ManualClock()
    limiter = ratelimit.Limiter(clock, 1, 2.0)
    async with _callers(limiter, clock, 3) as times:
        await clock.advance(10)
    assert times == [0.0, pytest.approx(2.11), pytest.approx(4.22)]


async def test_a_number_of_calls_may_come_at_once() -> None:
    clock = clocks.ManualClock()
    limiter = ratelimit.Limiter(clock, 10, 60.0)
    async with _callers(limiter, clock, 12) as times:
        await clock.advance(100)
    assert times == [0.0] * 10 + [pytest.approx(61.85)] * 2


async def test_a_refusal_closes_the_door_for_those_who_wait_too_and_longer_each_time() -> None:
    clock = clocks.ManualClock()
    limiter = ratelimit.Limiter(clock, 1, 1.0, penalty_s=4.0)
    await limiter.turn()
    first_s = limiter.refused()
    assert 4.0 <= first_s <= 4.4
    async with _callers(limiter, clock, 1) as times:
        await clock.advance(1.5)
        second_s = limiter.refused()
        assert second_s >= 8.0
        await clock.advance(second_s - 0.1)
        assert times == []
        await clock.advance(0.2)
        assert len(times) == 1
    limiter.granted()
    assert limiter.refused() < 5.0


async def test_a_threshold_that_the_refusal_names_becomes_the_interval() -> None:
    clock = clocks.ManualClock()
    limiter = ratelimit.Limiter(clock, 10, 10.0, penalty_s=0.5)
    await limiter.turn()
    wait_s = limiter.refused(threshold_s=6.0)
    assert wait_s >= 6.0
    async with _callers(limiter, clock, 2) as times:
        await clock.advance(30)
    assert times[1] - times[0] == pytest.approx(6.23)


async def test_a_wait_that_the_refusal_names_holds_once() -> None:
    clock = clocks.ManualClock()
    limiter = ratelimit.Limiter(clock, 1, 1.0, penalty_s=0.5)
    assert 20.0 <= limiter.refused(after_s=20.0) <= 22.0
    limiter.granted()
    assert limiter.refused() < 2.0


async def test_penalties_have_an_end() -> None:
    limiter = ratelimit.Limiter(clocks.ManualClock(), 1, 1.0, longest_penalty_s=20.0)
    assert max(limiter.refused() for _ in range(50)) <= 22.0


async def test_a_caller_who_leaves_the_queue_takes_no_turn() -> None:
    clock = clocks.ManualClock()
    limiter = ratelimit.Limiter(clock, 1, 5.0)
    async with _callers(limiter, clock, 2) as times:
        assert limiter.wait_s() == pytest.approx(10.4)
    assert times == [0.0]
    assert limiter.wait_s() == pytest.approx(5.2)
