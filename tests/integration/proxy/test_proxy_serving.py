"""What passes through nginx, and that nothing is dropped while it is pointed elsewhere, drained or without upstream."""

import asyncio
import io
import os
import signal
import time

import aiohttp
import pytest
from tests.integration.proxy import conftest as stage

MIB = 2**20


@pytest.fixture
async def proxy(cloud: stage.Cloud, launch: stage.Launcher) -> stage.Proxy:
    await cloud.template()
    made = launch(NGINX_MAX_BODY_SIZE="60M", BAREBOAT_PROXY_POLL_S="0.2")
    await made.start()
    await made.until_ready(cloud.http)
    return made


async def test_websockets_streams_and_large_bodies_pass(cloud: stage.Cloud, proxy: stage.Proxy) -> None:
    async with cloud.http.ws_connect(f"{proxy.url}/ws") as socket:
        for text in ("one", "two"):
            await socket.send_str(text)
            assert (await socket.receive_str(timeout=5)) == text
    async with cloud.http.get(f"{proxy.url}/stream") as response:
        started_s = time.monotonic()
        first = await response.content.readline()
        assert first == b"t00\n" and time.monotonic() - started_s < 1.0
        assert len((await response.content.read()).split()) == 19
    async with cloud.http.post(f"{proxy.url}/up", data=io.BytesIO(b"x" * 50 * MIB)) as response:
        assert (await response.text()).split()[-1] == str(50 * MIB)
    async with cloud.http.post(f"{proxy.url}/up", data=io.BytesIO(b"x" * 61 * MIB)) as response:
        assert response.status == 413


async def test_nothing_is_dropped_while_the_address_changes(cloud: stage.Cloud, proxy: stage.Proxy) -> None:
    [record] = cloud.live()
    failed: list[str] = []
    sent = 0
    over = asyncio.Event()

    async def ask() -> None:
        nonlocal sent
        while not over.is_set():
            try:
                async with cloud.http.get(f"{proxy.url}/") as response:
                    await response.read()
                    if response.status != 200:
                        failed.append(str(response.status))
            except aiohttp.ClientError as error:
                failed.append(repr(error))
            sent += 1

    async with asyncio.TaskGroup() as group, cloud.http.ws_connect(f"{proxy.url}/ws") as socket:
        slow = group.create_task(_text(cloud, f"{proxy.url}/stream"))
        for _ in range(4):
            group.create_task(ask())
        for reloads, address in enumerate(("localhost", "127.0.0.1", "localhost"), 1):
            cloud.sim.control.change_address(record["id"], address)
            changed_s = time.monotonic()

            async def reloaded(reloads: int = reloads) -> bool:
                return proxy.log.count("nginx.reloaded") >= reloads

            await stage.until(reloaded, "nginx to be reloaded")
            assert time.monotonic() - changed_s < 0.2 + 1.0
            await socket.send_str("still here")
            assert await socket.receive_str(timeout=5) == "still here"
        over.set()
    assert failed == [] and sent > 100
    assert len(slow.result().split()) == 20
    assert "server localhost:" in proxy.config


async def _text(cloud: stage.Cloud, url: str) -> str:
    async with cloud.http.get(url) as response:
        return await response.text()


async def test_without_an_instance_502_comes_at_once_and_the_pod_is_alive_but_not_ready(
    cloud: stage.Cloud, proxy: stage.Proxy
) -> None:
    cloud.sim.control.vanish(cloud.live()[0]["id"])
    cloud.sim.control.take_all_offers()

    async def unready() -> bool:
        return await proxy.probe(cloud.http) == 503

    await stage.until(unready, "the pod to be unready")
    await proxy.until_said("rent.no_offers")
    started_s = time.monotonic()
    async with cloud.http.get(proxy.url) as response:
        assert response.status == 502
    assert time.monotonic() - started_s < 0.5
    assert await proxy.probe(cloud.http, "/healthz") == 200
    assert [(await proxy.run("proxy", probe))[0] for probe in ("live", "ready", "started")] == [0, 1, 0]


async def test_nginx_death_is_the_containers_death(cloud: stage.Cloud, proxy: stage.Proxy) -> None:
    nginx = int((proxy.folder / "state" / "nginx.pid").read_text())
    os.kill(nginx, signal.SIGTERM)
    assert await proxy.ended(10) == 1
    assert "nginx ended" in proxy.log
    assert len(cloud.live()) == 1


async def test_a_request_under_way_ends_well_after_sigterm_and_a_new_one_is_refused(
    cloud: stage.Cloud, proxy: stage.Proxy
) -> None:
    async with cloud.http.get(f"{proxy.url}/stream") as response:
        assert await response.content.readline() == b"t00\n"  # two seconds before the last one
        proxy.signal(signal.SIGTERM)
        assert (await response.content.read()).split()[-1] == b"t19"
    assert await proxy.ended(10) == 0
    assert "nginx.drained" in proxy.log and '"GET /stream HTTP/1.1" 200' in proxy.log
    assert len(cloud.live()) == 1


async def test_a_template_of_the_users_own_is_rendered_and_one_that_nginx_refuses_is_told(
    cloud: stage.Cloud, launch: stage.Launcher
) -> None:
    await cloud.template()
    own = launch()
    template = own.folder / "own.j2"
    passing = "location / { proxy_pass http://{{ upstream }}; add_header X-Own {{ pod_name }}; }"
    template.write_text(f"server {{ listen {{{{ listen }}}}; {passing} }}")
    own.environment["BAREBOAT_PROXY_SITE_TEMPLATE"] = str(template)
    await own.start()
    await own.until_ready(cloud.http)
    async with cloud.http.get(own.url) as response:
        assert response.headers["X-Own"] == "vast-pod-0"
    await own.close()
    for text, told in (
        ("server { listn 80; }", "unknown directive"),
        ("{{ upstreem }}", "upstreem"),
        ("{% if %}", "line 1"),
    ):
        template.write_text(text)
        bad = launch(BAREBOAT_PROXY_SITE_TEMPLATE=str(template))
        await bad.start()
        assert await bad.ended() == 2
        assert told in bad.log and "Traceback" not in bad.log
    assert cloud.ever() == 1
