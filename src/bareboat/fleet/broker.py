"""Finds the best offer for a workload and buys it, falling through to the next when it is gone.

One search serves every workload with the same needs for some seconds, and no offer is handed out twice from it. What it
may cost is reserved in the ledger before anything is bought. Writing the mark down first is the caller's part.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from bareboat.core import (
    blacklist,
    budget,
    criteria,
    errors,
    history,
    instances,
    labels,
    launches,
    machines,
    matching,
    needs,
    offers,
    ranking,
    scoring,
)
from bareboat.core import cloud as clouds
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()

FALL_THROUGH = 8
HANDED_OUT_S = 120.0
SEARCH_AGAIN_S = 1.0


class NoOffers(Exception):
    """Nothing on any cloud fits now. `sentence` says how many were seen and what came closest."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Selection:
    """How to choose: what holds for all workloads, and what counts how much."""

    rules: criteria.Criteria
    weights: scoring.Weights


@dataclass(frozen=True, slots=True)
class Choice:
    """An offer, its price with the workload's disk, and how many offers fitted out of how many."""

    offer: offers.Offer
    usd_per_hour: float
    score: float
    fitted: int
    seen: int
    origin: "tuple[_Shelf, int]" = field(repr=False, compare=False)


class Elsewhere(Exception):
    """The offer was gone, and the next best is on another cloud: nothing was bought, `choice` is reserved. The cloud of
    an attempt is written down before it is asked to rent, so this takes a new attempt."""

    def __init__(self, choice: Choice) -> None:
        super().__init__(f"the next best offer is {choice.offer.id} of {choice.offer.cloud}")
        self.choice = choice


@dataclass(slots=True)
class _Shelf:
    """A ranking from which offers are taken one by one. `unasked`: which clouds are not in it, and why."""

    ranking: ranking.Ranking
    searched_s: float
    left: deque[int]
    second: deque[int]
    unasked: str = ""


Latencies = Callable[
    [Sequence[offers.Offer], needs.Needs, Selection, matching.Situation], Awaitable[matching.Situation]
]
"""Adds measured round trips of the likeliest candidates to what is known."""


class Broker:
    """All clouds of one installation. Safe for many workloads at once."""

    def __init__(
        self,
        several: Mapping[str, clouds.Cloud],
        clock: clocks.Clock,
        ledger: budget.Ledger,
        *,
        selection: Callable[[], Selection],
        bans: blacklist.Blacklist | None = None,
        past: history.History | None = None,
        latencies: Latencies | None = None,
        rank: Callable[..., ranking.Ranking] = ranking.rank,
        shelf_life_s: float = 10.0,
    ) -> None:
        """`rank` puts offers in order as `ranking.rank` does, for whoever has an order of their own."""
        self.ledger = ledger
        self.bans = bans or blacklist.Blacklist()
        self.past = past or history.History()
        self._clouds = several
        self._clock = clock
        self._selection = selection
        self._latencies = latencies
        self._rank = rank
        self._shelf_life_s = shelf_life_s
        self._shelves: dict[needs.Needs, _Shelf] = {}
        self._searching: dict[needs.Needs, asyncio.Lock] = {}
        self._handed_out: dict[tuple[str, str], float] = {}
        self._busy_machines: dict[machines.Key, float] = {}

    async def choose(self, wanted: needs.Needs, avoid: Collection[str] = (), *, namespace: str | None = None) -> Choice:
        """The best offer not yet handed out, on none of the machines (ids) in `avoid`, that the namespace's caps leave
        room for where one does. At most one search per cloud.

        Raises `NoOffers`, or a `CloudError` when no cloud could be asked.
        """
        shelf = await self._shelf(wanted)
        room = None if namespace is None else self.ledger.room_usd_per_hour(namespace, self._clock.now_s())
        choice = self._take(shelf, avoid, room)
        if choice is None and shelf.ranking.ranked and self._clock.monotonic_s() - shelf.searched_s >= SEARCH_AGAIN_S:
            # All were handed out: others may be on offer by now. Of many that find so, one searches.
            if self._shelves.get(wanted) is shelf:
                del self._shelves[wanted]
            shelf = await self._shelf(wanted)
            choice = self._take(shelf, avoid, room)
        if choice is None and room is not None:
            choice = self._take(shelf, avoid, None)  # none fits the caps: reserving it says which cap, and by how much
        if choice is None:
            raise NoOffers(self._why_none(shelf))
        return choice

    def note(self, cloud: str, machine_id: str, *, good: bool) -> None:
        """One attempt on a machine went well (the workload ran) or badly: later rankings remember it."""
        if machine_id:
            self.past.note_machine((cloud, machine_id), good=good, now_s=self._clock.now_s())

    def put_back(self, choice: Choice) -> None:
        """Not rented after all: the next search may offer it to somebody else."""
        self._handed_out.pop((choice.offer.cloud, choice.offer.id), None)
        self._busy_machines.pop(machines.key(choice.offer), None)
        shelf, place = choice.origin
        shelf.left.appendleft(place)

    async def rent(
        self,
        choice: Choice,
        wanted: needs.Needs,
        launch: Callable[[offers.Offer], launches.Launch],
        mark: labels.Mark,
        *,
        namespace: str,
        avoid: Collection[str] = (),
    ) -> tuple[instances.Instance, Choice]:
        """Buys `choice`, or the next best when it is gone, under one mark: nothing was bought while offers were gone.

        The reservation of `choice` stands already (`reserve`); it moves with the choice and is released when nothing
        was bought for certain. Raises what `Cloud.rent` raises, `NoOffers` and `OverBudget`; after `OutcomeUnknown`,
        `Elsewhere` and cancellation the reservation stays.
        """
        for tries in range(FALL_THROUGH):
            try:
                bought = await self._clouds[choice.offer.cloud].rent(choice.offer, launch(choice.offer), mark)
            except errors.OfferGone as gone:
                log.info("offer.gone", cloud=gone.cloud, offer=choice.offer.id, why=gone.why, tries=tries + 1)
            except errors.OutcomeUnknown:
                raise
            except errors.CloudError as refused:
                self._unreserve(mark.owner_uid)
                if not isinstance(refused, errors.NoCapacity):
                    self.put_back(choice)
                raise
            else:
                return bought, choice
            cloud = choice.offer.cloud
            try:
                choice = await self.choose(wanted, avoid, namespace=namespace)
                self.reserve(mark.owner_uid, namespace, choice, wanted)
            except (NoOffers, budget.OverBudget, errors.CloudError):
                self._unreserve(mark.owner_uid)
                raise
            if choice.offer.cloud != cloud:
                raise Elsewhere(choice)
        self._unreserve(mark.owner_uid)
        self.put_back(choice)
        raise NoOffers(f"{FALL_THROUGH} offers in a row were taken by others between search and rent")

    def reserve(self, owner_uid: str, namespace: str, choice: Choice, wanted: needs.Needs) -> None:
        """Takes the price out of the caps. Raises `budget.OverBudget`; the offer is then free for others."""
        try:
            self.ledger.reserve(
                owner_uid,
                namespace,
                choice.usd_per_hour,
                self._clock.now_s(),
                cap_usd_per_hour=wanted.max_usd_per_hour,
            )
        except budget.OverBudget:
            self.put_back(choice)
            raise

    def _unreserve(self, owner_uid: str) -> None:
        self.ledger.release(owner_uid, self._clock.now_s(), bought=False)

    def _take(self, shelf: _Shelf, avoid: Collection[str], room_usd_per_hour: float | None) -> Choice | None:
        """From the best on: machines that were just rented from come second, since their other offers may be gone."""
        now_s = self._clock.monotonic_s()
        for queue, spare_busy in ((shelf.left, True), (shelf.second, False)):
            kept: list[int] = []
            found: int | None = None
            while queue and found is None:
                place = queue.popleft()
                offer = shelf.ranking.ranked.offer(place)
                if (offer.cloud, offer.id) in self._handed_out or self.bans.is_banned(offer, self._clock.now_s()):
                    continue
                too_dear = (
                    room_usd_per_hour is not None and shelf.ranking.ranked.usd_per_hour(place) > room_usd_per_hour
                )
                if too_dear or (offer.machine_id in avoid and offer.machine_id is not None):
                    kept.append(place)
                elif spare_busy and machines.key(offer) in self._busy_machines:
                    shelf.second.append(place)
                else:
                    found = place
            queue.extendleft(reversed(kept))
            if found is not None:
                return self._hand_out(shelf, found, now_s)
        return None

    def _hand_out(self, shelf: _Shelf, place: int, now_s: float) -> Choice:
        scored = shelf.ranking.ranked[place]
        self._handed_out[(scored.offer.cloud, scored.offer.id)] = now_s
        self._busy_machines[scored.machine] = now_s
        return Choice(
            scored.offer,
            scored.usd_per_hour,
            scored.score,
            len(shelf.ranking.ranked),
            shelf.ranking.seen,
            (shelf, place),
        )

    async def _shelf(self, wanted: needs.Needs) -> _Shelf:
        shelf = self._shelves.get(wanted)
        if shelf is not None and self._clock.monotonic_s() - shelf.searched_s < self._shelf_life_s:
            return shelf
        async with self._searching.setdefault(wanted, asyncio.Lock()):
            shelf = self._shelves.get(wanted)
            if shelf is None or self._clock.monotonic_s() - shelf.searched_s >= self._shelf_life_s:
                shelf = await self._search(wanted)
                self._tidy()
                self._shelves[wanted] = shelf
        return shelf

    async def _search(self, wanted: needs.Needs) -> _Shelf:
        asked = [cloud for name, cloud in self._clouds.items() if not wanted.clouds or name in wanted.clouds]
        if not asked:
            raise NoOffers(f"no cloud named {' or '.join(wanted.clouds)}; there is {', '.join(self._clouds)}")
        # With the installation's criteria in, a cloud that shows few offers a page shows those that can pass.
        narrowed = matching.joined(wanted, self._selection().rules)
        answers = await asyncio.gather(*(cloud.search(narrowed) for cloud in asked), return_exceptions=True)
        failures = [each for each in answers if isinstance(each, BaseException)]
        for failure in failures:
            if not isinstance(failure, errors.CloudError) or len(failures) == len(answers):
                raise failure
        found = [offer for each in answers if not isinstance(each, BaseException) for offer in each]
        shelf = await self._ranked(found, wanted)
        shelf.unasked = "; ".join(
            f"{each.cloud} could not be asked: {each.why}" for each in failures if isinstance(each, errors.CloudError)
        )
        return shelf

    @staticmethod
    def _why_none(shelf: _Shelf) -> str:
        fitted = len(shelf.ranking.ranked)
        told = shelf.ranking.sentence
        if fitted:
            those = "The one offer that fits is" if fitted == 1 else f"All {fitted} offers that fit are"
            told = f"{those} being rented by other pods or on a machine that failed lately"
        return f"{told.rstrip('.')}; {shelf.unasked}" if shelf.unasked else told

    async def _ranked(self, found: list[offers.Offer], wanted: needs.Needs) -> _Shelf:
        chosen = self._selection()
        situation = matching.Situation(now_s=self._clock.now_s(), bans=self.bans)
        if self._latencies is not None and chosen.rules.latency_check:
            situation = await self._latencies(found, wanted, chosen, situation)
        ranked = self._rank(found, wanted, chosen.rules, chosen.weights, situation, past=self.past)
        return _Shelf(ranked, self._clock.monotonic_s(), deque(range(len(ranked.ranked))), deque())

    def _tidy(self) -> None:
        """A fresh search shows what is on offer now; only what was handed out lately may still be on it."""
        old_s = self._clock.monotonic_s() - HANDED_OUT_S
        self._handed_out = {key: at_s for key, at_s in self._handed_out.items() if at_s > old_s}
        self._busy_machines.clear()
        expired_s = self._clock.monotonic_s() - self._shelf_life_s
        for key in [key for key, shelf in self._shelves.items() if shelf.searched_s < expired_s]:
            del self._shelves[key]
