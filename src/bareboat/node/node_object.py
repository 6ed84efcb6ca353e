"""The Node as the cluster sees it. Pure: settings and the clouds' health in, manifest and status out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bareboat import __version__
from bareboat.workload import status as statuses

KUBELET_VERSION = f"v1.36.0-bareboat.{__version__}"
CLOUD_REACHABLE = "CloudReachable"
TROUBLE_TAINT = "bareboat.dev/cloud-unreachable"


@dataclass(frozen=True, slots=True)
class Taint:
    """As in a Node's spec; an empty key means no taint."""

    key: str = "virtual-kubelet.io/provider"
    value: str = "vast.ai"
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True)
class Spec:
    """What stays the same while the node lives. `capacity` values are Kubernetes quantities."""

    name: str
    address: str
    port: int
    capacity: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    taint: Taint = Taint()
    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """`trouble`: why no cloud can be rented from now; None when all is well."""

    trouble: str | None = None
    reason: str = "CloudUnreachable"


def labels(spec: Spec) -> dict[str, str]:
    """The five of every node, those that keep add-ons and load balancers away, and our own."""
    return {
        "kubernetes.io/hostname": spec.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": "amd64",
        "kubernetes.io/role": "agent",
        "type": "virtual-kubelet",
        "provider": "vast.ai",
        "node.kubernetes.io/exclude-from-external-load-balancers": "true",
        "alpha.service-controller.kubernetes.io/exclude-balancer": "true",
        "bareboat.dev/node": "true",
        **spec.labels,
    }


def taints(spec: Spec, health: Health, foreign: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ours, the one that keeps new pods away from clouds in trouble, and whatever others have put there."""
    ours = {spec.taint.key, TROUBLE_TAINT}
    kept = [taint for taint in foreign if taint.get("key") not in ours]
    if spec.taint.key:
        kept.append({"key": spec.taint.key, "value": spec.taint.value, "effect": spec.taint.effect})
    if health.trouble is not None:
        kept.append({"key": TROUBLE_TAINT, "effect": "NoSchedule"})
    return kept


def manifest(spec: Spec, health: Health, now_s: float) -> dict[str, Any]:
    """For the first registration; the API takes the status in the same request."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": spec.name, "labels": labels(spec)},
        "spec": {
            "taints": taints(spec, health, []),
            "providerID": spec.provider_id or f"bareboat://{spec.name}",
        },
        "status": status(spec, health, {}, now_s),
    }


def status(spec: Spec, health: Health, standing: Mapping[str, Mapping[str, Any]], now_s: float) -> dict[str, Any]:
    """`standing` are the conditions that the API has, by type. Ready never depends on a cloud: a node that is not ready
    has its pods evicted, and they are paid for."""
    return {
        "capacity": dict(spec.capacity),
        "allocatable": dict(spec.capacity),
        "addresses": [{"type": "InternalIP", "address": spec.address}],
        # The one key of the Node API that is spelt with a capital.
        "daemonEndpoints": {"kubeletEndpoint": {"Port": spec.port}},
        "nodeInfo": {
            "machineID": "",
            "systemUUID": "",
            "bootID": "",
            "kernelVersion": "",
            "osImage": "Bareboat (rented containers)",
            "containerRuntimeVersion": f"bareboat://{__version__}",
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": "amd64",
        },
        "conditions": [_condition(each, standing.get(each[0], {}), now_s) for each in _conditions(health)],
    }


def _conditions(health: Health) -> list[tuple[str, str, str, str]]:
    cloud = (
        (CLOUD_REACHABLE, "True", "CloudAnswers", "the clouds answer")
        if health.trouble is None
        else (CLOUD_REACHABLE, "False", health.reason, statuses.clip(health.trouble))
    )
    return [
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("NetworkUnavailable", "False", "RouteCreated", "rented machines need no route"),
        cloud,
    ]


def _condition(each: tuple[str, str, str, str], standing: Mapping[str, Any], now_s: float) -> dict[str, str]:
    kind, holds, reason, message = each
    moved = standing.get("status") != holds
    return {
        "type": kind,
        "status": holds,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": statuses.stamp(now_s),
        "lastTransitionTime": statuses.stamp(now_s) if moved else standing["lastTransitionTime"],
    }
