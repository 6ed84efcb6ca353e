"""Events cost the caller nothing, repeats become counts, floods are cut, and what is dropped is counted."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from tests.unit.kube import fakeapi

from bareboat.kube import client as clients
from bareboat.kube import events
from bareboat.plumbing import clock as clocks

POD = events.Reference(
    api_version="v1", kind="Pod", name="a", namespace="t", uid="u", field_path="spec.containers{main}"
)
PATH = "/api/v1/namespaces/t/events"


@asynccontextmanager
async def recording(
    client: clients.Client, **options: Any
) -> AsyncIterator[tuple[events.Recorder, clocks.ManualClock]]:
    clock = clocks.ManualClock(start_s=1_800_000_000.0)
    recorder = events.Recorder(client, host="node-1", clock=clock, **options)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(recorder.run(), name="events")
        yield recorder, clock
        task.cancel()


async def test_an_event_says_who_what_where_and_when(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async with recording(client) as (recorder, _):
        recorder.warning(POD, "Failed", "no offer below 0.30")
        await fakeapi.until(lambda: recorder.written == 1, "the write")
    assert api.requests == [("POST", PATH)]
    body = json.loads(api.bodies[0])
    assert body["metadata"]["name"].startswith("a.") and body["metadata"]["namespace"] == "t"
    del body["metadata"]
    assert body == {
        "apiVersion": "v1",
        "kind": "Event",
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": "a",
            "namespace": "t",
            "uid": "u",
            "fieldPath": "spec.containers{main}",
        },
        "type": "Warning",
        "reason": "Failed",
        "message": "no offer below 0.30",
        "count": 1,
        "firstTimestamp": "2027-01-15T08:00:00Z",
        "lastTimestamp": "2027-01-15T08:00:00Z",
        "source": {"component": "bareboat", "host": "node-1"},
        "reportingComponent": "bareboat",
        "reportingInstance": "node-1",
    }


async def test_a_repeat_changes_the_count_of_the_event_that_is_there(
    api: fakeapi.FakeApi, client: clients.Client
) -> None:
    async with recording(client) as (recorder, clock):
        recorder.normal(POD, "Pulling", "pulling")
        await fakeapi.until(lambda: recorder.written == 1, "the first write")
        name = json.loads(api.bodies[0])["metadata"]["name"]
        await clock.advance(60)
        recorder.normal(POD, "Pulling", "pulling")
        await fakeapi.until(lambda: recorder.written == 2, "the second write")
    assert api.requests[1] == ("PATCH", f"{PATH}/{name}")
    assert json.loads(api.bodies[1]) == {"count": 2, "lastTimestamp": "2027-01-15T08:01:00Z"}


async def test_repeats_that_wait_are_written_once(api: fakeapi.FakeApi, client: clients.Client) -> None:
    recorder = events.Recorder(client)
    for _ in range(100):
        recorder.normal(POD, "Pulling", "pulling")
    assert await recorder.flush() == 0
    assert len(api.requests) == 1 and json.loads(api.bodies[0])["count"] == 100
    assert recorder.dropped == {"queue": 0, "object": 0, "refused": 0}


async def test_an_event_that_expired_on_the_server_is_made_anew(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async def gone(_request: web.Request) -> web.StreamResponse:
        return fakeapi.refusal(404, "NotFound", "not found")

    recorder = events.Recorder(client)
    recorder.normal(POD, "Pulling", "pulling")
    await recorder.flush()
    recorder.normal(POD, "Pulling", "pulling")
    api.script.append(gone)
    await recorder.flush()
    assert [verb for verb, _ in api.requests] == ["POST", "PATCH", "POST"]
    again = json.loads(api.bodies[2])
    assert again["count"] == 2 and again["metadata"]["name"] != json.loads(api.bodies[0])["metadata"]["name"]


async def test_events_of_cluster_wide_objects_live_in_default(api: fakeapi.FakeApi, client: clients.Client) -> None:
    recorder = events.Recorder(client)
    recorder.normal(events.Reference("v1", "Node", "n", uid="n"), "Starting", "starting")
    await recorder.flush()
    assert api.requests == [("POST", "/api/v1/namespaces/default/events")]


async def test_one_object_cannot_flood(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async with recording(client, object_burst=3, object_every_s=100) as (recorder, clock):
        for number in range(10):
            recorder.normal(POD, "Price", f"price {number}")
        other = events.Reference("v1", "Pod", "b", "t")
        recorder.normal(other, "Price", "price")
        await fakeapi.until(lambda: recorder.written == 4, "three and one")
        assert recorder.dropped["object"] == 7
        await clock.advance(101)
        recorder.normal(POD, "Price", "price 99")
        await fakeapi.until(lambda: recorder.written == 5, "one more after a while")


async def test_a_full_queue_drops_the_oldest_normal_event_and_keeps_warnings(
    api: fakeapi.FakeApi, client: clients.Client
) -> None:
    recorder = events.Recorder(client, longest_queue=3)
    recorder.warning(POD, "W", "old warning")
    for number in range(4):
        recorder.normal(POD, "N", f"normal {number}")
    recorder.warning(POD, "W", "new warning")
    assert recorder.depth == 3 and recorder.dropped["queue"] == 3
    await recorder.flush()
    assert [json.loads(body)["message"] for body in api.bodies] == ["old warning", "normal 3", "new warning"]


async def test_a_queue_of_warnings_alone_drops_the_oldest(api: fakeapi.FakeApi, client: clients.Client) -> None:
    recorder = events.Recorder(client, longest_queue=1)
    recorder.warning(POD, "W", "old")
    recorder.warning(POD, "W", "new")
    await recorder.flush()
    assert [json.loads(body)["message"] for body in api.bodies] == ["new"]


async def test_the_rate_of_all_writes_is_bounded(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async with recording(client, per_s=10.0, burst=5) as (recorder, clock):
        for number in range(20):
            recorder.normal(events.Reference("v1", "Pod", f"p{number}", "t"), "R", "m")
        await fakeapi.until(lambda: recorder.written == 5 and clock.sleeping == 1, "the burst")
        for expected in range(6, 10):
            await clock.advance(0.105)
            await fakeapi.until(lambda wanted=expected: recorder.written == wanted, "one every 0.1 s")  # type: ignore[misc]
            await fakeapi.until(lambda: clock.sleeping == 1, "the pause")


async def test_trouble_is_waited_out_and_refusals_are_dropped(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async def busy(_request: web.Request) -> web.StreamResponse:
        return fakeapi.refusal(429, "TooManyRequests", "later", Retry_After="5")

    async def forbidden(_request: web.Request) -> web.StreamResponse:
        return fakeapi.refusal(403, "Forbidden", "the namespace is being terminated")

    api.script += [busy, forbidden]
    async with recording(client) as (recorder, clock):
        recorder.normal(POD, "R", "m")
        recorder.normal(POD, "R", "n")
        await fakeapi.until(lambda: clock.sleeping == 1, "the pause")
        await clock.advance(5.1)
        await fakeapi.until(lambda: recorder.written == 1, "the second event")
        assert recorder.dropped["refused"] == 1
        assert [json.loads(body)["message"] for body in api.bodies] == ["m", "m", "n"]


async def test_a_try_that_had_arrived_after_all_is_no_second_event(
    api: fakeapi.FakeApi, client: clients.Client
) -> None:
    async def exists(_request: web.Request) -> web.StreamResponse:
        return fakeapi.refusal(409, "AlreadyExists", "already exists")

    api.script.append(exists)
    recorder = events.Recorder(client)
    recorder.normal(POD, "R", "m")
    await recorder.flush()
    recorder.normal(POD, "R", "m")
    await recorder.flush()
    assert [verb for verb, _ in api.requests] == ["POST", "PATCH"]


@pytest.mark.parametrize("timeout_s", [0.1])
async def test_flush_gives_up_in_time_and_says_what_is_left(
    api: fakeapi.FakeApi, client: clients.Client, timeout_s: float
) -> None:
    async def hang(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    api.script.append(hang)
    recorder = events.Recorder(client)
    recorder.normal(POD, "R", "m")
    recorder.normal(POD, "R", "n")
    assert await recorder.flush(timeout_s) == 2
    assert await recorder.flush() == 0, "what was interrupted is not lost"


async def test_long_messages_are_clipped_and_long_names_fit(api: fakeapi.FakeApi, client: clients.Client) -> None:
    recorder = events.Recorder(client)
    recorder.normal(events.Reference("v1", "Pod", "p" * 253, "t"), "R", "x" * 5000)
    await recorder.flush()
    body = json.loads(api.bodies[0])
    assert len(body["message"]) <= 1024 and len(body["metadata"]["name"]) <= 253
