"""A cloud in memory with the powers that the proxy needs, an nginx that only remembers, and a proxy over both on a
clock that stands still: started, killed, started anew."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from tests.fakes import clouds, crashes

from bareboat.core import errors, instances, labels, launches, offers
from bareboat.plumbing import clock as clocks
from bareboat.plumbing import supervise
from bareboat.proxy import about as abouts
from bareboat.proxy import bans as bans_
from bareboat.proxy import decide, health, keeper, nginx, renting

POD = "vast-pod-0"
LABEL = f"k8s_pod={POD}"
IMAGE = "me/web:1"
HASH = "a" * 32
PORT = 8000
MANY = 60


def an_offer(number: int, **changes: Any) -> offers.Offer:
    """The dearer the higher its number, each on a machine and a host of its own."""
    told: dict[str, Any] = {
        "cloud": "vast",
        "id": str(number),
        "gpu_name": "RTX 4090",
        "gpu_count": 1,
        "usd_per_hour": 0.2 + number / 1000,
        "machine_id": f"m{number}",
        "host_id": f"h{number}",
        "disk_gib": 500.0,
        "reliability": 0.99,
    }
    return offers.Offer(**(told | changes))


class TemplateCloud(clouds.FakeCloud):
    """Rents under labels of the caller's form; the book tells which of them ever billed together."""

    def __init__(self, clock: clocks.Clock, offers_: Sequence[offers.Offer]) -> None:
        super().__init__(clock, offers_=offers_)
        self.template = launches.Template(
            id="1", hash=HASH, name="my_web", own=True, ports=(launches.Port(PORT),), disk_gib=10.0
        )
        self.queries: list[Mapping[str, Any]] = []
        self.launched: list[launches.Launch] = []

    async def templates_named(self, name: str) -> Sequence[launches.Template]:
        await self._enter("templates_named")
        return [self.template] if name == self.template.name else []

    async def matching(self, query: Mapping[str, Any]) -> Sequence[offers.Offer]:
        self.queries.append(query)
        return await self.search(None)  # type: ignore[arg-type]

    async def labelled(self, label: str) -> Sequence[instances.Instance]:
        await self._enter("labelled")
        lacking = self.hidden_from_filters
        return [self._told(each) for each in self._listable() if each.label == label and each.id not in lacking]

    async def rent_labelled(self, offer: offers.Offer, launch: launches.Launch, label: str) -> instances.Instance:
        self.calls["rent"] += 1
        self.launched.append(launch)
        await self.crash.reached("rent: before")
        fault = self.faults["rent"].popleft() if self.faults["rent"] else clouds.Fault()
        if fault.error is not None and not fault.applied:
            raise fault.error
        if offer.id in self.sold:
            raise errors.OfferGone(self.name, f"offer {offer.id} is no longer available")
        if self.alive_under(label):
            self.trespasses.append(f"{launch.env} is rented while {self.alive_under(label)} bills")
        self.sold.add(offer.id)
        box = self._box(offer, label, self.read_lag_s)
        box.changes.update(
            host_id=offer.host_id,
            image=launch.image,
            template=launch.template,
            tags={name: text for name, text in launch.env.items() if name.startswith("BAREBOAT_")},
            ports={(PORT, "TCP"): 40000 + int(box.id)},
        )
        await self.crash.reached("rent: bought")
        if fault.error is not None:
            raise fault.error
        return dataclasses.replace(self._told(box), state=instances.State.PROVISIONING, address=None)

    def alive_under(self, label: str) -> list[clouds.Rented]:
        return [each for each in self.alive if each.label == label]

    def attempts(self) -> list[str]:
        """Of all instances ever rented here by a proxy."""
        marks = [labels.Mark.parse(cast("dict[str, str]", each.changes.get("tags", {})).get(decide.MARK_TAG))
                 for each in self.book.values()]  # fmt: skip
        return [mark.attempt for mark in marks if mark is not None]


class FakeFront:
    """Points where it is told."""

    def __init__(self, crash: crashes.CrashPoint) -> None:
        self.upstream: decide.Upstream | None = None
        self.is_running = False
        self._crash = crash

    async def point(self, upstream: decide.Upstream | None) -> None:
        await self._crash.reached("nginx")
        self.upstream, self.is_running = upstream, True


class FakeStore:
    """Redis in memory: what `bans_.Store` keeps, each word of it a point at which the asking process may die."""

    def __init__(self) -> None:
        self.crash = crashes.CrashPoint()
        self.records: dict[str, bans_.Record] = {}
        self.waiting: dict[str, float] = {}
        self.starts = 0

    async def bans(self) -> list[bans_.Record]:
        await self.crash.reached("redis: bans")
        return list(self.records.values())

    async def ban(self, record: bans_.Record, ttl_s: float) -> None:
        await self.crash.reached("redis: before ban")
        self.records[record.host_id] = record
        await self.crash.reached("redis: banned")

    async def waiting_since_s(self, pod: str, instance_id: str, since_s: float) -> float:
        await self.crash.reached("redis: waiting")
        return self.waiting.setdefault(instance_id, since_s)

    async def waits_no_more(self, pod: str, instance_id: str) -> None:
        await self.crash.reached("redis: waits no more")
        self.waiting.pop(instance_id, None)

    async def count_start(self, pod: str, ttl_s: float) -> int:
        await self.crash.reached("redis: start")
        self.starts += 1
        return self.starts

    async def forget_starts(self, pod: str) -> None:
        await self.crash.reached("redis: forget starts")
        self.starts = 0

    async def close(self) -> None:
        pass


class World:
    """What outlives each process of the proxy: clock, cloud, and (unless a test wipes it) the state folder."""

    def __init__(self, clock: clocks.ManualClock, folder: Path, *, query: Mapping[str, Any] | None = None) -> None:
        self.clock = clock
        self.folder = folder
        self.cloud = TemplateCloud(clock, [an_offer(number) for number in range(1, MANY)])
        self.about = abouts.About(
            pod_name=POD,
            template_name="my_web",
            image=IMAGE,
            login=launches.RegistryLogin("registry.example.com", "robot", "opensesame"),
            query=query or {"num_gpus": {"eq": 1}},
            cluster_id="east",
        )
        self.rules: abouts.Banning | None = None
        self.store = FakeStore()
        self.lives = 0
        self.keeper: keeper.Keeper
        self.front: FakeFront
        self.ended: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    def make(self, crash: crashes.CrashPoint | None = None) -> keeper.Keeper:
        """A process, not yet running."""
        crash = crash or crashes.CrashPoint()
        self.cloud.crash = crash
        self.front = FakeFront(crash)
        self.store.crash = crash
        store = cast(bans_.Store, self.store) if self.rules is not None else None
        banned = bans_.Bans(POD, "vast", self.rules, store, self.clock)
        note = renting.Note(self.folder / "attempt.json")
        renter = renting.Renter(self.cloud, self.about, banned.blacklist, note, self.clock)
        pace = abouts.Pace(template_s=30.0)
        front = cast(nginx.Nginx, self.front)
        return keeper.Keeper(
            self.cloud, self.about, pace, renter, note, banned, front, health.Health(), self.clock
        )  # fmt: skip

    def start(self, crash: crashes.CrashPoint | None = None) -> None:
        self.keeper = self.make(crash)
        self.lives += 1
        self._task = asyncio.create_task(
            supervise.supervise("proxy.keeper", self.keeper.run, clock=self.clock), name="proxy.keeper"
        )

    async def kill(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self.ended = self._task.exception()
            self._task = None

    async def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Lets time pass; whether `until` came true within `seconds`."""
        end_s = self.clock.now_s() + seconds
        while not until():
            if self.clock.now_s() >= end_s:
                return False
            if self._task is not None and self._task.done():
                await self.kill()
                return until()
            await self.clock.advance(0.5)
        return True

    @property
    def served_by(self) -> str:
        """The id of the instance that nginx points at; empty when at none."""
        return "" if self.front.upstream is None else str(self.front.upstream[1] - 40000)


@contextlib.asynccontextmanager
async def a_world(folder: Path, **about: Any) -> AsyncIterator[World]:
    world = World(clocks.ManualClock(), folder, **about)
    try:
        yield world
    finally:
        await world.kill()
