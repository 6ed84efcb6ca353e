"""The two wire records, offer and instance, as dicts of Vast's field names and units (MB, GB, Mb/s, $/h)."""

from typing import Any

from bareboat.simulation import market, rentals

MONTH_H = rentals.HOURS_PER_MONTH
DEFAULT_STORAGE_GB = 8.0


def driver_number(version: str) -> int:
    major, minor, patch = version.split(".")
    return int(f"{int(major)}{int(minor):03d}{int(patch):03d}")


def hardware(ask: market.Ask) -> dict[str, Any]:
    """Fields that offers and instances share and that no time or price changes."""
    host, gpu, gpus = ask.host, ask.host.gpu, ask.gpus
    share = gpus / host.gpus
    return {
        "bundle_id": 848_000_000 + host.machine_id * 100 + gpus,
        "bundled_results": None,
        "machine_id": host.machine_id,
        "host_id": host.owner_id,
        "gpu_name": gpu.name,
        "num_gpus": gpus,
        "gpu_frac": share,
        "gpu_ram": gpu.ram_mb,
        "gpu_total_ram": gpu.ram_mb * gpus,
        "gpu_arch": gpu.arch,
        "gpu_mem_bw": gpu.mem_bw_gb_per_s,
        "gpu_max_power": float(gpu.power_w),
        "gpu_max_temp": 90.0,
        "gpu_lanes": 16,
        "gpu_display_active": False,
        "bw_nvlink": float(gpu.nvlink_gb_per_s),
        "compute_cap": gpu.compute_cap,
        "cuda_max_good": host.cuda,
        "driver_version": host.driver,
        "driver_vers": driver_number(host.driver),
        "cpu_name": host.cpu.name,
        "cpu_arch": "amd64",
        "cpu_cores": host.cpu.cores,
        "cpu_cores_effective": host.cpu.cores * share,
        "cpu_ghz": host.cpu.ghz,
        "cpu_ram": host.cpu.ram_mb,
        "has_avx": 1,
        "mobo_name": f"SYNTH-MB-{host.machine_id % 1000}",
        "pci_gen": float(gpu.pci_gen),
        "pcie_bw": host.pcie_gb_per_s,
        "disk_name": "nvme",
        "disk_bw": host.disk_mb_per_s,
        "inet_down": host.down_mbps,
        "inet_up": host.up_mbps,
        "inet_down_cost": host.down_usd_per_gb,
        "inet_up_cost": host.up_usd_per_gb,
        "internet_down_cost_per_tb": round(host.down_usd_per_gb * 1024, 6),
        "internet_up_cost_per_tb": round(host.up_usd_per_gb * 1024, 6),
        "direct_port_count": host.direct_ports,
        "public_ipaddr": host.public_ip,
        "static_ip": host.static_ip,
        "geolocation": host.place,
        "geolocode": None,
        "storage_cost": host.storage_usd_per_gb_month,
        "total_flops": round(gpu.tflops * gpus, 2),
        "dlperf": round(gpu.dlperf * gpus * 0.985 ** (gpus - 1), 3),
        "reliability": host.reliability,
        "reliability2": host.reliability,
        "expected_reliability": round(host.reliability**2, 4),
        "reliability_mult": host.reliability,
        "verification": "verified" if host.verified else "unverified",
        "vericode": 1 if host.verified else 0,
        "is_vm_deverified": False,
        "hosting_type": 1 if host.datacenter else 0,
        "external": None,
        "vms_enabled": host.datacenter,
        "os_version": "22.04",
        "resource_type": "gpu",
        "cluster_id": None,
        "hostname": None,
        "logo": "",
        "webpage": None,
        "start_date": host.listed_s,
        "end_date": host.ends_s,
        "rn": 1,
        "time_remaining": "",
        "time_remaining_isbid": "",
        "credit_discount_max": 0.4,
        "discount_rate": 0.0,
        "discounted_hourly": 0.0,
    }


def offer(ask: market.Ask) -> dict[str, Any]:
    """An offer without what depends on the query or the moment: see `priced`."""
    host = ask.host
    return {
        "id": ask.id,
        "ask_contract_id": ask.id,
        **hardware(ask),
        "disk_space": round(host.disk_gb * max(0.05, host.gpus_free / host.gpus), 1),
        "min_bid": ask.min_bid_usd_per_hour,
        "rentable": True,
        "rented": host.gpus_ours > 0,
        "avail_vol_ask_id": None,
        "avail_vol_dph": None,
        "avail_vol_size": None,
        "nw_disk_min_bw": None,
        "nw_disk_max_bw": None,
        "nw_disk_avg_bw": None,
    }


def priced(base: dict[str, Any], usd_per_hour: float, storage_gb: float, now_s: float, *, bid: bool) -> dict[str, Any]:
    """The fields of an offer that follow from the price asked, the disk wanted and the moment."""
    gpu = base["min_bid"] if bid else usd_per_hour
    disk = round(base["storage_cost"] * storage_gb / MONTH_H, 8)
    total = round(gpu + disk, 8)
    performance = base["dlperf"] / total
    return {
        "is_bid": bid,
        "dph_base": gpu,
        "storage_total_cost": disk,
        "dph_total": total,
        "dph_total_adj": total,
        "discounted_dph_total": total,
        "dlperf_per_dphtotal": round(performance, 4),
        "flops_per_dphtotal": round(base["total_flops"] / total, 4),
        "vram_costperhour": total / base["gpu_total_ram"],
        "score": round(performance * base["reliability"], 3),
        "duration": max(0.0, base["end_date"] - now_s),
        "search": price_split(gpu, disk),
        "instance": price_split(0, disk),
    }


def price_split(gpu: float, disk: float) -> dict[str, float]:
    total = round(gpu + disk, 8)
    return {
        "gpuCostPerHour": gpu,
        "diskHour": disk,
        "totalHour": total,
        "discountTotalHour": 0,
        "discountedTotalPerHour": total,
    }


SHARED_BY_INSTANCES = (
    "bundle_id",
    "machine_id",
    "host_id",
    "gpu_name",
    "num_gpus",
    "gpu_frac",
    "gpu_ram",
    "gpu_arch",
    "gpu_mem_bw",
    "gpu_lanes",
    "gpu_max_power",
    "bw_nvlink",
    "compute_cap",
    "cuda_max_good",
    "driver_version",
    "cpu_name",
    "cpu_arch",
    "cpu_cores",
    "cpu_cores_effective",
    "cpu_ram",
    "mobo_name",
    "pci_gen",
    "pcie_bw",
    "disk_name",
    "disk_bw",
    "inet_down",
    "inet_up",
    "inet_down_cost",
    "inet_up_cost",
    "direct_port_count",
    "static_ip",
    "geolocation",
    "storage_cost",
    "total_flops",
    "dlperf",
    "reliability2",
    "verification",
    "hosting_type",
    "vms_enabled",
    "os_version",
    "cluster_id",
    "logo",
    "webpage",
    "rn",
    "credit_discount_max",
)
"""What an instance repeats of the offer it was rented from."""
