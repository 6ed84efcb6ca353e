"""ConfigMaps and Secrets as kubectl makes them and a real API server serves them, read with the right to get alone."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator

import pytest
from tests.integration.conftest import Kubectl

from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.node import pod_inputs
from bareboat.plumbing import clock as clocks
from bareboat.sandbox import controlplane
from bareboat.workload import pod as pods
from bareboat.workload import references, registry_logins, sources, support

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "job", "labels": {"app": "x"}},
    "spec": {
        "nodeName": "nowhere",
        "imagePullSecrets": [{"name": "regcred"}],
        "containers": [
            {
                "name": "main",
                "image": "ghcr.io/team/app:v1",
                "args": ["--level=$(APP_LEVEL)"],
                "envFrom": [
                    {"prefix": "APP_", "configMapRef": {"name": "settings"}},
                    {"configMapRef": {"name": "nowhere", "optional": True}},
                ],
                "env": [
                    {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "token", "key": "k"}}},
                    {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}},
                    {"name": "ALL", "value": "$(ME)/$(TOKEN)/$(APP_LEVEL)"},
                ],
                "resources": {"requests": {"cpu": "250m"}},
            }
        ],
    },
}


@pytest.fixture
def namespace(kubectl: Kubectl) -> str:
    name = f"inputs-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    return name


@pytest.fixture
async def admin(sandbox: controlplane.ControlPlane) -> AsyncIterator[clients.Client]:
    async with clients.Client(configs.load(str(sandbox.kubeconfig_path))) as client:
        yield client


async def pod_from_the_api(kubectl: Kubectl, admin: clients.Client, namespace: str) -> pods.Pod:
    await asyncio.to_thread(kubectl, "-n", namespace, "create", "serviceaccount", "runner")
    body = json.loads(json.dumps(POD))
    body["spec"]["serviceAccountName"] = "runner"
    await asyncio.to_thread(kubectl, "-n", namespace, "apply", "-f", "-", stdin=json.dumps(body))
    return await admin.get(f"/api/v1/namespaces/{namespace}/pods/job", type=pods.Pod)


async def test_pod_is_resolved_and_its_login_found_with_the_right_to_get_alone(
    kubectl: Kubectl, admin: clients.Client, namespace: str
) -> None:
    for command in (
        ("create", "configmap", "settings", "--from-literal=LEVEL=debug", "--from-literal=log.path=/tmp"),
        ("create", "secret", "generic", "token", "--from-literal=k=s3cret"),
        ("create", "secret", "docker-registry", "regcred", "--docker-server=ghcr.io", "--docker-username=me",
         "--docker-password=pw"),
    ):  # fmt: skip
        await asyncio.to_thread(kubectl, "-n", namespace, *command)
    pod = await pod_from_the_api(kubectl, admin, namespace)
    assert any(volume.name.startswith(support.TOKEN_VOLUME) for volume in pod.spec.volumes)
    assert support.check(pod) == ()
    found = await pod_inputs.PodInputs(admin, clock=clocks.SystemClock()).fetch(pod)
    resolved = references.resolve(pod, pod.spec.containers[0], found, sources.NodeFacts())
    assert resolved.blocking is None
    assert [problem.kind.value for problem in resolved.problems] == ["OptionalConfigMapNotFound"]
    assert resolved.env == {
        "APP_LEVEL": "debug",
        "APP_log.path": "/tmp",
        "TOKEN": "s3cret",
        "ME": "job",
        "CPU": "250",
        "ALL": "job/s3cret/debug",
    }
    assert references.expand(pod.spec.containers[0].args, resolved.env) == ("--level=debug",)
    best = registry_logins.find(pod, pod.spec.containers[0].image, found).best
    assert best is not None
    assert (best.server, best.username, best.password) == ("ghcr.io", "me", "pw")


async def test_account_without_the_right_is_told_which_one_it_lacks(
    kubectl: Kubectl, admin: clients.Client, namespace: str, sandbox: controlplane.ControlPlane
) -> None:
    pod = await pod_from_the_api(kubectl, admin, namespace)
    rights = ("create", "role", "get-maps", "--verb=get", "--resource=configmaps")
    binding = ("create", "rolebinding", "get-maps", "--role=get-maps", f"--serviceaccount={namespace}:runner")
    for command in (rights, binding):
        await asyncio.to_thread(kubectl, "-n", namespace, *command)
    token = (await asyncio.to_thread(kubectl, "-n", namespace, "create", "token", "runner")).strip()
    restricted = json.loads(
        await asyncio.to_thread(kubectl, "config", "view", "--raw", "--minify", "--flatten", "-o", "json")
    )
    restricted["users"][0]["user"] = {"token": token}
    path = sandbox.kubeconfig_path.with_name(f"{namespace}.kubeconfig")
    path.write_text(json.dumps(restricted))
    async with clients.Client(configs.load(str(path))) as limited:
        found = await pod_inputs.PodInputs(limited, clock=clocks.SystemClock()).fetch(pod)
    path.unlink()
    assert found.config_map("settings") is None
    unreadable = found.secret("token")
    assert isinstance(unreadable, sources.Unreadable)
    assert f"the right to get secrets in namespace {namespace}" in unreadable.why
    blocking = references.resolve(pod, pod.spec.containers[0], found, sources.NodeFacts()).blocking
    assert blocking is not None
    assert blocking.kind is references.Kind.MANDATORY_CONFIG_MAP_NOT_FOUND
