"""A cloud in memory behind the seam: scripted errors, lists that lag, shrink and fail, and a book of all that was
ever rented, so that a test can ask what was paid for at the same time."""

import collections
import dataclasses
from collections.abc import Callable, Sequence

from tests.fakes import crashes

from bareboat.core import errors, labels, launches, needs, offers
from bareboat.core import instances as instances_
from bareboat.plumbing import clock as clocks

Change = Callable[[instances_.Instance], instances_.Instance]


@dataclasses.dataclass
class Rented:
    """One instance, for ever. `ended_s` is None while it bills."""

    id: str
    offer: offers.Offer
    label: str | None
    rented_s: float
    visible_s: float
    listed_s: float
    usd_per_hour: float
    ended_s: float | None = None
    state: instances_.State | None = None
    changes: dict[str, object] = dataclasses.field(default_factory=dict)

    @property
    def mark(self) -> labels.Mark | None:
        return labels.Mark.parse(self.label)

    @property
    def bills(self) -> bool:
        return self.ended_s is None


@dataclasses.dataclass
class Fault:
    """What one call does instead. `applied`: it happens all the same before the error comes."""

    error: errors.CloudError | None = None
    applied: bool = False


class FakeCloud:
    """`faults[method]` are used up one a call. Times are seconds of the clock."""

    def __init__(self, clock: clocks.Clock, name: str = "vast", *, offers_: Sequence[offers.Offer] = ()) -> None:
        self.name = name
        self.visibility_window_s = 20.0
        self.clock = clock
        self.on_offer = list(offers_)
        self.book: dict[str, Rented] = {}
        self.faults: dict[str, collections.deque[Fault]] = collections.defaultdict(collections.deque)
        self.calls: collections.Counter[str] = collections.Counter()
        self.crash = crashes.CrashPoint()
        self.boot_s = 4.0
        self.read_lag_s = 0.0
        self.list_lag_s = 0.0
        self.ghost_s = 0.0
        self.deaf_destroys = 0
        self.hidden: set[str] = set()
        """Missing from full lists, as when a page of them is lost; a read by mark is one short page of its own."""
        self.hidden_from_filters: set[str] = set()
        self.sold: set[str] = set()
        self.trespasses: list[str] = []
        self.next_id = 100
        self.asked: list[str] = []
        self.log_text: dict[str, str] = {}

    # What tests do to it

    def fail(self, method: str, *several: errors.CloudError, applied: bool = False) -> None:
        self.faults[method].extend(Fault(each, applied) for each in several)

    def rent_by_hand(self, label: str | None, **changes: object) -> Rented:
        """Somebody else's doing: visible at once."""
        offer = offers.Offer(cloud=self.name, id="by-hand", gpu_name="RTX 4090", gpu_count=1, usd_per_hour=0.5)
        box = self._box(offer, label, 0.0)
        box.changes.update(changes)
        return box

    def end_by_hand(self, instance_id: str) -> None:
        self.book[instance_id].ended_s = self.clock.now_s()

    @property
    def alive(self) -> list[Rented]:
        return [each for each in self.book.values() if each.bills]

    def alive_for(self, owner_uid: str) -> list[Rented]:
        return [each for each in self.alive if each.mark is not None and each.mark.owner_uid == owner_uid]

    def most_at_once(self, owner_uid: str) -> int:
        """The most instances that ever billed for one owner at the same time."""
        own = [each for each in self.book.values() if each.mark is not None and each.mark.owner_uid == owner_uid]
        return max((sum(other.rented_s <= each.rented_s and _lasts(other, each.rented_s) for other in own)
                    for each in own), default=0)  # fmt: skip

    # The seam

    async def search(self, wanted: needs.Needs) -> Sequence[offers.Offer]:
        await self._enter("search")
        return [each for each in self.on_offer if each.id not in self.sold]

    async def rent(self, offer: offers.Offer, launch: launches.Launch, mark: labels.Mark) -> instances_.Instance:
        self.calls["rent"] += 1
        await self.crash.reached("rent: before")
        fault = self.faults["rent"].popleft() if self.faults["rent"] else Fault()
        if fault.error is not None and not fault.applied:
            raise fault.error
        if offer.id in self.sold:
            raise errors.OfferGone(self.name, f"offer {offer.id} is no longer available")
        if self.alive_for(mark.owner_uid):
            self.trespasses.append(f"{mark} is rented while {self.alive_for(mark.owner_uid)} bills")
        self.sold.add(offer.id)
        box = self._box(offer, str(mark), self.read_lag_s)
        await self.crash.reached("rent: bought")
        if fault.error is not None:
            raise fault.error
        return dataclasses.replace(self._told(box), state=instances_.State.PROVISIONING)

    async def instances(self) -> instances_.Listing:
        now_s = self.clock.now_s()
        rows = tuple(self._told(each) for each in self._listable() if each.id not in self.hidden)
        await self._enter("instances")
        return instances_.Listing(rows, now_s)

    async def instance(self, instance_id: str) -> instances_.Instance | None:
        await self._enter("instance")
        box = self.book.get(instance_id)
        return self._told(box) if box is not None and box.bills and box.visible_s <= self.clock.now_s() else None

    async def marked(self, mark: labels.Mark) -> Sequence[instances_.Instance]:
        await self._enter("marked")
        lacking = self.hidden_from_filters
        return [self._told(each) for each in self._listable() if each.mark == mark and each.id not in lacking]

    async def destroy(self, instance_id: str) -> None:
        self.asked.append(f"destroy {instance_id}")
        await self._enter("destroy")
        box = self.book.get(instance_id)
        if box is None or not box.bills or box.visible_s > self.clock.now_s():
            return
        if self.deaf_destroys:
            self.deaf_destroys -= 1
            return
        box.ended_s = self.clock.now_s()
        await self.crash.reached("destroy: done")

    async def close(self) -> None:
        pass

    # Inside

    async def _enter(self, method: str) -> None:
        self.calls[method] += 1
        await self.crash.reached(method)
        if self.faults[method]:
            fault = self.faults[method].popleft()
            if fault.error is not None:
                raise fault.error

    def _box(self, offer: offers.Offer, label: str | None, lag_s: float) -> Rented:
        self.next_id += 1
        now_s = self.clock.now_s()
        price = offer.price(10.0) or 0.0
        listed_s = now_s + max(lag_s, self.list_lag_s if lag_s else 0.0)
        box = Rented(str(self.next_id), offer, label, now_s, now_s + lag_s, listed_s, price)
        self.book[box.id] = box
        return box

    def _listable(self) -> list[Rented]:
        now_s = self.clock.now_s()
        return [
            each
            for each in self.book.values()
            if each.listed_s <= now_s and (each.ended_s is None or now_s < each.ended_s + self.ghost_s)
        ]

    def _told(self, box: Rented) -> instances_.Instance:
        booting = self.clock.now_s() < box.rented_s + self.boot_s
        state = box.state or (instances_.State.STARTING if booting else instances_.State.RUNNING)
        told = instances_.Instance(
            cloud=self.name,
            id=box.id,
            state=state,
            label=box.label,
            machine_id=box.offer.machine_id,
            usd_per_hour=box.usd_per_hour,
            address="198.51.100.9",
        )
        return dataclasses.replace(told, **box.changes)  # type: ignore[arg-type]


def _lasts(box: Rented, at_s: float) -> bool:
    return box.ended_s is None or box.ended_s > at_s


class CountingCloud(FakeCloud):
    """One that has a census, and counts each page of 25 and each of a census's three calls."""

    paged = 0

    async def instances(self) -> instances_.Listing:
        listing = await super().instances()
        self.paged += max(1, -(-len(listing.instances) // 25))
        return listing

    async def census(self) -> instances_.Census:
        await self._enter("census")
        self.paged += 3
        listed = [self._told(each) for each in self._listable() if each.id not in self.hidden]
        unsettled = tuple(each for each in listed if each.state is not instances_.State.RUNNING)
        return instances_.Census(len(listed), unsettled, self.clock.now_s())


class LoggingCloud(FakeCloud):
    """One that keeps the output of its instances."""

    async def logs(self, instance_id: str, tail: int | None = None) -> str:
        await self._enter("logs")
        return self.log_text.get(instance_id, "")
