"""Which instances of proxies have lost their pod: a table, and the reading of pods and StatefulSets."""

from typing import Any

import msgspec
import pytest

from bareboat.core import instances
from bareboat.proxy import sweep

NOW_S = 10_000.0
EAST = "bareboat/east/vast-pod-0/1"
NOBODY = sweep.Owners(frozenset())


def an_instance(
    label: str | None = "k8s_pod=vast-pod-0", mark: str | None = EAST, **changes: Any
) -> instances.Instance:
    tags = {} if mark is None else {"BAREBOAT_MARK": mark}
    told: dict[str, Any] = {"started_s": 0.0, "state": instances.State.RUNNING, **changes}
    return instances.Instance(cloud="vast", id="7", label=label, tags=tags, **told)


def judged(instance: instances.Instance, owners: sweep.Owners = NOBODY, **options: Any) -> sweep.Finding:
    [finding] = sweep.judge([instance], owners, "east", NOW_S, **options)
    return finding


def test_an_instance_whose_pod_is_gone_may_be_ended() -> None:
    assert judged(an_instance()) == sweep.Finding(an_instance(), "vast-pod-0")


@pytest.mark.parametrize(
    ("instance", "owners", "why"),
    [
        (an_instance(mark=None), NOBODY, "without BAREBOAT_CLUSTER_ID"),
        (an_instance(mark="bareboat/proxy/vast-pod-0/1"), NOBODY, "without BAREBOAT_CLUSTER_ID"),
        (an_instance(mark="bareboat/west/vast-pod-0/1"), NOBODY, "belongs to cluster west"),
        (an_instance(), sweep.Owners(frozenset({"vast-pod-0"})), "its pod exists"),
        (an_instance(), sweep.Owners(frozenset(), (("vast-pod", 0, 1),)), "its StatefulSet makes it again"),
        (an_instance(), sweep.Owners(frozenset(), (), ("pod a/b",)), "pod a/b takes its POD_NAME from elsewhere"),
        (an_instance(started_s=NOW_S - 100), NOBODY, "younger than 300 s"),
        (an_instance(started_s=None), NOBODY, "tells no age"),
    ],
)
def test_what_is_not_provably_ours_or_may_be_needed_is_left_alone(
    instance: instances.Instance, owners: sweep.Owners, why: str
) -> None:
    assert why in judged(instance, owners).keep


def test_unnamed_ones_count_as_ours_only_when_that_is_said_and_never_another_clusters() -> None:
    assert not judged(an_instance(mark=None), unnamed=True).keep
    assert judged(an_instance(mark="bareboat/west/vast-pod-0/1"), unnamed=True).keep


def test_instances_that_are_no_proxys_are_not_even_looked_at() -> None:
    strangers = [an_instance(label=label) for label in (None, "", "mine", EAST, "k8s_pods=x")]
    assert sweep.judge(strangers, NOBODY, "east", NOW_S) == []


@pytest.mark.parametrize(
    ("name", "has"),
    [("web-0", False), ("web-2", True), ("web-4", True), ("web-5", False), ("web", False), ("other-2", False)],
)
def test_a_stateful_set_has_the_pods_of_its_ordinals(name: str, has: bool) -> None:
    assert sweep.Owners(frozenset(), (("web", 2, 3),)).have(name) is has


def test_names_are_read_from_pods_their_variables_and_stateful_sets() -> None:
    def a_pod(name: str, **variable: Any) -> dict[str, Any]:
        env = [{"name": "POD_NAME", **variable}] if variable else []
        return {"metadata": {"name": name, "namespace": "a"}, "spec": {"containers": [{"env": env}]}}

    pods = [
        a_pod("plain"),
        a_pod("one", value="my-model"),
        a_pod("two", valueFrom={"fieldRef": {"fieldPath": "metadata.name"}}),
        a_pod("three", valueFrom={"configMapKeyRef": {"name": "x", "key": "y"}}),
        a_pod("four", value="$(NODE)-x"),
    ]
    sets = [
        {"metadata": {"name": "web"}, "spec": {"replicas": 3, "ordinals": {"start": 2}}},
        {"metadata": {"name": "one"}, "spec": {}},
        {"metadata": {"name": "down"}, "spec": {"replicas": 0}},
    ]
    told = sweep.owners_of(msgspec.convert(pods, list[sweep.Pod]), msgspec.convert(sets, list[sweep.StatefulSet]))
    assert told.names >= {"plain", "one", "my-model", "two"} and "$(NODE)-x" not in told.names
    assert told.sets == (("web", 2, 3), ("one", 0, 1), ("down", 0, 0))
    assert told.unclear == ("pod a/three", "pod a/four")
