"""A node that rents from two clouds: an attempt belongs to one of them, and one in trouble holds up nobody."""

import contextlib
from collections.abc import AsyncIterator

from tests.fakes import clouds, nodes
from tests.fakes import pods as fake_pods

from bareboat.core import errors
from bareboat.plumbing import clock as clocks


@contextlib.asynccontextmanager
async def two() -> AsyncIterator[nodes.Installation]:
    clock = clocks.ManualClock()
    vast = clouds.FakeCloud(clock, "vast", offers_=[nodes.an_offer(1)])
    runpod = clouds.FakeCloud(clock, "runpod", offers_=[nodes.an_offer(n, cloud="runpod") for n in range(2, 9)])
    runpod.next_id = 500
    world = nodes.Installation(clock, [vast, runpod])
    try:
        yield world
    finally:
        await world.kill()


async def test_the_next_best_offer_on_the_other_cloud_is_a_new_attempt_that_says_so() -> None:
    async with two() as world:
        vast, runpod = world.clouds["vast"], world.clouds["runpod"]
        vast.fail("rent", errors.OfferGone("vast", "taken"))
        runpod.fail("rent", errors.OutcomeUnknown("runpod", "lost"), applied=True)
        runpod.read_lag_s = 12.0
        world.start()
        uid = world.api.create(fake_pods.manifest("a"))
        assert await world.run(120, until=lambda: world.phase("a") == "Running")
        assert not vast.book and [each.label for each in runpod.alive] == [f"bareboat/{nodes.CLUSTER}/{uid}/2"]
        assert (world.api.pod("a").metadata.annotations or {})["bareboat.dev/cloud-used"] == "runpod"
        assert runpod.calls["rent"] == 1


async def test_a_lost_answer_of_one_cloud_is_never_followed_by_a_rent_on_the_other_while_it_may_have_bought() -> None:
    async with two() as world:
        vast, runpod = world.clouds["vast"], world.clouds["runpod"]
        vast.read_lag_s = 15.0
        vast.fail("rent", errors.OutcomeUnknown("vast", "lost"), applied=True)
        world.start()
        world.api.create(fake_pods.manifest("a"))
        await world.run(10)
        await world.kill()
        world.start()
        assert await world.run(120, until=lambda: world.phase("a") == "Running")
        assert len(vast.alive) == 1 and not runpod.book


async def test_with_one_cloud_down_from_the_start_pods_are_rented_for_on_the_other() -> None:
    async with two() as world:
        for method in ("search", "instances", "instance", "marked"):
            world.clouds["vast"].fail(method, *[errors.CloudDown("vast", "HTTP 502")] * 300)
        world.start()
        world.api.create(fake_pods.manifest("a"))
        assert await world.run(120, until=lambda: world.phase("a") == "Running")
        assert world.clouds["runpod"].alive
        world.api.delete_by_user("a")
        assert await world.run(120, until=lambda: world.phase("a") == "gone")


async def test_a_pod_of_the_cloud_that_is_down_waits_and_is_not_rented_for_on_the_other() -> None:
    async with two() as world:
        vast, runpod = world.clouds["vast"], world.clouds["runpod"]
        world.start()
        world.api.create(fake_pods.manifest("a"))
        assert await world.run(60, until=lambda: world.phase("a") == "Running")
        assert vast.alive
        await world.kill()
        for method in ("search", "instances", "instance", "marked", "destroy"):
            vast.fail(method, *[errors.CloudDown("vast", "HTTP 502")] * 300)
        world.start()
        await world.run(300)
        assert world.phase("a") == "Running" and not runpod.book and vast.alive
        world.api.delete_by_user("a")
        await world.run(100)
        assert world.phase("a") != "gone", "nothing has proven the end of its machine"
        vast.faults.clear()
        assert await world.run(120, until=lambda: world.phase("a") == "gone")
        assert not vast.alive
