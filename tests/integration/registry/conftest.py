"""The simulator's registry behind a door that can go wrong: slow, out of order, lying, closed."""

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from bareboat.plumbing import clock as clocks
from bareboat.registry import client
from bareboat.simulation import images, registry

Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass
class Door:
    """`faults` are used up one a request whose path contains the key; `asked` are the paths so far."""

    faults: dict[str, collections.deque[Fault]] = field(
        default_factory=lambda: collections.defaultdict(collections.deque)
    )
    asked: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    url: str = ""

    def fail(self, part: str, *several: Fault) -> None:
        self.faults[part].extend(several)

    def count(self, part: str) -> int:
        return sum(part in path for path in self.asked)

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        self.methods.append(request.method)
        self.logins.append(request.headers.get("Authorization", ""))
        for part, waiting in self.faults.items():
            if part in request.path and waiting and (answer := await waiting.popleft()(request)) is not None:
                return answer
        return await handler(request)


def status(code: int, **headers: str) -> Fault:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=code, text="SECRET-OF-THE-SERVER", headers=headers)

    return answer


def body(content: bytes) -> Fault:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=content)

    return answer


async def silence(_: web.Request) -> None:
    await asyncio.sleep(3600)


async def hang_up(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


def redirect(to: str) -> Fault:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": to})

    return answer


@contextlib.asynccontextmanager
async def serving(door: Door, application: web.Application) -> AsyncIterator[str]:
    application.middlewares.append(door.middleware)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
def clock() -> clocks.ManualClock:
    return clocks.ManualClock()


@pytest.fixture(params=["Bearer"])
async def door(request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    """The registry of the packaged images; ask for `Basic` by parametrizing indirectly."""
    made = Door()
    application = registry.Registry(images.Catalog(unknown="missing"), challenge=request.param).application()
    async with serving(made, application) as made.url:
        yield made


@pytest.fixture
async def registries(door: Door, clock: clocks.ManualClock) -> AsyncIterator[client.Registries]:
    async with aiohttp.ClientSession() as session:
        yield client.Registries(session, clock=clock, mirrors={"*": door.url}, request_s=1.0, total_s=3.0)
