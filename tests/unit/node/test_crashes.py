"""The process dies at any await on the world, at every one in turn; the next one starts from annotations and clouds
alone. Never are two instances paid for one pod, and at the end nothing is left over."""

from collections.abc import Callable

import pytest
from tests.fakes import clouds, crashes, nodes
from tests.fakes import pods as fake_pods

from bareboat.core import errors
from bareboat.core import instances as instances_
from bareboat.kube import errors as kube_errors

Trouble = Callable[[nodes.Installation], None]

LOST = errors.OutcomeUnknown("vast", "the connection broke")


def quiet(_: nodes.Installation) -> None:
    pass


def answer_lost_but_bought(world: nodes.Installation) -> None:
    world.cloud.fail("rent", LOST, applied=True)


def answer_lost_and_nothing_bought(world: nodes.Installation) -> None:
    world.cloud.fail("rent", LOST)


def offers_gone(world: nodes.Installation) -> None:
    world.cloud.fail("rent", *[errors.OfferGone("vast", "taken")] * 3)


def reads_lag(world: nodes.Installation) -> None:
    world.cloud.read_lag_s = 12.0
    world.cloud.ghost_s = 6.0


def reads_lag_and_answers_are_lost(world: nodes.Installation) -> None:
    reads_lag(world)
    world.cloud.fail("rent", LOST, applied=True)


def cloud_is_shaky(world: nodes.Installation) -> None:
    down = errors.CloudDown("vast", "HTTP 502")
    for method in ("instances", "instance", "marked", "destroy", "search"):
        world.cloud.fail(method, down, errors.Throttled("vast", "slow down", 3.0))
    world.cloud.deaf_destroys = 2


def api_is_shaky(world: nodes.Installation) -> None:
    world.api.fail("patch", kube_errors.Timeout("no answer in time"), applied=True)
    world.api.fail("patch", kube_errors.Timeout("no answer in time"))
    world.api.fail("delete", kube_errors.Unreachable("no route"))


def lists_fall_short(world: nodes.Installation) -> None:
    world.cloud.list_lag_s = 15.0
    world.cloud.read_lag_s = 1.0
    world.cloud.fail("rent", LOST, applied=True)


TROUBLES: list[Trouble] = [
    quiet,
    answer_lost_but_bought,
    answer_lost_and_nothing_bought,
    offers_gone,
    reads_lag,
    reads_lag_and_answers_are_lost,
    cloud_is_shaky,
    api_is_shaky,
    lists_fall_short,
]


async def live_through(world: nodes.Installation, crash: crashes.CrashPoint) -> str:
    """A pod from birth to the proof of its end; at the crash the next process takes over. What went wrong, if
    anything."""
    world.start(crash)
    uid = world.api.create(fake_pods.manifest("a"))

    async def until(wanted: Callable[[], bool], what: str, seconds: float = 400.0) -> str:
        if not await world.run(seconds, until=lambda: wanted() or crash.happened.is_set()) or not wanted():
            if crash.happened.is_set() and world.cloud.crash is crash:
                await world.kill()
                world.start()
            if not await world.run(seconds, until=wanted):
                return f"not {what} after a crash at {crash.count} ({crash.where}): {world.recorder.told}"
        return ""

    wrong = await until(lambda: world.phase("a") == "Running", "running")
    if wrong:
        return wrong
    if len(world.cloud.alive_for(uid)) != 1:
        return f"{world.cloud.alive_for(uid)} bill for one running pod"
    world.api.delete_by_user("a")
    wrong = await until(lambda: world.phase("a") == "gone", "gone")
    if not wrong and world.cloud.alive:
        wrong = f"the pod is gone, and {world.cloud.alive} bills"
    return wrong


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: each.__name__)
async def test_a_crash_at_any_await_buys_nothing_twice_and_leaves_nothing(trouble: Trouble) -> None:
    at = 0
    while True:
        at += 1
        crash = crashes.CrashPoint(at)
        async with nodes.installation() as world:
            trouble(world)
            wrong = await live_through(world, crash)
            told = f"crash {at} at {crash.where!r}: "
            assert not wrong, told + wrong
            assert not world.cloud.trespasses, told + str(world.cloud.trespasses)
            for uid in world.api.phases:
                assert world.cloud.most_at_once(uid) <= 1, told + str(world.cloud.book)
        if not crash.happened.is_set():
            break
    assert at > 10


async def test_a_crash_while_the_pod_is_deleted_by_force_leaves_an_orphan_that_is_found_and_ended() -> None:
    async with nodes.installation() as world:
        world.start()
        world.api.create(fake_pods.manifest("a"))
        assert await world.run(60, until=lambda: world.phase("a") == "Running")
        await world.kill()
        world.api.delete_by_user("a", force=True)
        stranger = world.cloud.rent_by_hand(None)
        other_cluster = world.cloud.rent_by_hand("bareboat/cluster-2/uid-9/1")
        world.start()
        await world.run(15)
        assert len(world.cloud.alive) == 3, "the guard age is not over"
        assert await world.run(120, until=lambda: len(world.cloud.alive) == 2)
        await world.run(300)
        assert world.cloud.alive == [stranger, other_cluster]


async def test_nothing_is_ended_as_an_orphan_while_pods_cannot_be_listed() -> None:
    async with nodes.installation() as world:
        orphan = world.cloud.rent_by_hand(f"bareboat/{nodes.CLUSTER}/uid-of-nobody/1")
        world.api.fail("list", *[kube_errors.Unreachable("no route")] * 20)
        world.start()
        await world.run(100)
        assert orphan.bills
        world.api.faults.clear()
        assert await world.run(120, until=lambda: not orphan.bills)


async def test_a_process_that_ended_while_its_node_was_down_is_told_as_lost_not_as_never_run() -> None:
    async with nodes.installation() as world:
        world.start()
        world.api.create(fake_pods.manifest("a", restartPolicy="Never"))
        assert await world.run(60, until=lambda: world.phase("a") == "Running")
        await world.kill()
        for box in world.cloud.alive:
            world.cloud.end_by_hand(box.id)
        world.start()
        assert await world.run(200, until=lambda: world.phase("a") == "Failed")
        assert world.api.pod("a").status.container_statuses[0].state.terminated is not None
        await world.run(60)
        assert world.cloud.calls["rent"] == 1


async def test_a_second_instance_of_one_attempt_is_found_and_ended() -> None:
    async with nodes.installation() as world:
        world.start()
        uid = world.api.create(fake_pods.manifest("a"))
        assert await world.run(60, until=lambda: world.phase("a") == "Running")
        twin = world.cloud.rent_by_hand(f"bareboat/{nodes.CLUSTER}/{uid}/1")
        assert await world.run(120, until=lambda: not twin.bills)
        assert len(world.cloud.alive_for(uid)) == 1


async def test_a_machine_that_vanished_from_a_lagging_list_is_not_started_again() -> None:
    """The list of before the end comes late: what is proven gone does not come back to life."""
    async with nodes.installation() as world:
        world.cloud.ghost_s = 15.0
        world.start()
        world.api.create(fake_pods.manifest("a"))
        assert await world.run(60, until=lambda: world.phase("a") == "Running")
        first = world.cloud.alive[0]
        first.state = instances_.State.STOPPED
        assert await world.run(
            200, until=lambda: len(world.cloud.book) == 2 and world.recorder.reasons().count("Started") == 2
        )
        await world.run(60)
        assert world.recorder.reasons().count("Started") == 2
        assert world.api.pod("a").status.container_statuses[0].restart_count == 1


def test_every_trouble_is_one_of_a_cloud_that_keeps_its_word() -> None:
    """A lag beyond the visibility window would make the laws above impossible."""
    assert clouds.FakeCloud(clock=None).visibility_window_s > 15.0  # type: ignore[arg-type]
