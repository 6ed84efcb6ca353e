"""`bareboat instances`, `costs`, `sweep` and `doctor` on a real control plane and a served cloud, as run by people."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.node import stage

from bareboat.sandbox import controlplane


class Person:
    """Someone with a kubeconfig and a key."""

    def __init__(self, on: stage.Stage, **settings: str) -> None:
        self._environment = {
            "KUBECONFIG": str(on.cluster.kubeconfig),
            "VAST_URL": on.vast.url,
            "VAST_API_KEY": on.vast.key,
            "BAREBOAT_GUARD_AGE_S": "0",
            "COLUMNS": "80",
            **settings,
        }

    def types(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [*stage.BAREBOAT, *words],
            env=stage.clean_environment() | self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert all(len(line) <= 80 for line in done.stdout.splitlines()) or "json" in words, done.stdout
        return done.stdout + done.stderr

    def reads(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.types(*words, "-o", "json", code=code))


@pytest.fixture(scope="module")
def world(sandbox: controlplane.ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stage.Stage]:
    """One pod that runs, for all tests here. The node leaves orphans to people."""
    name = f"people-{uuid.uuid4().hex[:8]}"
    with stage.opened(sandbox, tmp_path_factory.mktemp(name), name, script={"profile": "none"}) as opened:
        node = opened.node(BAREBOAT_GUARD_AGE_S="3600")
        opened.cluster.create(stage.pod("runs", node))
        opened.cluster.until_phase("runs", "Running")
        yield opened


def cluster_id(on: stage.Stage) -> str:
    return on.cluster.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}").strip()


def test_what_is_rented_is_shown_with_its_pod_price_and_state(world: stage.Stage) -> None:
    [rented] = world.vast.alive(world.cluster.pod("runs"))
    person = Person(world)
    before = person.reads("instances")["foreign"]
    world.vast.rent_by_hand("somebody-elses")
    told = person.reads("instances")
    [found] = told["instances"]
    assert (found["namespace"], found["pod"], found["state"]) == (world.cluster.namespace, "runs", "running")
    assert found["id"] == str(rented["id"]) and found["usd_per_hour"] > 0 and told["foreign"] == before + 1
    table = person.types("instances")
    assert f"vast/{rented['id']}" in table and "1 rented for this cluster" in table and f"{before + 1} more on" in table


def test_costs_are_told_by_pod_and_namespace_with_what_is_left(world: stage.Stage) -> None:
    person = Person(world)
    told = person.reads("costs")
    [pod] = [each for each in told["pods"] if each["namespace"] == world.cluster.namespace]
    assert pod["pod"] == "runs" and pod["usd_per_hour"] > 0 and told["balance_usd"]["vast"] > 0
    table = person.types("costs")
    assert "in all" in table and "are left on vast, which lasts" in table and "Pods that are gone" in table


def test_an_instance_without_owner_is_shown_and_ended_only_with_the_word(world: stage.Stage) -> None:
    ours, other = cluster_id(world), "another-cluster"
    gone = "00000000-1111-2222-3333-444444444444"
    orphan = world.vast.rent_by_hand(f"bareboat/{ours}/{gone}/1")
    world.vast.rent_by_hand(f"bareboat/{other}/{gone}/1")
    world.vast.rent_by_hand("by-hand")
    before = len(world.vast.alive())
    person = Person(world)
    table = person.types("sweep", code=1)
    assert f"vast/{orphan}" in table and "say --yes" in table and "1 may be ended" in table
    told = person.reads("sweep", code=1)
    assert [each["id"] for each in told["instances"] if each["over"]] == [str(orphan)]
    assert len(world.vast.alive()) == before, "a look ends nothing"
    told = Person(world, BAREBOAT_GUARD_AGE_S="86400").reads("sweep", "--yes")
    [young] = [each for each in told["instances"] if each["pod"] is None]
    assert "younger than 86400 s" in young["kept_because"] and told["ended"] == []
    assert len(world.vast.alive()) == before
    assert f"vast/{orphan} is ended" in person.types("sweep", "--yes")
    assert str(orphan) not in {str(each["id"]) for each in world.vast.alive()}
    assert len(world.vast.alive()) == before - 1
    assert "0 may be ended" in person.types("sweep", "--yes")


def test_nothing_is_judged_without_the_clusters_word(world: stage.Stage) -> None:
    orphan = world.vast.rent_by_hand(f"bareboat/{cluster_id(world)}/gone/1")
    person = Person(world, KUBECONFIG="/nowhere/kubeconfig")
    assert "bareboat sweep: " in person.types("sweep", "--yes", code=2)
    assert str(orphan) in {str(each["id"]) for each in world.vast.alive()}
    Person(world).types("sweep", "--yes")


def test_a_doctor_finds_a_healthy_installation_healthy(world: stage.Stage) -> None:
    node = world.nodes[0].name
    person = Person(world, NODENAME=node, PROVISION_TOKEN="t0ken", PROVISION_HOST="127.0.0.1")
    found = {each["subject"]: each for each in person.reads("doctor")}
    assert {name: each["verdict"] for name, each in found.items()} == {
        "vast key": "ok",
        "vast balance": "ok",
        "provisioning": "ok",
        "cluster": "ok",
        "rights": "ok",
        "clock": "ok",
        f"node {node}": "ok",
        "kubeconfig": "ok",
    }, found
    assert cluster_id(world) in found["cluster"]["told"]
    assert "vast key" in person.types("doctor")


def test_a_doctor_names_what_is_wrong_and_what_to_do(world: stage.Stage) -> None:
    person = Person(world, VAST_API_KEY="not-the-key", NODENAME="nobody", BAREBOAT_PODS="many")
    found = person.reads("doctor", "--service-account", f"{world.cluster.namespace}/default", code=1)
    assert [each["told"] for each in found if each["subject"] == "settings"] == [
        "BAREBOAT_PODS is 'many': input should be a valid integer, unable to parse string as an integer"
    ]
    person = Person(world, VAST_API_KEY="not-the-key", NODENAME="nobody")
    found = person.reads("doctor", "--service-account", f"{world.cluster.namespace}/default", code=1)
    told = {each["subject"]: (each["verdict"], each["told"]) for each in found}
    assert told["vast key"][0] == "BAD" and "refused" in told["vast key"][1] and "not-the-key" not in str(found)
    assert told["rights"][0] == "BAD" and "create nodes" in told["rights"][1] and "10-rights.yaml" in told["rights"][1]
    assert told["node nobody"][0] == "warning" and "does not exist" in told["node nobody"][1]
    assert told["provisioning"][0] == "warning" and "PROVISION_TOKEN" in told["provisioning"][1]
    assert "allowed is NAMESPACE/NAME" in person.types("doctor", "--service-account", "x", code=2)


def test_a_cloud_that_is_silent_is_told_and_taken_for_unknown(world: stage.Stage) -> None:
    person = Person(world, VAST_URL="http://127.0.0.1:9", VAST_TRIES="1")
    told = person.types("instances", code=1)
    assert "nothing is rented" not in told and "can't reach" in told
    assert person.types("sweep", "--yes", code=1).count("what it holds is unknown") == 1
