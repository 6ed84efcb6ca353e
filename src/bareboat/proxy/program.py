"""The parts of `bareboat proxy` in one TaskGroup, from start to drained end. What is rented stays rented."""

import asyncio
import contextlib
from dataclasses import dataclass

import aiohttp
import structlog

from bareboat.plumbing import clock as clocks
from bareboat.plumbing import supervise
from bareboat.proxy import about as abouts
from bareboat.proxy import bans as bans_
from bareboat.proxy import health, keeper, nginx, renting

log = structlog.get_logger()

NOTE = "attempt.json"
_UNREADY_CHECK_S = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that was told. `banning` is None when the blacklist is off; `check_path` empty when any answer will
    do."""

    about: abouts.About
    site: abouts.Site
    pace: abouts.Pace
    banning: abouts.Banning | None
    health_port: int
    check_path: str = ""


class Program:
    """One pod's proxy over one account. Raises `ValueError` for a Redis URL that is none."""

    def __init__(self, plan: Plan, cloud: renting.Account, clock: clocks.Clock) -> None:
        self._plan = plan
        self._cloud = cloud
        self._clock = clock
        store = bans_.Store(plan.banning.redis_url) if plan.banning is not None else None
        self._bans = bans_.Bans(plan.about.pod_name, cloud.name, plan.banning, store, clock)
        self.health = health.Health(seen_s=clock.monotonic_s())
        self.server = health.Server(self.health, plan.site.listen_address, plan.health_port, clock)
        self.front = nginx.Nginx(plan.site, plan.about.pod_name)
        note = renting.Note(plan.site.state_dir / NOTE)
        renter = renting.Renter(cloud, plan.about, self._bans.blacklist, note, clock)
        self.keeper = keeper.Keeper(
            cloud, plan.about, plan.pace, renter, note, self._bans, self.front, self.health, clock
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then nginx drains. Raises `Fatal`, the only one if there were several."""
        try:
            async with self.server:
                await self._until(stop)
                await self.front.drain()
        except BaseExceptionGroup as several:
            raise supervise.cause(several) from None
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await self.front.drain()
            await self._bans.close()

    async def destroy(self) -> list[str]:
        """Ends the pod's instances, until reads say that they are gone."""
        try:
            return await self.keeper.destroy()
        finally:
            await self._bans.close()

    async def _until(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.front.run(), name="proxy.nginx"),
                group.create_task(self._check(), name="proxy.check"),
                group.create_task(
                    supervise.supervise("proxy.keeper", self.keeper.run, clock=self._clock), name="proxy.keeper"
                ),
            ]
            await stop.wait()
            log.info("proxy.stopping", note="the instance stays; `bareboat proxy destroy` ends it")
            # While nginx drains its log still has to be read.
            self.health.draining = True
            for task in tasks[1:]:
                task.cancel()
            await self.front.drain()
            tasks[0].cancel()

    async def _check(self) -> None:
        """Asks the instance itself, again and again; ready is who answers."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            while True:
                asked = self.front.upstream
                if asked is not None:
                    why = await health.answers(session, asked, self._plan.check_path)
                    if asked == self.front.upstream:
                        self._told(why)
                wait_s = self._plan.pace.check_s if self.health.ready else _UNREADY_CHECK_S
                self.keeper.changed.clear()
                await clocks.within(self._clock, self.keeper.changed, wait_s)

    def _told(self, why: str) -> None:
        if bool(why) == self.health.ready:
            log.info("proxy.ready") if not why else log.warning("proxy.unready", why=why)
        self.health.ready, self.health.why = not why, why
        self.health.started = self.health.started or not why
