"""An end is asked for until a read proves it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.fakes import clouds

from bareboat.core import errors
from bareboat.fleet import reaper, watcher
from bareboat.plumbing import clock as clocks


class Rig:
    def __init__(self) -> None:
        self.clock = clocks.ManualClock()
        self.cloud = clouds.FakeCloud(self.clock)
        self.watcher = watcher.Watcher(self.cloud, self.clock)
        self.reaper = reaper.Reaper(self.cloud, self.watcher, self.clock)
        self.ended: list[str] = []
        self.reaper.on_ended.append(self.ended.append)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    tasks = [asyncio.create_task(made.watcher.run()), asyncio.create_task(made.reaper.run())]
    await made.clock.advance(0.1)
    yield made
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_accepted_destroy_proves_nothing_until_a_read_says_gone(rig: Rig) -> None:
    box = rig.cloud.rent_by_hand("bareboat/c/u/1")
    rig.cloud.deaf_destroys = 3
    rig.reaper.end(box.id, "test")
    await rig.clock.advance(2)
    assert rig.ended == [] and rig.reaper.pending == 1
    await rig.clock.advance(120)
    assert rig.ended == [box.id] and not box.bills and rig.reaper.pending == 0


async def test_one_end_asked_for_often_is_done_once(rig: Rig) -> None:
    box = rig.cloud.rent_by_hand("bareboat/c/u/1")
    for _ in range(5):
        rig.reaper.end(box.id, "test")
    await rig.clock.advance(5)
    assert rig.ended == [box.id] and rig.cloud.calls["destroy"] == 1


async def test_an_end_outlasts_a_cloud_that_is_down_throttles_or_refuses_the_key(rig: Rig) -> None:
    box = rig.cloud.rent_by_hand("bareboat/c/u/1")
    rig.cloud.fail(
        "destroy",
        errors.CloudDown("vast", "HTTP 502"),
        errors.Throttled("vast", "slow down", 7.0),
        errors.CredentialsRefused("vast", "HTTP 401"),
        errors.CloudDown("vast", "HTTP 502"),
    )
    rig.cloud.fail("instance", errors.CloudDown("vast", "HTTP 502"))
    rig.reaper.end(box.id, "test")
    await rig.clock.advance(60)
    assert rig.ended == [box.id]


async def test_an_id_that_no_read_shows_yet_is_not_taken_for_gone(rig: Rig) -> None:
    box = rig.cloud.rent_by_hand("bareboat/c/u/1")
    instance = await rig.cloud.instance(box.id)
    assert instance is not None
    box.visible_s = box.listed_s = rig.clock.now_s() + 18
    rig.watcher.rented(instance)
    rig.reaper.end(box.id, "test")
    await rig.clock.advance(17)
    assert rig.ended == [] and box.bills
    await rig.clock.advance(60)
    assert rig.ended == [box.id] and not box.bills


async def test_a_hundred_ends_are_proven_by_lists_not_by_a_read_each(rig: Rig) -> None:
    boxes = [rig.cloud.rent_by_hand(f"bareboat/c/u{number}/1") for number in range(100)]
    await rig.clock.advance(15)
    reads = rig.cloud.calls["instance"]
    for box in boxes:
        rig.reaper.end(box.id, "test")
    await rig.clock.advance(15)
    assert sorted(rig.ended) == sorted(each.id for each in boxes)
    assert rig.cloud.calls["instance"] - reads < 30


async def test_a_list_that_lacks_more_than_was_ended_proves_none_of_the_ends(rig: Rig) -> None:
    boxes = [rig.cloud.rent_by_hand(f"bareboat/c/u{number}/1") for number in range(20)]
    await rig.clock.advance(15)
    rig.cloud.hidden = {each.id for each in boxes}
    rig.cloud.deaf_destroys = 20
    for box in boxes:
        rig.reaper.end(box.id, "test")
    await rig.clock.advance(3)
    assert rig.ended == []
    await rig.clock.advance(200)
    assert len(rig.ended) == 20 and not rig.cloud.alive


async def test_what_was_pending_is_taken_up_again_when_the_part_is_started_anew() -> None:
    rig = Rig()
    boxes = [rig.cloud.rent_by_hand(f"bareboat/c/u{number}/1") for number in range(3)]
    for box in boxes:
        rig.reaper.end(box.id, "test")
    for _ in range(2):
        task = asyncio.create_task(rig.reaper.run())
        await asyncio.sleep(0)
        await rig.clock.advance(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    task = asyncio.create_task(rig.reaper.run())
    await rig.clock.advance(30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert sorted(rig.ended) == sorted(each.id for each in boxes), "each once"
