"""How good an offer that passes all limits is: five named terms from 0 to 1, weighed, in all 0 to 100 points.

price         cheapest / own price, both with disk: twice as dear is half as good
performance   √(own / best) of the clouds' performance figure
gpu_match     place in the workload's list of GPU names: first 1, i-th of n 1 − (i−1)/n; 1 when none is named
location      place in the ordered regions: first 1, the i-th of n 1 − 0.5·(i−1)/n, elsewhere 0.2, unknown 0.3; with a
              measured round trip half of it is 1 / (1 + rtt / 50 ms)
availability  0.4 reliability (0.9 → 0, 1.0 → 1) + 0.2 bandwidth (down / (down + 250 Mb/s)) + 0.1 verified
              + 0.1 datacenter + 0.2 history of our own attempts on that machine

An unknown figure counts 0.5, for nobody and against nobody. Cheaper is never worse: only `price` looks at prices.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bareboat.core import history, machines, needs, offers, regions

UNKNOWN = 0.5
ELSEWHERE = 0.2
NOWHERE = 0.3
HALF_LATENCY_MS = 50.0
HALF_BANDWIDTH_MBPS = 250.0
LEAST_PRICE_USD = 1e-6
TERMS = ("price", "performance", "gpu_match", "location", "availability")

Columns = tuple[list[float], list[float], list[float], list[float], list[float]]


@dataclass(frozen=True, slots=True)
class Weights:
    """Any figures from 0 up, not all 0; only their proportions count."""

    price: float = 30.0
    performance: float = 25.0
    gpu_match: float = 20.0
    location: float = 15.0
    availability: float = 10.0

    def __post_init__(self) -> None:
        for name in TERMS:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"weight {name} is {value}; allowed is any number from 0 up")
        if not sum(getattr(self, name) for name in TERMS) > 0:
            raise ValueError("all weights are 0; at least one has to be greater")

    def points(self) -> tuple[float, float, float, float, float]:
        """The most points that each term gives, in the order of `TERMS`; together 100."""
        all_ = (self.price, self.performance, self.gpu_match, self.location, self.availability)
        whole = sum(all_) / 100.0
        price, performance, gpu_match, location, availability = (weight / whole for weight in all_)
        return price, performance, gpu_match, location, availability


@dataclass(frozen=True, slots=True)
class View:
    """What the terms look at beside the offers. Names and codes are canonical, the best first."""

    gpu_names: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    latencies_ms: Mapping[str, float] = field(default_factory=dict)
    past: history.History | None = None
    now_s: float = 0.0


def columns(several: Sequence[offers.Offer], usd_per_hour: Sequence[float], view: View) -> Columns:
    """The five terms of each offer, a list for each term. Terms compare offers with each other: score them together."""
    return (
        price_terms(usd_per_hour),
        performance_terms(several),
        gpu_terms(several, view.gpu_names),
        location_terms(several, view),
        availability_terms(several, view),
    )


def totals(terms: Columns, weights: Weights) -> list[float]:
    """0 to 100 points for each offer."""
    a, b, c, d, e = weights.points()
    return [a * v + b * w + c * x + d * y + e * z for v, w, x, y, z in zip(*terms, strict=True)]


def price_terms(usd_per_hour: Sequence[float]) -> list[float]:
    if not usd_per_hour:
        return []
    cheapest = max(min(usd_per_hour), LEAST_PRICE_USD)
    return [cheapest / usd if usd > cheapest else 1.0 for usd in usd_per_hour]


def performance_terms(several: Sequence[offers.Offer]) -> list[float]:
    figures = [offer.performance for offer in several]
    best = max((figure for figure in figures if figure is not None), default=0.0)
    if best <= 0:
        return [UNKNOWN] * len(figures)
    root = math.sqrt
    return [UNKNOWN if figure is None else root(figure / best) if figure > 0 else 0.0 for figure in figures]


def gpu_terms(several: Sequence[offers.Offer], names: tuple[str, ...]) -> list[float]:
    if not names:
        return [1.0] * len(several)
    by_canonical = {name: 1.0 - index / len(names) for index, name in reversed(list(enumerate(names)))}
    raw = {offer.gpu_name for offer in several}
    value = {name: by_canonical.get(needs.canonical_gpu(name), 0.0) for name in raw}
    return [value[offer.gpu_name] for offer in several]


def region_value(region: str | None, ordered: tuple[str, ...]) -> float:
    if not ordered:
        return 1.0
    if not region:
        return NOWHERE
    index = regions.place(region, ordered)
    return ELSEWHERE if index is None else 1.0 - 0.5 * index / len(ordered)


def latency_value(round_trip_ms: float) -> float:
    return 1.0 / (1.0 + max(0.0, round_trip_ms) / HALF_LATENCY_MS)


def location_terms(several: Sequence[offers.Offer], view: View) -> list[float]:
    value = {region: region_value(region, view.regions) for region in {offer.region for offer in several}}
    if not view.latencies_ms:
        return [value[offer.region] for offer in several]
    near = {address: latency_value(ms) for address, ms in view.latencies_ms.items()}
    return [
        (value[offer.region] + near[offer.address]) / 2 if offer.address in near else value[offer.region]
        for offer in several
    ]


def reliability_value(reliability: float | None) -> float:
    if reliability is None:
        return UNKNOWN
    return min(1.0, max(0.0, (reliability - 0.9) * 10.0))


def bandwidth_value(down_mbps: float | None) -> float:
    return UNKNOWN if down_mbps is None else max(0.0, down_mbps) / (max(0.0, down_mbps) + HALF_BANDWIDTH_MBPS)


def history_value(offer: offers.Offer, view: View) -> float:
    return UNKNOWN if not view.past else view.past.score(machines.key(offer), view.now_s)


def availability_terms(several: Sequence[offers.Offer], view: View) -> list[float]:
    untried = 0.2 * UNKNOWN
    terms: list[float] = []
    add = terms.append
    for offer in several:
        # the same as reliability_value and bandwidth_value, written out: two calls for each offer cost a third more
        reliability, down = offer.reliability, offer.inet_down_mbps
        if reliability is None:
            value = 0.2 + untried
        elif reliability >= 1.0:
            value = 0.4 + untried
        elif reliability > 0.9:
            value = (reliability - 0.9) * 4.0 + untried
        else:
            value = untried
        value += 0.1 if down is None else 0.2 * down / (down + HALF_BANDWIDTH_MBPS) if down > 0 else 0.0
        if offer.verified:
            value += 0.1
        if offer.datacenter:
            value += 0.1
        add(value)
    if view.past:
        score, key, now_s = view.past.score, machines.key, view.now_s
        return [value - untried + 0.2 * score(key(offer), now_s) for value, offer in zip(terms, several, strict=True)]
    return terms


@dataclass(frozen=True, slots=True)
class Part:
    """One line of an explanation: `points` of at most `of` from what the offer has, in words."""

    name: str
    points: float
    of: float
    why: str


def explain(
    offer: offers.Offer, usd_per_hour: float, terms: Sequence[float], weights: Weights, view: View
) -> tuple[Part, ...]:
    """Where one offer's points come from; they add up to its total. `terms` is its row of `columns`."""
    of = dict(zip(TERMS, weights.points(), strict=True))
    row = dict(zip(TERMS, terms, strict=True))
    near_ms = view.latencies_ms.get(offer.address or "")
    share = 1.0 if near_ms is None else 0.5
    parts = [
        Part("price", of["price"] * row["price"], of["price"], f"{usd_per_hour:.3f} $/h with disk"),
        Part("performance", of["performance"] * row["performance"], of["performance"], _told(offer.performance, "", 1)),
        Part("GPU match", of["gpu_match"] * row["gpu_match"], of["gpu_match"], offer.gpu_name),
        Part(
            "region",
            of["location"] * share * region_value(offer.region, view.regions),
            of["location"] * share,
            offer.region or "unknown",
        ),
    ]
    if near_ms is not None:
        most = of["location"] * share
        parts.append(Part("latency", most * latency_value(near_ms), most, f"{near_ms:.0f} ms"))
    reliable, down = offer.reliability, offer.inet_down_mbps
    whole = of["availability"]
    past = history_value(offer, view)
    trust = (0.1 if offer.verified else 0.0) + (0.1 if offer.datacenter else 0.0)
    who = " ".join(word for word, yes in (("verified", offer.verified), ("datacenter", offer.datacenter)) if yes)
    parts += [
        Part("reliability", whole * 0.4 * reliability_value(reliable), whole * 0.4, _told(reliable, "", 4)),
        Part("bandwidth", whole * 0.2 * bandwidth_value(down), whole * 0.2, _told(down, " Mb/s down", 0)),
        Part("trust", whole * trust, whole * 0.2, who or "not verified"),
        Part("history", whole * 0.2 * past, whole * 0.2, "no attempts yet" if past == UNKNOWN else f"{past:.2f}"),
    ]
    return tuple(parts)


def _told(figure: float | None, unit: str, digits: int) -> str:
    return "unknown" if figure is None else f"{figure:.{digits}f}{unit}"
