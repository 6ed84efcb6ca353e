"""Performs startup and readiness probes from the node, through a rented container's public address and mapped ports.

Owns one task per probed container, in a TaskGroup that is handed in; leaves meaning to `workload.probing` and the
status to whoever gets the verdicts. A pod without probes costs nothing here.
"""

import asyncio
import errno
import functools
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp
import yarl

from bareboat.plumbing import clock as clocks
from bareboat.plumbing import supervise
from bareboat.workload import probing

USER_AGENT = "kube-probe/1.36"
MOST_REDIRECTS = 10
# Port forwarders of container hosts accept before the workload listens, and hang up at once when nobody does.
SETTLE_S = 0.1

Report = Callable[[str, probing.Verdict], None]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a container answers: the instance's public address, and (number inside, protocol) → public port."""

    address: str | None
    ports: Mapping[tuple[int, str], int] = field(default_factory=dict)


@dataclass(slots=True)
class _Watched:
    target: Target
    planned: probing.Plan
    started_s: float
    probe: probing.Probe
    task: asyncio.Task[None] | None = None


class Prober:
    """An async context manager; `tasks` has to be left first, or `forget_all` be called.

    `report(uid, verdict)` is called in the event loop at each change from the verdict that `watch` gave, a new message
    of a container that is not ready included; it must not block. `concurrency` bounds tries under way.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        report: Report,
        *,
        clock: clocks.Clock,
        concurrency: int = 64,
    ) -> None:
        self._tasks = tasks
        self._report = report
        self._clock = clock
        self._slots = asyncio.Semaphore(concurrency)
        self._watched: dict[str, _Watched] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # A probe that reused a connection would not notice that nobody accepts any more.
            connector=aiohttp.TCPConnector(limit=0, ssl=False, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept-Encoding", "User-Agent", "Accept"),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forget_all()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def __len__(self) -> int:
        """How many containers are being probed."""
        return len(self._watched)

    def watch(
        self,
        uid: str,
        planned: probing.Plan | None,
        target: Target,
        started_s: float,
        *,
        resumed: probing.Verdict | None = None,
    ) -> probing.Verdict:
        """Probes from now on, and says what the container counts as at present. May be called on every pass.

        `started_s` (unix seconds) is when this run of the container began: another one starts over, another target
        does not. `resumed` is what the API says of a container that this process sees for the first time.
        """
        if planned is None:
            self.forget(uid)
            return probing.Verdict(started=True, ready=True)
        known = self._watched.get(uid)
        if known is not None and (known.planned, known.started_s) == (planned, started_s):
            self._retarget(uid, known, target)
            return known.probe.verdict
        self.forget(uid)
        watched = _Watched(target, planned, started_s, probing.Probe(planned, started_s, resumed=resumed))
        self._watched[uid] = watched
        # After a restart of the node all containers would be probed at once.
        self._start(uid, watched, random.uniform(0, _period_s(watched.probe)) if resumed is not None else 0.0)
        return watched.probe.verdict

    def forget(self, uid: str) -> None:
        """Stops probing; nothing is reported for `uid` after this. Idempotent."""
        watched = self._watched.pop(uid, None)
        if watched is not None and watched.task is not None:
            watched.task.cancel()

    def forget_all(self) -> None:
        for uid in list(self._watched):
            self.forget(uid)

    def _retarget(self, uid: str, watched: _Watched, target: Target) -> None:
        if watched.target == target:
            return
        watched.target = target
        if not watched.probe.verdict.ready and watched.task is not None:
            watched.task.cancel()
            watched.probe.hurry(self._clock.now_s())
            self._start(uid, watched, 0.0)

    def _start(self, uid: str, watched: _Watched, pause_s: float) -> None:
        name = f"probe.{uid}"
        part = functools.partial(self._run, uid, watched, pause_s)
        watched.task = self._tasks.create_task(supervise.supervise(name, part, clock=self._clock), name=name)

    async def _run(self, uid: str, watched: _Watched, pause_s: float) -> None:
        """Never returns, as supervised parts do; the state is in the probe, so a second run goes on with it."""
        await self._clock.sleep(pause_s)
        probe = watched.probe
        while (check := probe.check) is not None:
            wait_s = probe.due_s - self._clock.now_s()
            if wait_s > 0:
                await self._clock.sleep(wait_s)
            async with self._slots:
                asked_s = self._clock.now_s()
                answer = await self._ask(check, watched.target)
            before = probe.verdict
            probe.step(answer, asked_s)
            if probe.verdict != before:
                self._report(uid, probe.verdict)
        await asyncio.get_running_loop().create_future()

    async def _ask(self, check: probing.Check, target: Target) -> probing.Answer:
        if check.port is None:
            return probing.Answer(False, f"port {check.port_name!r} is not the name of one of the container's ports")
        if target.address is None:
            return probing.Answer(False, "the cloud has not given a public address yet")
        public = target.ports.get((check.port, "TCP"))
        if public is None:
            return probing.Answer(False, f"port {check.port} is not mapped to a public port")
        where = f"port {check.port} (public {target.address}:{public})"
        try:
            async with asyncio.timeout(check.timeout_s):
                if check.http is None:
                    return await _connect(target.address, public, where, check.timeout_s)
                return await self._get(check.http, target, public, where)
        except TimeoutError:
            return probing.Answer(False, f"{where}: no answer within {check.timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            return probing.Answer(False, f"{where}: {_reason(problem)}")

    async def _get(self, http: probing.Http, target: Target, public: int, where: str) -> probing.Answer:
        url = yarl.URL(f"{http.scheme}://{_host(target.address or '')}:{public}{_encoded(http.path)}", encoded=True)
        for _ in range(MOST_REDIRECTS):
            async with self._opened(url, http) as response:
                status, location = response.status, response.headers.get("Location")
            if not 300 <= status < 400 or location is None:
                if 200 <= status < 400:
                    return probing.Answer(True)
                return probing.Answer(False, f"{where}: HTTP probe failed with statuscode: {status}")
            following = _redirected(url, location, target)
            if following is None:
                return probing.Answer(True)  # like the kubelet: elsewhere is not ours to ask, the answer was good
            url = following
        return probing.Answer(False, f"{where}: stopped after {MOST_REDIRECTS} redirects")

    @asynccontextmanager
    async def _opened(self, url: yarl.URL, http: probing.Http) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise RuntimeError("the prober is closed")
        # No redirects by the library: it would follow them to other hosts.
        async with self._session.get(url, headers=_headers(http), allow_redirects=False) as response:
            yield response


def _headers(http: probing.Http) -> list[tuple[str, str]]:
    given = {name.lower() for name, _ in http.headers}
    headers = [(name, value) for name, value in http.headers if value or name.lower() != "accept"]
    if "user-agent" not in given:
        headers.append(("User-Agent", USER_AGENT))
    if "accept" not in given:
        headers.append(("Accept", "*/*"))
    return headers


def _redirected(url: yarl.URL, location: str, target: Target) -> yarl.URL | None:
    """Where to go on: only to the same host, and only to ports that are this container's own, by either number.

    Any other port of a shared public address is somebody else's.
    """
    following = url.join(yarl.URL(location))
    if following.scheme not in ("http", "https") or following.host != url.host:
        return None
    mapped = {number: public for (number, protocol), public in target.ports.items() if protocol == "TCP"}
    if following.port in mapped.values():
        return following
    public = mapped.get(following.port or 0)
    return following.with_port(public) if public is not None else None


async def _connect(address: str, public: int, where: str, timeout_s: float) -> probing.Answer:
    reader, writer = await asyncio.open_connection(address, public)
    try:
        async with asyncio.timeout(min(SETTLE_S, timeout_s / 2)):
            first = await reader.read(1)
    except TimeoutError:
        return probing.Answer(True)  # connected, and nobody hung up
    finally:
        writer.transport.abort()
    if first:
        return probing.Answer(True)
    return probing.Answer(False, f"{where}: the connection was closed at once, nothing listens behind it")


def _period_s(probe: probing.Probe) -> float:
    return probe.check.period_s if probe.check is not None else 0.0


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _encoded(path: str) -> str:
    """What may stand in a request line stays as it is, escapes included; anything else is escaped."""
    return "".join(char if "!" <= char <= "~" and char != "#" else _escape(char) for char in path)


def _escape(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode())


def _reason(problem: Exception) -> str:
    if isinstance(problem, OSError):
        origin = problem.os_error if isinstance(problem, aiohttp.ClientConnectorError) else problem
        # asyncio puts the address into strerror, several of them for a name with several addresses.
        known = os.strerror(origin.errno or 0) if origin.errno in errno.errorcode else origin.strerror
        return (known or str(origin) or type(origin).__name__).lower()
    return str(problem)[:200] or type(problem).__name__
