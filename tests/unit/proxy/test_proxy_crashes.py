"""The proxy's process dies at any await on the world, at every one in turn; the next one starts from its note and the
cloud alone. Never are two instances paid for one pod, none is without its label and mark, nothing else is ended."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes import crashes
from tests.unit.proxy import accounts

from bareboat.core import errors, instances, launches
from bareboat.proxy import about as abouts

Trouble = Callable[[accounts.World], None]
LOST = errors.OutcomeUnknown("vast", "the connection broke")


def quiet(_: accounts.World) -> None:
    pass


def answer_lost_but_bought(world: accounts.World) -> None:
    world.cloud.fail("rent", LOST, applied=True)


def answer_lost_and_nothing_bought(world: accounts.World) -> None:
    world.cloud.fail("rent", LOST)


def offers_gone(world: accounts.World) -> None:
    world.cloud.fail("rent", *[errors.OfferGone("vast", "taken")] * 3)


def reads_lag(world: accounts.World) -> None:
    world.cloud.read_lag_s = 12.0
    world.cloud.ghost_s = 6.0


def reads_lag_and_answers_are_lost(world: accounts.World) -> None:
    reads_lag(world)
    world.cloud.fail("rent", LOST, applied=True)


def lists_fall_short(world: accounts.World) -> None:
    world.cloud.list_lag_s = 15.0
    world.cloud.read_lag_s = 1.0
    world.cloud.fail("rent", LOST, applied=True)


def cloud_is_shaky(world: accounts.World) -> None:
    down = errors.CloudDown("vast", "HTTP 502")
    for method in ("labelled", "instance", "templates_named", "destroy", "search"):
        world.cloud.fail(method, down, errors.Throttled("vast", "slow down", 3.0))
    world.cloud.deaf_destroys = 2


TROUBLES: list[Trouble] = [
    quiet,
    answer_lost_but_bought,
    answer_lost_and_nothing_bought,
    offers_gone,
    reads_lag,
    reads_lag_and_answers_are_lost,
    lists_fall_short,
    cloud_is_shaky,
]


def strangers(world: accounts.World) -> list[str]:
    """Instances that are none of this pod's, one of them under its very label."""
    foreign = {"tags": {"BAREBOAT_MARK": "bareboat/west/vast-pod-0/1"}, "state": instances.State.EXITED}
    return [
        world.cloud.rent_by_hand(None).id,
        world.cloud.rent_by_hand("k8s_pod=vast-pod-00").id,
        world.cloud.rent_by_hand("bareboat/east/uid/1").id,
        world.cloud.rent_by_hand(accounts.LABEL, **foreign).id,
    ]


async def live_through(world: accounts.World, crash: crashes.CrashPoint, wipe: bool) -> str:
    """From nothing to a served instance, and through an edit of the template. What went wrong, if anything."""
    theirs = strangers(world)

    def ours() -> list[str]:
        return [each.id for each in world.cloud.alive if each.id not in theirs]

    async def until(wanted: Callable[[], bool], what: str, seconds: float = 900.0) -> str:
        if not await world.run(seconds, until=lambda: wanted() or crash.happened.is_set()) or not wanted():
            if crash.happened.is_set() and world.cloud.crash is crash:
                await world.kill()
                if wipe:
                    shutil.rmtree(world.folder)
                world.start()
            if not await world.run(seconds, until=wanted):
                return f"not {what}: {world.ended!r}, {world.cloud.book}"
        return ""

    world.start(crash)
    wrong = await until(lambda: bool(world.served_by), "served")
    if wrong:
        return wrong
    first = world.served_by
    world.cloud.template = launches.Template(
        id="1", hash="b" * 32, name="my_web", own=True, ports=(launches.Port(accounts.PORT),)
    )
    wrong = await until(lambda: world.served_by not in ("", first) and len(ours()) == 1, "replaced after an edit")
    if wrong:
        return wrong
    if sorted(theirs) != sorted(each.id for each in world.cloud.alive if each.id in theirs):
        return f"a stranger was ended: {world.cloud.asked}"
    untold = [box.id for box in world.cloud.book.values() if box.id not in theirs and box.label != accounts.LABEL]
    return f"{untold} carry no label" if untold else ""


@pytest.mark.parametrize("wipe", [False, True], ids=["folder kept", "folder lost"])
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: each.__name__)
async def test_a_crash_at_any_await_buys_nothing_twice_and_ends_nobody_elses(
    trouble: Trouble, wipe: bool, tmp_path: Path
) -> None:
    at = 0
    while True:
        at += 1
        crash = crashes.CrashPoint(at)
        folder = tmp_path / str(at)
        folder.mkdir()
        async with accounts.a_world(folder) as world:
            trouble(world)
            wrong = await live_through(world, crash, wipe)
            told = f"crash {at} at {crash.where!r}: "
            assert not wrong, told + wrong
            assert not _doubles(world), told + str(_doubles(world))
        if not crash.happened.is_set():
            break
    assert at > 10


def _doubles(world: accounts.World) -> list[str]:
    """Rents while another one of the pod's own billed."""
    own = [each for each in world.cloud.book.values()
           if "bareboat/east" in str(each.changes.get("tags")) and each.label == accounts.LABEL]  # fmt: skip
    return [
        f"{each.id} beside {other.id}"
        for each in own
        for other in own
        if other.id < each.id and (other.ended_s is None or other.ended_s > each.rented_s)
    ]


async def test_a_crash_while_a_slow_host_is_waited_for_and_left_loses_neither_ban_nor_money(tmp_path: Path) -> None:
    at = 0
    while True:
        at += 1
        crash = crashes.CrashPoint(at)
        folder = tmp_path / str(at)
        folder.mkdir()
        async with accounts.a_world(folder) as world:
            world.rules = abouts.Banning("redis://nowhere", ban_after_s=60.0, restart_threshold=1000)
            world.cloud.boot_s = 1e9
            world.start(crash)
            told = await _through_a_slow_host(world, crash)
            assert not told, f"crash {at} at {crash.where!r}: {told}"
            assert not _doubles(world), f"crash {at} at {crash.where!r}: {_doubles(world)}"
        if not crash.happened.is_set():
            break
    assert at > 20


async def _through_a_slow_host(world: accounts.World, crash: crashes.CrashPoint) -> str:
    def served_elsewhere() -> bool:
        if "h1" in world.store.records:
            world.cloud.boot_s = 4.0
        return bool(world.served_by) and len(world.cloud.alive) == 1

    await world.run(900, until=lambda: served_elsewhere() or crash.happened.is_set())
    if crash.happened.is_set():
        await world.kill()
        world.start()
        await world.run(900, until=served_elsewhere)
    hosts = [each.offer.host_id for each in world.cloud.alive]
    if not served_elsewhere() or hosts == ["h1"]:
        return f"{hosts} serve, banned are {list(world.store.records)}: {world.ended!r}"
    return "" if list(world.store.records) == ["h1"] else f"banned are {list(world.store.records)}"


async def test_a_crash_inside_destroy_is_taken_up_by_the_next_destroy(tmp_path: Path) -> None:
    at = 0
    while True:
        at += 1
        crash = crashes.CrashPoint(at)
        folder = tmp_path / str(at)
        folder.mkdir()
        async with accounts.a_world(folder) as world:
            world.start()
            assert await world.run(300, until=lambda: bool(world.served_by))
            theirs = strangers(world)
            await world.kill()
            world.cloud.deaf_destroys = 1
            await _destroyed(world, crash)
            await _destroyed(world, None)
            assert sorted(each.id for each in world.cloud.alive) == sorted(theirs)
        if not crash.happened.is_set():
            break
    assert at > 4


async def _destroyed(world: accounts.World, crash: crashes.CrashPoint | None) -> None:
    work = asyncio.create_task(world.make(crash).destroy())
    await world.run(300, until=lambda: work.done() or (crash is not None and crash.happened.is_set()))
    work.cancel()
    await asyncio.wait({work})


async def test_destroy_beside_a_proxy_that_serves_is_not_undone_by_it(tmp_path: Path) -> None:
    """As a preStop hook runs it: the proxy gets its SIGTERM only afterwards."""
    async with accounts.a_world(tmp_path) as world:
        world.start()
        assert await world.run(300, until=lambda: bool(world.served_by))
        destroying = asyncio.create_task(world.make().destroy())
        assert await world.run(300, until=destroying.done)
        await world.run(300)
        assert world.cloud.alive == [] and world.cloud.calls["rent"] == 1
        await world.kill()
        world.start()
        assert await world.run(300, until=lambda: bool(world.served_by)), "the next container rents again"


async def test_destroy_waits_for_what_a_rent_call_under_way_may_bring(tmp_path: Path) -> None:
    async with accounts.a_world(tmp_path) as world:
        world.cloud.read_lag_s = 12.0
        crash = crashes.CrashPoint()
        world.start(crash)
        assert await world.run(300, until=lambda: world.cloud.calls["rent"] == 1)
        await world.kill()
        destroying = asyncio.create_task(world.make().destroy())
        assert await world.run(300, until=destroying.done)
        assert len(destroying.result()) == 1 and world.cloud.alive == []


async def test_what_is_bought_and_not_yet_shown_is_not_taken_for_ended(tmp_path: Path) -> None:
    """The cloud's word that there is no such instance proves nothing while it may not show it yet."""
    async with accounts.a_world(tmp_path) as world:
        world.cloud.read_lag_s = 15.0
        world.cloud.fail("rent", errors.OutcomeUnknown("vast", "HTTP 500", instance_id="101"), applied=True)
        world.start()
        assert await world.run(600, until=lambda: bool(world.served_by))
        assert not _doubles(world) and len(world.cloud.alive) == 1


async def test_a_list_by_label_that_falls_short_neither_ends_service_nor_buys_another(tmp_path: Path) -> None:
    async with accounts.a_world(tmp_path) as world:
        world.start()
        assert await world.run(300, until=lambda: bool(world.served_by))
        first = world.served_by
        world.cloud.hidden_from_filters.add(first)
        await world.run(120)
        assert world.served_by == first
        await world.kill()
        world.start()
        await world.run(300)
        assert world.cloud.calls["rent"] == 1, "the whole list knows of it"
        world.cloud.hidden_from_filters.clear()
        assert await world.run(60, until=lambda: world.served_by == first)
