"""From RunPod's records to our words: pure, total over whatever `wire` lets through."""

import re

from bareboat.clouds.runpod import bootstrap, create, failures, lives, places, wire
from bareboat.core import instances, offers

CLOUD = failures.CLOUD
DISK_USD_PER_GB_MONTH = 0.10
DISK_USD_PER_GIB_MONTH = DISK_USD_PER_GB_MONTH * create.GB_PER_GIB
STOPPED_VOLUME_USD_PER_GB_MONTH = 0.20
PROXY = "https://{id}-{port}.proxy.runpod.net"

SLOTS = {"HIGH": 4, "MEDIUM": 2, "LOW": 1}
"""How many offers stand for a row of the catalogue, which tells stock in these words alone. Few: each is one more try
that finds the row dry."""

State = instances.State
_FAULTS: tuple[tuple[re.Pattern[str], instances.Fault], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), fault)
    for pattern, fault in (
        (r"OCI runtime create failed|nvidia-container-cli|failed to create shim", instances.Fault.CREATE_FAILED),
        (r"unauthorized|authentication required|access forbidden|IMAGE_AUTH", instances.Fault.IMAGE_UNAUTHORIZED),
        (r"pull access denied|requested access to the resource is denied", instances.Fault.IMAGE_UNAUTHORIZED),
        (r"manifest unknown|repository does not exist|no matching manifest", instances.Fault.IMAGE_NOT_FOUND),
        (r"failed to resolve reference.*not found|IMAGE_NOT_FOUND", instances.Fault.IMAGE_NOT_FOUND),
        (r"layer does not exist|failed to register layer|toomanyrequests|IMAGE_PULL", instances.Fault.IMAGE_PULL),
        (r"error pulling image|failed to pull", instances.Fault.IMAGE_PULL),
    )
)
_OUTBID = re.compile(r"^outbid\b", re.IGNORECASE)


def instance(pod: wire.Pod, life: lives.Life, story: str = "") -> instances.Instance:
    """`story`: what other reads told of a pod that stopped or failed (last status change, the host's log)."""
    state, fault, message = state_of(pod, life, story)
    return instances.Instance(
        cloud=CLOUD,
        id=pod.id,
        state=state,
        label=pod.name or None,
        message=message,
        fault=fault,
        machine_id=pod.machine,
        gpu_name=pod.gpu_name or short_name(pod.gpu_id),
        gpu_count=pod.gpu_count,
        region=places.region(pod.data_center),
        address=pod.address,
        ports={(inside, "TCP"): public for inside, public in pod.ports.items()},
        usd_per_hour=usd_per_hour(pod),
        started_s=pod.created_s,
        image=pod.image,
        template=pod.template,
        ssh=ssh(pod),
        tags=pod.tags,
        raw=pod,
    )


def ssh(pod: wire.Pod) -> tuple[instances.SshAddress, ...]:
    """The mapped port 22 of a pod that was booted in ssh access. RunPod's own proxy carries no files and no tunnels."""
    port = pod.ports.get(bootstrap.PORT)
    if not pod.in_ssh_access or port is None or pod.address is None:
        return ()
    return (instances.SshAddress(pod.address, port),)


def state_of(pod: wire.Pod, life: lives.Life, story: str = "") -> tuple[instances.State, instances.Fault | None, str]:
    """State, fault and a message for people. EXITED and ERROR are stops, for a container that ends is started again;
    one that never ran and has a reason in its story has failed."""
    told = " ".join(f"{pod.text} {story}".split())
    if pod.status in ("EXITED", "TERMINATED"):
        if _OUTBID.search(pod.text) or _OUTBID.search(story):
            return State.STOPPED, instances.Fault.OUTBID, told
        fault = None if life.ran else fault_in(story)
        return (State.STOPPED, None, told) if fault is None else (State.FAILED, fault, told)
    if pod.status == "ERROR":
        return State.FAILED, fault_in(story) or instances.Fault.OTHER, told or "RunPod calls its status ERROR"
    if pod.status == "PROVISIONING":
        return State.PROVISIONING, None, told
    if pod.status == "STARTING":
        return State.STARTING, None, told
    if pod.status == "RUNNING":
        return _running(pod, life)
    return State.UNREACHABLE, None, f"RunPod calls its status {pod.status!r}, a word not known here"


def _running(pod: wire.Pod, life: lives.Life) -> tuple[instances.State, instances.Fault | None, str]:
    if life.ended:
        return State.EXITED, None, "its container ended, and RunPod started it again"
    if pod.gpu_count == 0:
        return State.STOPPED, None, "it came back without a GPU"
    if pod.has_runtime or life.ran or pod.ports:
        return State.RUNNING, None, ""
    return State.STARTING, None, ""


def fault_in(story: str) -> instances.Fault | None:
    """The reason for a failed start in what the host's log says."""
    return next((fault for pattern, fault in _FAULTS if pattern.search(story)), None)


def usd_per_hour(pod: wire.Pod) -> float | None:
    """With its disks. RunPod's own figure is of the GPUs, and 0 for what doesn't run; None when unknown."""
    if pod.status in ("EXITED", "TERMINATED"):
        return pod.volume_gb * STOPPED_VOLUME_USD_PER_GB_MONTH / offers.HOURS_PER_MONTH
    if not pod.usd_per_hour:  # not told yet: nothing that runs is free
        return None
    return pod.usd_per_hour + (pod.disk_gb + pod.volume_gb) * DISK_USD_PER_GB_MONTH / offers.HOURS_PER_MONTH


def row_offers(
    kind: wire.GpuType, cloud: str, count: int, first: dict[str, int], more: wire.Lowest, min_cuda: float | None
) -> list[offers.Offer]:
    """The offers of one row of the catalogue. `first` says from which number on ids of a row are unused."""
    secure = cloud == "SECURE"
    usd = kind.secure_usd if secure else kind.community_usd
    most = kind.secure_most if secure else kind.community_most
    if usd is None or count > (most or 8):
        return []
    where: list[tuple[str | None, str]] = list(kind.places) if secure and kind.places else [(None, kind.stock)]
    found: list[offers.Offer] = []
    for place, stock in where:
        row = create.Row(kind.id, cloud, place, count, min_cuda)
        start = first.get(row.name, 1)
        slots = SLOTS.get(stock, 0)
        found += [_offer(kind, row, number, usd, more) for number in range(start, start + slots)]
    return found


def _offer(kind: wire.GpuType, row: create.Row, number: int, usd: float, more: wire.Lowest) -> offers.Offer:
    secure = row.cloud == "SECURE"
    lowest_cuda = min(kind.cuda, default=None)
    return offers.Offer(
        cloud=CLOUD,
        id=f"{row.name}/{number}",
        gpu_name=kind.name,
        gpu_count=row.count,
        usd_per_hour=round(usd * row.count, 6),
        gpu_memory_gib=kind.memory_gb,
        spot_usd_per_hour=None if more.bid_usd is None else round(more.bid_usd * row.count, 6),
        usd_per_gib_month=DISK_USD_PER_GIB_MONTH,
        cpu_cores=more.cpu_cores,
        memory_gib=more.memory_gib,
        region=places.region(row.data_center),
        verified=secure,
        datacenter=secure,
        cuda=lowest_cuda if row.min_cuda is None else max(row.min_cuda, lowest_cuda or 0.0),
        static_ip=secure,
        raw=row,
    )


def short_name(gpu_id: str | None) -> str | None:
    """`NVIDIA GeForce RTX 4090` as people say it; the id itself where the catalogue was not asked."""
    if gpu_id is None:
        return None
    return re.sub(r"^(NVIDIA|AMD)\s+(GeForce\s+)?", "", gpu_id)


def proxies(pod: wire.Pod) -> dict[int, str]:
    """Where RunPod's proxy answers for the pod's HTTP ports."""
    return {port: PROXY.format(id=pod.id, port=port) for port in pod.http_ports}
