"""Builders of offers, and what hypothesis draws them from."""

import dataclasses
from typing import Any

from hypothesis import strategies as st

from bareboat.core import offers

GOOD = offers.Offer(
    cloud="vast",
    id="1",
    gpu_name="RTX 4090",
    gpu_count=1,
    usd_per_hour=0.30,
    gpu_memory_gib=23.99,
    machine_id="m1",
    host_id="h1",
    spot_usd_per_hour=0.20,
    usd_per_gib_month=0.144,
    cpu_cores=16.0,
    memory_gib=64.0,
    disk_gib=500.0,
    region="US-CA",
    reliability=0.99,
    inet_up_mbps=500.0,
    inet_down_mbps=800.0,
    cuda=12.8,
    performance=40.0,
    ports=100,
    address="198.51.100.7",
    duration_s=30 * 86_400.0,
)


def an_offer(**changes: Any) -> offers.Offer:
    """A sound one, on a machine of its own unless `machine_id` is given."""
    if "id" in changes and "machine_id" not in changes:
        changes["machine_id"] = f"m{changes['id']}"
    return dataclasses.replace(GOOD, **changes)


def _maybe(figures: st.SearchStrategy[float]) -> st.SearchStrategy[float | None]:
    return st.none() | figures


some_offers = st.lists(
    st.builds(
        offers.Offer,
        cloud=st.sampled_from(["vast", "runpod"]),
        id=st.uuids().map(str),
        gpu_name=st.sampled_from(["RTX 4090", "rtx_4090", "RTX 3090", "H100 SXM", "L40S"]),
        gpu_count=st.sampled_from([1, 1, 2, 8]),
        usd_per_hour=st.floats(0, 20),
        gpu_memory_gib=_maybe(st.floats(0, 200)),
        machine_id=st.none() | st.sampled_from(["m1", "m2", "m3"]),
        host_id=st.none() | st.sampled_from(["h1", "h2"]),
        spot_usd_per_hour=_maybe(st.floats(0, 10)),
        usd_per_gib_month=st.floats(0, 1),
        cpu_cores=_maybe(st.floats(0, 64)),
        memory_gib=_maybe(st.floats(0, 512)),
        disk_gib=_maybe(st.floats(0, 2000)),
        region=st.sampled_from([None, "US-CA", "US", "CA-QC", "SE", "JP"]),
        reliability=_maybe(st.floats(0, 1)),
        verified=st.booleans(),
        datacenter=st.booleans(),
        inet_up_mbps=_maybe(st.floats(0, 10_000)),
        inet_down_mbps=_maybe(st.floats(0, 10_000)),
        cuda=_maybe(st.floats(10, 14)),
        performance=_maybe(st.floats(0, 500)),
        ports=st.none() | st.integers(0, 500),
        address=st.sampled_from([None, "198.51.100.1", "198.51.100.2"]),
        duration_s=_maybe(st.floats(0, 1e7)),
    ),
    max_size=25,
    unique_by=lambda offer: offer.id,
)
