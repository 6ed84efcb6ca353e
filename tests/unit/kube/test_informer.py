"""The cache stays true whatever the API server and the network do to its watch."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web
from structlog.testing import capture_logs
from tests.unit.kube import fakeapi

from bareboat.kube import client as clients
from bareboat.kube import errors, objects, resources
from bareboat.kube import informer as informers


class Thing(msgspec.Struct, frozen=True, gc=False):
    metadata: objects.ObjectMeta


class Watcher:
    """An informer under test and the model that its handler calls add up to."""

    def __init__(self, client: clients.Client, **options: Any) -> None:
        self.informer = informers.Informer(client, resources.PODS, Thing, **{"longest_pause_s": 0.5, **options})
        self.model: dict[informers.Key, Thing] = {}
        self.calls: list[tuple[str, str]] = []
        self.informer.add_handler(self.handle)

    def handle(self, key: informers.Key, old: Thing | None, new: Thing | None) -> None:
        known = self.model.get(key)
        if new is None:
            assert old is not None and known is not None and known.metadata.uid == old.metadata.uid
            del self.model[key]
            self.calls.append(("deleted", key[1]))
            return
        assert old is known, "what a handler is told as old is what it was told as new before"
        assert known is None or known.metadata.uid == new.metadata.uid
        self.model[key] = new
        self.calls.append(("added" if old is None else "updated", key[1]))

    def agrees_with(self, api: fakeapi.FakeApi) -> bool:
        truth = {key: value["metadata"]["resourceVersion"] for key, value in api.objects.items()}
        cached = {key: value.metadata.resource_version for key, value in self.model.items()}
        return truth == cached == {key: value.metadata.resource_version for key, value in self.informer._cache.items()}


@asynccontextmanager
async def watching(client: clients.Client, **options: Any) -> AsyncIterator[Watcher]:
    watcher = Watcher(client, **options)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watcher.informer.run(), name="informer")
        await watcher.informer.wait_synced(5)
        yield watcher
        task.cancel()


async def test_objects_that_were_there_come_as_additions_before_synced(
    api: fakeapi.FakeApi, client: clients.Client
) -> None:
    await api.put("a")
    await api.put("b")
    async with watching(client) as watcher:
        assert watcher.calls == [("added", "a"), ("added", "b")]
        assert len(watcher.informer) == 2
        found = watcher.informer.get("t", "a")
        assert found is not None and found.metadata.uid == "uid-1"


async def test_an_empty_cluster_is_synced_too(client: clients.Client) -> None:
    async with watching(client) as watcher:
        assert watcher.informer.keys() == []


async def test_a_handler_that_comes_late_is_told_what_is_there(api: fakeapi.FakeApi, client: clients.Client) -> None:
    await api.put("a")
    async with watching(client) as watcher:
        told: list[informers.Key] = []
        watcher.informer.add_handler(lambda key, _old, _new: told.append(key))
        assert told == [("t", "a")]


async def test_changes_come_as_they_happen(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async with watching(client) as watcher:
        await api.put("a")
        await api.put("a", color="red")
        await api.remove("a")
        await fakeapi.until(lambda: len(watcher.calls) == 3, "three changes")
        assert watcher.calls == [("added", "a"), ("updated", "a"), ("deleted", "a")]
        assert len(watcher.informer) == 0


async def test_a_deletion_hands_over_the_last_state(api: fakeapi.FakeApi, client: clients.Client) -> None:
    await api.put("a")
    async with watching(client) as watcher:
        last: list[str] = []
        watcher.informer.add_handler(
            lambda _key, old, new: last.append(old.metadata.resource_version) if old and new is None else None
        )
        await api.remove("a")
        await fakeapi.until(lambda: bool(last), "the deletion")
        assert last == [str(api.version)]


async def test_long_lists_come_in_pages_of_one_state(api: fakeapi.FakeApi, client: clients.Client) -> None:
    for number in range(1201):
        await api.put(f"p{number}")
    async with watching(client) as watcher:
        assert len(watcher.informer) == 1201
        assert api.count("GET", watch=False) == 3
        assert watcher.agrees_with(api)


async def test_selectors_go_along_with_list_and_watch(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async with watching(client, field_selector="spec.nodeName=n 1", label_selector="a in (b,c)"):
        await fakeapi.until(lambda: bool(api.open_watches), "the watch")
    for _, path in api.requests:
        assert "fieldSelector=spec.nodeName%3Dn+1" in path and "labelSelector=a+in+%28b%2Cc%29" in path


async def test_a_cut_connection_goes_on_where_it_was_without_a_new_list(
    api: fakeapi.FakeApi, client: clients.Client
) -> None:
    await api.put("a")
    async with watching(client) as watcher:
        await fakeapi.until(lambda: bool(api.open_watches), "the watch")
        await api.cut_watches()
        await api.put("b")
        await fakeapi.until(lambda: watcher.agrees_with(api), "the change made while it was away")
        assert watcher.informer.relists == 1


async def test_bookmarks_move_the_place_where_it_goes_on(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async with watching(client) as watcher:
        await fakeapi.until(lambda: bool(api.open_watches), "the watch")
        api.version += 50
        await api.bookmark()
        await fakeapi.until(lambda: watcher.informer.bookmarks == 1, "the bookmark")
        await api.cut_watches()
        await fakeapi.until(lambda: api.count("GET", watch=True) == 2, "the second watch")
        assert f"resourceVersion={api.version}" in api.requests[-1][1]
        assert watcher.calls == []


@pytest.mark.parametrize("as_event", [True, False], ids=["as an event", "as an HTTP status"])
async def test_after_410_it_lists_again_and_deletions_in_between_are_delivered(
    api: fakeapi.FakeApi, client: clients.Client, as_event: bool
) -> None:
    await api.put("stays")
    await api.put("goes")

    async def gone_event(request: web.Request) -> web.StreamResponse:
        response = await api.start_watch(request)
        await response.write(
            b'{"type":"ERROR","object":{"kind":"Status","status":"Failure","reason":"Expired","code":410,'
            b'"message":"too old resource version: 1 (2)"}}\n'
        )
        return response

    async with watching(client) as watcher:
        await fakeapi.until(lambda: bool(api.open_watches), "the watch")
        if as_event:
            api.watch_script.append(gone_event)
        await api.cut_watches()
        await api.remove("goes")
        await api.put("comes")
        await api.compact()
        await fakeapi.until(lambda: watcher.agrees_with(api), "the state after the list")
        assert ("deleted", "goes") in watcher.calls
        assert watcher.calls.count(("added", "stays")) == 1
        assert watcher.informer.relists == 2


async def test_a_namesake_with_another_uid_is_a_deletion_and_an_addition(
    api: fakeapi.FakeApi, client: clients.Client
) -> None:
    await api.put("a")
    async with watching(client) as watcher:
        await fakeapi.until(lambda: bool(api.open_watches), "the watch")
        await api.cut_watches()
        await api.put("a", new_uid=True)
        await api.compact()
        await fakeapi.until(lambda: watcher.agrees_with(api), "the new object")
        assert watcher.calls == [("added", "a"), ("deleted", "a"), ("added", "a")]


async def test_an_unchanged_object_in_a_second_list_is_no_change(api: fakeapi.FakeApi, client: clients.Client) -> None:
    await api.put("a")
    async with watching(client) as watcher:
        await fakeapi.until(lambda: bool(api.open_watches), "the watch")
        before = watcher.informer.get("t", "a")
        await api.compact()
        await api.cut_watches()
        await fakeapi.until(lambda: api.count("GET", watch=True) == 3, "the watch after the second list")
        assert watcher.informer.relists == 2
        assert watcher.informer.get("t", "a") is before
        assert watcher.calls == [("added", "a")]


async def test_watches_that_are_closed_at_once_make_it_slow_down(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async def close(request: web.Request) -> web.StreamResponse:
        return await api.start_watch(request)

    api.watch_script += [close] * 1000
    async with watching(client):
        started_s = time.monotonic()
        await fakeapi.until(lambda: api.count("GET", watch=True) >= 4, "four watches")
        assert time.monotonic() - started_s > 0.5, "it came back without a pause"


async def test_events_reset_the_pause_between_watches(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async with watching(client, longest_pause_s=30.0) as watcher:
        for number in range(5):
            await fakeapi.until(lambda wanted=number + 1: api.count("GET", watch=True) == wanted, "the watch")  # type: ignore[misc]
            await api.put(f"p{number}")
            await fakeapi.until(lambda: watcher.agrees_with(api), "the change")
            started_s = time.monotonic()
            await api.cut_watches()
        await fakeapi.until(lambda: api.count("GET", watch=True) == 6, "the last watch")
        assert time.monotonic() - started_s < 0.45, "the fifth pause is no longer than the first"


async def test_a_watch_that_the_server_closes_after_news_is_opened_again_at_once(
    api: fakeapi.FakeApi, client: clients.Client
) -> None:
    async def one_change(request: web.Request) -> web.StreamResponse:
        response = await api.start_watch(request)
        await api.put("a", n=str(api.version))
        await response.write(json.dumps(api.history[-1][1], separators=(",", ":")).encode() + b"\n")
        return response

    api.watch_script += [one_change] * 10
    async with watching(client) as watcher:
        started_s = time.monotonic()
        await fakeapi.until(lambda: api.count("GET", watch=True) == 11, "ten watches and one more")
        assert time.monotonic() - started_s < 1.5
        assert watcher.agrees_with(api)
        assert watcher.informer.relists == 1


async def test_a_silent_connection_is_given_up(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        response = await api.start_watch(request)
        await asyncio.sleep(3600)
        return response

    api.watch_script.append(hang)
    with capture_logs() as logs:
        async with watching(client, silence_s=0.3) as watcher:
            await api.put("a")
            await fakeapi.until(lambda: watcher.agrees_with(api), "the change that the dead connection swallowed")
    assert any("the connection is dead" in line.get("error", "") for line in logs)


async def test_429_is_waited_out_as_long_as_the_server_says(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async def busy(_request: web.Request) -> web.StreamResponse:
        return fakeapi.refusal(429, "TooManyRequests", "later", Retry_After="1")

    api.watch_script.append(busy)
    async with watching(client):
        started_s = time.monotonic()
        await fakeapi.until(lambda: bool(api.open_watches), "the second watch")
        assert time.monotonic() - started_s >= 0.9


async def test_a_list_page_that_expired_starts_the_list_over(api: fakeapi.FakeApi, client: clients.Client) -> None:
    for number in range(600):
        await api.put(f"p{number}")

    async def first(request: web.Request) -> web.StreamResponse:
        return api.list(request)

    async def expired(_request: web.Request) -> web.StreamResponse:
        return fakeapi.refusal(410, "Expired", "the provided continue parameter is too old")

    api.script += [first, expired]
    async with watching(client) as watcher:
        assert watcher.agrees_with(api)
        assert watcher.informer.relists == 2


async def test_one_object_that_cannot_be_read_hides_no_other_and_counts_as_neither_new_nor_deleted(
    api: fakeapi.FakeApi, client: clients.Client
) -> None:
    await api.put("a")
    await api.put("b")
    with capture_logs() as logs:
        async with watching(client) as watcher:
            await fakeapi.until(lambda: bool(api.open_watches), "the watch")
            bad = api.objects.pop(("t", "b"))
            api.broken_pods["b"] = {"metadata": {**bad["metadata"], "resourceVersion": "7"}, "spec": 5}
            kind: Any = msgspec.defstruct("Strict", [("metadata", objects.ObjectMeta), ("spec", dict[str, str], {})])
            watcher.informer._page = msgspec.json.Decoder(objects.Page[kind])
            watcher.informer._object = msgspec.json.Decoder(kind)
            await api.put("c")
            await api.compact()
            await api.cut_watches()
            await fakeapi.until(lambda: watcher.informer.relists == 2, "the second list")
            await fakeapi.until(lambda: ("added", "c") in watcher.calls, "its neighbour")
            assert ("deleted", "b") not in watcher.calls
    assert any(line["event"] == "object.unreadable" and line["key"] == ("t", "b") for line in logs)


async def test_garbage_in_a_watch_leads_to_a_new_list(api: fakeapi.FakeApi, client: clients.Client) -> None:
    async def garbage(request: web.Request) -> web.StreamResponse:
        response = await api.start_watch(request)
        await response.write(b"<html>a proxy's error page</html>\n")
        return response

    api.watch_script.append(garbage)
    async with watching(client) as watcher:
        await fakeapi.until(lambda: watcher.informer.relists == 2, "the second list")


async def test_a_server_that_is_down_at_first_is_waited_for() -> None:
    api = fakeapi.FakeApi()
    async with fakeapi.served(api):
        port = int(api.url.rsplit(":", 1)[1])
    await api.put("a")
    async with clients.Client(api.config(), timeout_s=2) as client:
        watcher = Watcher(client)
        with pytest.raises(errors.Timeout, match="not complete within"):
            await watcher.informer.wait_synced(0.01)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(watcher.informer.run(), name="informer")
            await fakeapi.until(lambda: watcher.informer.reconnects >= 1, "a failed try")
            async with fakeapi.served(api, port):
                await watcher.informer.wait_synced(5)
                assert watcher.agrees_with(api)
                task.cancel()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_cache_equals_truth_after_chaos(api: fakeapi.FakeApi, client: clients.Client, seed: int) -> None:
    dice = random.Random(seed)
    names = [f"p{number}" for number in range(40)]

    async def one_change() -> None:
        name = dice.choice(names)
        if ("t", name) in api.objects and dice.random() < 0.4:
            await api.remove(name)
        else:
            await api.put(name, new_uid=dice.random() < 0.2, n=str(dice.random()))

    async def broken(_request: web.Request) -> web.StreamResponse:
        return fakeapi.refusal(503, "ServiceUnavailable", "chaos")

    async with watching(client, silence_s=0.5) as watcher:
        for _ in range(600):
            await one_change()
            trouble = dice.random()
            if trouble < 0.02:
                await api.cut_watches()
            elif trouble < 0.03:
                await api.compact()
                await api.cut_watches()
            elif trouble < 0.04:
                api.watch_script.append(broken)
            if dice.random() < 0.2:
                await asyncio.sleep(dice.random() * 0.01)
        await fakeapi.until(lambda: watcher.agrees_with(api), "cache == truth", timeout_s=15)
        assert watcher.informer.reconnects > 0
