"""Whether the pod started, lives and is ready: told on a side port, and asked of it by the probe commands."""

import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from bareboat.plumbing import clock as clocks
from bareboat.proxy import decide

PATHS = {"live": "/healthz", "ready": "/readyz", "started": "/startedz"}
STALLED_S = 600.0
"""Longer than any one step takes. A look at the cloud that fails is a step done."""

CHECK_TIMEOUT_S = 5.0


@dataclass
class Health:
    """What the parts tell. `why` says what is waited for; `seen_s` is when the last step was done (monotonic)."""

    ready: bool = False
    started: bool = False
    draining: bool = False
    why: str = "starting"
    seen_s: float = 0.0

    def told(self, what: str, now_s: float) -> tuple[bool, str]:
        """`what` is a key of `PATHS`. Waiting for an instance is alive, however long it takes."""
        if what == "live":
            stalled_s = now_s - self.seen_s
            good = stalled_s < STALLED_S
            return good, "alive" if good else f"nothing was done for {stalled_s:.0f} s"
        if what == "started":
            return self.started, "started" if self.started else self.why
        if self.draining:
            return False, "draining"
        return self.ready, "ready" if self.ready else self.why


async def answers(session: aiohttp.ClientSession, upstream: decide.Upstream, path: str) -> str:
    """Why the instance does not answer; empty when it does. Any answer will do, unless a path is given: then one that
    is no error."""
    host = f"[{upstream[0]}]" if ":" in upstream[0] else upstream[0]
    try:
        async with session.get(
            f"http://{host}:{upstream[1]}{path or '/'}",
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=CHECK_TIMEOUT_S),
        ) as response:
            if path and response.status >= 400:
                return f"{path} is answered with HTTP {response.status}"
            return ""
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return f"{host}:{upstream[1]} does not answer: {str(error) or type(error).__name__}"


class Server:
    """The side port. `async with` serves; `port` is the real one when 0 was asked for."""

    def __init__(self, health: Health, address: str, port: int, clock: clocks.Clock) -> None:
        self._health = health
        self._address = address or None
        self.port = port
        self._clock = clock
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> "Server":
        app = web.Application()
        for what, path in PATHS.items():
            app.router.add_get(path, self._handler(what))
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._address, self.port, reuse_address=True).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _handler(self, what: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(_: web.Request) -> web.Response:
            good, why = self._health.told(what, self._clock.monotonic_s())
            return web.Response(status=200 if good else 503, text=why + "\n")

        return handle


def ask(what: str, address: str, port: int) -> tuple[bool, str]:
    """One question to the container's own side port; blocks for at most a few seconds."""
    host = "127.0.0.1" if address in ("", "0.0.0.0", "::") else address
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{PATHS[what]}", timeout=CHECK_TIMEOUT_S) as answer:
            return True, answer.read().decode().strip()
    except urllib.error.HTTPError as refused:
        return False, refused.read().decode(errors="replace").strip()
    except (OSError, TimeoutError) as error:
        return False, f"nobody answers on {host}:{port}: {error}"
