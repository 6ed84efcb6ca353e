"""The heartbeat goes on, whatever happens to the lease."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.unit.kube import fakeapi
from tests.unit.kube.leasing import leasestore

from bareboat.kube import client as clients
from bareboat.kube import leases
from bareboat.plumbing import clock as clocks


@asynccontextmanager
async def beating(
    client: clients.Client, uid: str | None = "uid-1"
) -> AsyncIterator[tuple[leases.NodeLease, clocks.ManualClock]]:
    clock = clocks.ManualClock(start_s=1_800_000_000.25)
    lease = leases.NodeLease(client, "node-1", clock=clock)
    if uid is not None:
        lease.own(uid)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(lease.run(), name="lease")
        yield lease, clock
        task.cancel()


async def beats(api: leasestore.LeaseApi, clock: clocks.ManualClock, count: int) -> None:
    await fakeapi.until(lambda: len(api.writes) == count and clock.sleeping == 1, f"{count} renewals")


def owners(lease: dict[str, Any]) -> list[str]:
    return [owner["uid"] for owner in lease["metadata"]["ownerReferences"]]


async def test_the_first_beat_creates_the_lease(api: leasestore.LeaseApi, client: clients.Client) -> None:
    async with beating(client) as (_, clock):
        await beats(api, clock, 1)
    assert [verb for verb, _ in api.requests] == ["GET", "POST"]
    assert api.requests[1][1] == "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    lease = api.leases["node-1"]
    assert lease["spec"] == {
        "holderIdentity": "node-1",
        "leaseDurationSeconds": 40,
        "renewTime": "2027-01-15T08:00:00.250000Z",
    }
    assert lease["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "uid-1"}
    ]


async def test_it_is_renewed_every_ten_seconds_with_one_write_and_no_read(
    api: leasestore.LeaseApi, client: clients.Client
) -> None:
    async with beating(client) as (lease, clock):
        await beats(api, clock, 1)
        for count in (2, 3, 4):
            await clock.advance(9.5)
            assert len(api.writes) == count - 1
            await clock.advance(0.6)
            await beats(api, clock, count)
        assert lease.renewed_at_s == pytest.approx(30, abs=1)
    assert [verb for verb, _ in api.requests] == ["GET", "POST", "PUT", "PUT", "PUT"]


async def test_nothing_is_written_before_the_node_is_known(api: leasestore.LeaseApi, client: clients.Client) -> None:
    async with beating(client, uid=None) as (lease, clock):
        await clock.advance(60)
        assert api.requests == []
        lease.own("uid-1")
        await beats(api, clock, 1)


async def test_a_node_that_was_made_anew_becomes_the_owner(api: leasestore.LeaseApi, client: clients.Client) -> None:
    async with beating(client) as (lease, clock):
        await beats(api, clock, 1)
        lease.own("uid-2")
        await clock.advance(10.1)
        await beats(api, clock, 2)
    assert owners(api.leases["node-1"]) == ["uid-2"]


async def test_a_lease_from_before_a_restart_is_taken_over(api: leasestore.LeaseApi, client: clients.Client) -> None:
    api.leases["node-1"] = {
        "metadata": {"name": "node-1", "resourceVersion": "7", "labels": {"kept": "yes"}},
        "spec": {"holderIdentity": "node-1", "strategy": "of a newer version"},
    }
    async with beating(client) as (_, clock):
        await beats(api, clock, 1)
    lease = api.leases["node-1"]
    assert lease["spec"]["strategy"] == "of a newer version" and lease["metadata"]["labels"] == {"kept": "yes"}
    assert owners(lease) == ["uid-1"]


async def test_a_change_by_others_is_read_and_written_over_at_once(
    api: leasestore.LeaseApi, client: clients.Client
) -> None:
    async with beating(client) as (_, clock):
        await beats(api, clock, 1)
        api.leases["node-1"]["metadata"]["resourceVersion"] = "999"
        await clock.advance(10.1)
        await beats(api, clock, 2)
    assert [verb for verb, _ in api.requests] == ["GET", "POST", "PUT", "GET", "PUT"]


async def test_a_deleted_lease_is_made_again_at_once(api: leasestore.LeaseApi, client: clients.Client) -> None:
    async with beating(client) as (_, clock):
        await beats(api, clock, 1)
        api.leases.clear()
        await clock.advance(10.1)
        await beats(api, clock, 2)
    assert [verb for verb, _ in api.requests] == ["GET", "POST", "PUT", "GET", "POST"]


async def test_failures_are_tried_again_soon_and_the_pace_comes_back(
    api: leasestore.LeaseApi, client: clients.Client
) -> None:
    with capture_logs() as logs:
        async with beating(client) as (_, clock):
            await beats(api, clock, 1)
            api.down = True
            await clock.advance(10.1)
            await fakeapi.until(lambda: len(api.requests) >= 3 and clock.sleeping == 1, "a failure")
            for _ in range(4):
                await clock.advance(2.0)
                await fakeapi.until(lambda: clock.sleeping == 1, "a pause")
            failures = len([line for line in logs if line["event"] == "lease.not_renewed"])
            assert failures >= 3, "it did not wait ten seconds"
            api.down = False
            await clock.advance(7.8)
            await beats(api, clock, 2)
            await clock.advance(10.1)
            await beats(api, clock, 3)
            before = len(logs)
            api.down = True
            await clock.advance(10.1)
            await fakeapi.until(lambda: len(logs) > before, "a new failure")
    assert {line["event"] for line in logs} == {"lease.not_renewed"}
    assert logs[before]["again_in_s"] < 0.3, "the pauses begin small again"


async def test_a_missing_lease_is_deleted_already(api: leasestore.LeaseApi, client: clients.Client) -> None:
    lease = leases.NodeLease(client, "node-1")
    api.leases["node-1"] = {"metadata": {"name": "node-1"}}
    await lease.delete()
    await lease.delete()
    assert api.leases == {}
