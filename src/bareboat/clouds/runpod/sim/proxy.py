"""RunPod's proxy for HTTP ports: `/proxy/<pod>-<port>/…` here, `https://<pod>-<port>.proxy.runpod.net/…` there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from bareboat.clouds.runpod.sim import pods, replies

if TYPE_CHECKING:
    from bareboat.clouds.runpod.sim import simulator

LONGEST_S = 100.0
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "host", "content-length"})


class Proxy:
    """Answers 502 where nothing listens, and 524 for what takes too long, as what stands in front of the real one."""

    def __init__(self, sim: "simulator.Simulator", session: aiohttp.ClientSession) -> None:
        self._sim = sim
        self._session = session

    async def pass_on(self, request: web.Request) -> web.Response:
        target = self._target(request)
        if target is None:
            return replies.html(502)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP}
        url = f"http://127.0.0.1:{target}/{request.match_info['path']}"
        try:
            async with (
                asyncio.timeout(LONGEST_S),
                self._session.request(
                    request.method, url, params=request.query, data=await request.read(), headers=headers
                ) as answer,
            ):
                kept = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP_BY_HOP}
                return web.Response(status=answer.status, body=await answer.read(), headers=kept)
        except TimeoutError:
            return replies.html(524)
        except (aiohttp.ClientError, OSError):
            return replies.html(502)

    def _target(self, request: web.Request) -> int | None:
        rental = self._sim.pods.known(request.match_info["pod"])
        number = request.match_info["port"]
        if rental is None or not number.isdigit() or pods.terms(rental).gpus_shown == 0:
            return None
        return self._sim.pods.http_target(rental, int(number))


@contextlib.asynccontextmanager
async def opened(sim: "simulator.Simulator") -> AsyncIterator[Proxy]:
    async with aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Proxy(sim, session)
