"""What a real API server answers to the client: the facts that the code leans on."""

import json

import msgspec
import pytest
from tests.integration.kube import builders

from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import errors, objects, patches, resources
from bareboat.plumbing import clock as clocks
from bareboat.sandbox import controlplane


class Pod(msgspec.Struct, frozen=True):
    metadata: objects.ObjectMeta
    spec: dict[str, object]
    status: dict[str, object]


async def make(client: clients.Client, namespace: str, name: str = "a", node: str | None = "no-such-node") -> Pod:
    return await client.create(resources.PODS.path(namespace), builders.a_pod(name, node), type=Pod)


async def test_an_object_is_made_read_listed_and_deleted(client: clients.Client, namespace: str) -> None:
    made = await make(client, namespace)
    path = resources.PODS.path(namespace, "a")
    read = await client.get(path, type=Pod)
    assert read.metadata.uid == made.metadata.uid and read.metadata.creation_timestamp is not None
    page = await client.list(resources.PODS.path(namespace), item=Pod, field_selector="spec.nodeName=no-such-node")
    assert [pod.metadata.name for pod in page.items or []] == ["a"]
    await client.delete(path, uid=made.metadata.uid, grace_s=0)
    with pytest.raises(errors.NotFound):
        await client.get(path)


async def test_an_empty_list_is_a_page_without_items(client: clients.Client, namespace: str) -> None:
    page = await client.list(resources.PODS.path(namespace), item=Pod)
    assert not page.items and page.metadata.resource_version


async def test_making_a_thing_twice_is_a_conflict_that_says_so(client: clients.Client, namespace: str) -> None:
    await make(client, namespace)
    with pytest.raises(errors.Conflict) as caught:
        await make(client, namespace)
    assert caught.value.already_exists and not isinstance(caught.value, errors.OtherObject)


@pytest.mark.parametrize("kind", [clients.Patch.STRATEGIC, clients.Patch.MERGE])
async def test_a_status_for_a_namesake_is_refused(client: clients.Client, namespace: str, kind: clients.Patch) -> None:
    await make(client, namespace)
    path = resources.PODS.path(namespace, "a", "status")
    with pytest.raises(errors.OtherObject) as caught:
        await client.patch(path, patches.status("00000000-0000-0000-0000-000000000000", {"phase": "Failed"}), kind)
    assert caught.value.status == 422


async def test_a_delete_and_a_binding_of_a_namesake_are_refused(client: clients.Client, namespace: str) -> None:
    await make(client, namespace, node=None)
    with pytest.raises(errors.OtherObject):
        await client.delete(resources.PODS.path(namespace, "a"), uid="00000000-0000-0000-0000-000000000000")
    with pytest.raises(errors.OtherObject):
        await client.bind(namespace, "a", "n", uid="00000000-0000-0000-0000-000000000000")


async def test_a_stale_resource_version_is_a_conflict_but_no_namesake(client: clients.Client, namespace: str) -> None:
    pod = await make(client, namespace)
    path = resources.PODS.path(namespace, "a", "status")
    uid = pod.metadata.uid
    await client.patch(path, patches.status(uid, {"message": "moves the version on"}))
    with pytest.raises(errors.Conflict) as caught:
        await client.patch(path, patches.status(uid, {}, resource_version=pod.metadata.resource_version))
    assert not isinstance(caught.value, errors.OtherObject)


async def test_status_and_annotations_travel_in_one_write_and_a_repeat_is_none(
    client: clients.Client, namespace: str
) -> None:
    pod = await make(client, namespace)
    path = resources.PODS.path(namespace, "a", "status")
    body = patches.status(pod.metadata.uid, {"phase": "Running"}, annotations={"example.com/id": "7", "never": None})
    first = await client.patch(path, body, type=Pod)
    assert first.status["phase"] == "Running"
    assert first.metadata.annotations == {"example.com/id": "7"}
    again = await client.patch(path, body, type=Pod)
    assert again.metadata.resource_version == first.metadata.resource_version
    gone = await client.patch(
        path, patches.status(pod.metadata.uid, {}, annotations={"example.com/id": None}), type=Pod
    )
    assert not gone.metadata.annotations


async def test_addresses_and_conditions_can_be_taken_away(client: clients.Client, namespace: str) -> None:
    uid = (await make(client, namespace)).metadata.uid
    path = resources.PODS.path(namespace, "a", "status")
    conditions = [{"type": kind, "status": "True"} for kind in ("Ready", "example.com/Other")]
    addressed = {"podIP": "203.0.113.9", "podIPs": [{"ip": "203.0.113.9"}], "conditions": conditions}
    await client.patch(path, patches.status(uid, addressed))
    await client.patch(path, patches.without_addresses(uid), clients.Patch.MERGE)
    last = await client.patch(path, patches.without_condition(uid, "Ready"), type=Pod)
    assert "podIP" not in last.status and "podIPs" not in last.status
    kept = json.loads(msgspec.json.encode(last.status))["conditions"]
    assert [condition["type"] for condition in kept] == ["example.com/Other"]


async def test_finalizers_and_json_steps(client: clients.Client, namespace: str) -> None:
    pod = await make(client, namespace)
    path, uid = resources.PODS.path(namespace, "a"), pod.metadata.uid
    held = await client.patch(
        path,
        patches.finalizers(uid, pod.metadata.resource_version, ["example.com/money"]),
        clients.Patch.MERGE,
        type=Pod,
    )
    assert held.metadata.finalizers == ["example.com/money"]
    free = await client.patch(
        path, patches.finalizers(uid, held.metadata.resource_version, []), clients.Patch.MERGE, type=Pod
    )
    assert not free.metadata.finalizers
    add = {"op": "add", "path": patches.pointer("metadata", "annotations"), "value": {"a/b": "c"}}
    stepped = await client.patch(path, patches.steps(uid, [add]), clients.Patch.JSON, type=Pod)
    assert stepped.metadata.annotations == {"a/b": "c"}
    with pytest.raises(errors.Invalid):
        await client.patch(path, patches.steps("other", [add]), clients.Patch.JSON)


async def test_server_side_apply_creates_and_merges(client: clients.Client, namespace: str) -> None:
    path = resources.CONFIG_MAPS.path(namespace, "c")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}}
    await client.patch(path, body, clients.Patch.APPLY, field_manager="test")
    with pytest.raises(errors.Conflict):
        await client.patch(path, body | {"data": {"k": "w"}}, clients.Patch.APPLY, field_manager="other")
    await client.patch(path, body | {"data": {"k": "w"}}, clients.Patch.APPLY, field_manager="other", force=True)
    assert json.loads(await client.get(path))["data"] == {"k": "w"}


async def test_a_pod_is_bound_once_and_carries_the_bindings_annotations(client: clients.Client, namespace: str) -> None:
    body = builders.a_pod("a", schedulerName="nobody")
    del body["spec"]["schedulingGates"]
    pod = await client.create(resources.PODS.path(namespace), body, type=Pod)
    await client.bind(
        namespace,
        "a",
        "anywhere",
        uid=pod.metadata.uid,
        resource_version=pod.metadata.resource_version,
        annotations={"example.com/why": "test"},
    )
    bound = await client.get(resources.PODS.path(namespace, "a"), type=Pod)
    assert bound.spec["nodeName"] == "anywhere"
    assert (bound.metadata.annotations or {})["example.com/why"] == "test"
    with pytest.raises(errors.Conflict):
        await client.bind(namespace, "a", "elsewhere", uid=pod.metadata.uid)


async def test_a_token_is_bound_to_its_pod_and_opens_the_api(
    sandbox: controlplane.ControlPlane, client: clients.Client, namespace: str
) -> None:
    pod = await make(client, namespace)
    token = await client.token(namespace, "default", expiration_s=600, pod="a", pod_uid=pod.metadata.uid)
    path = sandbox.kubeconfig_for_token(token.token, path=sandbox.folder / f"{namespace}.kubeconfig")
    async with clients.Client(configs.load(path)) as as_pod:
        with pytest.raises(errors.Forbidden, match=f"system:serviceaccount:{namespace}:default"):
            await as_pod.get(resources.SECRETS.path(namespace))
    with pytest.raises(errors.Conflict):
        await client.token(namespace, "default", expiration_s=600, pod="a", pod_uid="other")
    with pytest.raises(errors.Invalid):
        await client.token(namespace, "default", expiration_s=60)


async def test_a_pods_service_account_works_and_a_refused_token_is_read_again(
    sandbox: controlplane.ControlPlane, client: clients.Client, namespace: str
) -> None:
    folder = sandbox.folder / f"{namespace}-account"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(sandbox.authority_path.read_bytes())
    (folder / "token").write_text("stale")
    host, port = sandbox.url.removeprefix("https://").rsplit(":", 1)
    environ = {"HOME": "/nowhere", "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    config = configs.load(environ=environ, service_account=folder, clock=clocks.ManualClock())
    async with clients.Client(config) as as_pod:
        with pytest.raises(errors.Unauthorized):
            await as_pod.get("/api")
        (folder / "token").write_text((await client.token(namespace, "default", expiration_s=600)).token)
        assert b"versions" in await as_pod.get("/api")


async def test_a_credential_plugin_can_give_the_admins_certificate(sandbox: controlplane.ControlPlane) -> None:
    admin = sandbox.admin
    status = {
        "clientCertificateData": admin.certificate_path.read_text(),
        "clientKeyData": admin.key_path.read_text(),
    }
    folder = sandbox.folder / "plugin"
    folder.mkdir()
    version = "client.authentication.k8s.io/v1"
    answer = {"apiVersion": version, "kind": "ExecCredential", "status": status}
    (folder / "answer").write_text(json.dumps(answer))
    user = {"exec": {"apiVersion": version, "command": "cat", "args": [str(folder / "answer")]}}
    document = {
        "current-context": "x",
        "clusters": [
            {"name": "x", "cluster": {"server": sandbox.url, "certificate-authority": str(sandbox.authority_path)}}
        ],
        "users": [{"name": "x", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(document))
    async with clients.Client(configs.load(folder / "kubeconfig")) as admins:
        assert b"NodeList" in await admins.get(resources.NODES.path())
