"""Keys are worked on one at a time each, never forgotten and never in each other's way."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.unit.kube import fakeapi

from bareboat.kube import errors, workqueue
from bareboat.plumbing import clock as clocks
from bareboat.plumbing import supervise

Work = Callable[[str], Awaitable[float | None]]


@asynccontextmanager
async def working(work: Work, **options: Any) -> AsyncIterator[tuple[workqueue.WorkQueue[str], clocks.ManualClock]]:
    clock = clocks.ManualClock()
    queue = workqueue.WorkQueue("test", work, clock=clock, **options)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(queue.run(), name="queue")
        await asyncio.sleep(0)
        yield queue, clock
        task.cancel()


class Passes:
    """Counts passes per key; each can be held, and answers what it is told to."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.answers: dict[str, list[float | Exception | None]] = {}
        self.at_once: dict[str, int] = {}

    def hold(self, key: str) -> asyncio.Event:
        self.gates[key] = asyncio.Event()
        return self.gates[key]

    async def __call__(self, key: str) -> float | None:
        self.started.append(key)
        self.at_once[key] = self.at_once.get(key, 0) + 1
        assert self.at_once[key] == 1, f"two workers on {key}"
        try:
            if key in self.gates:
                await self.gates[key].wait()
            answer = self.answers[key].pop(0) if self.answers.get(key) else None
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self.at_once[key] -= 1


async def test_many_adds_before_a_pass_are_one_pass() -> None:
    passes = Passes()
    async with working(passes) as (queue, _):
        for _ in range(5):
            queue.add("a")
        await queue.settled()
    assert passes.started == ["a"]


async def test_a_key_added_while_it_is_worked_on_runs_once_more_afterwards() -> None:
    passes = Passes()
    gate = passes.hold("a")
    async with working(passes) as (queue, _):
        queue.add("a")
        await fakeapi.until(lambda: passes.started == ["a"], "the first pass")
        queue.add("a")
        queue.add("a")
        assert queue.running == 1
        assert queue.depth == 0, "nobody else may take it meanwhile"
        gate.set()
        await queue.settled()
    assert passes.started == ["a", "a"]


async def test_a_slow_key_holds_up_no_other() -> None:
    passes = Passes()
    passes.hold("slow")
    async with working(passes, workers=2) as (queue, _):
        queue.add("slow")
        for number in range(20):
            queue.add(f"k{number}")
        await fakeapi.until(lambda: len(passes.started) == 21, "all others")


async def test_no_more_passes_at_once_than_workers() -> None:
    passes = Passes()
    gates = [passes.hold(f"k{number}") for number in range(10)]
    async with working(passes, workers=3) as (queue, _):
        for number in range(10):
            queue.add(f"k{number}")
        await fakeapi.until(lambda: queue.running == 3, "three passes")
        assert queue.depth == 7
        for gate in gates:
            gate.set()
        await queue.settled()
    assert len(passes.started) == 10


async def test_a_delayed_key_runs_when_its_time_has_come() -> None:
    passes = Passes()
    async with working(passes) as (queue, clock):
        queue.add_after("a", 10)
        await clock.advance(9.9)
        assert passes.started == [] and queue.delayed == 1
        await clock.advance(0.2)
        assert passes.started == ["a"] and queue.delayed == 0


async def test_a_second_delay_can_only_bring_a_key_forward() -> None:
    passes = Passes()
    async with working(passes) as (queue, clock):
        queue.add_after("a", 10)
        queue.add_after("a", 5)
        queue.add_after("a", 20)
        await clock.advance(5.1)
        assert passes.started == ["a"]
        await clock.advance(30)
        assert passes.started == ["a"], "the later times are gone"


async def test_an_add_overtakes_a_delay() -> None:
    passes = Passes()
    async with working(passes) as (queue, clock):
        queue.add_after("a", 10)
        queue.add("a")
        await queue.settled()
        await clock.advance(20)
    assert passes.started == ["a"]


async def test_a_delay_that_ends_during_a_pass_makes_one_more() -> None:
    passes = Passes()
    gate = passes.hold("a")
    async with working(passes) as (queue, clock):
        queue.add("a")
        await fakeapi.until(lambda: queue.running == 1, "the pass")
        queue.add_after("a", 1)
        await clock.advance(2)
        gate.set()
        await queue.settled()
    assert passes.started == ["a", "a"]


async def test_a_pass_can_ask_to_be_called_again_later() -> None:
    passes = Passes()
    passes.answers["a"] = [30.0, None]
    async with working(passes) as (queue, clock):
        queue.add("a")
        await queue.settled()
        await clock.advance(29)
        assert passes.started == ["a"]
        await clock.advance(2)
        assert passes.started == ["a", "a"]


@pytest.mark.parametrize("failure", [errors.Unreachable("no network"), RuntimeError("a bug")], ids=["known", "unknown"])
async def test_failures_are_tried_again_with_growing_pauses_and_success_forgets_them(failure: Exception) -> None:
    passes = Passes()
    passes.answers["bad"] = [failure] * 6
    times_s: list[float] = []

    async def work(key: str) -> float | None:
        times_s.append(clock.monotonic_s())
        return await passes(key)

    with capture_logs():
        async with working(work, first_retry_s=1.0, longest_retry_s=8.0) as (queue, clock):
            queue.add("bad")
            await queue.settled()
            assert queue.failures("bad") == 1
            await clock.advance(100)
            assert queue.failures("bad") == 0
    pauses_s = [after - before for before, after in itertools.pairwise(times_s)]
    assert pauses_s == [pytest.approx(pause_s, rel=0.11) for pause_s in (1, 2, 4, 8, 8, 8)]


async def test_known_failures_are_a_line_in_the_log_and_unknown_ones_a_traceback() -> None:
    passes = Passes()
    passes.answers = {"known": [errors.Unreachable("no network")], "bug": [KeyError("x")]}
    with capture_logs() as logs:
        async with working(passes) as (queue, _):
            queue.add("known")
            queue.add("bug")
            await queue.settled()
    lines = {line["key"]: line for line in logs}
    assert lines["known"]["event"] == "work.failed" and lines["known"]["error"] == "no network"
    assert lines["bug"]["event"] == "work.crashed" and isinstance(lines["bug"]["exc_info"], KeyError)


async def test_a_server_that_says_how_long_to_wait_is_obeyed() -> None:
    busy = errors.TooManyRequests("PATCH", "/x", 429, "TooManyRequests", "later")
    busy.after_s = 40.0
    passes = Passes()
    passes.answers["a"] = [busy]
    async with working(passes) as (queue, clock):
        queue.add("a")
        await queue.settled()
        await clock.advance(39)
        assert passes.started == ["a"]
        await clock.advance(2)
        assert passes.started == ["a", "a"]


async def test_an_add_does_not_wait_for_the_pause_of_a_failure() -> None:
    passes = Passes()
    passes.answers["a"] = [errors.Unreachable("x")]
    async with working(passes, first_retry_s=100.0) as (queue, _):
        queue.add("a")
        await queue.settled()
        queue.add("a")
        await queue.settled()
    assert passes.started == ["a", "a"]


async def test_forget_in_the_middle_of_a_pass_drops_its_retry() -> None:
    passes = Passes()
    gate = passes.hold("a")
    passes.answers["a"] = [errors.Unreachable("x")]
    async with working(passes) as (queue, clock):
        queue.add("a")
        await fakeapi.until(lambda: queue.running == 1, "the pass")
        queue.forget("a")
        gate.set()
        await queue.settled()
        await clock.advance(1000)
        assert passes.started == ["a"]
        queue.add("a")
        await queue.settled()
        assert passes.started == ["a", "a"]


async def test_forget_drops_a_delay() -> None:
    passes = Passes()
    async with working(passes) as (queue, clock):
        queue.add_after("a", 1)
        queue.forget("a")
        await clock.advance(10)
        assert queue.delayed == 0
    assert passes.started == []


async def test_fatal_ends_the_queue() -> None:
    async def work(_key: str) -> float | None:
        raise supervise.Fatal("the account is closed")

    queue = workqueue.WorkQueue("test", work)
    queue.add("a")
    with pytest.raises(ExceptionGroup) as caught:
        await queue.run()
    assert caught.group_contains(supervise.Fatal)


async def test_each_pass_is_observed() -> None:
    seen: list[tuple[float, Exception | None]] = []
    passes = Passes()
    problem = errors.Unreachable("x")
    passes.answers["a"] = [problem, None]
    async with working(passes, observe=lambda seconds, failure: seen.append((seconds, failure))) as (queue, clock):
        queue.add("a")
        await queue.settled()
        await clock.advance(1)
    assert [failure for _, failure in seen] == [problem, None]


async def test_keys_added_before_it_runs_are_not_lost() -> None:
    passes = Passes()
    queue = workqueue.WorkQueue("test", passes, workers=2)
    for number in range(5):
        queue.add(f"k{number}")
    task = asyncio.create_task(queue.run())
    await queue.settled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(passes.started) == [f"k{number}" for number in range(5)]


@pytest.mark.parametrize("seed", range(5))
async def test_every_add_is_followed_by_a_pass_that_began_after_it(seed: int) -> None:
    dice = random.Random(seed)
    added: dict[str, int] = {}
    seen: dict[str, int] = {}
    at_once: set[str] = set()

    async def work(key: str) -> float | None:
        assert key not in at_once
        at_once.add(key)
        seen[key] = added[key]
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
        at_once.discard(key)
        if dice.random() < 0.2:
            raise errors.Unreachable("chance")
        return 0.5 if dice.random() < 0.1 else None

    with capture_logs():
        async with working(work, workers=4) as (queue, clock):
            for step in range(2000):
                key = f"k{dice.randrange(12)}"
                added[key] = step
                queue.add(key)
                if dice.random() < 0.1:
                    queue.add_after(key, dice.random())
                if dice.random() < 0.3:
                    await asyncio.sleep(0)
                if dice.random() < 0.05:
                    await clock.advance(0.3)
            await queue.settled()
            assert seen == added
