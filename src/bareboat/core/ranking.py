"""Filters and orders offers for one workload, and tells people what was left out and what would change that.

Pure. The order is total and repeatable: score, then price, then cloud and id. Several offers can stand for one machine
(a box let whole or in parts): `machine_count` counts boxes, and whoever takes an offer says which machines are out.
"""

import dataclasses
import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

from bareboat.core import advice, criteria, machines, matching, needs, offers, regions, scoring
from bareboat.core import history as history_


@dataclass(frozen=True, slots=True)
class Scored:
    """An offer that passes, its $/h with the workload's disk, and 0 to 100 points. `terms` as `scoring.TERMS`."""

    offer: offers.Offer
    usd_per_hour: float
    score: float
    terms: tuple[float, ...]

    @property
    def machine(self) -> machines.Key:
        return machines.key(self.offer)


class Ranked(Sequence[Scored]):
    """The offers that pass, best first. Built when looked at: a ranking of thousands is mostly asked for its first."""

    def __init__(
        self,
        passing: Sequence[offers.Offer],
        usd_per_hour: Sequence[float],
        totals: Sequence[float],
        terms: scoring.Columns,
        order: Sequence[int],
    ) -> None:
        self._passing = passing
        self._usd_per_hour = usd_per_hour
        self._totals = totals
        self._terms = terms
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, place: int) -> Scored: ...
    @overload
    def __getitem__(self, place: slice) -> list[Scored]: ...
    def __getitem__(self, place: int | slice) -> Scored | list[Scored]:
        if isinstance(place, slice):
            return [self._made(index) for index in self._order[place]]
        return self._made(self._order[place])

    def __iter__(self) -> Iterator[Scored]:
        return map(self._made, self._order)

    def offer(self, place: int) -> offers.Offer:
        """The offer at a place, without its figures."""
        return self._passing[self._order[place]]

    def usd_per_hour(self, place: int) -> float:
        return self._usd_per_hour[self._order[place]]

    def _made(self, index: int) -> Scored:
        return Scored(
            self._passing[index],
            self._usd_per_hour[index],
            self._totals[index],
            tuple(column[index] for column in self._terms),
        )


@dataclass(frozen=True)
class Ranking:
    """`seen` counts the offers looked at, `rejected` how many of them break each limit (one offer may break several),
    most first. `misses` are what would let more in, the most promising first."""

    seen: int
    machine_count: int
    ranked: Ranked
    rejected: dict[str, int]
    misses: tuple[advice.Miss, ...]
    wanted: needs.Needs
    weights: scoring.Weights
    view: scoring.View
    hint: str = ""

    @cached_property
    def sentence(self) -> str:
        """For an Event, a status message or the end of a table; at most a few hundred characters."""
        return advice.sentence(self.seen, len(self.ranked), self.machine_count, self.rejected, self.misses, self.hint)

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """The same with a line for each thought, and all of them: for a terminal."""
        return advice.lines(self.seen, len(self.ranked), self.machine_count, self.rejected, self.misses, self.hint)

    def best(self, without: Collection[machines.Key] = ()) -> Scored | None:
        """The first whose machine is not in `without`."""
        for place in range(len(self.ranked)):
            if not without or machines.key(self.ranked.offer(place)) not in without:
                return self.ranked[place]
        return None

    def explain(self, scored: Scored) -> tuple[scoring.Part, ...]:
        return scoring.explain(scored.offer, scored.usd_per_hour, scored.terms, self.weights, self.view)


def rank(
    several: Sequence[offers.Offer],
    wanted: needs.Needs,
    rules: criteria.Criteria | None = None,
    weights: scoring.Weights | None = None,
    situation: matching.Situation | None = None,
    *,
    past: history_.History | None = None,
    top: int | None = None,
) -> Ranking:
    """Everything that passes, best first; with `top`, only the best so many (counts and advice still tell of all)."""
    rules, weights, now = rules or criteria.Criteria(), weights or scoring.Weights(), situation or matching.Situation()
    if not wanted.gpu_count and weights.points()[1] < 100:
        # What a GPU can do is worth nothing to a workload that asks for none.
        weights = dataclasses.replace(weights, performance=0.0)
    in_force = matching.limits(wanted, rules, now)
    broken = [limit.fails(several) for limit in in_force]
    masks = _masks(len(several), broken)
    usd = matching.prices(several, wanted)
    passing_at = [index for index, mask in enumerate(masks) if not mask]
    passing = [several[index] for index in passing_at]
    usd_per_hour = [price for price in map(usd.__getitem__, passing_at) if price is not None]
    view = scoring.View(
        gpu_names=tuple(needs.canonical_gpu(name) for name in wanted.gpu_names or rules.preferred_gpus),
        regions=tuple(regions.canonical(place) for place in wanted.regions or rules.preferred_regions),
        latencies_ms=now.latencies_ms or {},
        past=past,
        now_s=now.now_s,
    )
    terms = scoring.columns(passing, usd_per_hour, view)
    totals = scoring.totals(terms, weights)
    hint = _misspelt(several, wanted)
    near = advice.misses(several, in_force, broken, masks)
    counts = {limit.name: len(indices) for limit, indices in zip(in_force, broken, strict=True) if indices}
    return Ranking(
        seen=len(several),
        machine_count=matching.machine_count(passing),
        ranked=Ranked(passing, usd_per_hour, totals, terms, _order(totals, usd_per_hour, passing, top)),
        rejected=dict(sorted(counts.items(), key=lambda item: -item[1])),
        # Whoever misspelt a name wants it spelt right, not another GPU.
        misses=tuple(miss for miss in near if not hint or miss.changes[0][0] != "GPU"),
        wanted=wanted,
        weights=weights,
        view=view,
        hint=hint,
    )


def _masks(count: int, broken: Sequence[list[int]]) -> list[int]:
    """A bit for each limit that the offer at that position breaks."""
    masks = [0] * count
    for place, indices in enumerate(broken):
        bit = 1 << place
        for index in indices:
            masks[index] |= bit
    return masks


def _order(
    totals: Sequence[float], usd_per_hour: Sequence[float], passing: Sequence[offers.Offer], top: int | None
) -> list[int]:
    def full(index: int) -> tuple[float, float, str, str]:
        offer = passing[index]
        return (-totals[index], usd_per_hour[index], offer.cloud, offer.id)

    if top is not None and top < len(totals):
        return heapq.nsmallest(top, range(len(totals)), key=full)
    # sorting by one float is three times as fast as by a tuple; ties are few, so they are put in order afterwards
    order = sorted(range(len(totals)), key=totals.__getitem__, reverse=True)
    start = 0
    while start < len(order) - 1:
        end = start + 1
        while end < len(order) and totals[order[end]] == totals[order[start]]:
            end += 1
        if end - start > 1:
            order[start:end] = sorted(order[start:end], key=full)
        start = end
    return order


def _misspelt(several: Sequence[offers.Offer], wanted: needs.Needs) -> str:
    """A word about GPU names that no offer at all has."""
    if not wanted.gpu_names or not several:
        return ""
    known = {offer.gpu_name for offer in several}
    there = {needs.canonical_gpu(name) for name in known}
    absent = [name for name in wanted.gpu_names if needs.canonical_gpu(name) not in there]
    if len(absent) < len(wanted.gpu_names):
        return ""
    near = matching.near_names(absent, sorted(known))
    hint = f"nobody offers {matching.show(tuple(absent))}"
    return f"{hint}; did you mean {matching.show(near)}?" if near else hint
