"""Node lease, election and events as the control plane and kubectl see them."""

import asyncio
import json

from tests.integration import conftest
from tests.integration.kube import builders

from bareboat.kube import client as clients
from bareboat.kube import election, events, leases, objects, resources


async def test_the_nodes_lease_is_owned_by_the_node_and_renewed(client: clients.Client) -> None:
    name = "lease-test"
    node = await client.create(resources.NODES.path(), {"metadata": {"name": name}}, type=objects.Metadata)
    lease = leases.NodeLease(client, name, every_s=0.3)
    lease.own(node.metadata.uid)
    path = resources.LEASES.path(leases.NAMESPACE, name)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(lease.run(), name="lease")
        seen: set[str] = set()
        async with asyncio.timeout(15):
            while len(seen) < 3:
                if lease.renewed_at_s is not None:
                    current = await client.get(path, type=leases.Lease)
                    seen.add(current.spec["renewTime"])
                await asyncio.sleep(0.1)
        task.cancel()
    owners = current.metadata.owner_references or []
    assert [(owner.kind, owner.name, owner.uid) for owner in owners] == [("Node", name, node.metadata.uid)]
    await lease.delete()
    await client.delete(resources.NODES.path(name=name))


async def test_of_two_candidates_the_second_leads_after_the_first(client: clients.Client, namespace: str) -> None:
    led: list[str] = []

    def candidate(name: str) -> tuple[election.Election, asyncio.Event]:
        done = asyncio.Event()
        return election.Election(client, namespace, "lead", name, every_s=0.2, deadline_s=1.0, lease_s=2), done

    async def lead(name: str, done: asyncio.Event) -> None:
        led.append(name)
        await done.wait()

    first, first_done = candidate("first")
    second, second_done = candidate("second")
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(first.run(lambda: lead("first", first_done)))
        while led != ["first"]:  # noqa: ASYNC110 - plain state, read from outside
            await asyncio.sleep(0.02)
        group.create_task(second.run(lambda: lead("second", second_done)))
        await asyncio.sleep(2.5)  # longer than a lease: nothing is to happen, and only time can show that
        assert led == ["first"] and first.leads
        first_done.set()
        while led != ["first", "second"]:  # noqa: ASYNC110 - plain state, read from outside
            await asyncio.sleep(0.02)
        second_done.set()
    lease = await client.get(resources.LEASES.path(namespace, "lead"), type=leases.Lease)
    assert lease.spec["leaseTransitions"] == 1 and not lease.spec.get("holderIdentity")


async def test_kubectl_describe_shows_events_with_counts(
    client: clients.Client, namespace: str, kubectl: conftest.Kubectl
) -> None:
    made = await client.create(resources.PODS.path(namespace), builders.a_pod("a"), type=objects.Metadata)
    pod = events.Reference("v1", "Pod", "a", namespace, made.metadata.uid, field_path="spec.containers{main}")
    recorder = events.Recorder(client, host="virtual-1")
    recorder.normal(pod, "Pulling", "Pulling image busybox")
    assert await recorder.flush() == 0
    for _ in range(2):
        recorder.normal(pod, "Pulling", "Pulling image busybox")
    recorder.warning(pod, "Failed", "no offer below 0.30")
    assert await recorder.flush() == 0
    assert recorder.written == 3 and not any(recorder.dropped.values())
    shown = await asyncio.to_thread(kubectl, "describe", "pod", "a", "-n", namespace)
    assert "Pulling" in shown and "(x3 over" in shown and "no offer below 0.30" in shown
    listed = json.loads(await asyncio.to_thread(kubectl, "get", "events", "-n", namespace, "-o", "json"))["items"]
    pulling = next(event for event in listed if event["reason"] == "Pulling")
    assert pulling["count"] == 3 and pulling["source"] == {"component": "bareboat", "host": "virtual-1"}
    assert pulling["involvedObject"]["fieldPath"] == "spec.containers{main}"


async def test_an_event_of_a_node_is_shown_by_kubectl(client: clients.Client, kubectl: conftest.Kubectl) -> None:
    name = "event-test"
    await client.create(resources.NODES.path(), {"metadata": {"name": name}})
    recorder = events.Recorder(client)
    recorder.normal(events.Reference("v1", "Node", name, uid=name), "Starting", "starting bareboat")
    assert await recorder.flush() == 0
    assert "starting bareboat" in await asyncio.to_thread(kubectl, "describe", "node", name)
    await client.delete(resources.NODES.path(name=name))
