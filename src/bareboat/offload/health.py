"""/healthz and /readyz. Alive: passes are made. Ready: a Job for which a rule holds would leave now."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from aiohttp import web

from bareboat.plumbing import clock as clocks

STALLED_PASSES = 4
LEAST_STALL_S = 60.0


@dataclass(frozen=True, slots=True)
class Address:
    """`host` empty: all addresses. Port 0 takes any free one."""

    host: str
    port: int


@dataclass
class Health:
    """What is known of the policy's loop; asked anew for each request, none of which costs a call.

    `passed_s` (monotonic) is when the loop last made a pass, None before the first; `waits_for` why there is none yet;
    `trouble` why nothing can leave.
    """

    passed_s: Callable[[], float | None]
    waits_for: Callable[[], str | None]
    trouble: Callable[[], str | None]
    reconcile_s: float
    clock: clocks.Clock

    def alive(self) -> tuple[bool, str]:
        """A standby, and a program that waits for its first lists, is alive however long that takes."""
        passed_s = self.passed_s()
        if passed_s is None or self.waits_for() is not None:
            return True, "alive"
        quiet_s = self.clock.monotonic_s() - passed_s
        good = quiet_s < max(LEAST_STALL_S, STALLED_PASSES * self.reconcile_s)
        return good, "alive" if good else f"no look at the Jobs for {quiet_s:.0f} s"

    def ready(self) -> tuple[bool, str]:
        alive, why = self.alive()
        if not alive:
            return False, why
        against = self.waits_for() or self.trouble()
        if against is None and self.passed_s() is None:
            against = "the first look at the Jobs is yet to be made"
        return against is None, against or "ready"


class Server:
    """`async with` serves; `port` is the real one then."""

    def __init__(self, health: Health, address: Address) -> None:
        self._health = health
        self._address = address
        self.port = address.port
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        for path, told in (("/healthz", self._health.alive), ("/readyz", self._health.ready)):
            app.router.add_get(path, _handler(told))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._address.host or None, self._address.port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


def _handler(told: Callable[[], tuple[bool, str]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        good, why = told()
        return web.Response(status=200 if good else 503, text=why + "\n")

    return handle
