"""RunPod's records in all their shapes, and what they come to in our words."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareboat.clouds.runpod import bootstrap, lives, translate, wire
from bareboat.core import instances

State = instances.State
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)

V2 = {
    "id": "7h9k2m4n6p",
    "name": "bareboat/c/o/1",
    "image": "busybox",
    "args": "",
    "disk": 50,
    "ports": ["8888/http", "22/tcp"],
    "env": {"SECRET": "s", "BAREBOAT_TAG": "t"},
    "registry": None,
    "status": "RUNNING",
    "mounts": {"persistent": {"size": 20, "path": "/workspace"}},
    "gpu": {"id": "NVIDIA GeForce RTX 4090", "count": 2},
    "cloud": "SECURE",
    "dataCenterId": "US-KS-2",
    "template": None,
    "cost": 0.88,
    "runtime": {
        "uptime": 3600,
        "ports": [
            {"private": 22, "public": 34446, "type": "tcp", "ip": "195.26.233.3"},
            {"private": 8888, "public": 60001, "type": "http", "ip": "100.65.1.1"},
        ],
    },
    "createdAt": "2026-06-01T12:00:00Z",
    "startedAt": "2026-06-01T12:02:00Z",
}
V1 = {
    "id": "7h9k2m4n6p",
    "name": "bareboat/c/o/1",
    "imageName": "busybox",
    "desiredStatus": "RUNNING",
    "lastStatusChange": "Rented by User: Fri Jul 12 2024 15:14:40 GMT-0400",
    "lastStartedAt": "2025-03-30 19:14:42.752 +0000 UTC",
    "costPerHr": "0.74",
    "publicIp": "195.26.233.3",
    "portMappings": {"22": 34446},
    "ports": ["22/tcp"],
    "gpuCount": 1,
    "containerDiskInGb": 50,
    "volumeInGb": 0,
    "machineId": "s194cr8pls2z",
    "machine": {"gpuTypeId": "NVIDIA L4", "gpuDisplayName": "L4", "dataCenterId": "EU-RO-1", "secureCloud": True},
}


def _instance(record: dict[str, Any], life: lives.Life | None = None, story: str = "") -> instances.Instance:
    return translate.instance(wire.v2_pod(record), life or lives.Life(), story)


def test_a_v2_pod() -> None:
    found = _instance(V2)
    assert (found.id, found.state, found.label) == ("7h9k2m4n6p", State.RUNNING, "bareboat/c/o/1")
    assert (found.gpu_name, found.gpu_count, found.region) == ("RTX 4090", 2, "US-KS-2")
    assert (found.address, dict(found.ports)) == ("195.26.233.3", {(22, "TCP"): 34446})
    assert found.usd_per_hour == pytest.approx(0.88 + 70 * 0.10 / 720)
    assert found.started_s == 1780315200.0
    assert found.tags == {"BAREBOAT_TAG": "t"}
    assert translate.proxies(found.raw) == {8888: "https://7h9k2m4n6p-8888.proxy.runpod.net"}
    assert "SECRET" not in repr(found) and "SECRET" not in repr(found.raw), "nothing of a workload's secrets is kept"


def test_a_v1_pod_of_the_same_kind() -> None:
    pod = wire.v1_pod(V1)
    found = translate.instance(pod, lives.Life())
    assert (found.state, found.region, found.machine_id) == (State.RUNNING, "RO-1", "s194cr8pls2z")
    assert found.gpu_name == "L4" and found.usd_per_hour == pytest.approx(0.74 + 5 / 720)
    assert pod.started_s == 1743362082.0
    assert dict(found.ports) == {(22, "TCP"): 34446}


@pytest.mark.parametrize(
    ("change", "state", "fault"),
    [
        ({"status": "PROVISIONING", "runtime": None}, State.PROVISIONING, None),
        ({"status": "STARTING", "runtime": {}}, State.STARTING, None),
        ({"status": "RUNNING", "runtime": None}, State.STARTING, None),
        ({"status": "RUNNING", "runtime": {}}, State.STARTING, None),
        ({"status": "ERROR"}, State.FAILED, instances.Fault.OTHER),
        ({"status": "EXITED"}, State.STOPPED, None),
        ({"status": "FROBNICATING"}, State.UNREACHABLE, None),
        ({"gpu": {"id": "NVIDIA L4", "count": 0}}, State.STOPPED, None),
        ({"runtime": {"uptime": 10}}, State.RUNNING, None),
    ],
)
def test_states(change: dict[str, Any], state: State, fault: instances.Fault | None) -> None:
    found = _instance(V2 | change)
    assert (found.state, found.fault) == (state, fault)


@pytest.mark.parametrize(
    ("story", "ran", "state", "fault"),
    [
        ("Exited by user: today", True, State.STOPPED, None),
        ("Exited by Runpod: today", True, State.STOPPED, None),
        ("Exited by RunPod: today", False, State.STOPPED, None),
        ("Exited by RunPod: today manifest unknown", False, State.FAILED, instances.Fault.IMAGE_NOT_FOUND),
        ("Exited by RunPod: today pull access denied", False, State.FAILED, instances.Fault.IMAGE_UNAUTHORIZED),
        ("Exited by RunPod: today manifest unknown", True, State.STOPPED, None),
        ("Outbid: today", True, State.STOPPED, instances.Fault.OUTBID),
    ],
)
def test_why_a_pod_stopped(story: str, ran: bool, state: State, fault: instances.Fault | None) -> None:
    found = _instance(V2 | {"status": "EXITED", "cost": 0}, lives.Life(ran=ran), story)
    assert (found.state, found.fault, found.message) == (state, fault, story)
    assert found.usd_per_hour == pytest.approx(20 * 0.20 / 720), "a stopped pod still pays for its volume, double"


@pytest.mark.parametrize(
    ("uptimes", "ended"),
    [
        ([5, 15, 25, 35], False),
        ([5, 5, 5, 15, 14], False),
        ([None, 3, None, 20], False),
        ([-2, 3, 13], False),
        ([30, 2], True),
        ([30, 2, 500], True),
        ([30, -1], True),
        ([30, None, 4], True),
        ([2, 3, 2, 3], False),
    ],
)
def test_an_uptime_that_goes_back_is_the_end_of_a_container(uptimes: list[int | None], ended: bool) -> None:
    several = lives.Lives()
    for uptime_s in uptimes:
        runtime = None if uptime_s is None else {"uptime": uptime_s}
        pod = wire.v2_pod(V2 | {"runtime": runtime})
        life = several.seen(pod)
    assert life.ended is ended
    assert (translate.instance(pod, life).state is State.EXITED) is ended
    several.only([])
    assert not several.seen(wire.v2_pod(V2)).ended


def test_an_ssh_address_is_that_of_a_pod_in_ssh_access_alone() -> None:
    assert _instance(V2).ssh == ()
    _, (script,) = bootstrap.command(["ssh-ed25519 " + "A" * 68 + " me"])
    found = _instance(V2 | {"args": json.dumps({"entrypoint": ["/bin/sh", "-c"], "cmd": [script]})})
    assert found.ssh == (instances.SshAddress("195.26.233.3", 34446),)


@given(st.dictionaries(st.sampled_from(sorted({*V2, *V1})), JSON))
def test_no_record_is_beyond_us(change: dict[str, Any]) -> None:
    for base, read in ((V2, wire.v2_pod), (V1, wire.v1_pod)):
        try:
            pod = read({**base, **change})
        except wire.Nonsense:
            continue
        found = translate.instance(pod, lives.Lives().seen(pod))
        assert found.usd_per_hour is None or found.usd_per_hour == found.usd_per_hour


@given(JSON)
def test_no_row_of_the_catalogue_is_beyond_us(row: Any) -> None:
    kind = wire.gpu_type({"id": "x", "price": row, "maxCount": row, "memory": row, "name": row})
    assert kind is not None
    for cloud in ("SECURE", "COMMUNITY"):
        translate.row_offers(kind, cloud, 1, {}, wire.lowest({"secure": row}, "secure"), None)


@pytest.mark.parametrize("body", [b"", b"null", b"7", b'{"pods": {}}', b"<html>"])
def test_what_is_no_list_is_nonsense(body: bytes) -> None:
    with pytest.raises(wire.Nonsense):
        wire.rows(body, "pods")


@pytest.mark.parametrize(
    ("body", "cursor"),
    [
        (b'{"pods": []}', None),
        (b'{"pods": [], "nextCursor": "x"}', "x"),
        (b'{"pods": [], "pagination": {"next_cursor": "y"}}', "y"),
        (b'{"pods": [], "nextCursor": null}', None),
        (b"[]", None),
    ],
)
def test_where_a_list_goes_on(body: bytes, cursor: str | None) -> None:
    assert wire.next_page(body) == cursor


ROW = {
    "id": "NVIDIA L4",
    "name": "L4",
    "memory": 24,
    "secure": True,
    "community": False,
    "price": {"secure": 0.44, "community": 0.3},
    "maxCount": {"secure": 4, "community": 2},
    "availability": "HIGH",
    "dataCenters": [{"id": "EU-RO-1", "availability": "HIGH"}, {"id": "US-TX-3", "availability": "NONE"}],
    "cudaVersions": [{"version": "12.4", "available": True}, {"version": "12.1", "available": False}],
}


def test_a_row_of_the_catalogue_stands_for_a_few_offers_by_its_stock() -> None:
    kind = wire.gpu_type(ROW)
    assert kind is not None
    found = translate.row_offers(kind, "SECURE", 2, {}, wire.Lowest(bid_usd=0.2), None)
    assert [each.id for each in found] == [f"NVIDIA_L4/SECURE/EU-RO-1/x2/{number}" for number in range(1, 5)]
    one = found[0]
    assert (one.usd_per_hour, one.spot_usd_per_hour, one.region, one.cuda) == (0.88, 0.4, "RO-1", 12.4)
    later = translate.row_offers(kind, "SECURE", 2, {one.raw.name: 4}, wire.Lowest(), None)
    assert later[0].id.endswith("/4")
    assert translate.row_offers(kind, "SECURE", 5, {}, wire.Lowest(), None) == [], "more than the largest machine has"
    assert translate.row_offers(kind, "COMMUNITY", 1, {}, wire.Lowest(), None) == [], "not offered there"


def test_nothing_that_runs_is_free() -> None:
    assert _instance(V2 | {"cost": 0, "status": "PROVISIONING"}).usd_per_hour is None


def test_the_row_named_unknown_is_none() -> None:
    assert wire.gpu_type(ROW | {"id": "unknown"}) is None
