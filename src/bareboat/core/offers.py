"""One machine (or part of one) that a cloud rents out, at a price, now."""

from dataclasses import dataclass, field
from typing import Any

from bareboat.core import needs as needs_

HOURS_PER_MONTH = 720


@dataclass(frozen=True, slots=True)
class Offer:
    """Figures a cloud did not give are None: unknown, not zero. An id is good for one rent at most.

    `usd_per_hour` is for all GPUs without disk; `usd_per_gib_month` is the disk's price. `spot_usd_per_hour` is the
    lowest bid that would win now. `memory_gib` and `cpu_cores` are the tenant's share. `raw` is the driver's own.
    """

    cloud: str
    id: str
    gpu_name: str
    gpu_count: int
    usd_per_hour: float
    gpu_memory_gib: float | None = None
    machine_id: str | None = None
    host_id: str | None = None
    spot_usd_per_hour: float | None = None
    usd_per_gib_month: float = 0.0
    cpu_cores: float | None = None
    memory_gib: float | None = None
    disk_gib: float | None = None
    region: str | None = None
    reliability: float | None = None
    verified: bool = True
    datacenter: bool = False
    inet_up_mbps: float | None = None
    inet_down_mbps: float | None = None
    usd_per_gb_up: float | None = None
    usd_per_gb_down: float | None = None
    cuda: float | None = None
    performance: float | None = None
    ports: int | None = None
    static_ip: bool = False
    address: str | None = None
    duration_s: float | None = None
    raw: Any = field(default=None, compare=False, repr=False)

    def price(self, disk_gib: float, pricing: needs_.Pricing = needs_.Pricing.ON_DEMAND) -> float | None:
        """$/h with `disk_gib` of disk; None when the offer can't be had at that pricing."""
        compute = self.usd_per_hour if pricing is needs_.Pricing.ON_DEMAND else self.spot_usd_per_hour
        if compute is None:
            return None
        return compute + self.usd_per_gib_month * disk_gib / HOURS_PER_MONTH
