"""What a pod asks for, from its resources and annotations. Pure; nonsense raises `annotations.Invalid`."""

from collections.abc import Callable
from dataclasses import dataclass

from bareboat.core import needs, regions
from bareboat.workload import annotations, quantities, runpod_asks
from bareboat.workload import pod as pods

GPU_RESOURCE = "nvidia.com/gpu"
_PRICING = {"on-demand": "on-demand", "ondemand": "on-demand", "spot": "spot", "bid": "spot", "interruptible": "spot"}
GIB = 1024**3
MOST_GPUS = 1024


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for a pod that says nothing. `pod_cap_usd_per_hour` holds for every pod, whatever it says."""

    max_usd_per_hour: float | None = 1.0
    pod_cap_usd_per_hour: float | None = None
    disk_gib: float = 10.0
    min_reliability: float | None = None
    regions: tuple[str, ...] = ()
    verified_only: bool = True
    min_inet_down_mbps: float | None = None


def gpu_count(pod: pods.Pod) -> int:
    """GPUs that the pod's containers need at once: limits, else requests."""

    def asked(path: str, container: pods.Container) -> float:
        value = container.resources.limits.get(GPU_RESOURCE, container.resources.requests.get(GPU_RESOURCE, 0))
        field = f"{path}.resources.limits[{GPU_RESOURCE}]"
        count = _quantity(field, value)
        if not 0 <= count <= MOST_GPUS or count != int(count):
            raise annotations.Invalid(field, value, f"a whole number from 0 to {MOST_GPUS}")
        return count

    return int(_at_once(pod, asked))


def from_pod(pod: pods.Pod, defaults: Defaults) -> needs.Needs:
    """The pod's needs. Prices are capped by `defaults.pod_cap_usd_per_hour`."""
    notes = annotations.Annotations(pod.metadata.annotations)
    price = notes.number(annotations.MAX_PRICE, 0.001, 1000, "US dollars an hour") or defaults.max_usd_per_hour
    if defaults.pod_cap_usd_per_hour is not None:
        price = min(price or defaults.pod_cap_usd_per_hour, defaults.pod_cap_usd_per_hour)
    verified = notes.flag(annotations.VERIFIED)
    asks = runpod_asks.read(pod.metadata.annotations)
    peers = asks.datacenter is False  # Community Cloud is of peers' machines, which nobody rates or measures
    if peers and verified is None:
        verified = False
    return needs.Needs(
        gpu_count=gpu_count(pod),
        gpu_names=notes.words(annotations.GPU_NAMES),
        gpu_memory_gib=_or(notes.number(annotations.GPU_MEMORY, 0, 10_000, "GiB"), asks.memory_gib),
        cpu_cores=_requested(pod, "cpu", 1),
        memory_gib=_requested(pod, "memory", GIB),
        disk_gib=_disk_gib(pod, notes, defaults),
        ports=sum(len(container.ports) for container in pod.spec.containers) + len(asks.ports),
        max_usd_per_hour=price,
        regions=asks.regions or _regions(notes) or defaults.regions,
        min_reliability=_or(
            notes.number(annotations.RELIABILITY, 0, 1, ""), 0.0 if peers else defaults.min_reliability
        ),
        min_inet_down_mbps=_or(
            notes.number(annotations.DOWNLOAD, 0, 1e6, "Mbit/s"), 0.0 if peers else defaults.min_inet_down_mbps
        ),
        min_cuda=notes.number(annotations.CUDA, 0, 100, ""),
        verified_only=defaults.verified_only if verified is None else verified,
        pricing=needs.Pricing(notes.choice(annotations.PRICING, _PRICING) or "on-demand"),
        clouds=asks.clouds or tuple(word.lower() for word in notes.words(annotations.CLOUDS)),
        datacenter=asks.datacenter,
    )


def _regions(notes: annotations.Annotations) -> tuple[str, ...]:
    found = notes.find(annotations.REGIONS)
    for word in notes.words(annotations.REGIONS):
        if found is not None and not regions.looks_right(regions.canonical(word)):
            allowed = (
                f"codes such as US-CA, US or SE, or one of {', '.join(sorted(regions.GROUPS))}, separated by commas"
            )
            raise annotations.Invalid(f"annotation {found.name}", word, allowed)
    return notes.words(annotations.REGIONS)


def _or(value: float | None, default: float | None) -> float | None:
    return default if value is None else value


def _disk_gib(pod: pods.Pod, notes: annotations.Annotations, defaults: Defaults) -> float:
    asked = notes.number(annotations.DISK, 1, 100_000, "GiB")
    return asked or _requested(pod, "ephemeral-storage", GIB) or defaults.disk_gib


def _requested(pod: pods.Pod, resource: str, unit: int) -> float | None:
    def asked(path: str, container: pods.Container) -> float:
        value = container.resources.requests.get(resource)
        return 0.0 if value is None else _quantity(f"{path}.resources.requests[{resource}]", value)

    return _at_once(pod, asked) / unit or None


def _at_once(pod: pods.Pod, asked: Callable[[str, pods.Container], float]) -> float:
    """What all that runs at the same time asks for together, by the scheduler's rule: the containers beside the
    sidecars, or an init container beside the sidecars before it, whichever is more."""
    sidecars = most = 0.0
    for index, container in enumerate(pod.spec.init_containers):
        amount = asked(f"spec.initContainers[{index}]", container)
        if container.is_sidecar:
            sidecars += amount
        else:
            most = max(most, sidecars + amount)
    together = sum(asked(f"spec.containers[{index}]", each) for index, each in enumerate(pod.spec.containers))
    return max(most, sidecars + together)


def _quantity(field: str, value: str | int | float) -> float:
    try:
        return float(quantities.parse(str(value)))
    except ValueError as error:
        raise annotations.Invalid(field, value, "a Kubernetes quantity such as 1, 500m or 16Gi") from error
