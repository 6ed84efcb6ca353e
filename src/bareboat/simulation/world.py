"""Hosts: the machines of a simulated cloud, grown from a seed. A host knows what it is and how full it is; prices over
time and what is for rent belong to the market. The same seed and size give the same world."""

import dataclasses
import random

from bareboat.simulation import hardware

FIRST_MACHINE_ID = 52_200
DAY_S = 86_400.0


@dataclasses.dataclass(slots=True)
class Host:
    """One machine. Only the last group of fields changes while the simulation runs."""

    machine_id: int
    owner_id: int
    gpu: hardware.GpuModel
    gpus: int
    driver: str
    cuda: float
    cpu: hardware.Processor
    disk_gb: float
    disk_mb_per_s: float
    down_mbps: float
    up_mbps: float
    down_usd_per_gb: float
    up_usd_per_gb: float
    direct_ports: int
    public_ip: str
    static_ip: bool
    place: str | None
    reliability: float
    verified: bool
    datacenter: bool
    usd_per_gpu_hour: float
    bid_share: float
    storage_usd_per_gb_month: float
    listed_s: float
    ends_s: float
    pcie_gb_per_s: float
    first_asks: dict[int, int]
    gpus_ours: int = 0
    gpus_taken: int = 0
    price_factor: float = 1.0
    outages: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    images: set[str] = dataclasses.field(default_factory=set)

    @property
    def gpus_free(self) -> int:
        return self.gpus - self.gpus_ours - self.gpus_taken

    def is_down(self, at_s: float) -> bool:
        return any(start_s <= at_s < end_s for start_s, end_s in self.outages)

    def go_down(self, from_s: float, until_s: float) -> None:
        """Joined with the outages that it meets, so that no second without service counts twice."""
        met = [each for each in self.outages if each[0] <= until_s and from_s <= each[1]]
        apart = [each for each in self.outages if each not in met]
        met.append((from_s, until_s))
        self.outages = [*apart, (min(start_s for start_s, _ in met), max(end_s for _, end_s in met))]

    def come_back(self, at_s: float) -> None:
        """Ends every outage that lasts now, and forgets those to come."""
        self.outages = [(start_s, min(end_s, at_s)) for start_s, end_s in self.outages if start_s < at_s]


# machine, gpu, GPUs in the machine, GPUs asked, driver, processor (servers after desktops), disk GB, disk MB/s, down,
# up Mb/s, down, up $/GB, ports, static address, place, $/GPU-hour, bid share, days left, PCIe GB/s, reliability
_SEED = (
    (
        52011,
        "RTX 3060",
        4,
        1,
        1,
        0,
        410,
        1400,
        310,
        180,
        0.006,
        0.006,
        99,
        0,
        "Quebec, CA",
        0.061,
        0.62,
        21,
        11.8,
        0.941,
    ),
    (
        52022,
        "RTX 3090",
        2,
        1,
        5,
        4,
        720,
        2600,
        640,
        420,
        0.004,
        0.004,
        124,
        0,
        "Utah, US",
        0.162,
        0.60,
        34,
        22.4,
        0.987,
    ),
    (
        52033,
        "RTX 4090",
        1,
        1,
        6,
        2,
        1450,
        4800,
        880,
        790,
        0.003,
        0.003,
        249,
        1,
        "Sweden, SE",
        0.334,
        0.66,
        58,
        24.9,
        0.9962,
    ),
    (
        52044,
        "RTX 4090",
        8,
        2,
        3,
        6,
        3900,
        5200,
        2300,
        2100,
        0.002,
        0.002,
        999,
        1,
        "Texas, US",
        0.371,
        0.64,
        88,
        25.1,
        0.9984,
    ),
    (
        52055,
        "RTX 5090",
        1,
        1,
        8,
        1,
        980,
        6400,
        1400,
        900,
        0.003,
        0.003,
        61,
        0,
        "Poland, PL",
        0.486,
        0.70,
        12,
        52.6,
        0.9935,
    ),
    (
        52066,
        "RTX A6000",
        4,
        1,
        2,
        5,
        1800,
        3100,
        940,
        910,
        0.004,
        0.004,
        499,
        1,
        "Oregon, US",
        0.412,
        0.72,
        45,
        23.3,
        0.9971,
    ),
    (
        52077,
        "L40S",
        8,
        1,
        7,
        8,
        5200,
        7100,
        4800,
        4700,
        0.001,
        0.001,
        1999,
        1,
        "Netherlands, NL",
        0.561,
        0.75,
        120,
        25.4,
        0.9991,
    ),
    (
        52088,
        "A100 SXM4",
        8,
        1,
        4,
        7,
        7800,
        6900,
        5100,
        4900,
        0.002,
        0.002,
        1499,
        1,
        "Virginia, US",
        0.842,
        0.70,
        96,
        25.2,
        0.9988,
    ),
    (
        52099,
        "H100 SXM",
        8,
        8,
        9,
        9,
        14200,
        11800,
        9400,
        9200,
        0.001,
        0.001,
        3999,
        1,
        "Iceland, IS",
        2.240,
        0.78,
        150,
        53.8,
        0.9995,
    ),
    (52100, "Tesla V100", 4, 1, 0, 10, 260, 620, 145, 60, 0.010, 0.012, 3, 0, "Kyiv, UA", 0.094, 0.58, 6, 11.9, 0.872),
)
_DATACENTERS = {52044, 52066, 52077, 52088, 52099}
_UNVERIFIED = {52100}


def seed_hosts(start_s: float) -> list[Host]:
    """The ten machines every world begins with; each offers its known number of GPUs under a known id."""
    models = {model.name: model for model in hardware.GPUS}
    processors = (*hardware.DESKTOPS, *hardware.SERVERS)
    hosts = []
    for row in _SEED:
        machine_id, gpu, gpus, asked, driver, cpu = row[:6]
        disk_gb, disk_bw, down, up, down_usd, up_usd, ports, static, place, price, bid, days, pcie, reliability = row[
            6:
        ]
        hosts.append(
            Host(
                machine_id=machine_id,
                owner_id=machine_id + 29_000,
                gpu=models[gpu],
                gpus=gpus,
                driver=hardware.DRIVERS[driver][0],
                cuda=hardware.DRIVERS[driver][1],
                cpu=processors[cpu],
                disk_gb=disk_gb,
                disk_mb_per_s=disk_bw,
                down_mbps=down,
                up_mbps=up,
                down_usd_per_gb=down_usd,
                up_usd_per_gb=up_usd,
                direct_ports=ports,
                public_ip=f"203.0.113.{machine_id - 52_000}",
                static_ip=bool(static),
                place=place,
                reliability=reliability,
                verified=machine_id not in _UNVERIFIED,
                datacenter=machine_id in _DATACENTERS,
                usd_per_gpu_hour=price,
                bid_share=bid,
                storage_usd_per_gb_month=models[gpu].storage_usd_per_gb_month,
                listed_s=start_s - 40 * DAY_S,
                ends_s=start_s + days * DAY_S,
                pcie_gb_per_s=pcie,
                first_asks={asked: 31_870_000 + machine_id - 52_000},
            )
        )
    return hosts


def grow_host(index: int, seed: int, start_s: float) -> Host:
    """Host number `index` of the world `seed`: the same arguments give the same host, whatever was grown before."""
    dice = random.Random(f"{seed}:host:{index}")
    model = dice.choices(hardware.GPUS, weights=[model.weight for model in hardware.GPUS])[0]
    datacenter = dice.random() < model.datacenter_share
    gpus = dice.choice(model.sizes)
    cpu = dice.choice(hardware.SERVERS if datacenter or gpus > 2 else hardware.DESKTOPS)
    driver, cuda = dice.choice(hardware.DRIVERS[hardware.oldest_driver(model) :])
    steady = dice.uniform(0.990, 0.9997)
    shaky = min(0.9990, dice.choice((0.86, 0.93, 0.97, 0.985)) + dice.random() * 0.03)
    down_mbps = round(dice.uniform(1500, 9500) if datacenter else dice.uniform(90, 1600), 1)
    static = datacenter or dice.random() < 0.2
    inet_usd = round(dice.choice((0.001, 0.002, 0.003, 0.004, 0.006, 0.01)) / (2 if datacenter else 1), 4)
    machine_id = FIRST_MACHINE_ID + index
    return Host(
        machine_id=machine_id,
        owner_id=81_200 + dice.randrange(max(4, index // 2 + 4)),
        gpu=model,
        gpus=gpus,
        driver=driver,
        cuda=cuda,
        cpu=cpu,
        disk_gb=round(dice.uniform(150, 900) * gpus + (1500 if datacenter else 0), 1),
        disk_mb_per_s=round(dice.uniform(600, 3500) + (3500 if datacenter else 0), 1),
        down_mbps=down_mbps,
        up_mbps=round(down_mbps * dice.uniform(0.35, 0.99), 1),
        down_usd_per_gb=inet_usd,
        up_usd_per_gb=inet_usd,
        direct_ports=dice.choice((499, 999, 1999)) if datacenter else dice.choice((0, 3, 24, 61, 99, 124, 249)),
        public_ip=f"203.0.113.{index % 100 + 101}",
        static_ip=static,
        place=dice.choice(hardware.PLACES),
        reliability=round(steady if datacenter else shaky, 4),
        verified=datacenter or dice.random() < 0.85,
        datacenter=datacenter,
        usd_per_gpu_hour=round(model.usd_per_hour * dice.uniform(0.82, 1.45) * (1.12 if datacenter else 1.0), 4),
        bid_share=round(dice.uniform(0.58, 0.78), 3),
        storage_usd_per_gb_month=round(model.storage_usd_per_gb_month * dice.uniform(0.8, 1.3), 3),
        listed_s=start_s - dice.uniform(1, 400) * DAY_S,
        ends_s=start_s + round(dice.uniform(3, 180), 2) * DAY_S,
        pcie_gb_per_s=round({3.0: 12, 4.0: 25, 5.0: 53}[float(model.pci_gen)] * dice.uniform(0.85, 1.0), 1),
        first_asks={},
    )
