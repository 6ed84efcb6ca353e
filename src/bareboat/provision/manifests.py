"""The Secret, Pod and Service of a client, as the API server takes them. Pure.

A pod mounts its own client's key alone (`client-…` in the Secret), never the documented key, which is the last
client's: so no client gets into another one's pod.
"""

import base64
from collections.abc import Mapping
from typing import Any

from bareboat.provision import order
from bareboat.workload import annotations, needs

SECRET = "ssh-authorized-keys"
DOCUMENTED_KEY = "authorized_keys"
MOUNT_PATH = "/home/ubuntu/.ssh/authorized_keys"
CONTAINER = "client"
MAKING = "making." + annotations.OURS
"""Annotation of the Secret, with a client's name behind it: since when (unix seconds) something is made or removed."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "bareboat-provision"}
CLIENT = annotations.OURS + "client"
"""Label with the client's name; the Service selects by it, lists go by its presence."""
TAINT = "virtual-kubelet.io/provider"
PLAIN = "plain"
NODE_LABEL = annotations.OURS + "node"

Manifest = dict[str, Any]


def pod_name(name: str) -> str:
    return f"{name}-pod"


def service_name(name: str) -> str:
    return f"{name}-svc"


def client_of(name: str) -> str:
    """The client's name, whether it, its pod's or its Service's was given."""
    return name.removesuffix("-pod").removesuffix("-svc")


def secret_patch(lines: Mapping[str, str], now_s: float) -> Manifest:
    """A merge patch: each client's own key, and the last one's as the documented one; keys of others stay. It notes
    that these clients are being made."""
    data = {name: base64.b64encode(f"{line}\n".encode()).decode() for name, line in lines.items()}
    return {**making_patch(dict.fromkeys(lines, now_s)), "data": {**data, DOCUMENTED_KEY: data[list(data)[-1]]}}


def making_patch(since_s: Mapping[str, float | None]) -> Manifest:
    """A merge patch: these clients are being made or removed since then; None: no more."""
    told = {f"{MAKING}{name}": None if at_s is None else f"{at_s:.0f}" for name, at_s in since_s.items()}
    return {"metadata": {"annotations": told}}


def secret(lines: Mapping[str, str], now_s: float) -> Manifest:
    patch = secret_patch(lines, now_s)
    metadata = {"name": SECRET, "labels": dict(MANAGED_BY), **patch["metadata"]}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": patch["data"]}


def service(asked: order.Order, http: int | None, ssh: int | None) -> Manifest:
    """None leaves the choice of a node port to the API server."""
    ports: list[Manifest] = [
        {"name": "http", "port": order.HTTP_PORT, "targetPort": order.HTTP_PORT, "protocol": "TCP"},
        {"name": "ssh", "port": asked.ssh_port, "targetPort": asked.ssh_port, "protocol": "TCP"},
    ]
    for port, chosen in zip(ports, (http, ssh), strict=True):
        if chosen is not None:
            port["nodePort"] = chosen
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service_name(asked.name), "labels": _labels(asked.name)},
        "spec": {"type": "NodePort", "selector": {CLIENT: asked.name}, "ports": ports},
    }


def pod(asked: order.Order) -> Manifest:
    container: Manifest = {
        "name": CONTAINER,
        "image": asked.image,
        "env": [
            {"name": "MODEL_PORT", "value": str(order.HTTP_PORT)},
            {"name": "SSH_PORT", "value": str(asked.ssh_port)},
        ],
        "ports": [
            {"name": "http", "containerPort": order.HTTP_PORT},
            {"name": "ssh", "containerPort": asked.ssh_port},
        ],
    }
    # The image is a stranger's: it gets no identity in the cluster and no list of its Services.
    spec: Manifest = {"containers": [container], "automountServiceAccountToken": False, "enableServiceLinks": False}
    metadata: Manifest = {"name": pod_name(asked.name), "labels": _labels(asked.name)}
    if asked.gpu is None:
        _mount(spec, container, asked.name)
    else:
        _rent(metadata, spec, container, asked)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _labels(name: str) -> dict[str, str]:
    return {"app": name, CLIENT: name, **MANAGED_BY}


def _mount(spec: Manifest, container: Manifest, name: str) -> None:
    source = {"secretName": SECRET, "items": [{"key": name, "path": DOCUMENTED_KEY}], "defaultMode": 0o644}
    spec["volumes"] = [{"name": SECRET, "secret": source}]
    container["volumeMounts"] = [{"name": SECRET, "mountPath": MOUNT_PATH, "subPath": DOCUMENTED_KEY, "readOnly": True}]


def _rent(metadata: Manifest, spec: Manifest, container: Manifest, asked: order.Order) -> None:
    """Onto the virtual node, and plainly: clients are to reach the image's own ssh server, with their own key, not the
    installation's. No files get into a container that way, so the key comes as a variable, under the two names that
    images for rented machines look for."""
    assert asked.gpu is not None
    metadata["annotations"] = {**asked.gpu.annotations(), annotations.OURS + annotations.ACCESS: PLAIN}
    spec["nodeSelector"] = {NODE_LABEL: "true"}
    spec["tolerations"] = [{"key": TAINT, "operator": "Exists"}]
    container["resources"] = {"limits": {needs.GPU_RESOURCE: str(asked.gpu.count)}}
    reference = {"secretKeyRef": {"name": SECRET, "key": asked.name}}
    container["env"] += [{"name": name, "valueFrom": reference} for name in ("SSH_PUBLIC_KEY", "PUBLIC_KEY")]
