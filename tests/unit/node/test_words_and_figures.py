"""Events, metrics, and the ConfigMaps that choose machines: small parts that people read."""

from typing import Any, cast

import prometheus_client
import pytest
from tests.fakes import nodes
from tests.fakes import pods as fake_pods

from bareboat.core import errors
from bareboat.kube import client as clients
from bareboat.kube import errors as kube_errors
from bareboat.kube import events
from bareboat.node import metrics, selection_source, telling
from bareboat.plumbing import clock as clocks
from bareboat.workload import selection


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0 s"), (45.4, "45 s"), (89, "89 s"), (90, "2 min"), (720, "12 min"), (12600, "3.5 h")]
)
def test_durations_are_told_as_people_say_them(seconds: float, told: str) -> None:
    assert telling.duration(seconds) == told


async def test_events_say_what_was_rented_at_which_price_out_of_how_many() -> None:
    async with nodes.installation() as world:
        world.start()
        world.api.create(fake_pods.manifest("a"))
        assert await world.run(60, until=lambda: world.phase("a") == "Running")
        told = dict(world.recorder.told)["Rented"]
        assert told.startswith("Rented 0x RTX 4090 (machine m1) as vast/101 at $0.101/h with disk: best of 40 fitting")
        about = telling.about(world.api.pod("a"), container=True)
        assert (about.kind, about.name, about.field_path) == ("Pod", "a", "spec.containers{main}")


async def test_figures_tell_instances_pods_money_and_the_clouds_health() -> None:
    async with nodes.installation() as world:
        world.cloud.rent_by_hand("bareboat/another-cluster/u/1")
        world.start()
        world.api.create(fake_pods.manifest("a"))
        assert await world.run(60, until=lambda: world.phase("a") == "Running")
        world.cloud.fail("instances", *[errors.CloudDown("vast", "HTTP 502")] * 50)
        await world.run(30)
        figures = metrics.Figures(world.use, world.pods, {"node": {"PATCH": 4}})
        text = prometheus_client.generate_latest(metrics.registry(figures)).decode()
        for line in (
            'bareboat_instances{cloud="vast"} 1.0',
            'bareboat_cloud_reachable{cloud="vast"} 0.0',
            'bareboat_instances_ending{cloud="vast"} 0.0',
            'bareboat_kubernetes_requests_total{client="node",verb="PATCH"} 4.0',
            "bareboat_pods 1.0",
            "bareboat_usd_per_hour 0.101",
        ):
            assert line in text, text


class Maps:
    """Two ConfigMaps."""

    def __init__(self) -> None:
        self.data: dict[str, dict[str, str]] = {}
        self.down = False

    async def get(self, path: str, *, type: Any) -> Any:
        if self.down:
            raise kube_errors.Unreachable("no route")
        name = path.rsplit("/", 1)[-1]
        if name not in self.data:
            raise kube_errors.NotFound("GET", path, 404, "NotFound", "no such ConfigMap")
        return type(data=self.data[name])


def source() -> tuple[Maps, fake_pods.FakeRecorder, selection_source.SelectionSource]:
    maps, recorder = Maps(), fake_pods.FakeRecorder()
    made = selection_source.SelectionSource(
        cast(clients.Client, maps),
        selection.Live(selection.from_environment({})),
        cast(events.Recorder, recorder),
        "node-1",
        clocks.ManualClock(),
    )
    return maps, recorder, made


async def test_without_config_maps_the_defaults_hold() -> None:
    _, recorder, made = source()
    await made.look()
    assert made.now().weights.price == 30 and not recorder.told


async def test_a_change_of_the_weights_holds_from_the_next_look() -> None:
    maps, _, made = source()
    await made.look()
    maps.data[selection_source.WEIGHTS] = {"price": "80"}
    await made.look()
    assert made.now().weights.price == 80


async def test_a_bad_value_changes_nothing_and_is_said_once() -> None:
    maps, recorder, made = source()
    maps.data[selection_source.WEIGHTS] = {"price": "80"}
    await made.look()
    maps.data[selection_source.WEIGHTS] = {"price": "a lot"}
    for _ in range(3):
        await made.look()
    assert made.now().weights.price == 80
    assert recorder.reasons() == ["InvalidSelection"] and "a lot" in recorder.told[0][1]


async def test_config_maps_that_can_not_be_read_change_nothing() -> None:
    maps, _, made = source()
    maps.data[selection_source.WEIGHTS] = {"price": "80"}
    await made.look()
    maps.down = True
    with pytest.raises(kube_errors.Unreachable):
        await made.look()
    assert made.now().weights.price == 80
