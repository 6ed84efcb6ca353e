"""Probes are performed through mapped ports, against real servers on loopback."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trustme
from aiohttp import web

from bareboat.node import prober as probers
from bareboat.plumbing import clock as clocks
from bareboat.workload import probing

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
INSIDE = 8080


@dataclass
class Reports:
    """Verdicts as they come, to be awaited."""

    all: list[tuple[str, probing.Verdict]] = field(default_factory=list)
    notices: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    def __call__(self, uid: str, verdict: probing.Verdict) -> None:
        self.all.append((uid, verdict))
        self.notices.put_nowait(None)

    async def until(self, wanted: Callable[[probing.Verdict], bool]) -> probing.Verdict:
        async with asyncio.timeout(5):
            while not self.all or not wanted(self.all[-1][1]):
                await self.notices.get()
        return self.all[-1][1]


@pytest.fixture
def reports() -> Reports:
    return Reports()


@asynccontextmanager
async def running(
    report: probers.Report, clock: clocks.Clock | None = None, **more: Any
) -> AsyncIterator[probers.Prober]:
    async with asyncio.TaskGroup() as tasks:
        prober = probers.Prober(tasks, report, clock=clock or clocks.SystemClock(), **more)
        async with prober:
            yield prober


@asynccontextmanager
async def serving(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def listening(on_connect: Callable[[socket.socket], object]) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    connections: list[socket.socket] = []

    async def accept(listener: socket.socket) -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            connections.append(connection)
            on_connect(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        accepting = asyncio.create_task(accept(listener), name="accept")
        try:
            yield listener.getsockname()[1]
        finally:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
            for connection in connections:
                connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def readiness(http: probing.Http | None = None, **more: Any) -> probing.Plan:
    return probing.Plan(readiness=probing.Check(role=probing.Role.READINESS, port=INSIDE, http=http, **more))


def at(public: int) -> probers.Target:
    return probers.Target("127.0.0.1", {(INSIDE, "TCP"): public})


def answering(status: int, **headers: str) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers)

    return handler


async def verdict_of(plan: probing.Plan, target: probers.Target, reports: Reports) -> probing.Verdict:
    """The first verdict that a probe reports."""
    async with running(reports) as prober:
        assert not prober.watch("u", plan, target, 0.0).ready
        return await reports.until(lambda _: True)


async def test_pod_without_probes_costs_no_task_and_is_ready(reports: Reports) -> None:
    before = len(asyncio.all_tasks())
    async with running(reports) as prober:
        verdicts = [prober.watch(f"u{number}", None, at(1), 0.0) for number in range(1000)]
        assert all(verdict.ready for verdict in verdicts)
        assert len(prober) == 0
        assert len(asyncio.all_tasks()) == before


@pytest.mark.parametrize("status", [200, 204, 304, 399])
async def test_answer_from_200_to_399_is_a_success(reports: Reports, status: int) -> None:
    async with serving(answering(status)) as port:
        assert (await verdict_of(readiness(probing.Http()), at(port), reports)).ready


@pytest.mark.parametrize("status", [400, 404, 503])
async def test_any_other_answer_is_a_failure_that_names_port_and_status(reports: Reports, status: int) -> None:
    async with serving(answering(status)) as port:
        verdict = await verdict_of(readiness(probing.Http()), at(port), reports)
    assert verdict.message == (
        f"Readiness probe: port {INSIDE} (public 127.0.0.1:{port}): HTTP probe failed with statuscode: {status}"
    )


async def test_request_is_the_kubelets(reports: Reports) -> None:
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(body=b"x" * 100_000)

    http = probing.Http("/a b?q=%2F&x=ü", headers=(("Host", "app.example.com"), ("X-A", "1"), ("X-A", "2")))
    async with serving(handler) as port:
        assert (await verdict_of(readiness(http), at(port), reports)).ready
    assert seen[0].method == "GET"
    assert seen[0].raw_path == "/a%20b?q=%2F&x=%C3%BC"
    assert seen[0].headers["User-Agent"] == "kube-probe/1.36"
    assert seen[0].headers["Accept"] == "*/*"
    assert seen[0].headers.getall("Host") == ["app.example.com"]
    assert seen[0].headers.getall("X-A") == ["1", "2"]
    assert "Accept-Encoding" not in seen[0].headers


async def test_headers_of_the_pod_replace_ours(reports: Reports) -> None:
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response()

    http = probing.Http(headers=(("user-agent", "mine"), ("accept", "")))
    async with serving(handler) as port:
        await verdict_of(readiness(http), at(port), reports)
    assert seen[0].headers.getall("User-Agent") == ["mine"]
    assert "Accept" not in seen[0].headers


async def test_https_is_not_verified(reports: Reports) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("elsewhere.example.com").configure_cert(context)
    async with serving(answering(200), context) as port:
        assert (await verdict_of(readiness(probing.Http(scheme="https"), timeout_s=5), at(port), reports)).ready


async def test_redirect_on_the_same_host_is_followed(reports: Reports) -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/":
            return web.Response(status=302, headers={"Location": "/broken"})
        return web.Response(status=500)

    async with serving(handler) as port:
        assert "statuscode: 500" in (await verdict_of(readiness(probing.Http()), at(port), reports)).message


async def test_redirect_to_the_port_inside_goes_to_its_public_port(reports: Reports) -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/":
            return web.Response(status=302, headers={"Location": f"http://127.0.0.1:{INSIDE}/broken"})
        return web.Response(status=500)

    async with serving(handler) as port:
        assert "statuscode: 500" in (await verdict_of(readiness(probing.Http()), at(port), reports)).message


@pytest.mark.parametrize("elsewhere", ["http://localhost:{port}/", "http://127.0.0.1:{other}/", "ftp://127.0.0.1/"])
async def test_redirect_to_somebody_elses_host_or_port_is_a_success_and_not_followed(
    reports: Reports, elsewhere: str
) -> None:
    asked: list[str] = []

    async def other(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=500)

    async with serving(other) as other_port:
        location = elsewhere.format(port=other_port, other=other_port)
        async with serving(answering(302, Location=location)) as port:
            assert (await verdict_of(readiness(probing.Http()), at(port), reports)).ready
    assert asked == []


async def test_endless_redirects_are_a_failure(reports: Reports) -> None:
    async with serving(answering(302, Location="/")) as port:
        assert "redirects" in (await verdict_of(readiness(probing.Http()), at(port), reports)).message


async def test_open_port_that_stays_open_is_a_success(reports: Reports) -> None:
    async with listening(id) as port:
        assert (await verdict_of(readiness(), at(port), reports)).ready


async def test_port_that_greets_is_a_success(reports: Reports) -> None:
    async with listening(lambda connection: connection.send(b"SSH-2.0-x\r\n")) as port:
        assert (await verdict_of(readiness(), at(port), reports)).ready


@pytest.mark.parametrize("hang_up", [socket.socket.close, reset])
async def test_forwarder_that_accepts_for_nobody_is_a_failure(
    reports: Reports, hang_up: Callable[[socket.socket], None]
) -> None:
    async with listening(hang_up) as port:
        verdict = await verdict_of(readiness(), at(port), reports)
    assert not verdict.ready
    assert f"port {INSIDE}" in verdict.message


@pytest.mark.parametrize("http", [None, probing.Http()])
async def test_closed_port_is_a_failure_in_words(
    reports: Reports, http: probing.Http | None, unused_tcp_port: int
) -> None:
    verdict = await verdict_of(readiness(http), at(unused_tcp_port), reports)
    assert verdict.message.endswith(": connection refused")


async def test_silent_server_is_given_up_after_the_timeout(reports: Reports) -> None:
    async with listening(id) as port:
        verdict = await verdict_of(readiness(probing.Http(), timeout_s=0.05), at(port), reports)
    assert "no answer within 0.05 s" in verdict.message


@pytest.mark.parametrize(
    ("target", "port", "says"),
    [
        (probers.Target("127.0.0.1"), INSIDE, f"port {INSIDE} is not mapped"),
        (probers.Target("127.0.0.1", {(INSIDE, "UDP"): 1}), INSIDE, f"port {INSIDE} is not mapped"),
        (probers.Target(None), INSIDE, "has not given a public address"),
        (probers.Target("127.0.0.1"), None, "port 'web' is not the name"),
        (probers.Target("bad host name\n", {(INSIDE, "TCP"): 1}), INSIDE, f"port {INSIDE}"),
    ],
)
async def test_what_can_not_be_asked_is_not_ready_and_says_why(
    reports: Reports, target: probers.Target, port: int | None, says: str
) -> None:
    check = probing.Check(role=probing.Role.READINESS, port=port, port_name="web", http=probing.Http())
    assert says in (await verdict_of(probing.Plan(readiness=check), target, reports)).message


async def test_container_gets_ready_as_soon_as_its_port_is_mapped(reports: Reports) -> None:
    async with serving(answering(200)) as port, running(reports) as prober:
        plan = readiness(probing.Http(), period_s=3600)
        prober.watch("u", plan, probers.Target("127.0.0.1"), 0.0)
        await reports.until(lambda verdict: "not mapped" in verdict.message)
        prober.watch("u", plan, at(port), 0.0)
        await reports.until(lambda verdict: verdict.ready)


async def test_watching_again_changes_nothing_and_a_new_run_starts_over(reports: Reports) -> None:
    async with serving(answering(200)) as port, running(reports) as prober:
        plan = readiness(probing.Http(), period_s=3600)
        prober.watch("u", plan, at(port), 1.0)
        await reports.until(lambda verdict: verdict.ready)
        assert prober.watch("u", plan, at(port), 1.0).ready
        assert not prober.watch("u", plan, at(port), 2.0).ready
        assert len(prober) == 1


async def test_forgotten_pod_is_not_reported(reports: Reports) -> None:
    asked, forgotten = asyncio.Event(), asyncio.Event()

    async def handler(_request: web.Request) -> web.Response:
        asked.set()
        await forgotten.wait()
        return web.Response()

    async with serving(handler) as port, running(reports) as prober:
        prober.watch("u", readiness(probing.Http(), timeout_s=30), at(port), 0.0)
        await asyncio.wait_for(asked.wait(), 5)
        prober.forget("u")
        assert len(prober) == 0
        forgotten.set()
        prober.watch("later", readiness(probing.Http(), timeout_s=30), at(port), 0.0)
        await reports.until(lambda verdict: verdict.ready)
    assert [uid for uid, _ in reports.all] == ["later"]


async def test_periods_and_delays_follow_the_given_clock(reports: Reports) -> None:
    clock = clocks.ManualClock()
    asked: list[float] = []
    status = 503

    async def handler(_request: web.Request) -> web.Response:
        asked.append(clock.now_s() - started_s)
        return web.Response(status=status)

    started_s = clock.now_s()
    async with serving(handler) as port, running(reports, clock) as prober:
        prober.watch("u", readiness(probing.Http(), initial_delay_s=30, period_s=10), at(port), started_s)
        await clock.advance(29)
        assert asked == []
        await clock.advance(1)
        await reports.until(lambda verdict: "503" in verdict.message)
        status = 200
        await clock.advance(10)
        await reports.until(lambda verdict: verdict.ready)
    assert asked == [30, 40]


async def test_verdict_is_reported_on_change_only(reports: Reports) -> None:
    clock = clocks.ManualClock()
    asked = 0

    async def handler(_request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(status=200)

    async with serving(handler) as port, running(reports, clock) as prober:
        prober.watch("u", readiness(probing.Http()), at(port), clock.now_s())
        await reports.until(lambda verdict: verdict.ready)
        async with asyncio.timeout(5):
            while asked < 4:
                await clock.advance(10)
                await asyncio.sleep(0.005)
    assert len(reports.all) == 1


async def test_no_more_tries_are_under_way_than_allowed(reports: Reports) -> None:
    under_way = most = 0

    async def handler(_request: web.Request) -> web.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return web.Response()

    async with serving(handler) as port, running(reports, concurrency=3) as prober:
        for number in range(20):
            prober.watch(f"u{number}", readiness(probing.Http(), timeout_s=5), at(port), 0.0)
        async with asyncio.timeout(5):
            while len(reports.all) < 20:
                await reports.notices.get()
    assert most <= 3


async def test_startup_comes_before_readiness(reports: Reports) -> None:
    paths: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response()

    startup = probing.Check(role=probing.Role.STARTUP, port=INSIDE, http=probing.Http("/started"))
    ready = probing.Check(role=probing.Role.READINESS, port=INSIDE, http=probing.Http("/ready"))
    async with serving(handler) as port, running(reports) as prober:
        assert not prober.watch("u", probing.Plan(startup, ready), at(port), 0.0).started
        await reports.until(lambda verdict: verdict.ready)
    assert paths == ["/started", "/ready"]
    assert [verdict.started for _, verdict in reports.all] == [True, True]


async def test_container_that_was_ready_before_the_node_started_anew_is_ready_at_once(reports: Reports) -> None:
    async with running(reports, clocks.ManualClock()) as prober:
        known = probing.Verdict(started=True, ready=True)
        assert prober.watch("u", readiness(probing.Http()), at(1), 0.0, resumed=known).ready
