"""What RunPod's three APIs send, read into one shape each for pods and for the catalogue.

Every figure may be null, missing, a string or of another kind altogether, and the same field has other names in another
API: what makes no sense reads as absent. Only bytes of no known shape at all are `Nonsense`.
"""

import datetime
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bareboat.clouds.runpod import bootstrap

_GO_TIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d+)? \+0000 UTC")
_HOURS_PER_MONTH = 720


class Nonsense(ValueError):
    """The bytes are not what the route answers, in any of its known variants."""


@dataclass(slots=True)
class Pod:
    """One pod. `status` is v2's word, in v1 and GraphQL the intent; `text` their last status change, which v2 lacks.

    `uptime_s` is the container's by the telemetry, None where there is none; `ports` inside → public, TCP alone; `tags`
    are the variables `BAREBOAT_…`: no others are kept, since a workload's secrets are among them.
    """

    id: str
    name: str = ""
    status: str = ""
    text: str = ""
    image: str | None = None
    gpu_id: str | None = None
    gpu_name: str | None = None
    gpu_count: int | None = None
    cloud: str | None = None
    data_center: str | None = None
    machine: str | None = None
    usd_per_hour: float | None = None
    disk_gb: float = 0.0
    volume_gb: float = 0.0
    uptime_s: float | None = None
    has_runtime: bool = False
    address: str | None = None
    ports: Mapping[int, int] = field(default_factory=dict)
    http_ports: tuple[int, ...] = ()
    registry: str | None = None
    template: str | None = None
    created_s: float | None = None
    started_s: float | None = None
    in_cluster: bool = False
    in_ssh_access: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class GpuType:
    """One row of the catalogue for one cloud. `places` are data centres with their stock; `cuda` what hosts have."""

    id: str
    name: str
    memory_gb: float | None = None
    secure_usd: float | None = None
    community_usd: float | None = None
    secure_most: int = 0
    community_most: int = 0
    stock: str = ""
    places: tuple[tuple[str, str], ...] = ()
    cuda: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Lowest:
    """What GraphQL knows beside the catalogue, for one type in one cloud: figures of the whole pod."""

    usd: float | None = None
    bid_usd: float | None = None
    cpu_cores: float | None = None
    memory_gib: float | None = None
    stock: str = ""


def document(body: bytes) -> Any:
    """JSON; raises `Nonsense`."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Nonsense(f"not JSON: {error}") from None


def mapping(value: Any) -> Mapping[str, Any]:
    """An object; empty for anything else."""
    return value if isinstance(value, Mapping) else {}


def rows(body: bytes, *keys: str) -> list[Mapping[str, Any]]:
    """The records of a list: bare, or under one of `keys`. Raises `Nonsense` when there is no list."""
    found = document(body)
    if isinstance(found, Mapping):
        found = next((found[key] for key in keys if isinstance(found.get(key), list)), None)
    if not isinstance(found, list):
        raise Nonsense(f"expected a list of {keys[0]}")
    return [each for each in found if isinstance(each, Mapping)]


def next_page(body: bytes) -> str | None:
    """Where the list goes on, should it have pages; undocumented, so several names are known."""
    found = mapping(document(body))
    for place in (found, mapping(found.get("pagination")), mapping(found.get("metadata")), mapping(found.get("page"))):
        for key in ("nextCursor", "next_cursor", "nextPageToken", "nextToken", "next_token"):
            if text(place.get(key)):
                return text(place.get(key))
    return None


def v2_pod(record: Mapping[str, Any]) -> Pod:
    """Raises `Nonsense` without an id."""
    gpu, mounts, runtime = mapping(record.get("gpu")), mapping(record.get("mounts")), record.get("runtime")
    pod = _pod(record, status="status")
    pod.image = text(record.get("image"))
    pod.in_ssh_access = bootstrap.MARK in (text(record.get("args")) or "")
    pod.gpu_id, pod.gpu_count = text(gpu.get("id")), integer(gpu.get("count"))
    pod.cloud = text(record.get("cloud"))
    pod.data_center = text(record.get("dataCenterId"))
    pod.usd_per_hour = number(record.get("cost"))
    pod.disk_gb = number(record.get("disk")) or 0.0
    pod.volume_gb = number(mapping(mounts.get("persistent")).get("size")) or 0.0
    pod.registry, pod.template = text(record.get("registry")), text(record.get("template"))
    pod.started_s = moment_s(record.get("startedAt"))
    pod.in_cluster = bool(record.get("cluster"))
    if isinstance(runtime, Mapping) and "uptime" in runtime:
        pod.uptime_s = number(runtime.get("uptime"))
        pod.has_runtime = pod.uptime_s is not None
        pod.address, pod.ports = _runtime_ports(runtime.get("ports"), "private", "public")
    return pod


def v1_pod(record: Mapping[str, Any]) -> Pod:
    """The same from REST v1, which has no runtime: ports alone tell that something runs."""
    machine = mapping(record.get("machine"))
    gpu = mapping(record.get("gpu"))
    pod = _pod(record, status="desiredStatus")
    pod.text = text(record.get("lastStatusChange")) or ""
    pod.image = text(record.get("image")) or text(record.get("imageName"))
    started = record.get("dockerStartCmd")
    pod.in_ssh_access = bootstrap.MARK in f"{started} {record.get('dockerArgs')}"
    pod.gpu_id = text(machine.get("gpuTypeId")) or text(gpu.get("id"))
    pod.gpu_name = text(gpu.get("displayName")) or text(machine.get("gpuDisplayName"))
    pod.gpu_count = integer(record.get("gpuCount")) or integer(gpu.get("count"))
    pod.data_center = text(machine.get("dataCenterId"))
    pod.machine = text(record.get("machineId"))
    if isinstance(machine.get("secureCloud"), bool):
        pod.cloud = "SECURE" if machine["secureCloud"] else "COMMUNITY"
    pod.usd_per_hour = number(record.get("costPerHr"))
    pod.disk_gb = number(record.get("containerDiskInGb")) or 0.0
    pod.volume_gb = number(record.get("volumeInGb")) or 0.0
    pod.registry, pod.template = text(record.get("containerRegistryAuthId")), text(record.get("templateId"))
    pod.started_s = moment_s(record.get("lastStartedAt"))
    pod.address = text(record.get("publicIp"))
    pairs = ((integer(inside), integer(outside)) for inside, outside in mapping(record.get("portMappings")).items())
    pod.ports = {inside: outside for inside, outside in pairs if inside and outside and pod.address}
    return pod


def gpu_type(record: Mapping[str, Any]) -> GpuType | None:
    """A row of v2's catalogue; None for one that can't be rented: without an id, or the row named unknown."""
    gpu_id, price, most = text(record.get("id")), mapping(record.get("price")), mapping(record.get("maxCount"))
    if gpu_id is None or gpu_id.lower() == "unknown":
        return None
    versions = [mapping(each) for each in record.get("cudaVersions") or () if mapping(each).get("available")]
    places = [mapping(each) for each in record.get("dataCenters") or ()]
    return GpuType(
        id=gpu_id,
        name=text(record.get("name")) or gpu_id,
        memory_gb=number(record.get("memory")),
        secure_usd=positive(price.get("secure")) if record.get("secure") is not False else None,
        community_usd=positive(price.get("community")) if record.get("community") is not False else None,
        secure_most=integer(most.get("secure")) or 0,
        community_most=integer(most.get("community")) or 0,
        stock=(text(record.get("availability")) or "").upper(),
        places=tuple(
            (place, (text(each.get("availability")) or "").upper())
            for each in places
            if (place := text(each.get("id")))
        ),
        cuda=tuple(version for each in versions if (version := number(each.get("version"))) is not None),
    )


def lowest(record: Mapping[str, Any], cloud: str) -> Lowest:
    """What a row of GraphQL's gpuTypes says of one cloud, `secure` or `community`."""
    found = mapping(record.get(cloud))
    return Lowest(
        usd=positive(found.get("uninterruptablePrice")),
        bid_usd=positive(found.get("minimumBidPrice")),
        cpu_cores=positive(found.get("minVcpu")),
        memory_gib=positive(found.get("minMemory")),
        stock=(text(found.get("stockStatus")) or "").upper(),
    )


def number(value: Any) -> float | None:
    """A finite number, also one in a string."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) and abs(found) < 1e15 else None


def positive(value: Any) -> float | None:
    """A number above 0: RunPod writes 0 where it doesn't offer."""
    found = number(value)
    return found if found is not None and found > 0 else None


def integer(value: Any) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def text(value: Any) -> str | None:
    """A text that isn't blank."""
    return value.strip() or None if isinstance(value, str) else None


def moment_s(value: Any) -> float | None:
    """Unix seconds of RFC 3339 or of Go's way to print a time."""
    written = text(value)
    if written is None:
        return None
    match = _GO_TIME.fullmatch(written)
    try:
        if match is not None:
            written = f"{match[1]}T{match[2]}+00:00"
        moment = datetime.datetime.fromisoformat(written)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None


def _pod(record: Mapping[str, Any], status: str) -> Pod:
    pod_id = text(record.get("id"))
    if pod_id is None:
        raise Nonsense("a pod without an id")
    listed = record.get("ports")
    named = [str(each) for each in listed] if isinstance(listed, list) else str(listed or "").split(",")
    http = [integer(each.partition("/")[0]) for each in named if each.strip().endswith("/http")]
    return Pod(
        id=pod_id,
        name=text(record.get("name")) or "",
        status=(text(record.get(status)) or "").upper(),
        http_ports=tuple(port for port in http if port is not None),
        created_s=moment_s(record.get("createdAt")),
        tags=_tags(record.get("env")),
    )


def _runtime_ports(listed: Any, inside: str, outside: str) -> tuple[str | None, dict[int, int]]:
    """The public address and the TCP mappings; rows of the proxy's own network are none."""
    address, ports = None, {}
    for each in listed if isinstance(listed, list) else ():
        row = mapping(each)
        private, public, ip = integer(row.get(inside)), integer(row.get(outside)), text(row.get("ip"))
        if (text(row.get("type")) or "tcp").lower() != "tcp" or row.get("isIpPublic") is False:
            continue
        if private and public and ip:
            address, ports[private] = ip, public
    return address, ports


def _tags(env: Any) -> dict[str, str]:
    """From an object, or a list of `NAME=value` as GraphQL has it."""
    if isinstance(env, list):
        env = dict(str(each).partition("=")[::2] for each in env)
    return {str(name): str(value) for name, value in mapping(env).items() if str(name).startswith("BAREBOAT_")}
