"""What would let more offers in, as in `3 more if max price were 0.41 $/h`: words for people, decides nothing."""

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bareboat.core import matching, offers

STEP = 3
"""A suggestion goes just far enough for so many more offers: "anything if money is no object" helps nobody."""


_ORDER = {"max price": 0, "GPU count": 2, "GPU": 3}
"""What people would rather change comes first; another kind of machine comes last."""


@dataclass(frozen=True, slots=True)
class Miss:
    """`count` more offers would pass if each limit in `changes` ((name, phrase) pairs) moved as its phrase says."""

    count: int
    changes: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.count} more if " + " and ".join(phrase for _, phrase in self.changes)


def misses(
    several: Sequence[offers.Offer],
    in_force: Sequence[matching.Limit],
    broken: Sequence[Sequence[int]],
    masks: Sequence[int],
) -> tuple[Miss, ...]:
    """Of the offers that break one limit alone; if there are none, of the one that needs the fewest changes.

    `broken` holds for each limit the positions of the offers that break it, `masks` for each offer a bit per limit.
    """
    found = []
    for place, limit in enumerate(in_force):
        bit = 1 << place
        alone = [several[index] for index in broken[place] if masks[index] == bit]
        if alone:
            found.extend(_moves(limit, alone))
    if not found and in_force:
        found = _several_changes(several, in_force, masks)
    return tuple(sorted(found, key=lambda miss: _ORDER.get(miss.changes[0][0], 1)))


def sentence(
    seen: int, passing: int, boxes: int, rejected: Mapping[str, int], near: Sequence[Miss], hint: str = ""
) -> str:
    """For an Event: a few hundred characters. "No offer" is told apart from "none that fits"."""
    head, *more = lines(seen, passing, boxes, dict(list(rejected.items())[:5]), near[:3], hint)
    told = "; ".join(more[: len(near[:3])])
    parts = [head, *([told[0].upper() + told[1:]] if told else []), *more[len(near[:3]) :]]
    return ". ".join(parts) + ("" if parts[-1].endswith("?") else ".")


def lines(
    seen: int, passing: int, boxes: int, rejected: Mapping[str, int], near: Sequence[Miss], hint: str = ""
) -> tuple[str, ...]:
    """What was found and left out, then each near miss, then the hint, without full stops."""
    if not seen:
        return ("The cloud has no offer at all for this",)
    if passing:
        head = f"{passing} of {seen} offers fit" if passing != 1 else f"1 of {seen} offers fits"
        head += f", on {boxes} machines" if 1 < boxes < passing else ", all on one machine" if boxes < passing else ""
    else:
        head = f"None of {seen} offers fits" if seen != 1 else "The only offer does not fit"
    left_out = ", ".join(f"{count} for {name}" for name, count in rejected.items())
    if left_out:
        head += f"; left out: {left_out}"
    return (head, *(str(miss) for miss in near), *([hint[0].upper() + hint[1:]] if hint else []))


def _moves(limit: matching.Limit, alone: Sequence[offers.Offer]) -> list[Miss]:
    """What moving this limit by itself brings."""
    figures = [limit.found(offer) for offer in alone]
    known = [figure for figure in figures if figure is not None]
    if limit.kind in ("most", "least"):
        return [_number(limit, known)] if known else [Miss(len(alone), ((limit.name, _unknown(limit)),))]
    if limit.kind == "one-of" and limit.name != "blocked region":
        return [
            Miss(count, ((limit.name, f"{limit.name} were {matching.show(name)}"),))
            for name, count in Counter(figures).most_common(1)
        ]
    return [Miss(len(alone), ((limit.name, _lifted(limit)),))]


def _number(limit: matching.Limit, known: Sequence[float]) -> Miss:
    if limit.kind == "most":
        bound = _rounded(heapq.nsmallest(STEP, known)[-1], up=True, unit=limit.unit)
        count = sum(figure <= bound for figure in known)
    else:
        bound = _rounded(heapq.nlargest(STEP, known)[-1], up=False, unit=limit.unit)
        count = sum(figure >= bound for figure in known)
    return Miss(count, ((limit.name, f"{limit.name} were {matching.show(bound, limit.unit)}"),))


def _rounded(figure: float, *, up: bool, unit: str) -> float:
    """To the side that keeps the promise, so that a bound as it is printed lets the offers in."""
    digits = 2 if unit == "$/h" and figure >= 0.1 else 3 - math.ceil(math.log10(figure)) if figure > 0 else 0
    digits = min(max(0, digits), 9)
    bound = round(figure, digits)
    if (bound < figure) if up else (bound > figure):
        bound = round(bound + (10.0**-digits if up else -(10.0**-digits)), digits)
    return bound


def _unknown(limit: matching.Limit) -> str:
    return f"an unknown {limit.name} were allowed"


def _lifted(limit: matching.Limit) -> str:
    return {
        "verified": "unverified machines were allowed",
        "datacenter": "machines outside datacenters were allowed",
        "pricing": "pricing were on-demand",
        "banned": "no machine were banned",
        "blocked region": "no region were blocked",
    }.get(limit.name, f"{limit.name} did not count")


def _several_changes(
    several: Sequence[offers.Offer], in_force: Sequence[matching.Limit], masks: Sequence[int]
) -> list[Miss]:
    fewest = min((mask.bit_count() for mask in masks), default=0)
    if not 2 <= fewest <= 3:
        return []
    mask = Counter(mask for mask in masks if mask.bit_count() == fewest).most_common(1)[0][0]
    group = [offer for offer, own in zip(several, masks, strict=True) if own == mask]
    changed = [limit for place, limit in enumerate(in_force) if mask >> place & 1]
    nearest = min(group, key=lambda offer: _distance(changed, offer))
    changes = tuple(change for limit in changed for change in _moves(limit, [nearest])[0].changes)
    return [Miss(1, changes)]


def _distance(changed: Sequence[matching.Limit], offer: offers.Offer) -> float:
    """How far one offer is from the numbers wanted, in shares of them."""
    far = 0.0
    for limit in changed:
        found = limit.found(offer)
        if limit.kind in ("most", "least") and limit.wanted:
            far += 1.0 if found is None else abs(found - limit.wanted) / abs(limit.wanted)
    return far
