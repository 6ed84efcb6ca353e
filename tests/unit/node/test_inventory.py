"""What is rented beside the pods that exist: whose it is, what may be swept, what everything has cost."""

import dataclasses
from typing import cast

import pytest
from tests.fakes import clouds
from tests.fakes import pods as fake_pods

from bareboat.core import errors
from bareboat.fleet import ending
from bareboat.kube import client as clients
from bareboat.kube import errors as kube_errors
from bareboat.node import costing, inventory, sweeping
from bareboat.plumbing import clock as clocks

CLUSTER = "c-1"


class World:
    """A cloud and a cluster's pods; `look` is what a command sees of them."""

    def __init__(self) -> None:
        self.clock = clocks.ManualClock()
        self.cloud = clouds.FakeCloud(self.clock)
        self.api = fake_pods.FakeApi(self.clock)

    def pod(self, name: str, *, spent: str | None = None, namespace: str = "t", price: float | None = None) -> str:
        """Its uid; with a price an instance as well."""
        notes = {"bareboat.dev/spent-usd": spent} if spent is not None else {}
        uid = self.api.create(fake_pods.manifest(name, namespace=namespace, annotations=notes))
        if price is not None:
            self.rent(uid, price)
        return uid

    def rent(self, uid: str, price: float = 0.5, *, cluster: str = CLUSTER) -> clouds.Rented:
        box = self.cloud.rent_by_hand(f"bareboat/{cluster}/{uid}/1", started_s=self.clock.now_s())
        box.usd_per_hour = price
        return box

    async def look(self) -> inventory.Inventory:
        client = cast(clients.Client, self.api)
        return await inventory.look(client, {"vast": self.cloud}, CLUSTER, self.clock)


@pytest.fixture
def world() -> World:
    return World()


async def test_instances_of_this_cluster_are_matched_with_their_pods_and_others_only_counted(world: World) -> None:
    world.pod("a", price=0.5)
    world.rent("uid-gone", 0.25)
    world.rent("uid-elsewhere", cluster="c-2")
    world.cloud.rent_by_hand("by hand")
    world.cloud.rent_by_hand(None)
    await world.clock.advance(1800)
    found = await world.look()
    assert [(each.owner, each.instance.usd_per_hour, each.age_s) for each in found.held] == [
        ("t/a", 0.5, 1800),
        ("", 0.25, 1800),
    ]
    assert [each.usd for each in found.held] == [pytest.approx(0.25), pytest.approx(0.125)]
    assert found.foreign == 3 and found.troubles == {}


async def test_a_cloud_that_can_not_be_asked_is_unknown_and_not_empty(world: World) -> None:
    world.pod("a", price=0.5)
    world.cloud.fail("instances", errors.CloudDown("vast", "no answer"))
    found = await world.look()
    assert found.held == () and list(found.troubles) == ["vast"]


async def test_without_a_complete_list_of_pods_nothing_is_judged(world: World) -> None:
    world.rent("uid-gone")
    world.api.fail("list", kube_errors.Unreachable("no answer"))
    with pytest.raises(kube_errors.Unreachable):
        await world.look()


async def test_all_pages_of_pods_are_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "PAGE", 3)
    uids = {world.pod(f"p{number}") for number in range(8)}
    assert set((await world.look()).pods) == uids


@pytest.mark.parametrize(
    ("kind", "keep"),
    [
        ("orphan", ""),
        ("owned", "its pod exists"),
        ("young", "younger than 120 s"),
        ("ageless", "does not tell how old"),
    ],
)
async def test_only_an_old_instance_whose_pod_is_gone_may_be_swept(world: World, kind: str, keep: str) -> None:
    world.pod("a", price=0.5) if kind == "owned" else world.rent("uid-gone")
    await world.clock.advance(60 if kind == "young" else 121)
    found = await world.look()
    if kind == "ageless":
        held = dataclasses.replace(found.held[0], instance=dataclasses.replace(found.held[0].instance, started_s=None))
        found = dataclasses.replace(found, held=(held,))
    [finding] = sweeping.judge(found, 120)
    assert keep in finding.keep and bool(finding.keep) == bool(keep)


async def test_what_is_ended_is_gone_by_a_read_before_it_is_called_gone(world: World) -> None:
    box = world.rent("uid-gone")
    world.cloud.deaf_destroys = 2
    instance = (await world.look()).held[0].instance
    world.cloud.fail("destroy", errors.CloudDown("vast", "hiccup"))
    fast = clocks.ScaledClock(1000)
    assert await ending.end([instance], {"vast": world.cloud}, fast, why="test") == []
    assert not box.bills and world.cloud.calls["destroy"] >= 3


async def test_what_does_not_end_in_time_is_told(world: World) -> None:
    world.rent("uid-gone")
    world.cloud.deaf_destroys = 10**6
    instance = (await world.look()).held[0].instance
    left = await ending.end([instance], {"vast": world.cloud}, clocks.ScaledClock(1000), why="test", longest_s=30)
    assert left == [instance]


async def test_an_instance_that_got_another_label_meanwhile_is_left_alone(world: World) -> None:
    box = world.rent("uid-gone")
    instance = (await world.look()).held[0].instance
    box.label = "somebody-took-it"
    assert await ending.end([instance], {"vast": world.cloud}, clocks.ScaledClock(1000), why="test") == []
    assert box.bills and world.cloud.calls["destroy"] == 0


async def test_costs_are_what_was_spent_and_what_runs(world: World) -> None:
    world.pod("idle")
    world.pod("over", spent="1.5")
    world.pod("runs", spent="0.25", price=0.5)
    world.pod("other", namespace="u", price=1.0)
    world.rent("uid-gone", 0.1)
    await world.clock.advance(7200)
    told = costing.costs(await world.look())
    assert [(line.namespace, line.pod, round(line.usd, 6), line.usd_per_hour) for line in told.lines] == [
        ("u", "other", 2.0, 1.0),
        ("t", "runs", 1.25, 0.5),
        ("", "", 0.2, 0.1),
        ("t", "over", 1.5, 0.0),
    ]
    assert [(each.namespace, round(each.usd, 6), each.usd_per_hour) for each in told.totals] == [
        ("", 0.2, 0.1),
        ("t", 2.75, 0.5),
        ("u", 2.0, 1.0),
    ]
    assert told.usd == pytest.approx(4.95) and told.usd_per_hour == pytest.approx(1.6) and not told.complete


async def test_what_the_node_keeps_of_ended_pods_is_counted_once(world: World) -> None:
    world.pod("over", spent="1.5")
    await world.clock.advance(7200)
    told = costing.costs(await world.look(), {"t": 4.0, "w": 2.0})
    assert {each.namespace: round(each.usd, 6) for each in told.totals} == {"t": 4.0, "w": 2.0} and told.complete


async def test_an_annotation_that_makes_no_sense_costs_nothing(world: World) -> None:
    for spent in ("nan", "-1", "1e300", "a lot"):
        world.pod(spent.replace(" ", "-").replace("+", ""), spent=spent)
    await world.clock.advance(3600)
    assert costing.costs(await world.look()).usd == 0.0
