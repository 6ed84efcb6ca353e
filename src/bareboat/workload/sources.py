"""What a pod refers to outside itself, as it was found: ConfigMaps, Secrets, Services and facts of the node.

Owns the shapes between fetching (an edge) and resolving (pure). Values of Secrets never appear in a repr.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from bareboat.kube import objects
from bareboat.workload import quantities


class Kind(StrEnum):
    """What can be referred to; the value is the word that the API server's messages use."""

    CONFIG_MAP = "configmap"
    SECRET = "secret"


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """One object that has to be read before a pod can start."""

    kind: Kind
    namespace: str
    name: str


class ConfigMap(objects.Partial, frozen=True):
    """`binary_data` is out of its base64 already; it becomes files, never environment."""

    data: dict[str, str] | None = None
    binary_data: dict[str, bytes] | None = None


class Secret(objects.Partial, frozen=True):
    """`data` is out of its base64 already."""

    type: str = "Opaque"
    data: dict[str, bytes] | None = None

    def __repr__(self) -> str:
        return f"Secret(type={self.type!r}, keys={sorted(self.data or ())!r})"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """It may be there or not: nobody knows. `why` is a sentence for people. Ask again later."""

    why: str


class ServicePort(objects.Partial, frozen=True):
    port: int = 0
    name: str = ""
    protocol: str = "TCP"


class ServiceSpec(objects.Partial, frozen=True):
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    ports: list[ServicePort] | None = None


class Service(objects.Partial, frozen=True):
    metadata: objects.ObjectMeta
    spec: ServiceSpec = ServiceSpec()


@dataclass(frozen=True, slots=True)
class Sources:
    """What was found in the pod's namespace, by name. None: it is certainly not there. A name that is missing here
    was not asked for, and counts as Unreadable."""

    config_maps: Mapping[str, ConfigMap | Unreadable | None] = field(default_factory=dict)
    secrets: Mapping[str, Secret | Unreadable | None] = field(default_factory=dict)

    def config_map(self, name: str) -> ConfigMap | Unreadable | None:
        return self.config_maps.get(name, Unreadable(f"configmap {name!r} has not been read yet"))

    def secret(self, name: str) -> Secret | Unreadable | None:
        return self.secrets.get(name, Unreadable(f"secret {name!r} has not been read yet"))


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """The node as containers may see it. `allocatable` stands in for limits that a container does not set."""

    addresses: tuple[str, ...] = ()
    allocatable: Mapping[str, quantities.Quantity] = field(default_factory=dict)
