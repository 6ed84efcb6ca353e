"""Statuses in ssh access as a real API server takes them, and as it gives them back: nothing left to write again."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.integration import conftest

from bareboat.access import documents
from bareboat.kube import patches
from bareboat.workload import pod as pods
from bareboat.workload import ssh_status, status

NOW_S = 1_790_000_000.0
NAMESPACE = "statuses"
FOREIGN = {"type": "example.com/lb", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "namespace": NAMESPACE},
    "spec": {
        "nodeName": "nobody",
        "restartPolicy": "OnFailure",
        "readinessGates": [{"conditionType": "example.com/lb"}],
        "initContainers": [
            {"name": "step", "image": "busybox"},
            {"name": "side", "image": "busybox", "restartPolicy": "Always"},
        ],
        "containers": [{"name": "b", "image": "busybox"}, {"name": "a", "image": "busybox"}],
    },
}
RUNNING = documents.Running(NOW_S - 10, 77)
DONE = documents.Terminated(0, "Completed", NOW_S - 20, NOW_S - 15, id="1")
KILLED = documents.Terminated(137, "OOMKilled", NOW_S - 20, NOW_S - 15, signal=9, message="too much", id="2")


def told(number: int, *, init: Any = (), containers: Any = (), **more: Any) -> documents.State:
    return documents.State("u", "1", number, NOW_S, "boot", init=init, containers=containers, **more)


def container(name: str, **now: Any) -> documents.ContainerState:
    return documents.ContainerState(name, **now)


UP = {"running": RUNNING, "started": True, "ready": True, "id": "r"}
LIFE: list[tuple[documents.State | None, str]] = [
    (None, "Pending"),
    (told(1, init=[container("step", running=RUNNING, id="1")]), "Pending"),
    (
        told(2, init=[container("step", terminated=DONE), container("side", **UP)],
             containers=[container("b", **UP), container("a", **UP)]),
        "Running",
    ),
    (
        told(3, init=[container("step", terminated=DONE), container("side", **UP)],
             containers=[container("b", waiting=documents.Waiting("CrashLoopBackOff", "x"), last=KILLED, restarts=1),
                         container("a", **UP)]),
        "Running",
    ),
    (
        told(4, init=[container("step", terminated=DONE), container("side", terminated=DONE)], ended=True,
             containers=[container("b", terminated=DONE, last=KILLED, restarts=1), container("a", terminated=DONE)]),
        "Succeeded",
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def namespace(kubectl: conftest.Kubectl) -> Iterator[str]:
    kubectl("create", "namespace", NAMESPACE)
    yield NAMESPACE
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_whole_life_of_a_pod_is_taken_and_read_back_the_same(kubectl: conftest.Kubectl, namespace: str) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps(POD))
    where = ("pod", "p", "-n", namespace)
    patch = ("patch", *where, "--subresource=status", "--type=strategic", "-p")
    kubectl(*patch, json.dumps({"status": {"conditions": [FOREIGN]}}))

    def read() -> pods.Pod:
        return msgspec.json.decode(kubectl("get", *where, "-o", "json"), type=pods.Pod)

    for state, phase in LIFE:
        pod = read()
        known = ssh_status.Known(
            NOW_S - 50, state, image_id="docker.io/library/busybox@sha256:abc", network_up=True,
            pod_ips=("10.77.0.9",) if state is not None else (),
        )  # fmt: skip
        made = ssh_status.build(pod, known, "10.0.0.1", NOW_S)
        kubectl(*patch, patches.status(pod.metadata.uid, status.encode(made, pod.status)).decode())
        after = read()
        assert after.status.phase == phase
        assert status.same(ssh_status.build(after, known, "10.0.0.1", NOW_S + 60), after.status)
        kinds = {each.type: each for each in after.status.conditions}
        assert kinds["example.com/lb"].last_transition_time == FOREIGN["lastTransitionTime"]
        assert kinds["Ready"].status == ("True" if state is not None and state.number == 2 else "False")
        if state is not None and state.number == 2:
            debug = ("debug", "p", "-n", namespace, "--image=busybox", "--container=looker", "--", "sh")
            kubectl(*debug)
    (looker,) = read().status.ephemeral_container_statuses
    assert looker.state.terminated is not None
    assert "kubectl exec" in looker.state.terminated.message
    last = read().status.container_statuses[1].last_state.terminated
    assert last is not None
    assert (last.exit_code, last.signal, last.reason, last.message) == (137, 9, "OOMKilled", "too much")
    assert "Completed" in kubectl("get", *where, "--no-headers")
