"""Annotations can be edited by whoever may edit the pod: they never make the node end a stranger's instance, rent a
second one or forget what it pays."""

import pytest
from tests.fakes import clouds, nodes
from tests.fakes import pods as fake_pods

from bareboat.core import budget
from bareboat.core import instances as instances_
from bareboat.node import records
from bareboat.workload import annotations as notes

STRANGERS = {
    "nobody's": None,
    "another program's": "training-box",
    "another cluster's": "bareboat/cluster-2/uid-7/3",
    "another pod's": f"bareboat/{nodes.CLUSTER}/uid-of-the-victim/1",
}


async def running(world: nodes.Installation, name: str = "a", **spec: object) -> str:
    uid = world.api.create(fake_pods.manifest(name, **spec))  # type: ignore[arg-type]
    assert await world.run(90, until=lambda: world.phase(name) == "Running")
    return uid


async def restarted_with(world: nodes.Installation, **annotations: str | None) -> None:
    """The node is down while somebody edits the pod."""
    await world.kill()
    world.api.annotate("a", **annotations)
    world.start()


@pytest.mark.parametrize("label", STRANGERS.values(), ids=STRANGERS.keys())
@pytest.mark.parametrize("own_lives", [True, False], ids=["own lives", "own is gone"])
@pytest.mark.parametrize("fate", ["kept", "deleted", "deleted while the node is down"])
async def test_an_instance_id_of_somebody_else_is_never_ended(label: str | None, own_lives: bool, fate: str) -> None:
    async with nodes.installation() as world:
        stranger = world.cloud.rent_by_hand(label)
        world.api.create(fake_pods.manifest("victim", nodeName="another-node"))
        if label is not None and "victim" in label:
            victim = next(iter(world.api.pods.values()))
            stranger.label = f"bareboat/{nodes.CLUSTER}/{victim['metadata']['uid']}/1"
        world.start()
        uid = await running(world)
        own = world.cloud.alive_for(uid)[0]
        if not own_lives:
            world.cloud.end_by_hand(own.id)
        await world.kill()
        world.api.annotate("a", instance=f"vast/{stranger.id}")
        deleted = fate != "kept"
        if deleted and fate != "deleted":
            world.api.delete_by_user("a")
        world.start()
        await world.run(30)
        if fate == "deleted":
            world.api.delete_by_user("a")
        await world.run(300)
        assert stranger.bills
        assert f"destroy {stranger.id}" not in world.cloud.asked
        if deleted and own_lives:
            assert not own.bills and world.phase("a") == "gone"
        if own_lives and not deleted:
            assert world.cloud.alive_for(uid) == [own], "what really runs for the pod is kept"
        assert world.cloud.most_at_once(uid) == 1


async def test_a_running_pod_whose_annotations_were_all_removed_is_recognised_by_its_mark() -> None:
    async with nodes.installation() as world:
        world.start()
        uid = await running(world)
        await world.kill()
        world.api.edit("a", lambda pod: pod["metadata"].update(annotations={}))
        world.start()
        await world.run(120)
        assert world.cloud.calls["rent"] == 1
        assert len(world.cloud.alive_for(uid)) == 1
        assert world.phase("a") == "Running"
        assert world.api.pod("a").metadata.annotations["bareboat.dev/attempt"] == "1"


async def test_annotations_removed_while_the_node_works_come_back() -> None:
    async with nodes.installation() as world:
        world.start()
        await running(world)
        before = world.api.pod("a").metadata.annotations
        world.api.edit("a", lambda pod: pod["metadata"].update(annotations={}))
        await world.run(10)
        assert world.api.pod("a").metadata.annotations == before
        assert world.cloud.calls["rent"] == 1


@pytest.mark.parametrize("attempt", ["0", "1", "7", "-3", "1e400", "nan", "²", "99999999999999999999", "x"])
@pytest.mark.parametrize("keeps_instance", [True, False], ids=["instance kept", "instance removed"])
async def test_a_forged_attempt_number_rents_nothing_and_ends_nothing(attempt: str, keeps_instance: bool) -> None:
    async with nodes.installation() as world:
        world.start()
        uid = await running(world)
        for state in (instances_.State.STOPPED, instances_.State.STOPPED):
            world.cloud.alive_for(uid)[0].state = state
            rents = world.cloud.calls["rent"]
            assert await world.run(400, until=lambda rents=rents: world.cloud.calls["rent"] > rents)
        assert await world.run(
            60, until=lambda: "bareboat.dev/instance" in (world.api.pod("a").metadata.annotations or {})
        )
        assert world.cloud.alive_for(uid)[0].label == f"bareboat/{nodes.CLUSTER}/{uid}/3"
        forged = {"attempt": attempt} if keeps_instance else {"attempt": attempt, "instance": None}
        await restarted_with(world, **forged)
        await world.run(200)
        assert world.cloud.most_at_once(uid) == 1
        assert not world.cloud.trespasses
        if keeps_instance or attempt != "7":
            assert world.cloud.calls["rent"] == 3, "the instance of attempt 3 is found by its mark"


@pytest.mark.parametrize("price", ["nan", "inf", "-5", "0", "1e9", "free", "1e-400"])
async def test_a_forged_price_lifts_no_cap(price: str) -> None:
    limits = budget.Limits(namespace=budget.Caps(usd_per_hour=0.15), least_run_s=0.0)
    async with nodes.installation(limits=limits) as world:
        world.start()
        await running(world)
        await restarted_with(world, usd_per_hour=price, spent_usd=price, attempted_at="1970-01-01T00:00:00Z")
        world.api.create(fake_pods.manifest("b"))
        await world.run(120)
        assert len(world.cloud.alive) == 1, "two would cost 0.20 $/h of 0.15"
        assert world.phase("b") == "Pending"
        spend = world.use.broker.ledger.spend(world.clock.now_s())
        assert 0.1 <= spend.usd_per_hour <= 0.15


@pytest.mark.parametrize("cloud", ["", "runpod", "../../x"])
async def test_a_forged_cloud_does_not_hide_what_is_rented(cloud: str) -> None:
    async with nodes.installation() as world:
        world.start()
        uid = await running(world)
        await restarted_with(world, cloud_used=cloud or None)
        await world.run(60)
        assert len(world.cloud.alive_for(uid)) == 1 and world.cloud.calls["rent"] == 1
        world.api.delete_by_user("a")
        assert await world.run(120, until=lambda: world.phase("a") == "gone")
        assert not world.cloud.alive


async def test_an_instance_id_on_a_pod_that_never_rented_does_not_keep_it_from_running() -> None:
    async with nodes.installation() as world:
        stranger = world.cloud.rent_by_hand("bareboat/cluster-2/uid-7/1")
        uid = world.api.create(fake_pods.manifest("a"))
        world.api.annotate("a", instance=f"vast/{stranger.id}")
        world.start()
        assert await world.run(120, until=lambda: world.phase("a") == "Running")
        assert len(world.cloud.alive_for(uid)) == 1 and stranger.bills
        world.api.delete_by_user("a")
        assert await world.run(120, until=lambda: world.phase("a") == "gone")


async def test_an_instance_of_a_cloud_that_is_not_configured_is_waited_for_and_said() -> None:
    async with nodes.installation() as world:
        world.api.create(fake_pods.manifest("a"))
        world.api.annotate("a", instance="nimbus/7")
        world.start()
        await world.run(120)
        assert world.cloud.calls["rent"] == 0
        assert "CloudNotConfigured" in str(world.recorder.told)


async def test_nobody_reads_a_strangers_output_through_a_forged_id() -> None:
    async with nodes.installation(clouds.LoggingCloud) as world:
        stranger = world.cloud.rent_by_hand(None)
        world.start()
        uid = await running(world)
        world.cloud.end_by_hand(world.cloud.alive_for(uid)[0].id)
        await restarted_with(world, instance=f"vast/{stranger.id}")
        for _ in range(20):
            await world.run(5)
            record = world.pods.records.get(uid)
            if record is not None and record.instance_id == stranger.id:
                assert not world.use.accounts["vast"].watcher.is_proven(stranger.id)


@pytest.mark.parametrize(
    "name", [notes.ATTEMPT, notes.ATTEMPTED_AT, notes.CLOUD, notes.PRICE, notes.INSTANCE, notes.SPENT]
)
@pytest.mark.parametrize("text", ["", "/", "nonsense", "1e999", "\x00", "x" * 5000, "9" * 30])
async def test_no_nonsense_in_an_annotation_breaks_the_start(name: str, text: str) -> None:
    async with nodes.installation(offer_count=1) as world:
        world.api.create(fake_pods.manifest("a", annotations={name: text}))
        record = records.from_pod(world.api.pod("a"), world.clock.now_s())
        assert record.usd_per_hour >= 0 and record.spent_usd >= 0 and record.attempt >= 0
        assert record.attempted_s <= world.clock.now_s()


async def test_an_instance_bought_moments_ago_is_not_taken_for_gone_because_no_read_shows_it() -> None:
    """Deleted while hidden: the delete answers 404, the read knows nothing, and a machine bills all the same."""
    async with nodes.installation() as world:
        world.cloud.read_lag_s = 15.0
        world.start()
        world.api.create(fake_pods.manifest("a"))
        assert await world.run(30, until=lambda: world.cloud.calls["rent"] == 1)
        world.api.delete_by_user("a")
        await world.run(10)
        assert world.phase("a") != "gone", "nothing has proven its end"
        assert await world.run(60, until=lambda: world.phase("a") == "gone")
        assert not world.cloud.alive


async def test_the_visibility_window_counts_from_the_crash_not_from_the_mark() -> None:
    """A rent call can wait for its turn for long after its mark was written."""
    async with nodes.installation() as world:
        world.cloud.read_lag_s = 15.0
        for_rent, world.cloud.on_offer = world.cloud.on_offer, []
        world.start()
        uid = world.api.create(fake_pods.manifest("a"))
        await world.run(100)
        world.cloud.on_offer = for_rent
        assert await world.run(300, until=lambda: world.cloud.calls["rent"] == 1)
        box = world.cloud.alive_for(uid)[0]
        await world.kill()
        world.api.annotate("a", instance=None, attempted_at="2026-09-21T00:00:00Z")
        box.rented_s = world.clock.now_s()
        box.visible_s = box.listed_s = box.rented_s + 15.0
        world.start()
        await world.run(100)
        assert world.cloud.calls["rent"] == 1 and not world.cloud.trespasses
