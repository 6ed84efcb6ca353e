"""What a workload asks of a machine, independent of the cloud that has it."""

from dataclasses import dataclass
from enum import Enum


class Pricing(Enum):
    """How to pay: a fixed price, or a bid that can be outbid at any time."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"


@dataclass(frozen=True, slots=True)
class Needs:
    """Hard limits. Each is checked against each offer and gives a reason when it fails; None means no limit.

    `gpu_names` is in order of preference: the first is the one wanted, the others are fall-backs. Names compare
    without case, spaces, underscores and hyphens. `regions` narrows hard; preferences among regions are scoring's.
    `datacenter`: a data centre's machines alone (True), or those of private hosts alone (False).
    """

    gpu_count: int = 1
    gpu_names: tuple[str, ...] = ()
    gpu_memory_gib: float | None = None
    cpu_cores: float | None = None
    memory_gib: float | None = None
    disk_gib: float = 10.0
    ports: int = 0
    max_usd_per_hour: float | None = None
    regions: tuple[str, ...] = ()
    min_reliability: float | None = None
    min_inet_down_mbps: float | None = None
    min_cuda: float | None = None
    verified_only: bool = True
    min_duration_s: float | None = None
    pricing: Pricing = Pricing.ON_DEMAND
    clouds: tuple[str, ...] = ()
    datacenter: bool | None = None


def canonical_gpu(name: str) -> str:
    """A GPU's name with what users write differently taken out: `RTX_4090`, `rtx-4090` and `RTX 4090` are one."""
    return "".join(char for char in name.lower() if char not in " _-")
