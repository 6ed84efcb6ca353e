"""The Node object: what it says, and that it stays true to the clouds' health without touching what others wrote."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import msgspec
import pytest

from bareboat.kube import client as clients
from bareboat.kube import errors, leases
from bareboat.node import node_object, registration
from bareboat.plumbing import clock as clocks

Json = dict[str, Any]
SPEC = node_object.Spec("gpu-1", "10.0.0.1", 10250, {"cpu": "8", "pods": "110", "nvidia.com/gpu": "16"})
WELL = node_object.Health()
ILL = node_object.Health("HTTP 502")


class Nodes:
    """The API server's one Node."""

    def __init__(self) -> None:
        self.node: Json | None = None
        self.version = 1
        self.uids = 0
        self.before_patch: list[Callable[[], None]] = []

    def bump(self) -> None:
        assert self.node is not None
        self.version += 1
        self.node["metadata"]["resourceVersion"] = str(self.version)

    async def create(self, path: str, body: Json, *, type: Any) -> Any:
        if self.node is not None:
            raise errors.Conflict("POST", path, 409, "AlreadyExists", "it is there")
        self.uids += 1
        self.node = json.loads(json.dumps(body))
        self.node["metadata"]["uid"] = f"uid-{self.uids}"
        self.bump()
        return msgspec.convert(self.node, type)

    async def get(self, path: str, *, type: Any) -> Any:
        if self.node is None:
            raise errors.NotFound("GET", path, 404, "NotFound", "no such node")
        return msgspec.convert(self.node, type)

    async def patch(self, path: str, body: Any, kind: clients.Patch) -> bytes:
        if self.node is None:
            raise errors.NotFound("PATCH", path, 404, "NotFound", "no such node")
        if path.endswith("/status"):
            self.node["status"] |= json.loads(body)["status"]
            self.bump()
            return b""
        if self.before_patch:
            self.before_patch.pop(0)()
        if body["metadata"]["resourceVersion"] != self.node["metadata"]["resourceVersion"]:
            raise errors.Conflict("PATCH", path, 409, "Conflict", "the object has been modified")
        self.node["metadata"].setdefault("labels", {}).update(body["metadata"]["labels"])
        self.node["spec"]["taints"] = body["spec"]["taints"]
        self.bump()
        return b""

    def taints(self) -> list[str]:
        return [each["key"] for each in (self.node or {})["spec"]["taints"]]

    def condition(self, kind: str) -> Json:
        return next(each for each in (self.node or {})["status"]["conditions"] if each["type"] == kind)


class Lease:
    def __init__(self) -> None:
        self.owners: list[str] = []

    def own(self, uid: str) -> None:
        self.owners.append(uid)


class Rig:
    def __init__(self) -> None:
        self.clock = clocks.ManualClock()
        self.api = Nodes()
        self.lease = Lease()
        self.health = WELL
        self.part = registration.Registration(
            cast(clients.Client, self.api),
            lambda: SPEC,
            lambda: self.health,
            cast(leases.NodeLease, self.lease),
            self.clock,
        )


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    task = asyncio.create_task(made.part.run())
    await made.clock.advance(0.1)
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_the_node_is_made_with_what_schedulers_and_people_look_for(rig: Rig) -> None:
    assert rig.part.registered.is_set() and rig.lease.owners == ["uid-1"]
    node = rig.api.node
    assert node is not None
    labels = node["metadata"]["labels"]
    assert labels["type"] == "virtual-kubelet" and labels["provider"] == "vast.ai"
    assert labels["kubernetes.io/hostname"] == "gpu-1"
    assert node["status"]["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "16"
    assert rig.api.taints() == ["virtual-kubelet.io/provider"]
    assert rig.api.condition("Ready")["status"] == "True"


async def test_a_cloud_in_trouble_taints_the_node_and_leaves_it_ready(rig: Rig) -> None:
    rig.health = ILL
    await rig.clock.advance(3)
    assert rig.api.condition("CloudReachable")["status"] == "False"
    assert rig.api.condition("CloudReachable")["message"] == "HTTP 502"
    assert rig.api.condition("Ready")["status"] == "True", "not ready would have paid pods evicted"
    assert node_object.TROUBLE_TAINT in rig.api.taints()
    rig.health = WELL
    await rig.clock.advance(3)
    assert rig.api.condition("CloudReachable")["status"] == "True"
    assert rig.api.taints() == ["virtual-kubelet.io/provider"]


async def test_the_moment_of_a_change_stays_while_its_status_does(rig: Rig) -> None:
    before = rig.api.condition("Ready")
    await rig.clock.advance(400)
    after = rig.api.condition("Ready")
    assert after["lastHeartbeatTime"] != before["lastHeartbeatTime"]
    assert after["lastTransitionTime"] == before["lastTransitionTime"]


async def test_a_taint_that_somebody_adds_in_the_middle_of_a_write_stays(rig: Rig) -> None:
    def drain() -> None:
        assert rig.api.node is not None
        rig.api.node["spec"]["taints"].append({"key": "maintenance", "effect": "NoSchedule"})
        rig.api.bump()

    rig.api.before_patch.append(drain)
    rig.health = ILL
    await rig.clock.advance(6)
    assert set(rig.api.taints()) == {"virtual-kubelet.io/provider", "maintenance", node_object.TROUBLE_TAINT}


async def test_a_node_that_stands_already_is_taken_over_with_what_others_wrote() -> None:
    rig = Rig()
    rig.api.node = {
        "metadata": {"name": "gpu-1", "uid": "old", "labels": {"mine": "1"}},
        "spec": {"taints": [{"key": "maintenance", "effect": "NoSchedule"}]},
        "status": {},
    }
    rig.api.bump()
    task = asyncio.create_task(rig.part.run())
    await rig.clock.advance(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert set(rig.api.taints()) == {"maintenance", "virtual-kubelet.io/provider"}
    assert rig.api.node["metadata"]["labels"]["mine"] == "1" and rig.api.node["metadata"]["labels"]["type"]
    assert rig.lease.owners[-1] == "old"


async def test_a_node_that_somebody_deletes_is_made_anew_long_before_its_pods_are_removed(rig: Rig) -> None:
    rig.api.node = None
    await rig.clock.advance(15)
    assert rig.api.node is not None and rig.lease.owners[-1] == "uid-2"


async def test_a_quiet_node_is_not_written(rig: Rig) -> None:
    version = rig.api.version
    await rig.clock.advance(280)
    assert rig.api.version == version


def test_an_empty_taint_key_means_no_taint() -> None:
    open_to_all = node_object.Spec("n", "10.0.0.1", 1, {}, taint=node_object.Taint(key=""))
    assert node_object.taints(open_to_all, WELL, []) == []
