"""What the clouds bill under this cluster's marks, beside the pods of the cluster: read afresh, matched purely.

For people and their commands; the node itself watches instead. Nothing is rented, ended or written here.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bareboat.core import cloud as clouds
from bareboat.core import errors, instances
from bareboat.kube import client as clients
from bareboat.kube import objects, resources
from bareboat.plumbing import clock as clocks

PAGE = 500


class PodSpec(objects.Partial, frozen=True):
    node_name: str = ""


class PodStatus(objects.Partial, frozen=True):
    phase: str = ""


class Pod(objects.Partial, frozen=True):
    """As much of a pod as tells what it has cost."""

    metadata: objects.ObjectMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


@dataclass(frozen=True, slots=True)
class Held:
    """An instance with a mark of this cluster. `pod` is None when no pod of its owner's uid exists."""

    instance: instances.Instance
    owner_uid: str
    pod: Pod | None
    now_s: float

    @property
    def age_s(self) -> float | None:
        """Since it was rented, as its cloud tells; None when it doesn't."""
        started_s = self.instance.started_s
        return None if started_s is None else max(0.0, self.now_s - started_s)

    @property
    def usd(self) -> float:
        """What it has cost so far: its present price for all of its age."""
        return (self.instance.usd_per_hour or 0.0) * (self.age_s or 0.0) / 3600

    @property
    def owner(self) -> str:
        """`namespace/name` of its pod, empty when there is none."""
        return "" if self.pod is None else f"{self.pod.metadata.namespace}/{self.pod.metadata.name}"


@dataclass(frozen=True, slots=True)
class Inventory:
    """`foreign` counts the accounts' instances that are not this cluster's. `troubles` are the clouds that could not be
    asked, by name: what they hold is unknown, not nothing."""

    cluster_id: str
    held: tuple[Held, ...]
    pods: Mapping[str, Pod]
    now_s: float
    foreign: int = 0
    troubles: Mapping[str, str] = field(default_factory=dict)


async def cluster_id(client: clients.Client, configured: str = "") -> str:
    """What this cluster's marks carry. One read, of the namespace kube-system, unless one is configured."""
    if configured:
        return configured
    path = resources.NAMESPACES.path(None, "kube-system")
    return (await client.get(path, type=objects.Metadata)).metadata.uid


async def look(
    client: clients.Client, opened: Mapping[str, clouds.Cloud], whose: str, clock: clocks.Clock
) -> Inventory:
    """One complete list of each cloud and then one of all pods: a pod made between the two keeps its instance.

    Raises a `KubeError` when pods can't be listed.
    """
    answers = await asyncio.gather(*(_listed(each) for each in opened.values()))
    found = [each for answer in answers if not isinstance(answer, str) for each in answer]
    pods = await all_pods(client)
    held = matched(found, whose, pods, clock.now_s())
    troubles = {name: told for name, told in zip(opened, answers, strict=True) if isinstance(told, str)}
    return Inventory(whose, held, pods, clock.now_s(), len(found) - len(held), troubles)


def matched(found: Iterable[instances.Instance], whose: str, pods: Mapping[str, Pod], now_s: float) -> tuple[Held, ...]:
    """Those with a mark of the cluster `whose`, in order of cloud and age."""
    marked = [(each, each.mark) for each in found]
    held = [
        Held(each, mark.owner_uid, pods.get(mark.owner_uid), now_s)
        for each, mark in marked
        if mark is not None and mark.cluster_id == whose
    ]
    return tuple(sorted(held, key=lambda each: (each.instance.cloud, each.instance.started_s or 0.0, each.instance.id)))


async def all_pods(client: clients.Client) -> dict[str, Pod]:
    """A fresh list of all pods of the cluster, by uid: complete, or it raises."""
    found: dict[str, Pod] = {}
    continue_: str | None = None
    while True:
        page = await client.list(resources.PODS.path(), item=Pod, limit=PAGE, continue_=continue_)
        found.update((each.metadata.uid, each) for each in page.items or ())
        continue_ = page.metadata.continue_
        if not continue_:
            return found


async def _listed(cloud: clouds.Cloud) -> tuple[instances.Instance, ...] | str:
    """Or why it could not be asked."""
    try:
        return (await cloud.instances()).instances
    except errors.CloudError as trouble:
        return str(trouble)
