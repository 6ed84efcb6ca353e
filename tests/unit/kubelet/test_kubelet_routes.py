"""Each route of the kubelet API answers as a kubelet without that power would."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec
import prometheus_client
import pytest
from tests.unit.kubelet import serving

from bareboat.kubelet import authn, authz, containers, logs, routes, server, stats


@pytest.mark.parametrize("path", ["/healthz", "/healthz/ping", "/healthz/log", "/healthz/syncloop"])
async def test_health_is_ok(path: str) -> None:
    async with serving.served() as api:
        assert await api.get(path) == (200, "ok")


async def test_a_stuck_pod_loop_is_not_healthy() -> None:
    async with serving.served(serving.handlers(trouble=lambda: "no pod was looked at for 5 minutes")) as api:
        assert await api.get("/healthz/syncloop") == (500, "no pod was looked at for 5 minutes")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path, power",
    [
        ("/exec/default/p/c?command=ls&output=1", "exec"),
        ("/exec/default/p/uid-1/c?command=ls&output=1", "exec"),
        ("/attach/default/p/c?output=1", "attach"),
        ("/attach/default/p/uid-1/c", "attach"),
        ("/portForward/default/p", "port-forward"),
        ("/portForward/default/p/uid-1", "port-forward"),
    ],
)
async def test_what_plain_access_can_not_do_is_said_in_one_line(method: str, path: str, power: str) -> None:
    async with serving.served() as api:
        status, body = await api.send(method, path)
        assert status == 501
        assert body.startswith(f"plain access has no {power}: ")
        assert "\n" not in body


async def test_run_is_refused_like_exec() -> None:
    async with serving.served() as api:
        assert (await api.send("POST", "/run/default/p/c?cmd=ls"))[0] == 501
        assert (await api.send("GET", "/run/default/p/c?cmd=ls"))[0] == 404


@pytest.mark.parametrize(
    "path", ["/exec/default/other/c", "/attach/other/p/c", "/portForward/default/p/uid-2", "/exec/default/p/uid-2/c"]
)
async def test_an_unknown_pod_does_not_exist(path: str) -> None:
    async with serving.served() as api:
        assert await api.send("POST", path) == (404, "pod does not exist")


@pytest.mark.parametrize("path", ["/logs", "/logs/", "/logs/syslog", "/debug/pprof", "/debug/pprof/heap"])
async def test_what_is_switched_off_is_405_with_a_sentence(path: str) -> None:
    async with serving.served() as api:
        status, body = await api.get(path)
        assert status == 405
        assert "disabled" in body


@pytest.mark.parametrize(
    "path", ["/containerLogs/default/p/c", "/exec/default/p/c", "/portForward/default/p", "/runningpods/"]
)
async def test_debugging_handlers_can_be_switched_off(path: str) -> None:
    async with serving.served(endpoints=routes.Settings(enable_debugging_handlers=False)) as api:
        assert await api.get(path) == (405, "Debug endpoints are disabled.")
        assert (await api.get("/healthz"))[0] == 200


@pytest.mark.parametrize("path", ["/", "/nowhere", "/containerLogs/default/p", "/statusz", "/flagz"])
async def test_an_unknown_path_is_404(path: str) -> None:
    async with serving.served() as api:
        assert await api.get(path) == (404, "404 page not found")


async def test_pods_are_a_pod_list_of_whatever_encodes_to_json() -> None:
    class Pod(msgspec.Struct):
        metadata: dict[str, str]

    async def pods() -> Sequence[Any]:
        return [Pod({"name": "a"}), {"metadata": {"name": "b"}}, msgspec.Raw(b'{"metadata": {"name": "c"}}')]

    async with serving.served(serving.handlers(pods=pods)) as api:
        status, body = await api.get("/pods")
        answer = json.loads(body)
        assert (status, answer["kind"], answer["apiVersion"]) == (200, "PodList", "v1")
        assert [pod["metadata"]["name"] for pod in answer["items"]] == ["a", "b", "c"]
        assert json.loads((await api.get("/runningpods/"))[1])["items"] == []


async def test_configz_shows_the_configuration() -> None:
    async with serving.served(serving.handlers(configuration={"port": 10250})) as api:
        assert json.loads((await api.get("/configz"))[1]) == {"kubeletconfig": {"port": 10250}}


async def test_metrics_come_from_the_registry() -> None:
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.Counter("bareboat_rented", "Rented.", registry=registry).inc()
    async with (
        serving.served(serving.handlers(metrics=lambda: stats.registry_text(registry))) as api,
        api.client() as session,
        session.get(api.url("/metrics")) as answer,
    ):
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "bareboat_rented_total 1.0" in await answer.text()


async def test_without_figures_the_metrics_are_empty_but_valid() -> None:
    async with serving.served() as api:
        assert await api.get("/metrics/cadvisor") == (200, "")
        assert await api.get("/metrics/probes") == (200, "")
        status, body = await api.get("/metrics/resource")
        assert status == 200
        assert [line for line in body.splitlines() if not line.startswith("#")] == [
            "resource_scrape_error 0",
            "scrape_error 0",
        ]


async def test_figures_that_can_not_be_had_are_an_error_and_not_zero() -> None:
    async def nothing() -> None:
        return None

    async with serving.served(serving.handlers(stats_summary=nothing)) as api:
        assert (await api.get("/stats/summary"))[0] == 500
        assert "resource_scrape_error 1\n" in (await api.get("/metrics/resource"))[1]


async def test_figures_come_from_the_machines_of_the_running_pods() -> None:
    class Measured(containers.Plain):
        def usage(self, pod: containers.PodRef) -> list[containers.Usage]:
            return [containers.Usage("main", 1_790_000_000.5, 2_000_000_000, 8192, 4096)] if pod.name == "p" else []

    async def running() -> list[dict[str, Any]]:
        status = {"containerStatuses": [{"name": "main", "state": {"running": {"startedAt": "2026-09-21T14:13:20Z"}}}]}
        return [{"metadata": {"name": "p", "namespace": "default", "uid": "u"}, "status": status}]

    async with serving.served(serving.handlers(containers=Measured(), running_pods=running)) as api:
        _status, metrics = await api.get("/metrics/resource")
        labels = 'container="main",namespace="default",pod="p"'
        assert f"container_cpu_usage_seconds_total{{{labels}}} 2.000000000 1790000000500" in metrics
        assert "node_memory_working_set_bytes 4096 1790000000500" in metrics
        _status, summary = await api.get("/stats/summary?only_cpu_and_memory=true")
        (pod,) = json.loads(summary)["pods"]
        assert pod["containers"][0]["memory"]["workingSetBytes"] == 4096
        assert pod["cpu"]["usageCoreNanoSeconds"] == 2_000_000_000


async def test_a_client_that_leaves_closes_the_source() -> None:
    closed = asyncio.Event()

    async def silent() -> logs.Lines:
        try:
            yield logs.LogLine(0, b"first")
            await asyncio.sleep(3600)
        finally:
            closed.set()

    async with serving.served(serving.handlers(container_logs=_source(silent))) as api, api.client() as session:
        answer = await session.get(api.url("/containerLogs/default/p/c?follow=1"))
        assert await answer.content.readline() == b"first\n"
        answer.close()
        await asyncio.wait_for(closed.wait(), 5)


async def test_headers_come_before_the_first_line() -> None:
    go_on = asyncio.Event()

    async def slow() -> logs.Lines:
        await go_on.wait()
        yield logs.LogLine(0, b"late")

    async with (
        serving.served(serving.handlers(container_logs=_source(slow))) as api,
        api.client() as session,
        session.get(api.url("/containerLogs/default/p/c")) as answer,
    ):
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        go_on.set()
        assert await answer.text() == "late\n"


async def test_a_source_that_fails_half_way_is_told_and_cuts_the_connection() -> None:
    async def failing() -> logs.Lines:
        yield logs.LogLine(0, b"first")
        raise logs.Unavailable("the cloud is down")

    async with (
        serving.served(serving.handlers(container_logs=_source(failing))) as api,
        api.client() as session,
        session.get(api.url("/containerLogs/default/p/c")) as answer,
    ):
        assert await answer.content.readline() == b"first\n"
        assert await answer.content.readline() == b"[bareboat: the log breaks off here: the cloud is down]\n"
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()


async def test_stopping_the_server_ends_followers_cleanly() -> None:
    closed = asyncio.Event()

    async def busy() -> logs.Lines:
        try:
            yield logs.LogLine(0, b"first")
            while True:
                await asyncio.sleep(0.001)
                yield logs.LogLine(0, b"more")
        finally:
            closed.set()

    async with serving.served(serving.handlers(container_logs=_source(busy))) as api:
        client = api.client()
        session = await client.__aenter__()
        answer = await session.get(api.url("/containerLogs/default/p/c?follow=1"))
        assert await answer.content.readline() == b"first\n"
        assert await answer.content.readline() == b"more\n"
        reading = asyncio.create_task(answer.read(), name="test.reader")
    assert set((await asyncio.wait_for(reading, 5)).splitlines()) <= {b"more"}
    assert closed.is_set()
    await client.__aexit__(None, None, None)


async def test_a_log_opened_while_the_server_stops_ends_at_once() -> None:
    opening, go_on, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def container_logs(_namespace: str, _pod: str, _container: str, _options: logs.LogOptions) -> logs.Lines:
        opening.set()
        await go_on.wait()
        return endless()

    async def endless() -> logs.Lines:
        await asyncio.sleep(3600)
        yield logs.LogLine(0, b"never")

    async def stop() -> None:
        await served.__aexit__(None, None, None)
        closed.set()

    served = serving.served(serving.handlers(container_logs=container_logs))
    api = await served.__aenter__()
    async with api.client() as session:
        asking = asyncio.create_task(session.get(api.url("/containerLogs/default/p/c?follow=1")), name="test.client")
        await asyncio.wait_for(opening.wait(), 5)
        stopping = asyncio.create_task(stop(), name="test.stop")
        await asyncio.sleep(0)
        go_on.set()
        assert await (await asyncio.wait_for(asking, 5)).read() == b""
        await asyncio.wait_for(closed.wait(), 0.9)
        await stopping


async def test_a_client_that_does_not_read_holds_back_the_source() -> None:
    produced = 0

    async def endless() -> logs.Lines:
        nonlocal produced
        while True:
            produced += 1
            yield logs.LogLine(0, b"x" * 1000)

    async with (
        serving.served(serving.handlers(container_logs=_source(endless))) as api,
        api.client() as session,
        session.get(api.url("/containerLogs/default/p/c")) as answer,
    ):
        before = -1
        while produced != before:
            before = produced
            await asyncio.sleep(0.2)
        assert produced < 20_000
        answer.close()


async def test_the_byte_limit_ends_a_follower() -> None:
    async def lines() -> logs.Lines:
        yield logs.LogLine(0, b"0123456789")
        await asyncio.sleep(3600)

    async with serving.served(serving.handlers(container_logs=_source(lines))) as api:
        status, body = await api.get("/containerLogs/default/p/c?follow=true&limitBytes=5")
        assert (status, body) == (200, "01234")


@pytest.mark.parametrize(
    "query, status, body",
    [
        ("tailLines=x", 400, '{"message": "Unable to decode query."}'),
        ("tailLines=-1", 422, '{"message": "Invalid request."}'),
        ("", 404, 'pod "p" not found'),
    ],
)
async def test_log_requests_are_refused_with_the_kubelets_words(query: str, status: int, body: str) -> None:
    async with serving.served() as api:
        assert await api.get(f"/containerLogs/default/p/c?{query}") == (status, body)


def _source(lines: Any) -> logs.ContainerLogs:
    async def container_logs(_namespace: str, _pod: str, _container: str, _options: logs.LogOptions) -> logs.Lines:
        opened: logs.Lines = lines()
        return opened

    return container_logs


async def test_a_port_that_is_taken_is_said_in_words() -> None:
    async with serving.served() as api:
        taken = server.Settings(host="127.0.0.1", port=api.server.port)
        second = server.Server(
            serving.handlers(),
            tls=api.tls,
            authenticator=authn.Authenticator(api.reviewer, authn.Settings(), api.clock),
            authorizer=authz.Authorizer(api.reviewer, "n", authz.Settings(), api.clock),
            settings=taken,
        )
        with pytest.raises(server.CannotListen, match=f"127.0.0.1 port {api.server.port}: .*choose another port"):
            await second.__aenter__()
