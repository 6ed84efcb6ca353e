"""Synthetic GPU models, processors and places from which a world is grown. Every figure is invented or a data sheet's
round number; no price or host is real."""

from typing import NamedTuple


class GpuModel(NamedTuple):
    """One kind of GPU; `usd_per_hour`, `tflops` and `dlperf` are of one GPU, `sizes` how many a machine may hold."""

    name: str
    ram_mb: int
    compute_cap: int
    mem_bw_gb_per_s: float
    power_w: float
    tflops: float
    dlperf: float
    nvlink_gb_per_s: float
    pci_gen: float
    usd_per_hour: float
    storage_usd_per_gb_month: float
    weight: int
    datacenter_share: float
    sizes: tuple[int, ...]
    arch: str = "nvidia"


class Processor(NamedTuple):
    name: str
    cores: int
    ghz: float
    ram_mb: int


SMALL = (1, 1, 2, 4)
MID = (1, 2, 4, 8)
LARGE = (4, 8, 8)

GPUS = (
    GpuModel("RTX 3060", 12288, 860, 287.6, 170, 12.7, 5.9, 0, 4, 0.061, 0.13, 6, 0.0, SMALL),
    GpuModel("RTX 3070", 8192, 860, 396.2, 220, 20.3, 8.1, 0, 4, 0.072, 0.12, 3, 0.0, SMALL),
    GpuModel("RTX 3080", 10240, 860, 684.0, 320, 29.8, 11.2, 0, 4, 0.104, 0.13, 4, 0.0, SMALL),
    GpuModel("RTX 3090", 24576, 860, 813.5, 350, 35.6, 14.1, 0, 4, 0.162, 0.15, 9, 0.1, MID),
    GpuModel("RTX 4070S Ti", 16376, 890, 672.0, 285, 44.1, 20.6, 0, 4, 0.158, 0.12, 3, 0.0, SMALL),
    GpuModel("RTX 4080", 16376, 890, 716.8, 320, 48.7, 22.9, 0, 4, 0.212, 0.13, 4, 0.0, SMALL),
    GpuModel("RTX 4090", 24564, 890, 1008.0, 450, 82.6, 37.4, 0, 4, 0.334, 0.12, 14, 0.35, MID),
    GpuModel("RTX 4090D", 24564, 890, 1008.0, 425, 73.5, 33.1, 0, 4, 0.312, 0.14, 2, 0.2, MID),
    GpuModel("RTX 5080", 16303, 1200, 960.0, 360, 56.3, 33.4, 0, 5, 0.281, 0.13, 4, 0.1, SMALL),
    GpuModel("RTX 5090", 32607, 1200, 1792.0, 575, 104.8, 58.2, 0, 5, 0.486, 0.14, 11, 0.3, MID),
    GpuModel("RTX A4000", 16376, 860, 448.0, 140, 19.2, 8.9, 0, 4, 0.114, 0.14, 3, 0.3, MID),
    GpuModel("RTX A6000", 49140, 860, 768.0, 300, 38.7, 19.3, 0, 4, 0.412, 0.16, 5, 0.6, MID),
    GpuModel("RTX 6000Ada", 49140, 890, 960.0, 300, 91.1, 40.2, 0, 4, 0.662, 0.17, 4, 0.7, MID),
    GpuModel("RTX PRO 6000 WS", 97887, 1200, 1792.0, 600, 126.0, 66.3, 0, 5, 1.152, 0.18, 3, 0.5, MID),
    GpuModel("L4", 23034, 890, 300.0, 72, 30.3, 9.4, 0, 4, 0.298, 0.18, 2, 0.9, MID),
    GpuModel("L40S", 46068, 890, 864.0, 350, 91.6, 41.0, 0, 4, 0.561, 0.20, 5, 0.9, MID),
    GpuModel("A100 PCIE", 81920, 800, 1935.0, 300, 19.5, 41.8, 0, 4, 0.774, 0.20, 4, 0.8, MID),
    GpuModel("A100 SXM4", 81920, 800, 2039.0, 400, 19.5, 43.7, 600, 4, 0.842, 0.22, 5, 1.0, LARGE),
    GpuModel("H100 PCIE", 81559, 900, 2000.0, 350, 51.2, 79.4, 0, 5, 1.911, 0.22, 2, 1.0, MID),
    GpuModel("H100 SXM", 81559, 900, 3350.0, 700, 66.9, 94.4, 900, 5, 2.240, 0.25, 5, 1.0, LARGE),
    GpuModel("H100 NVL", 95830, 900, 3938.0, 400, 60.3, 86.2, 600, 5, 2.031, 0.24, 2, 1.0, MID),
    GpuModel("H200", 143771, 900, 4800.0, 700, 66.9, 101.5, 900, 5, 2.790, 0.25, 3, 1.0, LARGE),
    GpuModel("B200", 183359, 1000, 8000.0, 1000, 80.0, 155.0, 1800, 5, 4.120, 0.28, 1, 1.0, LARGE),
    GpuModel("Tesla V100", 16384, 700, 897.0, 300, 15.7, 21.0, 150, 3, 0.094, 0.11, 4, 0.3, MID),
    GpuModel("Tesla T4", 15360, 750, 320.0, 70, 8.1, 4.3, 0, 3, 0.088, 0.12, 2, 0.6, MID),
    GpuModel("Q RTX 8000", 46080, 750, 672.0, 260, 16.3, 9.9, 0, 3, 0.262, 0.14, 2, 0.4, SMALL),
    GpuModel("RX 7900 XTX", 24560, 1100, 960.0, 355, 61.4, 12.4, 0, 4, 0.271, 0.13, 1, 0.0, SMALL, "amd"),
)

DESKTOPS = (
    Processor("AMD Ryzen 9 5950X 16-Core Processor", 32, 3.4, 64000),
    Processor("AMD Ryzen 9 9950X 16-Core Processor", 32, 4.3, 128000),
    Processor("13th Gen Intel Core i9-13900K", 24, 3.0, 96000),
    Processor("AMD Ryzen 7 7700X 8-Core Processor", 16, 4.5, 64000),
)
SERVERS = (
    Processor("AMD EPYC 7302 16-Core Processor", 32, 3.0, 128000),
    Processor("AMD EPYC 7443P 24-Core Processor", 48, 2.9, 256000),
    Processor("AMD EPYC 7742 64-Core Processor", 128, 2.3, 512000),
    Processor("AMD EPYC 7763 64-Core Processor", 256, 2.5, 2048000),
    Processor("Intel Xeon Gold 6448Y", 128, 2.1, 1024000),
    Processor("Intel Xeon Platinum 8480+", 224, 2.0, 2064000),
    Processor("Intel Xeon E5-2698 v4", 40, 2.2, 256000),
)

PLACES = (
    *(("California, US",) * 4),
    *(("Texas, US",) * 4),
    *(("New York, US",) * 3),
    *(("Virginia, US",) * 2),
    *(("Utah, US",) * 2),
    *(("Oregon, US",) * 2),
    *(("Washington, US",) * 2),
    "Ohio, US",
    ", US",
    *(("Quebec, CA",) * 3),
    *(("Ontario, CA",) * 2),
    *(("Sweden, SE",) * 2),
    *(("Netherlands, NL",) * 2),
    *(("Germany, DE",) * 2),
    "Norway, NO",
    "Iceland, IS",
    "Poland, PL",
    "Czechia, CZ",
    "France, FR",
    "Spain, ES",
    "Finland, FI",
    "United Kingdom, GB",
    "Kyiv, UA",
    "Bulgaria, BG",
    "Japan, JP",
    "South Korea, KR",
    "Taiwan, TW",
    "Singapore, SG",
    "Australia, AU",
    "Brazil, BR",
)

DRIVERS = (
    ("535.183.01", 12.2),
    ("550.127.05", 12.4),
    ("550.144.03", 12.4),
    ("560.35.03", 12.6),
    ("560.35.05", 12.6),
    ("570.86.15", 12.8),
    ("570.124.04", 12.8),
    ("570.133.20", 12.8),
    ("580.65.06", 13.0),
    ("580.82.07", 13.0),
)
"""Driver and the newest CUDA it serves; a host draws one that its GPU's generation needs at least."""


def oldest_driver(model: GpuModel) -> int:
    """Index into DRIVERS of the first one that knows the model."""
    if model.compute_cap >= 1000:
        return 5
    return 1 if model.compute_cap >= 890 else 0
