"""From a launch to the body of a create, in the words of each API, with every limit that is known checked before.

A launch that can't be sent is `LaunchRefused` with a sentence; nothing is cut or dropped in silence but the host's
name, which RunPod lets nobody choose.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from bareboat.clouds.runpod import bootstrap, failures
from bareboat.core import errors, labels, launches

MAX_NAME_CHARS = 191
MAX_HTTP_PORTS = 10
GB_PER_GIB = 1.073741824
MAY_BE_SET = frozenset({"RUNPOD_POD_USER"})
"""The one name of RunPod's own prefix that containers are known to set themselves."""

_BLANK = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class Row:
    """What an offer stands for: so many GPUs of a type, in a cloud, in a data centre (None: wherever)."""

    gpu_id: str
    cloud: str
    data_center: str | None
    count: int
    min_cuda: float | None = None

    @property
    def name(self) -> str:
        """Short and stable: the part of an offer's id that all offers of the row share."""
        return f"{self.gpu_id.replace(' ', '_')}/{self.cloud}/{self.data_center or 'any'}/x{self.count}"


def v2(launch: launches.Launch, mark: labels.Mark, row: Row, registry: str | None) -> dict[str, Any]:
    """For `POST /v2/pods`: one GPU type, on demand."""
    gpu: dict[str, Any] = {"id": row.gpu_id, "count": row.count}
    if row.min_cuda is not None:
        gpu["minCudaVersion"] = f"{row.min_cuda:.1f}"
    told: dict[str, Any] = {"name": name(mark), "gpu": gpu, "cloud": row.cloud, "ports": ports(launch)}
    told["env"] = environment(launch)
    if row.data_center is not None:
        told["dataCenterIds"] = [row.data_center]
    if launch.template is not None:
        told["templateId"] = launch.template
    if launch.disk_gib > 0 or launch.template is None:
        told["disk"] = disk_gb(launch)
    if launch.image or launch.template is None:
        told["image"] = image(launch)
    line = arguments(launch)
    if line:
        told["args"] = line
    if registry is not None:
        told["registry"] = registry
    return told


def v1(launch: launches.Launch, mark: labels.Mark, row: Row, registry: str | None, *, spot: bool) -> dict[str, Any]:
    """For `POST /v1/pods`. Without `volumeInGb: 0` it would add a volume that is billed."""
    told: dict[str, Any] = {
        "name": name(mark),
        "gpuTypeIds": [row.gpu_id],
        "gpuCount": row.count,
        "cloudType": row.cloud,
        "containerDiskInGb": disk_gb(launch),
        "volumeInGb": 0,
        "ports": ports(launch),
        "env": environment(launch),
    }
    if row.data_center is not None:
        told["dataCenterIds"] = [row.data_center]
    if launch.template is not None:
        told["templateId"] = launch.template
    if launch.image or launch.template is None:
        told["imageName"] = image(launch)
    command, args = words(launch)
    if command:
        told["dockerEntrypoint"] = list(command)
    if args:
        told["dockerStartCmd"] = list(args)
    if registry is not None:
        told["containerRegistryAuthId"] = registry
    if spot:
        told["interruptible"] = True
    return told


def graphql(
    launch: launches.Launch, mark: labels.Mark, row: Row, registry: str | None, bid_usd_per_gpu_hour: float
) -> dict[str, Any]:
    """The input of `podRentInterruptable`."""
    told: dict[str, Any] = {
        "name": name(mark),
        "bidPerGpu": bid_usd_per_gpu_hour,
        "gpuTypeId": row.gpu_id,
        "gpuCount": row.count,
        "cloudType": row.cloud,
        "containerDiskInGb": disk_gb(launch),
        "volumeInGb": 0,
        "ports": ",".join(ports(launch)),
        "env": [{"key": key, "value": value} for key, value in environment(launch).items()],
        "dockerArgs": arguments(launch),
    }
    if row.data_center is not None:
        told["dataCenterId"] = row.data_center
    if launch.template is not None:
        told["templateId"] = launch.template
    if launch.image or launch.template is None:
        told["imageName"] = image(launch)
    if registry is not None:
        told["containerRegistryAuthId"] = registry
    return told


def name(mark: labels.Mark) -> str:
    """The pod's name: the mark, unique for each attempt."""
    text = str(mark)
    if len(text) > MAX_NAME_CHARS:
        raise _refused(f"the name {text!r} has {len(text)} characters; RunPod takes {MAX_NAME_CHARS}")
    return text


def image(launch: launches.Launch) -> str:
    text = launch.image.strip()
    if not text or _BLANK.search(text):
        raise _refused(f"the image {launch.image!r} is no image name")
    return text


def disk_gb(launch: launches.Launch) -> int:
    """RunPod counts whole GB."""
    return max(1, math.ceil(round(launch.disk_gib * GB_PER_GIB, 6)))


def arguments(launch: launches.Launch) -> str:
    """`args` (v2) and `dockerArgs` (GraphQL): JSON, since a bare line would be split as a shell splits it.

    As for docker, an entrypoint that is replaced takes the image's CMD away with it.
    """
    command, args = words(launch)
    if command:
        return json.dumps({"entrypoint": list(command), "cmd": list(args)})
    return json.dumps({"cmd": list(args)}) if args else ""


def words(launch: launches.Launch) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Entrypoint and CMD, empty where the image's own hold; in ssh access the bootstrap's."""
    if launch.ssh_public_keys:
        return bootstrap.command(launch.ssh_public_keys)
    return launch.command or (), launch.args or ()


def ports(launch: launches.Launch) -> list[str]:
    """TCP ports get a public number; `HTTP` ones stand behind RunPod's proxy."""
    told: dict[str, None] = {}
    if launch.ssh_public_keys:
        told[f"{bootstrap.PORT}/tcp"] = None
    for port in launch.ports:
        protocol = port.protocol.upper()
        if protocol not in ("TCP", "HTTP"):
            raise _refused(
                f"port {port.number} has protocol {port.protocol}; RunPod opens TCP ports (and proxies HTTP)"
            )
        if not 1 <= port.number <= 65535:
            raise _refused(f"port {port.number} is out of range; allowed are 1–65535")
        told[f"{port.number}/{protocol.lower()}"] = None
    proxied = sum(each.endswith("/http") for each in told)
    if proxied > MAX_HTTP_PORTS:
        raise _refused(f"{proxied} HTTP ports are asked for; RunPod proxies {MAX_HTTP_PORTS} for a pod")
    return list(told)


def environment(launch: launches.Launch) -> dict[str, str]:
    told: dict[str, str] = {}
    for key, value in launch.env.items():
        if not key or "=" in key or _BLANK.search(key):
            raise _refused(f"the environment variable {key!r} has a name that RunPod can't carry: no '=' and no blanks")
        if key.startswith("RUNPOD_") and key not in MAY_BE_SET:
            raise _refused(f"the environment variable {key} is one that RunPod sets itself; give it another name")
        if "\0" in value:
            raise _refused(f"the environment variable {key!r} holds a NUL character")
        told[key] = value
    return told


def _refused(why: str) -> errors.LaunchRefused:
    return errors.LaunchRefused(failures.CLOUD, why)
