"""From needs to Vast's query object: what the server narrows by, so that its cap of 64 answers isn't spent on others.

Each filter lets a little more through than the need allows, or exactly as much; the caller checks each offer again.
"""

from typing import Any

from bareboat.clouds.vast import gpus
from bareboat.core import needs as needs_
from bareboat.core import regions

PAGE = 64
"""The most that an answer has been seen to hold, whatever the limit."""

_SLACK = 0.02


def strict(wanted: needs_.Needs) -> dict[str, Any]:
    """All hard limits that the server can check."""
    query = category(wanted)
    if wanted.verified_only:
        query["verified"] = {"eq": True}
    if wanted.max_usd_per_hour is not None:
        query["dph_total"] = {"lte": round(wanted.max_usd_per_hour * (1 + _SLACK), 6)}
    if wanted.min_reliability is not None:
        query["reliability"] = {"gte": wanted.min_reliability}
    if wanted.min_inet_down_mbps is not None:
        query["inet_down"] = {"gte": wanted.min_inet_down_mbps}
    if wanted.min_cuda is not None:
        query["cuda_max_good"] = {"gte": wanted.min_cuda}
    if wanted.min_duration_s is not None:
        query["duration"] = {"gte": wanted.min_duration_s}
    if wanted.cpu_cores is not None:
        query["cpu_cores_effective"] = {"gte": wanted.cpu_cores}
    places = [regions.canonical(place) for place in wanted.regions]
    if places and all(map(regions.looks_right, places)):
        query["geolocation"] = {"in": sorted(frozenset().union(*map(regions.countries, places)))}
    return query


def category(wanted: needs_.Needs) -> dict[str, Any]:
    """Only what makes an offer comparable at all (GPU, count, pricing, disk): for near misses."""
    query: dict[str, Any] = {
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "external": {"eq": False},
        "type": "bid" if wanted.pricing is needs_.Pricing.SPOT else "on-demand",
        "allocated_storage": wanted.disk_gib,
        "order": [["dph_total", "asc"]],
        "limit": PAGE,
    }
    if wanted.gpu_count:
        query["num_gpus"] = {"eq": wanted.gpu_count}
    names = gpus.spelled(wanted.gpu_names)
    if names:
        query["gpu_name"] = {"in": names}
    if wanted.gpu_memory_gib is not None:
        # In MiB as the card reports them, which is up to half a GiB below its name.
        query["gpu_ram"] = {"gte": int((wanted.gpu_memory_gib - 0.5) * 1024)}
    if wanted.ports:
        query["direct_port_count"] = {"gte": wanted.ports}
    return query


def after(query: dict[str, Any], usd_per_hour: float) -> dict[str, Any]:
    """The same query from that price up: the next page, since Vast has no other kind."""
    return {**query, "dph_total": {**query.get("dph_total", {}), "gte": usd_per_hour}}
