"""What a watcher believes of the lists it is told, and how many calls that costs."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator

import pytest
from tests.fakes import clouds

from bareboat.core import errors, labels
from bareboat.core import instances as instances_
from bareboat.fleet import watcher
from bareboat.plumbing import clock as clocks

DOWN = errors.CloudDown("vast", "HTTP 502")


class Rig:
    def __init__(self, kind: type[clouds.FakeCloud] = clouds.FakeCloud) -> None:
        self.clock = clocks.ManualClock()
        self.cloud = kind(self.clock)
        self.cloud.boot_s = 0.0
        self.watcher = watcher.Watcher(self.cloud, self.clock)
        self.gone: list[str] = []
        self.changed: list[str] = []
        self.watcher.on_gone.append(self.gone.append)
        self.watcher.on_change.append(self.changed.append)

    def rent(self, owner: str = "u1", attempt: int = 1) -> clouds.Rented:
        return self.cloud.rent_by_hand(f"bareboat/c/{owner}/{attempt}")

    async def read(self, box: clouds.Rented) -> instances_.Instance:
        instance = await self.cloud.instance(box.id)
        assert instance is not None
        return instance


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    async with running(made):
        yield made


@contextlib.asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[None]:
    task = asyncio.create_task(rig.watcher.run(), name="watcher")
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_an_instance_that_a_believable_list_and_a_read_lack_is_gone(rig: Rig) -> None:
    box = rig.rent()
    await rig.clock.advance(15)
    assert rig.watcher.get(box.id) is not None
    rig.cloud.end_by_hand(box.id)
    await rig.clock.advance(15)
    assert rig.gone == [box.id]
    assert rig.watcher.of("u1") == [] and rig.changed[-1] == "u1"


async def test_a_list_that_lacks_what_a_read_still_shows_is_not_believed(rig: Rig) -> None:
    boxes = [rig.rent(f"u{number}") for number in range(6)]
    await rig.clock.advance(15)
    rig.cloud.hidden = {each.id for each in boxes[:4]}
    await rig.clock.advance(100)
    assert rig.gone == []
    assert rig.watcher.trouble is not None and "not believed" in rig.watcher.trouble
    rig.cloud.hidden = set()
    await rig.clock.advance(100)
    assert rig.watcher.trouble is None and len(list(rig.watcher.known)) == 6


async def test_a_list_that_lacks_what_an_owner_has_for_certain_is_not_believed(rig: Rig) -> None:
    """By a process that is new: no list has shown it anything yet."""
    await rig.clock.advance(1)
    box = rig.rent()
    rig.cloud.hidden = {box.id}
    rig.watcher.expect(box.id)
    await rig.clock.advance(30)
    assert rig.watcher.trouble is not None and box.id in rig.watcher.trouble
    assert not rig.watcher.listed_since(30.0)
    rig.cloud.hidden = set()
    await rig.clock.advance(60)
    assert rig.watcher.trouble is None and rig.watcher.listed_since(20.0)


async def test_what_an_owner_expects_and_neither_list_nor_read_show_is_no_reason_to_doubt_lists(rig: Rig) -> None:
    rig.watcher.expect("4711")
    await rig.clock.advance(30)
    assert rig.watcher.trouble is None and rig.watcher.listed_since(20.0)
    assert rig.cloud.calls["instance"] == 1


async def test_a_full_list_that_somebody_waits_for_comes_in_place_of_a_census() -> None:
    made = Rig(clouds.CountingCloud)
    for number in range(100):
        made.rent(f"u{number}")
    async with running(made):
        await made.clock.advance(120)
        before = made.cloud.calls["instances"]
        assert not made.watcher.listed_since(5.0)
        await made.clock.advance(30)
        assert made.cloud.calls["instances"] == before + 1 and made.watcher.listed_since(30.0)


async def test_a_failed_list_changes_nothing_and_says_why(rig: Rig) -> None:
    box = rig.rent()
    await rig.clock.advance(15)
    rig.cloud.end_by_hand(box.id)
    rig.cloud.fail("instances", DOWN, DOWN, DOWN)
    await rig.clock.advance(11)
    assert rig.gone == [] and rig.watcher.trouble == "HTTP 502"
    await rig.clock.advance(120)
    assert rig.gone == [box.id] and rig.watcher.trouble is None


async def test_a_failed_read_of_what_a_list_lacks_concludes_nothing(rig: Rig) -> None:
    box = rig.rent()
    await rig.clock.advance(15)
    rig.cloud.end_by_hand(box.id)
    rig.cloud.fail("instance", DOWN)
    await rig.clock.advance(6)
    assert rig.gone == [] and rig.cloud.calls["instance"] == 1


async def test_what_was_just_bought_is_not_gone_because_a_list_lacks_it(rig: Rig) -> None:
    box = rig.rent()
    instance = await rig.read(box)
    box.visible_s = box.listed_s = rig.clock.now_s() + 18
    rig.watcher.rented(instance)
    await rig.clock.advance(17)
    assert rig.gone == [] and rig.watcher.may_be_hidden(box.id)
    await rig.clock.advance(15)
    assert rig.gone == [] and not rig.watcher.may_be_hidden(box.id), "a list showed it"


async def test_what_was_just_bought_and_is_being_ended_is_not_gone_either(rig: Rig) -> None:
    box = rig.rent()
    instance = await rig.read(box)
    box.visible_s = box.listed_s = rig.clock.now_s() + 18
    rig.watcher.rented(instance)
    rig.watcher.ending(box.id)
    await rig.clock.advance(16)
    assert rig.gone == []


async def test_a_list_taken_before_the_end_was_asked_for_proves_nothing() -> None:
    rig = Rig()
    box = rig.rent()
    started = asyncio.Event()
    goes_on = asyncio.Event()

    class Slow(clouds.FakeCloud):
        async def instances(self) -> instances_.Listing:
            listing = await super().instances()
            started.set()
            await goes_on.wait()
            return dataclasses.replace(listing, instances=())

    slow = Slow(rig.clock)
    slow.book = rig.cloud.book
    watching = watcher.Watcher(slow, rig.clock)
    watching.on_gone.append(rig.gone.append)
    watching.seen(await rig.read(box))
    task = asyncio.create_task(watching.run())
    await started.wait()
    await rig.clock.advance(1)
    watching.ending(box.id)
    goes_on.set()
    await rig.clock.advance(0.5)
    assert rig.gone == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_late_list_does_not_bring_back_what_is_proven_gone(rig: Rig) -> None:
    rig.cloud.ghost_s = 12.0
    box = rig.rent()
    await rig.clock.advance(11)
    rig.cloud.end_by_hand(box.id)
    rig.watcher.gone(box.id)
    await rig.clock.advance(11)
    assert rig.watcher.get(box.id) is None


async def test_a_list_well_after_a_wrong_proof_is_believed_again(rig: Rig) -> None:
    box = rig.rent()
    await rig.clock.advance(11)
    rig.watcher.gone(box.id)
    await rig.clock.advance(60)
    assert rig.watcher.get(box.id) is not None, "it bills, so somebody has to look after it"


async def test_an_edited_label_does_not_change_whose_an_instance_is(rig: Rig) -> None:
    box = rig.rent()
    await rig.clock.advance(11)
    for label in (None, "mine now", "bareboat/c/u2/1"):
        box.label = label
        await rig.clock.advance(11)
        (seen,) = rig.watcher.of("u1")
        assert seen.id == box.id and seen.mark == labels.Mark("c", "u1", "1")
        assert rig.watcher.of("u2") == []


async def test_an_instance_without_a_mark_that_is_followed_proves_nothing_until_its_label_does(rig: Rig) -> None:
    box = rig.cloud.rent_by_hand(None)
    rig.watcher.follow(await rig.read(box), labels.Mark("c", "u1", "1"))
    assert [each.id for each in rig.watcher.of("u1")] == [box.id] and not rig.watcher.is_proven(box.id)
    box.label = "bareboat/c/u2/4"
    await rig.clock.advance(11)
    assert rig.watcher.of("u1") == [] and rig.watcher.is_proven(box.id)
    assert [each.id for each in rig.watcher.of("u2")] == [box.id]


async def test_an_instance_with_somebody_elses_mark_can_not_be_followed(rig: Rig) -> None:
    box = rig.rent("victim")
    await rig.clock.advance(11)
    rig.watcher.follow(await rig.read(box), labels.Mark("c", "u1", "1"))
    assert rig.watcher.of("u1") == [] and len(rig.watcher.of("victim")) == 1


async def test_a_poke_brings_the_next_look_forward() -> None:
    rig = Rig()
    async with running(rig):
        await rig.clock.advance(3)
        assert rig.cloud.calls["instances"] == 1
        rig.watcher.poke()
        await rig.clock.advance(0.1)
        assert rig.cloud.calls["instances"] == 2


async def test_many_pokes_do_not_make_it_look_more_often_than_every_busy_pause(rig: Rig) -> None:
    for _ in range(40):
        rig.watcher.poke()
        await rig.clock.advance(0.5)
    assert rig.cloud.calls["instances"] <= 11


async def test_pokes_do_not_shorten_the_wait_that_a_throttling_cloud_asks_for(rig: Rig) -> None:
    await rig.clock.advance(1)
    rig.cloud.fail("instances", errors.Throttled("vast", "slow down", 50.0))
    await rig.clock.advance(10)
    calls = rig.cloud.calls["instances"]
    for _ in range(40):
        rig.watcher.poke()
        await rig.clock.advance(1)
    assert rig.cloud.calls["instances"] == calls
    assert rig.watcher.trouble is None, "being slow is no trouble"


async def test_a_refused_key_is_told_apart_from_an_unreachable_cloud(rig: Rig) -> None:
    rig.cloud.fail("instances", errors.CredentialsRefused("vast", "HTTP 401"), DOWN)
    await rig.clock.advance(10.5)
    assert rig.watcher.refused
    await rig.clock.advance(2.5)
    assert not rig.watcher.refused and rig.watcher.trouble == "HTTP 502"
    await rig.clock.advance(30)
    assert rig.watcher.trouble is None


async def test_a_cloud_in_trouble_is_asked_with_growing_pauses(rig: Rig) -> None:
    rig.cloud.fail("instances", *[DOWN] * 100)
    await rig.clock.advance(600)
    assert 8 <= rig.cloud.calls["instances"] <= 20


@pytest.mark.parametrize("count", [0, 1, 10, 25, 26, 75, 100, 1000])
async def test_idle_looks_keep_to_six_calls_a_minute_however_many_instances_there_are(count: int) -> None:
    rig = Rig(clouds.CountingCloud)
    assert isinstance(rig.cloud, clouds.CountingCloud)
    for number in range(count):
        rig.rent(f"u{number}")
    async with running(rig):
        await rig.clock.advance(1300)
        rig.cloud.paged = 0
        await rig.clock.advance(3600)
        assert rig.cloud.paged <= 6.1 * 60
        changed = len(rig.changed)
        if count:
            next(iter(rig.cloud.book.values())).state = instances_.State.STOPPED
            await rig.clock.advance(61)
            assert len(rig.changed) > changed, "what changes shows within a minute"


@pytest.mark.parametrize(("count", "every_s"), [(10, 10), (25, 10), (50, 20)])
async def test_few_instances_are_looked_at_by_a_full_list_a_pause_for_each_page(count: int, every_s: int) -> None:
    rig = Rig(clouds.CountingCloud)
    for number in range(count):
        rig.rent(f"u{number}")
    async with running(rig):
        await rig.clock.advance(60)
        before = rig.cloud.calls["instances"]
        await rig.clock.advance(600)
        assert rig.cloud.calls["instances"] - before == 600 / every_s
        assert rig.cloud.calls["census"] == 0


async def test_a_census_that_does_not_add_up_is_followed_by_a_full_list() -> None:
    rig = Rig(clouds.CountingCloud)
    boxes = [rig.rent(f"u{number}") for number in range(100)]
    async with running(rig):
        await rig.clock.advance(70)
        before = rig.cloud.calls["instances"]
        await rig.clock.advance(60)
        assert rig.cloud.calls["instances"] == before and rig.cloud.calls["census"] > 0
        rig.cloud.end_by_hand(boxes[7].id)
        await rig.clock.advance(61)
        assert rig.gone == [boxes[7].id]


async def test_while_something_boots_or_ends_it_looks_every_two_seconds(rig: Rig) -> None:
    rig.cloud.boot_s = 20.0
    rig.rent()
    await rig.clock.advance(11)
    before = rig.cloud.calls["instances"]
    await rig.clock.advance(8)
    assert rig.cloud.calls["instances"] - before == 4


async def test_one_that_boots_among_a_thousand_does_not_cost_a_full_list_each_time() -> None:
    rig = Rig(clouds.CountingCloud)
    for number in range(1000):
        rig.rent(f"u{number}")
    async with running(rig):
        await rig.clock.advance(70)
        rig.cloud.boot_s = 20.0
        box = rig.rent("new")
        rig.watcher.rented(await rig.read(box))
        lists = rig.cloud.calls["instances"]
        await rig.clock.advance(40)
        assert rig.cloud.calls["instances"] - lists <= 1
        seen = rig.watcher.get(box.id)
        assert seen is not None and seen.state is instances_.State.RUNNING, "that it runs was read by itself"


async def test_a_census_with_an_instance_too_few_ends_nobody() -> None:
    rig = Rig(clouds.CountingCloud)
    boxes = [rig.rent(f"u{number}") for number in range(100)]
    async with running(rig):
        await rig.clock.advance(70)
        rig.cloud.hidden = {each.id for each in boxes[:50]}
        await rig.clock.advance(300)
        assert rig.gone == []
