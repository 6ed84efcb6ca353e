"""Pods of many kinds side by side, by way of the real scheduler and kubectl, on really running simulated machines."""

import base64
import json

from tests.integration.node import stage

PRIVATE = "registry.example.com/bareboat/private:1"


def _pull_secret(name: str) -> stage.Json:
    login = {"auths": {"registry.example.com": {"username": "robot", "password": "opensesame"}}}
    encoded = base64.b64encode(json.dumps(login).encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": encoded},
    }


def test_ten_kinds_of_pods_reach_their_ends_and_the_ledger_agrees(installation: stage.Stage) -> None:
    cluster, vast = installation.cluster, installation.vast
    node = installation.node(BAREBOAT_START_TIMEOUT_S="12")
    vast.control("faults/add", name="boot_stuck", rule={"count": 1, "match": {"image": "busybox:on-a-slow-host"}})
    from_map = {"env": [{"name": "CODE", "valueFrom": {"configMapKeyRef": {"name": "mood", "key": "code"}}}]}
    cluster.apply(
        _pull_secret("regcred"),
        stage.config_map("mood", code="3"),
        stage.pod("succeeds", node, "echo all is well"),
        stage.pod("fails", node, "echo about to fail; exit 3"),
        stage.pod("restarts", node, 'echo "code $CODE"; exit $CODE', restartPolicy="OnFailure", container=from_map),
        stage.pod("unschedulable", node, container={"resources": {"limits": {"nvidia.com/gpu": "99"}}}),
        stage.pod(
            "too-dear",
            node,
            container={"resources": {"limits": {"nvidia.com/gpu": "1"}}},
            annotations={"bareboat.dev/max-usd-per-hour": "0.002"},
        ),
        stage.pod("private", node, "", image=PRIVATE, imagePullSecrets=[{"name": "regcred"}]),
        stage.pod("no-login", node, "", image=PRIVATE),
        stage.pod("slow-host", node, "echo here at last; sleep 100000", image="busybox:on-a-slow-host"),
        stage.pod("deadline", node, activeDeadlineSeconds=20),
        stage.pod("updated", node, "echo version $HOSTNAME; sleep 100000", image="busybox:one"),
        stage.pod("deleted", node),
    )

    _deleted_while_renting(installation)
    _succeeded(installation)
    _failed(installation)
    _restarted(installation)
    _unschedulable(installation)
    _too_dear(installation)
    _private(installation)
    _updated(installation)
    _deadline(installation)
    _slow_host(installation)

    cluster.kubectl("delete", "pods", "--all", "--wait=true", "--timeout=50s")
    installation.assert_money_was_kept()
    assert node.running


def _deleted_while_renting(on: stage.Stage) -> None:
    pod = on.cluster.until(
        "deleted",
        lambda pod: pod if "bareboat.dev/attempt" in (pod["metadata"].get("annotations") or {}) else None,
        "an attempt is noted",
    )
    assert pod is not None
    on.cluster.kubectl("delete", "pod", "deleted", "--wait=false")
    on.cluster.until_gone("deleted")
    assert on.vast.alive(pod) == [], "the object went before its instance was gone"


def _succeeded(on: stage.Stage) -> None:
    pod = on.cluster.until_phase("succeeds", "Succeeded", 60)
    assert stage.terminated(pod)["exitCode"] == 0
    assert stage.terminated(pod)["reason"] == "Completed"
    assert on.cluster.kubectl("logs", "succeeds") == "all is well\n"
    assert len(on.vast.instances(pod)) == 1
    assert "best of" in on.cluster.event("succeeds", "Rented")


def _failed(on: stage.Stage) -> None:
    pod = on.cluster.until_phase("fails", "Failed", 60)
    assert stage.terminated(pod)["exitCode"] == 3
    assert stage.terminated(pod)["reason"] == "Error"
    assert on.cluster.kubectl("logs", "fails") == "about to fail\n"


def _restarted(on: stage.Stage) -> None:
    pod = on.cluster.until(
        "restarts", lambda pod: pod if stage.container(pod).get("restartCount") else None, "a restart", 60
    )
    assert pod is not None
    assert pod["status"]["phase"] == "Running"
    assert stage.container(pod)["lastState"]["terminated"]["exitCode"] == 3
    on.cluster.apply(stage.config_map("mood", code="0"))
    pod = on.cluster.until_phase("restarts", "Succeeded", 90)
    restarts = stage.container(pod)["restartCount"]
    assert restarts >= 1
    assert stage.container(pod)["lastState"]["terminated"]["exitCode"] == 3
    assert len(on.vast.instances(pod)) == restarts + 1
    assert on.cluster.kubectl("logs", "restarts") == "code 0\n"


def _unschedulable(on: stage.Stage) -> None:
    pod = on.cluster.pod("unschedulable")
    assert pod["status"]["phase"] == "Pending"
    assert "nodeName" not in pod["spec"]
    assert "Insufficient nvidia.com/gpu" in stage.why(pod, "PodScheduled")
    assert on.vast.instances(pod) == []


def _too_dear(on: stage.Stage) -> None:
    told = on.cluster.event("too-dear", "NoOffers")
    assert "more if max price were" in told, told
    pod = on.cluster.pod("too-dear")
    assert pod["status"]["phase"] == "Pending"
    assert stage.waiting(pod)["reason"] == "NoOffers"
    assert on.vast.instances(pod) == []


def _private(on: stage.Stage) -> None:
    on.cluster.until_phase("private", "Running", 60)
    assert on.cluster.kubectl("logs", "private") == "let in\n"
    on.cluster.until(
        "no-login", lambda pod: stage.waiting(pod).get("reason") in ("ErrImagePull", "ImagePullBackOff"), "refused", 60
    )
    pod = on.cluster.until(
        "no-login", lambda pod: pod if stage.waiting(pod).get("reason") == "ImagePullBackOff" else None, "back-off", 60
    )
    assert pod is not None and pod["status"]["phase"] == "Pending"
    assert "denied" in stage.waiting(pod)["message"] or "not found" in stage.waiting(pod)["message"]


def _updated(on: stage.Stage) -> None:
    before = on.cluster.until_phase("updated", "Running", 60)
    on.cluster.kubectl("set", "image", "pod/updated", "main=busybox:two")

    def replaced(pod: stage.Json) -> stage.Json | None:
        status = stage.container(pod)
        return pod if status.get("restartCount") == 1 and "running" in status["state"] else None

    after = on.cluster.until("updated", replaced, "a second container", 60)
    assert after is not None
    assert stage.instance_id(after) != stage.instance_id(before)
    assert [each["image"] for each in on.vast.alive(after)] == ["busybox:two"]
    assert "version" in on.cluster.kubectl("logs", "updated")


def _deadline(on: stage.Stage) -> None:
    pod = on.cluster.until_phase("deadline", "Failed", 60)
    assert pod["status"]["reason"] == "DeadlineExceeded"
    assert on.vast.alive(pod) == []


def _slow_host(on: stage.Stage) -> None:
    pod = on.cluster.until_phase("slow-host", "Running", 60)
    assert on.cluster.kubectl("logs", "slow-host") == "here at last\n"
    first, second = on.vast.instances(pod)
    assert first["destroy_asked_s"] is not None and first["gone_s"] is not None
    assert first["machine_id"] != second["machine_id"]
    assert "did not start the container within 12 s" in on.cluster.event("slow-host", "StartTooSlow")
