"""Following a log by polls: nothing twice, nothing lost, and an honest word where that can't be had."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareboat.core import errors
from bareboat.kubelet import logs, polled_logs
from bareboat.plumbing import clock as clocks

LINES = st.lists(st.sampled_from(["a", "b", ""]), max_size=30)


def follow(whole: list[str], stops: list[int], window: int) -> list[str]:
    """What a follower shows that fetches the newest `window` of the first n lines, for each n in `stops`."""
    seen: list[str] = []
    shown: list[str] = []
    for stop in stops:
        merged = polled_logs.merge_tail(seen, whole[:stop][-window:])
        shown += merged.new
        seen = merged.seen[-window:]
    return shown


@given(LINES, st.lists(st.integers(0, 30)))
def test_every_line_is_shown_once_while_fetches_reach_back_to_the_start(whole: list[str], stops: list[int]) -> None:
    stops = [*sorted(stops), len(whole)]
    assert follow(whole, stops, window=100) == whole


@given(st.integers(0, 60), st.lists(st.integers(0, 60)), st.integers(1, 20))
def test_lines_that_differ_are_shown_once_while_windows_overlap(total: int, stops: list[int], window: int) -> None:
    whole = [f"line {number}" for number in range(total)]
    reached: list[int] = []
    for stop in [*sorted(stops), total]:
        last = reached[-1] if reached else 0
        # A step smaller than the window leaves an overlap; bigger ones are the next test's.
        reached += [*range(last + max(window - 1, 1), min(stop, total), max(window - 1, 1)), min(stop, total)]
    shown = follow(whole, reached, window)
    assert shown == sorted(set(shown), key=shown.index)
    assert window == 1 or shown == whole[-len(shown) :]
    assert shown[-1:] == whole[-1:]


@given(LINES, LINES, st.integers(1, 8))
def test_no_line_is_ever_shown_twice(before: list[str], after: list[str], window: int) -> None:
    whole = before + after
    seen = before[-window:]
    merged = polled_logs.merge_tail(seen, whole[-window:])
    assert len(merged.new) <= min(len(after), window) or merged.gap or not seen
    assert merged.new == whole[len(whole) - len(merged.new) :]


@given(LINES, st.integers(0, 30))
def test_a_stale_answer_changes_nothing(seen: list[str], older: int) -> None:
    merged = polled_logs.merge_tail(seen, seen[:older])
    assert (merged.new, merged.gap) == ([], False)
    follow_up = polled_logs.merge_tail(merged.seen, [*seen, "new"])
    assert follow_up.new == ["new"]


def test_a_window_without_overlap_is_a_gap() -> None:
    merged = polled_logs.merge_tail(["1", "2"], ["4", "5"])
    assert (merged.new, merged.gap) == (["4", "5"], True)


def test_a_long_repetitive_log_is_compared_in_linear_time() -> None:
    seen = ["a"] * 20_000
    assert polled_logs.merge_tail(seen, [*["a"] * 19_999, "b"]).new == ["b"]


@dataclass
class CloudLog:
    """A cloud's log that grows, and what the cloud says instead of it."""

    text: str = ""
    ended_s: float | None = None
    failures: list[errors.CloudError] = field(default_factory=list)
    asked: list[int | None] = field(default_factory=list)
    most_lines: int = 1000

    async def fetch(self, tail: int | None) -> str:
        self.asked.append(tail)
        if self.failures:
            raise self.failures.pop(0)
        wanted = self.most_lines if tail is None else min(tail, self.most_lines)
        return "".join(self.text.splitlines(keepends=True)[-wanted:]) if wanted else ""


class Follower:
    """Collects what an opened log yields, on a clock that the test moves."""

    def __init__(self, cloud: CloudLog, settings: polled_logs.Settings | None = None) -> None:
        self.clock = clocks.ManualClock()
        self.log = polled_logs.PolledLog(cloud.fetch, lambda: cloud.ended_s, self.clock, settings)
        self.shown: list[str] = []
        self.times_s: list[float] = []
        self.caught_up_at: int | None = None

    async def read(self, options: logs.LogOptions) -> None:
        async for line in await self.log.open(options):
            if isinstance(line, logs.Mark):
                self.caught_up_at = len(self.shown)
            else:
                self.shown.append(line.text.decode())
                self.times_s.append(line.time_ns / logs.NS)


async def while_followed(follower: Follower, *steps: Callable[[], None]) -> None:
    """Runs each step and then lets a minute pass; waits for the follower's own end."""
    task = asyncio.create_task(follower.read(logs.LogOptions(follow=True)), name="test.follower")
    for step in steps:
        await follower.clock.advance(60)
        step()
    for _ in range(10):
        await follower.clock.advance(60)
    await asyncio.wait_for(task, 5)


async def test_without_follow_one_fetch_shows_all() -> None:
    cloud = CloudLog("one\ntwo\nno newline")
    follower = Follower(cloud)
    await follower.read(logs.LogOptions())
    assert (follower.shown, cloud.asked) == (["one", "two", "no newline"], [None])


async def test_tail_asks_the_cloud_for_no_more() -> None:
    cloud = CloudLog("one\ntwo\nthree\n")
    follower = Follower(cloud)
    await follower.read(logs.LogOptions(tail_lines=2))
    assert (follower.shown, cloud.asked) == (["two", "three"], [2])


async def test_follow_shows_what_comes_and_ends_with_the_container() -> None:
    cloud = CloudLog("old\n")
    follower = Follower(cloud)

    def write() -> None:
        cloud.text += "new\nnewer\n"

    def end() -> None:
        cloud.text += "last words\nwithout newline"
        cloud.ended_s = follower.clock.now_s()

    await while_followed(follower, write, end)
    assert follower.shown == ["old", "new", "newer", "last words", "without newline"]
    assert follower.caught_up_at == 1


async def test_a_line_still_being_written_is_shown_when_it_is_done() -> None:
    cloud = CloudLog("start\n")
    follower = Follower(cloud, polled_logs.Settings(first_pause_s=60, longest_pause_s=60))
    task = asyncio.create_task(follower.read(logs.LogOptions(follow=True)), name="test.follower")
    await follower.clock.advance(1)
    cloud.text += "hal"
    await follower.clock.advance(70)
    assert follower.shown == ["start"]
    cloud.text += "f a line\n"
    await follower.clock.advance(70)
    assert follower.shown == ["start", "half a line"]
    cloud.ended_s = follower.clock.now_s() - 60
    await follower.clock.advance(200)
    await asyncio.wait_for(task, 5)


async def test_a_cloud_that_cuts_the_last_newline_delays_nothing_for_long_and_doubles_nothing() -> None:
    cloud = CloudLog("one\ntwo")
    follower = Follower(cloud)

    def write() -> None:
        assert follower.shown == ["one", "two"]
        cloud.text += "\nthree"

    def end() -> None:
        assert follower.shown == ["one", "two", "three"]
        cloud.ended_s = follower.clock.now_s()

    await while_followed(follower, write, end)
    assert follower.shown == ["one", "two", "three"]


async def test_an_unfinished_line_that_was_shown_goes_on_in_a_line_of_its_own() -> None:
    cloud = CloudLog("loading 10 %")
    follower = Follower(cloud)

    def write() -> None:
        cloud.text += " 20 %\ndone\n"

    def end() -> None:
        cloud.ended_s = follower.clock.now_s()

    await while_followed(follower, write, end)
    assert follower.shown == ["loading 10 %", " 20 %", "done"]


async def test_a_burst_is_fetched_again_with_a_wider_window() -> None:
    cloud = CloudLog("0\n")
    follower = Follower(cloud, polled_logs.Settings(window_lines=10, widest_window_lines=100))

    def burst() -> None:
        cloud.text += "".join(f"{number}\n" for number in range(1, 90))

    def end() -> None:
        cloud.ended_s = follower.clock.now_s()

    await while_followed(follower, burst, end)
    assert follower.shown == [str(number) for number in range(90)]


async def test_lines_that_can_not_be_had_any_more_are_owned_up_to() -> None:
    cloud = CloudLog("0\n")
    follower = Follower(cloud, polled_logs.Settings(window_lines=10, widest_window_lines=40))

    def burst() -> None:
        cloud.text += "".join(f"{number}\n" for number in range(1, 90))

    def end() -> None:
        cloud.ended_s = follower.clock.now_s()

    await while_followed(follower, burst, end)
    assert follower.shown == ["0", polled_logs.GAP, *(str(number) for number in range(50, 90))]


async def test_a_log_begun_anew_is_shown_without_complaint() -> None:
    cloud = CloudLog("first run\n")
    follower = Follower(cloud)

    def restart() -> None:
        cloud.text = "second run\n"

    def end() -> None:
        cloud.ended_s = follower.clock.now_s()

    await while_followed(follower, restart, end)
    assert follower.shown == ["first run", "second run"]


async def test_a_cloud_in_trouble_is_asked_again_and_nothing_is_lost() -> None:
    cloud = CloudLog("one\n")
    follower = Follower(cloud)

    def trouble() -> None:
        cloud.failures = [errors.CloudDown("vast", "no answer"), errors.Throttled("vast", "slow down", 5)]
        cloud.text += "two\n"

    def end() -> None:
        cloud.ended_s = follower.clock.now_s()

    await while_followed(follower, trouble, end)
    assert follower.shown == ["one", "two"]


async def test_a_follower_ends_when_the_machine_is_gone() -> None:
    cloud = CloudLog("one\n")
    follower = Follower(cloud)
    await while_followed(follower, lambda: cloud.failures.append(errors.InstanceGone("vast", "no such instance")))
    assert follower.shown == ["one"]


async def test_an_end_that_could_not_be_read_is_an_error_and_not_an_end() -> None:
    cloud = CloudLog("one\n")
    follower = Follower(cloud)

    def end_in_the_dark() -> None:
        cloud.ended_s = follower.clock.now_s()
        cloud.failures = [errors.CloudDown("vast", "no answer")] * 1000

    with pytest.raises(logs.Unavailable, match="no answer"):
        await while_followed(follower, end_in_the_dark)


@pytest.mark.parametrize(
    "failure, raised, says",
    [
        (errors.InstanceGone("vast", "404"), logs.Lost, "the rented machine is gone, and its log with it"),
        (errors.CloudDown("vast", "no answer"), logs.Unavailable, "vast gives no log at the moment: no answer"),
        (errors.Throttled("vast", "429", 7.0), logs.Unavailable, "vast was asked too often for logs; try again in 7 s"),
    ],
)
async def test_what_goes_wrong_at_first_is_told(
    failure: errors.CloudError, raised: type[logs.LogsError], says: str
) -> None:
    follower = Follower(CloudLog(failures=[failure]))
    with pytest.raises(raised) as told:
        await follower.read(logs.LogOptions(follow=True))
    assert str(told.value) == says


async def test_lines_of_an_ended_container_are_not_younger_than_its_end() -> None:
    cloud = CloudLog("one\n")
    follower = Follower(cloud)
    cloud.ended_s = follower.clock.now_s() - 3600
    await follower.read(logs.LogOptions())
    assert follower.times_s == [cloud.ended_s]


async def test_an_end_that_moves_with_the_clock_ends_the_follower_all_the_same() -> None:
    cloud, clock = CloudLog("one\n"), clocks.ManualClock()
    log = polled_logs.PolledLog(cloud.fetch, clock.now_s, clock)

    async def read() -> list[logs.LogLine | logs.Mark]:
        return [line async for line in await log.open(logs.LogOptions(follow=True))]

    task = asyncio.create_task(read(), name="test.follower")
    await clock.advance(60)
    assert len(await asyncio.wait_for(task, 5)) == 2


async def test_a_quiet_log_is_polled_less_and_less() -> None:
    cloud = CloudLog("one\n")
    follower = Follower(cloud)
    task = asyncio.create_task(follower.read(logs.LogOptions(follow=True)), name="test.follower")
    for _ in range(60):
        await follower.clock.advance(10)
    assert len(cloud.asked) < 75
    task.cancel()
    await asyncio.wait([task])
