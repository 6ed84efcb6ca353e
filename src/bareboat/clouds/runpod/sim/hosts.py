"""The simulated RunPod's hardware: GPU types with their prices, data centres, and the machines behind them.

Prices are round figures near those that have been seen; spot prices and the number of machines are invented.
"""

import random
from typing import NamedTuple

from bareboat.simulation import hardware, world

FIRST_MACHINE_ID = 60_000
DAY_S = 86_400.0
DISK_USD_PER_GB_MONTH = 0.10
STOPPED_VOLUME_USD_PER_GB_MONTH = 0.20


class GpuType(NamedTuple):
    """One row of the catalogue: prices in $/h of one GPU, None where it isn't offered."""

    id: str
    name: str
    memory_gb: int
    secure: float | None
    community: float | None
    secure_spot: float | None
    community_spot: float | None
    pool: str | None = None
    manufacturer: str = "NVIDIA"


TYPES = (
    GpuType("NVIDIA RTX A4000", "RTX A4000", 16, 0.25, 0.17, 0.14, 0.09, "AMPERE_16"),
    GpuType("NVIDIA RTX A4500", "RTX A4500", 20, 0.25, 0.19, 0.14, 0.10),
    GpuType("NVIDIA RTX A5000", "RTX A5000", 24, 0.27, 0.16, 0.15, 0.09, "AMPERE_24"),
    GpuType("NVIDIA GeForce RTX 3090", "RTX 3090", 24, 0.46, 0.22, 0.24, 0.11, "AMPERE_24"),
    GpuType("NVIDIA L4", "L4", 24, 0.44, 0.34, 0.27, 0.18, "AMPERE_24"),
    GpuType("NVIDIA GeForce RTX 4090", "RTX 4090", 24, 0.69, 0.34, 0.35, 0.20, "ADA_24"),
    GpuType("NVIDIA GeForce RTX 5090", "RTX 5090", 32, 0.99, 0.69, 0.53, 0.40),
    GpuType("NVIDIA A40", "A40", 48, 0.44, 0.34, 0.20, 0.17, "AMPERE_48"),
    GpuType("NVIDIA RTX A6000", "RTX A6000", 48, 0.49, 0.33, 0.25, 0.17, "AMPERE_48"),
    GpuType("NVIDIA L40S", "L40S", 48, 0.86, 0.79, 0.43, 0.36, "ADA_48_PRO"),
    GpuType("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", 48, 0.77, 0.74, 0.40, 0.36, "ADA_48_PRO"),
    GpuType("NVIDIA A100 80GB PCIe", "A100 PCIe", 80, 1.39, 1.19, 0.82, 0.60, "AMPERE_80"),
    GpuType("NVIDIA A100-SXM4-80GB", "A100 SXM", 80, 1.49, 1.39, 0.95, 0.79, "AMPERE_80"),
    GpuType("NVIDIA H100 PCIe", "H100 PCIe", 80, 2.39, 1.99, 1.35, 1.20, "ADA_80_PRO"),
    GpuType("NVIDIA H100 80GB HBM3", "H100 SXM", 80, 2.99, 2.69, 1.75, 1.50, "ADA_80_PRO"),
    GpuType("NVIDIA H200", "H200 SXM", 141, 3.99, 3.59, 2.29, None, "HOPPER_141"),
    GpuType("NVIDIA B200", "B200", 180, 5.99, None, 3.59, None),
    GpuType("AMD Instinct MI300X OAM", "MI300X", 192, 2.49, None, None, None, None, "AMD"),
)
BY_ID = {each.id: each for each in TYPES}

DATA_CENTERS = [
    "EU-RO-1",
    "CA-MTL-1",
    "EU-SE-1",
    "US-IL-1",
    "EUR-IS-1",
    "EU-CZ-1",
    "US-TX-3",
    "EUR-IS-2",
    "US-KS-2",
    "US-GA-2",
    "US-WA-1",
    "US-TX-1",
    "CA-MTL-3",
    "EU-NL-1",
    "US-TX-4",
    "US-CA-2",
    "US-NC-1",
    "OC-AU-1",
    "US-DE-1",
    "EUR-IS-3",
    "CA-MTL-2",
    "AP-JP-1",
    "EUR-NO-1",
    "EU-FR-1",
    "US-KS-3",
    "US-GA-1",
]
COUNTRIES = ("US", "CA", "SE", "RO", "CZ", "NL", "FR", "NO", "IS", "BG", "PL", "AU")

_CUDA = (("570.124.04", 12.8), ("570.133.20", 12.8), ("580.65.06", 13.0), ("560.35.05", 12.6))


def grow(seed: int, start_s: float) -> list[world.Host]:
    """Every machine of the cloud; the same seed gives the same ones."""
    hosts: list[world.Host] = []
    for kind in TYPES:
        dice = random.Random(f"{seed}:runpod:{kind.id}")
        if kind.secure is not None:
            for place in sorted(dice.sample(DATA_CENTERS, 3 if kind.secure > 2 else 5)):
                for _ in range(dice.choice((1, 2, 4))):
                    hosts.append(_host(len(hosts), kind, place, dice, start_s, secure=True))
        if kind.community is not None:
            for _ in range(dice.choice((3, 5, 8))):
                hosts.append(_host(len(hosts), kind, dice.choice(COUNTRIES), dice, start_s, secure=False))
    return hosts


def _host(index: int, kind: GpuType, place: str, dice: random.Random, start_s: float, *, secure: bool) -> world.Host:
    gpus = 8 if secure else dice.choice((1, 2, 4))
    driver, cuda = dice.choice(_CUDA)
    usd, spot = (kind.secure, kind.secure_spot) if secure else (kind.community, kind.community_spot)
    assert usd is not None
    cores, ram_gb = (16, 94) if secure else (8, 48)
    processor = hardware.Processor("AMD EPYC 9354 32-Core Processor", cores * gpus, 3.2, ram_gb * 1024 * gpus)
    return world.Host(
        machine_id=FIRST_MACHINE_ID + index,
        owner_id=1 if secure else 100 + index,
        gpu=_model(kind, usd),
        gpus=gpus,
        driver=driver,
        cuda=cuda,
        cpu=processor,
        disk_gb=8000.0,
        disk_mb_per_s=4000.0,
        down_mbps=5000.0 if secure else dice.uniform(300, 1500),
        up_mbps=3000.0 if secure else dice.uniform(100, 900),
        down_usd_per_gb=0.0,
        up_usd_per_gb=0.0,
        direct_ports=10_000,
        public_ip=f"203.0.113.{index % 250 + 1}",
        static_ip=secure,
        place=place,
        reliability=0.999 if secure else 0.98,
        verified=True,
        datacenter=secure,
        usd_per_gpu_hour=usd,
        bid_share=spot / usd if spot is not None else 1.0,
        storage_usd_per_gb_month=DISK_USD_PER_GB_MONTH,
        listed_s=start_s - 100 * DAY_S,
        ends_s=start_s + 3650 * DAY_S,
        pcie_gb_per_s=50.0,
        first_asks={},
    )


def _model(kind: GpuType, usd_per_hour: float) -> hardware.GpuModel:
    return hardware.GpuModel(
        name=kind.id,
        ram_mb=kind.memory_gb * 1024,
        compute_cap=890,
        mem_bw_gb_per_s=1000.0,
        power_w=350,
        tflops=50.0,
        dlperf=30.0,
        nvlink_gb_per_s=0,
        pci_gen=5,
        usd_per_hour=usd_per_hour,
        storage_usd_per_gb_month=DISK_USD_PER_GB_MONTH,
        weight=1,
        datacenter_share=1.0,
        sizes=(1, 2, 4, 8),
        arch="nvidia" if kind.manufacturer == "NVIDIA" else "amd",
    )
