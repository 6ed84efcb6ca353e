"""The variables that tell a container where the cluster's Services are. Pure.

Cluster addresses can't be reached from a rented machine, so plain access leaves these variables out by default.
"""

from collections.abc import Iterable

from bareboat.workload import sources


def variables(services: Iterable[sources.Service], namespace: str, *, links: bool = True) -> dict[str, str]:
    """Of all Services with a cluster address: `default/kubernetes` always, the namespace's own when `links`."""
    chosen: dict[str, sources.Service] = {}
    for service in services:
        if service.spec.cluster_ip in ("", "None") or not service.spec.ports:
            continue
        name = service.metadata.name
        if service.metadata.namespace == "default" and name == "kubernetes":
            chosen.setdefault(name, service)
        elif links and service.metadata.namespace == namespace:
            chosen[name] = service
    env: dict[str, str] = {}
    for service in chosen.values():
        env |= _of_one(service)
    return env


def _of_one(service: sources.Service) -> dict[str, str]:
    prefix = _upper(service.metadata.name)
    address = service.spec.cluster_ip
    ports = service.spec.ports or []
    env = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(ports[0].port)}
    for port in ports:
        if port.name:
            env[f"{prefix}_SERVICE_PORT_{_upper(port.name)}"] = str(port.port)
    host = f"[{address}]" if ":" in address else address
    for index, port in enumerate(ports):
        protocol = port.protocol or "TCP"
        url = f"{protocol.lower()}://{host}:{port.port}"
        if index == 0:
            env[f"{prefix}_PORT"] = url
        link = f"{prefix}_PORT_{port.port}_{protocol.upper()}"
        env |= {
            link: url,
            f"{link}_PROTO": protocol.lower(),
            f"{link}_PORT": str(port.port),
            f"{link}_ADDR": address,
        }
    return env


def _upper(name: str) -> str:
    return name.replace("-", "_").upper()
