"""Traffic through `bareboat proxy` with its real nginx while everything happens to the instance; every failed request
is counted, with its kind and what was going on. Nothing here asserts: the test and the benchmark read the figures."""

import asyncio
import collections
import contextlib
import dataclasses
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from tests.integration import running_vast
from tests.integration.proxy import conftest as stage

MIB = 2**20
UPLOAD_BYTES = 50 * MIB
CHUNK = b"x" * 65_536
TIMEOUT_S = 10.0
SOCKET_PAUSE_S = 0.1
UPLOAD_PAUSE_S = 1.0
POLL_S = 0.2
QUIET = ("steady", "address changes")
"""What nothing may fail in. Otherwise the instance is away for a while, by nobody's fault or by the user's wish."""
_STALE = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


@dataclasses.dataclass
class Figures:
    """`failures` counts (what went on, kind), `sent_again` GETs whose kept connection was closed under them. Times are
    seconds, of GET requests while nothing else went on."""

    seconds: float = 0.0
    requests: int = 0
    sent: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    failures: collections.Counter[tuple[str, str]] = dataclasses.field(default_factory=collections.Counter)
    through_s: list[float] = dataclasses.field(default_factory=list)
    direct_s: list[float] = dataclasses.field(default_factory=list)
    sent_again: int = 0
    slowest_502_s: float = 0.0
    reload_s: list[float] = dataclasses.field(default_factory=list)
    away_s: dict[str, float] = dataclasses.field(default_factory=dict)
    start_s: float = 0.0
    proxy_mib: float = 0.0
    nginx_mib: float = 0.0

    def in_quiet(self) -> dict[tuple[str, str], int]:
        """Failures that have no excuse."""
        return {key: count for key, count in self.failures.items() if key[0] in QUIET}

    def document(self) -> dict[str, Any]:
        """For people and programs, in milliseconds."""
        return {
            "seconds": round(self.seconds, 1),
            "requests": self.requests,
            "requests_per_s": round(self.requests / self.seconds, 1),
            **{f"sent_{kind}": count for kind, count in sorted(self.sent.items())},
            "sent_again_on_new_connection": self.sent_again,
            "failed": sum(self.failures.values()),
            "failed_without_excuse": sum(self.in_quiet().values()),
            "failures": {f"{phase}: {kind}": count for (phase, kind), count in sorted(self.failures.items())},
            "slowest_502_ms": _ms(self.slowest_502_s),
            "p50_ms": _ms(quantile(self.through_s, 0.5)),
            "p99_ms": _ms(quantile(self.through_s, 0.99)),
            "direct_p50_ms": _ms(quantile(self.direct_s, 0.5)),
            "direct_p99_ms": _ms(quantile(self.direct_s, 0.99)),
            "nginx_adds_p50_ms": _ms(quantile(self.through_s, 0.5) - quantile(self.direct_s, 0.5)),
            "reload_ms": [_ms(each) for each in self.reload_s],
            "away_s": {name: round(seconds, 2) for name, seconds in self.away_s.items()},
            "start_to_serving_s": round(self.start_s, 2),
            "proxy_mib": round(self.proxy_mib, 1),
            "nginx_mib": round(self.nginx_mib, 1),
        }


class Traffic:
    """A load generator: GETs at a fixed rate whatever becomes of them, beside them a WebSocket, streams and uploads."""

    def __init__(self, url: str, rate_per_s: float) -> None:
        self.figures = Figures()
        self.phase = "steady"
        self.direct_url = ""
        """When set, every other GET goes straight to the instance, for comparison."""
        self._url = url
        self._rate_per_s = rate_per_s
        self._over = asyncio.Event()

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator["Traffic"]:
        """Sends for as long as the block takes, then waits for the last answers."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        started_s = time.monotonic()
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
            async with asyncio.TaskGroup() as group:
                for work in (self._gets, self._socket, self._streams, self._uploads):
                    group.create_task(work(http), name=f"load.{work.__name__}")
                try:
                    yield self
                finally:
                    self._over.set()
            self.figures.seconds = time.monotonic() - started_s

    async def _gets(self, http: aiohttp.ClientSession) -> None:
        """An open loop: a slow answer holds no other request back."""
        began_s = time.monotonic()
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=http.timeout) as fresh,
            asyncio.TaskGroup() as group,
        ):
            number = 0
            while not self._over.is_set():
                await asyncio.sleep(max(0.0, began_s + number / self._rate_per_s - time.monotonic()))
                direct = bool(self.direct_url) and number % 2 == 1
                base = self.direct_url if direct else self._url
                # Every fourth on a connection of its own: there no close in between can be an excuse.
                once = number % 4 == 2
                group.create_task(self._get(fresh if once else http, base, direct, once=once), name="load.get")
                number += 1

    async def _get(self, http: aiohttp.ClientSession, base: str, direct: bool, *, once: bool) -> None:
        phase, started_s = self.phase, time.monotonic()

        async def send() -> None:
            try:
                await ask(http)
            except _STALE:
                if once:
                    raise
                # At a reload nginx closes kept connections that are idle, while a request may be on its way on one of
                # them: nobody has read it, and every HTTP client sends it again on a new one (RFC 9112, 9.3.1).
                self.figures.sent_again += 1
                async with aiohttp.ClientSession(timeout=http.timeout) as fresh:
                    await ask(fresh)

        async def ask(session: aiohttp.ClientSession) -> None:
            async with session.get(f"{base}/load") as answer:
                text = await answer.text()
                took_s = time.monotonic() - started_s
                if answer.status == 502:
                    self.figures.slowest_502_s = max(self.figures.slowest_502_s, took_s)
                if answer.status != 200 or "/load" not in text:
                    raise _Failed(str(answer.status))
                if phase == self.phase == "steady" and self.direct_url and not once:
                    (self.figures.direct_s if direct else self.figures.through_s).append(took_s)

        await self._counted("get", phase, send)

    async def _uploads(self, http: aiohttp.ClientSession) -> None:
        async def send() -> None:
            async with http.post(f"{self._url}/up", data=_body(), timeout=aiohttp.ClientTimeout(total=60)) as answer:
                if answer.status != 200:
                    raise _Failed(str(answer.status))
                if (await answer.text()).split()[-1] != str(UPLOAD_BYTES):
                    raise _Failed("cut short")

        while not self._over.is_set():
            await self._counted("upload", self.phase, send)
            await asyncio.sleep(UPLOAD_PAUSE_S)

    async def _streams(self, http: aiohttp.ClientSession) -> None:
        async def send() -> None:
            async with http.get(f"{self._url}/stream") as answer:
                if answer.status != 200:
                    raise _Failed(str(answer.status))
                if len((await answer.text()).split()) != 20:
                    raise _Failed("cut short")

        while not self._over.is_set():
            await self._counted("stream", self.phase, send)
            await asyncio.sleep(0.1)

    async def _socket(self, http: aiohttp.ClientSession) -> None:
        """One WebSocket for as long as it holds; a message each way counts as a request."""

        async def talk() -> None:
            async with http.ws_connect(f"{self._url}/ws") as socket:
                number = 0
                while not self._over.is_set():
                    number += 1
                    await socket.send_str(f"m{number}")
                    message = await socket.receive(timeout=TIMEOUT_S)
                    if message.data != f"m{number}":
                        raise _Failed("websocket closed")
                    self.figures.sent["websocket_message"] += 1
                    self.figures.requests += 1
                    await asyncio.sleep(SOCKET_PAUSE_S)

        while not self._over.is_set():
            await self._counted("websocket", self.phase, talk)
            await asyncio.sleep(SOCKET_PAUSE_S)

    async def _counted(self, kind: str, phase: str, send: Callable[[], Awaitable[None]]) -> None:
        self.figures.requests += 1
        self.figures.sent[kind] += 1
        try:
            await send()
            return
        except _Failed as failed:
            why = str(failed)
        except aiohttp.WSServerHandshakeError as refused:
            why = str(refused.status)
        except TimeoutError:
            why = "timeout"
        except aiohttp.ClientConnectorError:
            why = "no connection"
        except (aiohttp.ClientError, OSError) as broken:
            why = "connection broken" if isinstance(broken, _STALE) else type(broken).__name__
        # What was sent before or during a disturbance may end after it.
        blamed = phase if phase not in QUIET else self.phase
        self.figures.failures[blamed, f"{kind} {why}"] += 1


class _Failed(Exception):
    """An answer that is none."""


async def _body() -> AsyncIterator[bytes]:
    for _ in range(UPLOAD_BYTES // len(CHUNK)):
        yield CHUNK


async def measure(folder: Path, seconds: float, rate_per_s: float) -> Figures:
    """The whole story in about `seconds`: two changes of the address, an edit of the template, an instance that dies,
    two more changes of the address. With Redis and bans on."""
    async with (
        running_vast.opened(stage.Cloud) as cloud,
        stage.served_redis(folder / "redis", stage.free_port()) as redis_url,
        stage.launcher(cloud, folder) as launch,
    ):
        proxy = launch(
            NGINX_MAX_BODY_SIZE="60M",
            BAREBOAT_PROXY_POLL_S=str(POLL_S),
            BAREBOAT_PROXY_TEMPLATE_S="1",
            BLACKLIST_ENABLED="true",
            BLACKLIST_REDIS_URL=redis_url,
        )
        template = await cloud.template()
        await proxy.start()
        await proxy.until_ready(cloud.http)
        await proxy.close()
        started_s = time.monotonic()
        await proxy.start()
        await proxy.until_ready(cloud.http)
        start_s = time.monotonic() - started_s
        traffic = Traffic(proxy.url, rate_per_s)
        async with traffic.flowing():
            began_s = time.monotonic()
            await _story(cloud, proxy, traffic, template, seconds / 8)
            await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began_s)))
            traffic.figures.proxy_mib, traffic.figures.nginx_mib = _memory(proxy)
        traffic.figures.start_s = start_s
        return traffic.figures


async def _story(cloud: stage.Cloud, proxy: stage.Proxy, traffic: Traffic, template: str, act_s: float) -> None:
    traffic.direct_url = _direct(cloud)
    await asyncio.sleep(2 * act_s)
    traffic.direct_url = ""
    for address in ("localhost", "127.0.0.1"):
        await _changed(cloud, proxy, traffic, address)
        await asyncio.sleep(act_s / 2)

    [old] = cloud.live()
    async with _disturbed(cloud, proxy, traffic, "template edited", int(old["id"])):
        await cloud.edit(template, env=f"-e GREETING=changed -p {stage.PORT}:{stage.PORT}")
    await asyncio.sleep(act_s)

    [old] = cloud.live()
    async with _disturbed(cloud, proxy, traffic, "instance died", int(old["id"])):
        cloud.sim.control.vanish(old["id"])
    await asyncio.sleep(act_s)
    for address in ("localhost", "127.0.0.1"):
        await _changed(cloud, proxy, traffic, address)
        await asyncio.sleep(act_s / 2)


async def _changed(cloud: stage.Cloud, proxy: stage.Proxy, traffic: Traffic, address: str) -> None:
    traffic.phase = "address changes"
    before, changed_s = proxy.log.count("nginx.reloaded"), time.monotonic()
    cloud.sim.control.change_address(cloud.live()[0]["id"], address)

    async def reloaded() -> bool:
        return proxy.log.count("nginx.reloaded") > before

    await stage.until(reloaded, "nginx to be reloaded")
    traffic.figures.reload_s.append(time.monotonic() - changed_s)
    traffic.phase = "steady"


@contextlib.asynccontextmanager
async def _disturbed(
    cloud: stage.Cloud, proxy: stage.Proxy, traffic: Traffic, what: str, old: int
) -> AsyncIterator[None]:
    """What is done in the block takes the instance away; over when another one serves."""
    traffic.phase = what
    started_s = time.monotonic()
    yield

    async def another_serves() -> bool:
        ids = [record["id"] for record in cloud.live()]
        return ids != [old] and len(ids) == 1 and await _served_by(cloud, proxy) == ids[0]

    await stage.until(another_serves, f"another instance to serve after: {what}")
    traffic.figures.away_s[what] = time.monotonic() - started_s
    traffic.phase = "steady"


async def _served_by(cloud: stage.Cloud, proxy: stage.Proxy) -> int:
    async with cloud.http.get(proxy.url) as answer:
        words = (await answer.text()).split()
        return int(words[1]) if answer.status == 200 else 0


def _direct(cloud: stage.Cloud) -> str:
    [record] = cloud.live()
    port = record["ports"][f"{stage.PORT}/tcp"][0]["HostPort"]
    return f"http://{record['public_ipaddr']}:{port}"


def _memory(proxy: stage.Proxy) -> tuple[float, float]:
    """MiB at most of the proxy's process, and now of nginx with its workers."""
    children = Path(f"/proc/{proxy.nginx_pid}/task/{proxy.nginx_pid}/children").read_text().split()
    nginx = sum(_status_mib(pid, "VmRSS") for pid in (str(proxy.nginx_pid), *children))
    return _status_mib(str(proxy.pid), "VmHWM"), nginx


def _status_mib(pid: str, what: str) -> float:
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def quantile(values: list[float], share: float) -> float:
    """0 of none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)


def cores() -> int:
    return os.cpu_count() or 1
