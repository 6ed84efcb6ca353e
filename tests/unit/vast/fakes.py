"""Small servers that misbehave on purpose, and builders of what is sent to them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from bareboat.clouds.vast import api, cloud
from bareboat.core import labels, launches, offers
from bareboat.plumbing import clock as clocks

KEY = "k3y-that-must-never-show"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Server:
    """Answers each request by the next of its replies (the last one for ever), and remembers what was asked."""

    url: str = ""
    replies: list[Handler] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.reached.set()
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, request.path, dict(request.query), body))
        self.headers.append(dict(request.headers))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return await reply(request)


def says(body: Any, status: int = 200) -> Handler:
    """A reply in JSON, or as plain text when it is a string."""

    async def reply(_: web.Request) -> web.StreamResponse:
        if isinstance(body, str):
            return web.Response(text=body, status=status)
        return web.json_response(body, status=status)

    return reply


def hangs_up() -> Handler:
    """Takes the request and closes the connection without a word."""

    async def reply(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        await asyncio.sleep(0)
        return web.Response()

    return reply


def stalls() -> Handler:
    """Never answers."""

    async def reply(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    return reply


async def until(true: Callable[[], bool], what: str, deadline_s: float = 30.0) -> None:
    """Returns once `true` says so: real requests take real time, whatever a test's clock says."""
    try:
        async with asyncio.timeout(deadline_s):
            while not true():  # noqa: ASYNC110 - what is waited for comes over a socket
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"not within {deadline_s:g} s: {what}") from None


@contextlib.asynccontextmanager
async def serving(*replies: Handler) -> AsyncIterator[Server]:
    """A server on loopback for the length of the block."""
    server = Server(replies=list(replies))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def client(url: str, **settings: Any) -> AsyncIterator[cloud.VastCloud]:
    """The cloud at that address, without limits; its time limits are so long that a busy computer passes none of them
    by accident."""
    clock = settings.pop("clock", None) or clocks.ScaledClock(50.0)
    pages = settings.pop("search_pages", 2)
    told: dict[str, Any] = {"limited": False, "timeout_s": 30.0, "patience_s": 60.0} | settings
    opened = cloud.VastCloud(api.Api(url, KEY, clock, **told), clock, search_pages=pages)
    try:
        yield opened
    finally:
        await opened.close()


def an_offer(**told: Any) -> offers.Offer:
    fields: dict[str, Any] = {
        "cloud": "vast", "id": "31870033", "gpu_name": "RTX 4090", "gpu_count": 1, "usd_per_hour": 0.334,
        "usd_per_gib_month": 0.12, "machine_id": "52033", "host_id": "81033", "region": "SE",
    }  # fmt: skip
    return offers.Offer(**(fields | told))


def a_launch(**told: Any) -> launches.Launch:
    return launches.Launch(**({"image": "busybox:1.36"} | told))


def a_mark(attempt: str = "1") -> labels.Mark:
    return labels.Mark("cluster-1", "6f1c2d3e-0000-4000-8000-000000000001", attempt)
