"""deploy/virtual-node-setup.yaml and deploy/runpod-controller.yaml proven by use: run as their ServiceAccount, with no
right too few or too many."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from tests.integration.conftest import Kubectl
from tests.integration.deploy import conftest as deploying
from tests.integration.deploy import recording, rights
from tests.integration.node import stage as parts
from tests.integration.offload import stage

from bareboat.sandbox import controlplane, kubeconfigs

SETUP = deploying.DEPLOY / "virtual-node-setup.yaml"
CONTROLLER = deploying.DEPLOY / "runpod-controller.yaml"
NODE = "runpod-virtual-node"
NOT_IN_ONE_LIFE = (
    "patch events",  # an Event that repeats
    "create tokenreviews",  # callers with tokens
    "create secrets",  # the ssh key is there from an earlier installation
    "create nodes",  # the Node of virtual-node-setup.yaml was there
    "serviceaccounts/token",
    "configmaps",
    "get secrets  (core)",
)
"""Asked for by pods with volumes, or on other days; the node's own manifests are held to these."""


@dataclass
class Deployed:
    """`requests` are those of the program to the API server so far."""

    on: stage.Stage
    door: stage.Offload
    requests: list[recording.Request]


@pytest.fixture
def deployed(sandbox: controlplane.ControlPlane, kubectl: Kubectl, tmp_path: Path) -> Iterator[Deployed]:
    """Applied as the document says, the program not started yet. All taken back at the end."""
    cluster = parts.Cluster(sandbox, "default")
    with (
        stage.RunPod(tmp_path, speed=parts.SPEED, script={"profile": "none"}) as runpod,
        recording.recorded(sandbox) as (url, requests),
    ):
        on = stage.Stage(cluster, runpod, tmp_path)
        try:
            kubectl("apply", "-f", str(SETUP))
            kubectl(
                *("create", "secret", "generic", "runpod-controller-secrets", "-n", "kube-system"),
                f"--from-literal=RUNPOD_KEY={runpod.key}",
            )
            kubectl("apply", "-f", str(CONTROLLER))
            token = kubectl("-n", "kube-system", "create", "token", "runpod-controller").strip()
            kubeconfig = tmp_path / "service-account.kubeconfig"
            kubeconfigs.for_token(kubeconfig, url=url, authority_path=sandbox.authority_path, token=token, name="test")
            settings = {
                **stage.QUICK,
                **deploying.environment(cluster, "runpod-controller"),
                "BAREBOAT_LOG_FORMAT": "text",
                "BAREBOAT_REGISTRY_MIRRORS": f"*={runpod.registry_url}",
                "KUBECONFIG": str(kubeconfig),
                "RUNPOD_URL": runpod.url,
            }
            door = stage.Offload(cluster, NODE, tmp_path / "offload.log", settings)
            door.arguments = [_on_loopback(word) for word in _arguments()]
            on.doors.append(door)
            yield Deployed(on, door, requests)
        finally:
            _take_down(on)
            kubectl("delete", "-f", str(SETUP), "-f", str(CONTROLLER), "--ignore-not-found", "--wait=false")
            kubectl("delete", "secret", "runpod-controller-secrets", "-n", "kube-system", "--ignore-not-found")


def _arguments() -> list[str]:
    """Of the container, without the command's name."""
    (deployment,) = [each for each in deploying.manifests(CONTROLLER) if each["kind"] == "Deployment"]
    name, *words = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert name == "offload"
    return [str(word) for word in words]


def _on_loopback(word: str) -> str:
    return word.replace("=:8080", "=127.0.0.1:0")


def _take_down(on: stage.Stage) -> None:
    for door in on.doors:
        if door.running:
            door.stop()
        sys.stdout.write(f"--- log of {door.name}\n{door.log[-12_000:]}\n")
    on.cluster.kubectl("delete", "job", "my-gpu-job", "--ignore-not-found", "--wait=false")
    for pod in on.cluster.pods():
        if pod["spec"].get("nodeName") == NODE:
            on.cluster.delete("pods", pod["metadata"]["name"], grace_s=0)
    on.cluster.close()


def test_document_from_setup_to_cleanup_on_exactly_the_rights_of_the_manifests(deployed: Deployed) -> None:
    on, door = deployed.on, deployed.door
    node = on.cluster.find("nodes", NODE)
    assert node is not None and node["spec"]["unschedulable"] is True
    door.start()
    on.cluster.kubectl("apply", "-f", "-", stdin=stage.EXAMPLE.replace("my-gpu-image:latest", "alpine:3.20"))
    on.until_over("my-gpu-job", "Complete")
    parts.until(lambda: door.health("/readyz")[0] == 200, lambda: f"ready; it says {door.health('/readyz')}")
    assert door.health("/healthz") == (200, "alive")
    (pod,) = on.pods_of("my-gpu-job")
    assert on.cluster.kubectl("logs", pod["metadata"]["name"]) == ""
    assert NODE in on.cluster.kubectl("get", "pods", "-l", "runpod.io/managed=true", "-o", "wide")
    on.cluster.event("my-gpu-job", "Offloaded")
    assert "runpod.io/pod-id" in on.cluster.kubectl(
        "get", "job", "my-gpu-job", "-o", "jsonpath={.metadata.annotations}"
    )
    on.cluster.kubectl("delete", "job", "my-gpu-job", "--wait=false")
    on.cluster.until_gone(pod["metadata"]["name"])
    on.assert_clean()
    _killed_and_force_deleted(on, door)
    node = on.cluster.find("nodes", NODE)
    assert node is not None and node["spec"]["unschedulable"] is True

    assert [str(each) for each in deployed.requests if each.status in (401, 403)] == []
    assert "forbidden" not in door.log.lower()
    _each_right_was_used(deployed.requests)


def _killed_and_force_deleted(on: stage.Stage, door: stage.Offload) -> None:
    """The controller is down while a Job is deleted: its machine is found and ended at the next start."""
    name = _running(on, "orphaned")
    door.kill()
    on.cluster.kubectl("delete", "job", "orphaned", "--wait=false", "--cascade=orphan")
    on.cluster.kubectl("delete", "pod", name, "--force", "--grace-period=0")
    on.cluster.until_gone(name)
    assert len(on.alive()) == 1
    door.start()
    on.assert_clean()
    name = _running(on, "ended")
    on.cluster.kubectl("delete", "job", "ended", "--wait=false")
    on.cluster.until_gone(name, 60)
    on.assert_clean()


def _running(on: stage.Stage, job_name: str) -> str:
    """The name of the pod of a Job that does not end by itself."""
    job = yaml.safe_load(stage.EXAMPLE.replace("my-gpu-image:latest", "debian:12"))
    job["metadata"]["name"] = job_name
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["sleep", "100000"]
    on.cluster.apply(job)
    (pod,) = parts.until(lambda: on.pods_of(job_name), "its pod")
    name = str(pod["metadata"]["name"])
    on.cluster.until_phase(name, "Running", 60)
    return name


def _each_right_was_used(requests: list[recording.Request]) -> None:
    granted = rights.granted(deploying.manifests(CONTROLLER))
    used = [each for each in requests if each.status not in (401, 403)]
    if any(each.resource == "certificatesigningrequests/approval" for each in used):
        used.append(
            recording.Request("approve", "certificates.k8s.io", "signers", name="kubernetes.io/kubelet-serving")
        )
    idle = [str(right) for right in granted if not any(right.covers(each) for each in used)]
    idle = [each for each in idle if not any(part in each for part in NOT_IN_ONE_LIFE)]
    assert not idle, f"granted and not used: {idle}"
    by_others = {"selfsubjectreviews", "extension-apiserver-authentication"}
    strays = {
        str(each)
        for each in used
        if not any(right.covers(each) for right in granted) and not {each.resource, each.name} & by_others
    }
    assert strays == set(), "used, and not granted by these manifests"
