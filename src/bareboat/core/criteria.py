"""What an installation asks of every machine and prefers among machines, beside what each workload asks.

A pod's own word goes before a criterion, except where money or safety is at stake: of two maximum prices the lower
holds, and blocked places, hosts and machines stay blocked.
"""

from dataclasses import dataclass

NORTH_AMERICA = ("US-CA", "US-TX", "US-NY", "US", "CA")
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Criteria:
    """None means no limit.

    `preferred_regions` (canonical, best first) only move the score unless `only_preferred_regions` is set.
    `preferred_gpus` move the score of workloads that name no GPU. `min_*`, `max_latency_ms`: for workloads that don't
    say otherwise. `floor_reliability`, `max_usd_per_hour`: no workload gets past them. `verified_only`: None leaves it
    to the workload, True binds all, False lets every workload onto unverified machines.
    """

    preferred_regions: tuple[str, ...] = NORTH_AMERICA
    only_preferred_regions: bool = False
    blocked_regions: tuple[str, ...] = ()
    blocked_hosts: frozenset[str] = frozenset()
    blocked_machines: frozenset[str] = frozenset()
    preferred_gpus: tuple[str, ...] = ()
    max_usd_per_hour: float | None = None
    min_reliability: float | None = 0.9
    floor_reliability: float | None = None
    min_gpu_memory_gib: float | None = None
    min_inet_down_mbps: float | None = 100.0
    min_inet_up_mbps: float | None = None
    min_cpu_cores: float | None = None
    min_memory_gib: float | None = None
    min_disk_gib: float | None = None
    min_cuda: float | None = None
    min_duration_s: float | None = DAY_S
    verified_only: bool | None = None
    datacenter_only: bool = False
    max_latency_ms: float | None = 50.0
    latency_check: bool = True
