"""Hard limits. Each one that an offer breaks gives a reason with what was wanted and what was found.

What an unknown figure (None) means is stated for each limit in `UNKNOWN`. Limits are tested a column at a time over all
offers, because ranking tests twenty thousand of them at once.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from bareboat.core import blacklist, criteria, machines, needs, offers, regions

GPU_MEMORY_SLACK = 0.07
"""Boxes say 24 GB or 48 GB where the driver reports 23.99 or 44.99 GiB; 7 % lets a card pass for its nominal size and
still tells 24 from 22 and 12 from 11."""

FAILS, PASSES, DATACENTER = "fails", "passes", "passes in a datacenter, fails elsewhere"

UNKNOWN: Mapping[str, str] = {
    "GPU memory": FAILS,  # too little of it ends the workload
    "CPU": FAILS,
    "memory": FAILS,
    "CUDA": FAILS,
    "region": FAILS,
    "reliability": DATACENTER,  # clouds that run their machines themselves seldom rate them
    "download": DATACENTER,
    "upload": DATACENTER,
    "disk": PASSES,  # such clouds give each instance the disk that it asks for
    "ports": PASSES,  # and open the ports that are asked for
    "duration": PASSES,  # no known end
    "latency": PASSES,  # not every machine answers before it is rented
    "blocked region": PASSES,
    "banned": PASSES,
}
"""What becomes of an offer at a limit whose figure its cloud did not give. Other limits' figures are never None."""

Offers = Sequence[offers.Offer]
Fails = Callable[[Offers], list[int]]
Found = Callable[[offers.Offer], Any]


@dataclass(frozen=True, slots=True)
class Reason:
    """One limit that one offer breaks. `str()` is a phrase: `max price 0.35 $/h, found 0.41 $/h`."""

    limit: str
    wanted: Any
    found: Any
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.limit} {show(self.wanted, self.unit)}, found {show(self.found, self.unit)}"


@dataclass(frozen=True, slots=True)
class Limit:
    """One hard limit in force. `kind`: `most` and `least` compare numbers, `one-of` names, `yes` is a condition.

    `fails` gives the positions of the offers that break it, in rising order.
    """

    name: str
    kind: str
    wanted: Any
    unit: str
    fails: Fails
    found: Found


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known at the moment beside offers, needs and criteria. `latencies_ms` is by address."""

    now_s: float = 0.0
    bans: blacklist.Blacklist | None = None
    latencies_ms: Mapping[str, float] | None = None


def show(value: Any, unit: str = "") -> str:
    """A figure or name as people write it."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (tuple, frozenset, set)):
        return " or ".join(str(part) for part in value) or "none"
    if unit == "s":
        value, unit = (value / 3600.0, "h") if value < 48 * 3600 else (value / 86_400.0, "days")
    if isinstance(value, float):
        form = ".2f" if unit == "$/h" and value >= 0.1 else ".0f" if value >= 1000 else ".4g"
        value = format(value, form)
    return f"{value} {unit}".strip()


def joined(wanted: needs.Needs, rules: criteria.Criteria) -> needs.Needs:
    """The workload's needs with the installation's criteria in: its own word first, of two maximum prices the lower,
    of two reliability floors the one that no workload gets past."""

    def own(mine: float | None, theirs: float | None) -> float | None:
        return theirs if mine is None else mine

    caps = [price for price in (wanted.max_usd_per_hour, rules.max_usd_per_hour) if price is not None]
    reliability = own(wanted.min_reliability, rules.min_reliability)
    if rules.floor_reliability is not None:
        reliability = max(reliability or 0.0, rules.floor_reliability)
    places = wanted.regions or (rules.preferred_regions if rules.only_preferred_regions else ())
    return replace(
        wanted,
        gpu_memory_gib=own(wanted.gpu_memory_gib, rules.min_gpu_memory_gib),
        cpu_cores=own(wanted.cpu_cores, rules.min_cpu_cores),
        memory_gib=own(wanted.memory_gib, rules.min_memory_gib),
        max_usd_per_hour=min(caps, default=None),
        regions=tuple(regions.canonical(place) for place in places),
        min_reliability=reliability,
        min_inet_down_mbps=own(wanted.min_inet_down_mbps, rules.min_inet_down_mbps),
        min_cuda=own(wanted.min_cuda, rules.min_cuda),
        min_duration_s=own(wanted.min_duration_s, rules.min_duration_s),
        verified_only=wanted.verified_only if rules.verified_only is None else rules.verified_only,
    )


def prices(several: Offers, wanted: needs.Needs) -> list[float | None]:
    """$/h of each offer with the workload's disk, None where the wanted pricing can't be had; `Offer.price` in bulk."""
    months = wanted.disk_gib / offers.HOURS_PER_MONTH
    if wanted.pricing is needs.Pricing.ON_DEMAND:
        return [offer.usd_per_hour + offer.usd_per_gib_month * months for offer in several]
    return [
        None if offer.spot_usd_per_hour is None else offer.spot_usd_per_hour + offer.usd_per_gib_month * months
        for offer in several
    ]


def limits(wanted: needs.Needs, rules: criteria.Criteria, now: Situation) -> list[Limit]:
    """All limits in force for a workload."""
    both = joined(wanted, rules)
    several = (*_hardware(both, rules), *_terms(both, rules), *_network(both, rules, now), *_places(both, rules, now))
    return [limit for limit in several if limit is not None]


def check(
    offer: offers.Offer,
    wanted: needs.Needs,
    rules: criteria.Criteria | None = None,
    now: Situation | None = None,
) -> tuple[Reason, ...]:
    """Why this offer won't do; empty when it will. For one offer: many at once go through `ranking.rank`."""
    return reasons(offer, limits(wanted, rules or criteria.Criteria(), now or Situation()))


def reasons(offer: offers.Offer, in_force: Sequence[Limit]) -> tuple[Reason, ...]:
    """`check` with limits already made."""
    broken = [limit for limit in in_force if limit.fails([offer])]
    return tuple(Reason(limit.name, limit.wanted, limit.found(offer), limit.unit) for limit in broken)


def near_names(wanted: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """GPU names among `known` that a misspelt or shortened one of `wanted` may have meant: `H100` for `H100 SXM`."""
    by_canonical = {needs.canonical_gpu(name): name for name in known}
    near: dict[str, None] = {}
    for name in map(needs.canonical_gpu, wanted):
        longer = [other for other in by_canonical if len(name) > 2 and name in other]
        for match in longer or difflib.get_close_matches(name, list(by_canonical), n=2, cutoff=0.75):
            near[by_canonical[match]] = None
    return tuple(near)


def machine_count(several: Offers) -> int:
    """How many physical machines stand behind offers that may overlap."""
    return len({machines.key(offer) for offer in several})


def _hardware(both: needs.Needs, rules: criteria.Criteria) -> Iterator[Limit | None]:
    if both.clouds:
        yield _one_of("cloud", both.clouds, "cloud", lambda name: name in both.clouds)
    if both.gpu_names:
        names = frozenset(needs.canonical_gpu(name) for name in both.gpu_names)
        yield _one_of("GPU", both.gpu_names, "gpu_name", lambda name: needs.canonical_gpu(name) in names)
    if both.gpu_count > 0:
        yield _one_of("GPU count", both.gpu_count, "gpu_count", lambda count: count == both.gpu_count)
    memory_gib = both.gpu_memory_gib
    yield _least("GPU memory", memory_gib, "gpu_memory_gib", "GiB", bound=(memory_gib or 0.0) * (1 - GPU_MEMORY_SLACK))
    yield _least("CPU", both.cpu_cores, "cpu_cores", "cores")
    yield _least("memory", both.memory_gib, "memory_gib", "GiB")
    yield _least("disk", max(both.disk_gib, rules.min_disk_gib or 0.0), "disk_gib", "GiB")
    yield _least("CUDA", both.min_cuda, "cuda")


def _terms(both: needs.Needs, rules: criteria.Criteria) -> Iterator[Limit | None]:
    """Price, and whom one rents from."""
    if both.pricing is needs.Pricing.SPOT:
        spot = attrgetter("spot_usd_per_hour")
        yield Limit(
            "pricing",
            "yes",
            "spot",
            "",
            lambda several: [i for i, usd in enumerate(map(spot, several)) if usd is None],
            lambda offer: "on-demand only",
        )
    if both.max_usd_per_hour is not None:
        yield _max_price(both, both.max_usd_per_hour)
    if both.verified_only:
        yield _condition("verified", "verified")
    if rules.datacenter_only or both.datacenter:
        yield _condition("datacenter", "datacenter")
    if both.datacenter is False:
        yield _one_of("datacenter", False, "datacenter", lambda found: not found)
    yield _least("reliability", both.min_reliability, "reliability")
    yield _least("duration", both.min_duration_s, "duration_s", "s")


def _max_price(both: needs.Needs, most: float) -> Limit:
    return Limit(
        "max price",
        "most",
        most,
        "$/h",
        lambda several: [i for i, usd in enumerate(prices(several, both)) if usd is not None and usd > most],
        lambda offer: offer.price(both.disk_gib, both.pricing),
    )


def _network(both: needs.Needs, rules: criteria.Criteria, now: Situation) -> Iterator[Limit | None]:
    yield _least("download", both.min_inet_down_mbps, "inet_down_mbps", "Mb/s")
    yield _least("upload", rules.min_inet_up_mbps, "inet_up_mbps", "Mb/s")
    yield _least("ports", both.ports or None, "ports")
    measured, most_ms = now.latencies_ms, rules.max_latency_ms
    if measured and most_ms is not None and rules.latency_check:
        far = {address for address, ms in measured.items() if ms > most_ms}
        yield Limit(
            "latency",
            "most",
            most_ms,
            "ms",
            lambda several: [i for i, offer in enumerate(several) if offer.address in far],
            lambda offer: measured.get(offer.address or ""),
        )


def _places(both: needs.Needs, rules: criteria.Criteria, now: Situation) -> Iterator[Limit | None]:
    if both.regions:
        yield _one_of("region", both.regions, "region", lambda found: regions.place(found, both.regions) is not None)
    blocked = rules.blocked_regions
    if blocked:
        yield _one_of(
            "blocked region", f"not {show(blocked)}", "region", lambda found: regions.place(found, blocked) is None
        )
    bans = now.bans if now.bans is not None and now.bans.in_force(now.now_s) else None
    if not (bans or rules.blocked_hosts or rules.blocked_machines):
        return

    def why(offer: offers.Offer) -> str | None:
        if offer.host_id in rules.blocked_hosts:
            return f"host {offer.host_id}: blocked by the administrator"
        if offer.machine_id in rules.blocked_machines:
            return f"machine {offer.machine_id}: blocked by the administrator"
        ban = None if bans is None else bans.why(offer, now.now_s)
        return None if ban is None else str(ban)

    yield Limit("banned", "yes", "no", "", lambda several: [i for i, offer in enumerate(several) if why(offer)], why)


def _least(name: str, wanted: float | None, field: str, unit: str = "", bound: float | None = None) -> Limit | None:
    """At least `wanted` (tested against `bound` where that differs); None when nothing is wanted."""
    if not wanted:
        return None
    get = attrgetter(field)
    least = wanted if bound is None else bound
    rule = UNKNOWN[name]

    def fails(several: Offers) -> list[int]:
        if rule == PASSES:
            return [i for i, figure in enumerate(map(get, several)) if figure is not None and figure < least]
        broken = [i for i, figure in enumerate(map(get, several)) if figure is None or figure < least]
        if rule == FAILS:
            return broken
        return [i for i in broken if get(several[i]) is not None or not several[i].datacenter]

    return Limit(name, "least", wanted, unit, fails, get)


def _one_of(name: str, wanted: Any, field: str, good: Callable[[Any], bool]) -> Limit:
    """`good` is asked once for each different value, not once for each offer."""
    get = attrgetter(field)

    def fails(several: Offers) -> list[int]:
        values = list(map(get, several))
        passing = {value for value in set(values) if good(value)}
        return [i for i, value in enumerate(values) if value not in passing]

    return Limit(name, "one-of", wanted, "", fails, get)


def _condition(name: str, field: str) -> Limit:
    get = attrgetter(field)
    return Limit(name, "yes", True, "", lambda several: [i for i, yes in enumerate(map(get, several)) if not yes], get)
