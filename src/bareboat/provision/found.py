"""What lies in the cluster for a client: the parts of Pods and Services that are read, and how they are told."""

from typing import Any

import msgspec

from bareboat.kube import objects
from bareboat.provision import manifests
from bareboat.workload import annotations

HTTP_NAME, SSH_NAME = "http", "ssh"
UNPULLABLE = ("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
"""Reasons that mean the image can't be had. `ErrImagePull` may be a hiccup; after another one it is a back-off."""


class Port(objects.Partial, frozen=True):
    name: str = ""
    node_port: int = 0


class ServiceSpec(objects.Partial, frozen=True):
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    ports: list[Port] | None = None


class Service(objects.Partial, frozen=True):
    metadata: objects.ObjectMeta
    spec: ServiceSpec = ServiceSpec()

    @property
    def node_ports(self) -> list[int]:
        return [port.node_port for port in self.spec.ports or () if port.node_port]

    @property
    def pair(self) -> tuple[int, int] | None:
        """Node ports of HTTP and ssh, if it has both."""
        http, ssh = self.port(HTTP_NAME), self.port(SSH_NAME)
        return None if http is None or ssh is None else (http, ssh)

    def port(self, name: str) -> int | None:
        return next((port.node_port for port in self.spec.ports or () if port.name == name and port.node_port), None)


class Waiting(objects.Partial, frozen=True):
    reason: str = ""
    message: str = ""


class State(objects.Partial, frozen=True):
    waiting: Waiting | None = None


class ContainerStatus(objects.Partial, frozen=True):
    state: State = State()


class Condition(objects.Partial, frozen=True):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class PodStatus(objects.Partial, frozen=True):
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    conditions: list[Condition] | None = None
    container_statuses: list[ContainerStatus] | None = None


class Container(objects.Partial, frozen=True):
    image: str = ""


class PodSpec(objects.Partial, frozen=True):
    containers: tuple[Container, ...] = ()
    node_name: str = ""
    node_selector: dict[str, str] | None = None


class Pod(objects.Partial, frozen=True):
    metadata: objects.ObjectMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ready(self) -> bool:
        return any(each.type == "Ready" and each.status == "True" for each in self.status.conditions or ())

    @property
    def over(self) -> bool:
        """Nothing will become of it any more."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def reason(self) -> str:
        """Why it is not ready, in the cluster's words; empty when it is, or when nobody has said anything yet."""
        if self.ready:
            return ""
        waiting = self._waiting
        if waiting is not None:
            return _joined(waiting.reason, waiting.message)
        if self.status.reason or self.status.message:
            return _joined(self.status.reason, self.status.message)
        for each in self.status.conditions or ():
            if each.status == "False" and each.reason:
                return _joined(each.reason, each.message)
        return ""

    @property
    def unpullable(self) -> str:
        """Why the image can't be pulled; empty while that is not known."""
        waiting = self._waiting
        return _joined(waiting.reason, waiting.message) if waiting and waiting.reason in UNPULLABLE else ""

    @property
    def _waiting(self) -> Waiting | None:
        return next((each.state.waiting for each in self.status.container_statuses or () if each.state.waiting), None)


class Secret(objects.Partial, frozen=True):
    metadata: objects.ObjectMeta
    data: dict[str, str] | None = None


def answer(name: str, namespace: str, http: int | None, ssh: int | None) -> dict[str, Any]:
    """The document's example response."""
    return {
        "pod_name": manifests.pod_name(name),
        "service_name": manifests.service_name(name),
        "secret_name": manifests.SECRET,
        "connect_http_port": http,
        "connect_ssh_port": ssh,
        "namespace": namespace,
    }


def standing(pod: Pod | None) -> dict[str, Any]:
    """How it goes with the pod."""
    if pod is None:
        return {
            "ready": False,
            "phase": "Missing",
            "reason": "there is no Pod; repeat the request or delete the client",
        }
    phase = "Terminating" if pod.metadata.deletion_timestamp is not None else pod.status.phase
    return {"ready": pod.ready and phase != "Terminating", "phase": phase, "reason": pod.reason}


def description(name: str, namespace: str, pod: Pod | None, service: Service | None) -> dict[str, Any]:
    """One client as `GET /provision` tells it."""
    ports = (None, None) if service is None else (service.port(HTTP_NAME), service.port(SSH_NAME))
    told = {"name": name, **answer(name, namespace, *ports), **standing(pod)}
    told["image"] = pod.spec.containers[0].image if pod is not None and pod.spec.containers else None
    made = pod.metadata.creation_timestamp if pod is not None else None
    told["created_at"] = made.isoformat().replace("+00:00", "Z") if made is not None else None
    told["rented"] = _rented(pod)
    return told


def _rented(pod: Pod | None) -> dict[str, Any] | None:
    """For a pod on the virtual node: what was rented and where it answers, as far as that is known."""
    if pod is None or manifests.NODE_LABEL not in (pod.spec.node_selector or {}):
        return None
    notes = pod.metadata.annotations or {}
    wanted = {
        "node": pod.spec.node_name,
        "gpu": notes.get(annotations.GPU),
        "usd_per_hour": notes.get(annotations.PRICE),
        "address": notes.get(annotations.ADDRESS),
        "ports": notes.get(annotations.PORTS),
    }
    return {key: value for key, value in wanted.items() if value}


def _joined(reason: str, message: str) -> str:
    return ": ".join(part for part in (reason, message) if part)[:1000]
