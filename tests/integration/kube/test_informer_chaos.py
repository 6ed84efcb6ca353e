"""The informer against a real API server, over a wire that is cut again and again."""

import asyncio
import contextlib
import random
from urllib.parse import urlsplit

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.integration.kube import builders

from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import errors, objects, patches, resources
from bareboat.kube import informer as informers
from bareboat.sandbox import controlplane

NODE = "informer-test"


class Pod(msgspec.Struct, frozen=True, gc=False):
    metadata: objects.ObjectMeta


async def truth(client: clients.Client, namespace: str) -> dict[informers.Key, str]:
    page = await client.list(
        resources.PODS.path(namespace), item=objects.Metadata, field_selector=f"spec.nodeName={NODE}"
    )
    return {(item.metadata.namespace, item.metadata.name): item.metadata.resource_version for item in page.items or []}


def versions(informer: informers.Informer[Pod]) -> dict[informers.Key, str]:
    return {(pod.metadata.namespace, pod.metadata.name): pod.metadata.resource_version for pod in informer}


async def converged(informer: informers.Informer[Pod], client: clients.Client, namespace: str) -> None:
    expected = await truth(client, namespace)
    try:
        async with asyncio.timeout(20):
            while versions(informer) != expected:  # noqa: ASYNC110 - plain state, read from outside
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"{len(versions(informer))} in the cache, {len(expected)} in the API server, and not the same")


async def test_cache_equals_truth_after_chaos(
    sandbox: controlplane.ControlPlane, client: clients.Client, namespace: str
) -> None:
    dice = random.Random(7)
    url = urlsplit(sandbox.url)
    config = configs.load(sandbox.kubeconfig_path)
    seen: dict[informers.Key, Pod] = {}

    def handle(key: informers.Key, old: Pod | None, new: Pod | None) -> None:
        if new is None:
            del seen[key]
        else:
            assert seen.get(key) is old
            seen[key] = new

    async def churn(worker: int) -> None:
        alive: dict[str, str] = {}
        for step in range(60):
            name = f"p{worker}-{step % 12}"
            path = resources.PODS.path(namespace, name)
            if name not in alive:
                made = await client.create(
                    resources.PODS.path(namespace), builders.a_pod(name, NODE), type=objects.Metadata
                )
                alive[name] = made.metadata.uid
            elif dice.random() < 0.5:
                await client.delete(path, uid=alive.pop(name), grace_s=0)
            else:
                await client.patch(f"{path}/status", patches.status(alive[name], {"message": str(dice.random())}))

    async def trouble(wire: builders.Wire) -> None:
        for _ in range(6):
            await asyncio.sleep(dice.uniform(0.1, 0.4))
            wire.blocked = dice.random() < 0.5
            wire.cut()
            await asyncio.sleep(0.2)
            wire.blocked = False

    with capture_logs():
        async with builders.wired(url.hostname or "", url.port or 0) as wire:
            config.server = f"https://127.0.0.1:{wire.port}"
            async with clients.Client(config) as shaky, asyncio.TaskGroup() as group:
                informer = informers.Informer(
                    shaky, resources.PODS, Pod, namespace=namespace, field_selector=f"spec.nodeName={NODE}"
                )
                informer.add_handler(handle)
                task = group.create_task(informer.run(), name="informer")
                await informer.wait_synced(10)
                await asyncio.gather(trouble(wire), *(churn(worker) for worker in range(6)))
                await converged(informer, client, namespace)
                assert {key: pod.metadata.resource_version for key, pod in seen.items()} == versions(informer)
                assert informer.reconnects >= 3 and wire.cuts >= 6
                task.cancel()


async def test_a_place_that_the_server_has_forgotten_leads_to_a_new_list(
    client: clients.Client, namespace: str
) -> None:
    things = resources.Resource("test.example.com/v1", "Thing", "things")
    schema = {"openAPIV3Schema": {"type": "object"}}
    kind = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.test.example.com"},
        "spec": {
            "group": "test.example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    await client.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", kind)
    body = {"apiVersion": "test.example.com/v1", "kind": "Thing", "metadata": {"name": "a"}}
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(errors.NotFound):
                await client.create(things.path(namespace), body)
                break
            await asyncio.sleep(0.1)
    informer = informers.Informer(client, things, Pod, namespace=namespace)
    # The server's memory of a kind begins when the kind is made, long after version 1.
    informer._resource_version = "1"
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(informer.run(), name="informer")
            await informer.wait_synced(20)
            assert versions(informer).keys() == {(namespace, "a")}
            task.cancel()
    assert any("410 Expired" in line["error"] for line in logs)


async def test_an_object_that_no_longer_matches_the_selector_is_a_deletion(
    client: clients.Client, namespace: str
) -> None:
    body = builders.a_pod("a", NODE)
    body["metadata"]["labels"] = {"watched": "yes"}
    made = await client.create(resources.PODS.path(namespace), body, type=objects.Metadata)
    informer = informers.Informer(client, resources.PODS, Pod, namespace=namespace, label_selector="watched=yes")
    gone = asyncio.Event()
    informer.add_handler(lambda _key, _old, new: gone.set() if new is None else None)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(informer.run(), name="informer")
        await informer.wait_synced(10)
        assert len(informer) == 1
        await client.patch(
            resources.PODS.path(namespace, "a"), patches.metadata(made.metadata.uid, labels={"watched": None})
        )
        async with asyncio.timeout(10):
            await gone.wait()
        assert len(informer) == 0
        task.cancel()
