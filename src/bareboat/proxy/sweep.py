"""Finds instances labelled `k8s_pod=…` whose pod the cluster no longer has and will not make again.

The decision is pure (`judge`). What may be ended is provably ours: its mark names this cluster, no pod and no
StatefulSet of a fresh, complete list goes with its name, and it is older than the guard age. What can't be known
keeps an instance.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from bareboat.core import cloud as clouds
from bareboat.core import instances, labels
from bareboat.kube import client as clients
from bareboat.kube import objects, resources
from bareboat.plumbing import clock as clocks
from bareboat.proxy import about as abouts
from bareboat.proxy import decide

GUARD_AGE_S = 300.0
PAGE = 500
VARIABLE = "POD_NAME"
_PREFIX = f"{abouts.LABEL}="


class EnvVar(objects.Partial, frozen=True):
    name: str = ""
    value: str = ""
    value_from: dict[str, Any] | None = None


class Container(objects.Partial, frozen=True):
    env: list[EnvVar] | None = None


class PodSpec(objects.Partial, frozen=True):
    containers: list[Container] | None = None


class Pod(objects.Partial, frozen=True):
    metadata: objects.ObjectMeta
    spec: PodSpec = PodSpec()


class Ordinals(objects.Partial, frozen=True):
    start: int = 0


class StatefulSetSpec(objects.Partial, frozen=True):
    replicas: int = 1
    ordinals: Ordinals = Ordinals()


class StatefulSet(objects.Partial, frozen=True):
    metadata: objects.ObjectMeta
    spec: StatefulSetSpec = StatefulSetSpec()


@dataclass(frozen=True, slots=True)
class Owners:
    """Whose instances may live: names of pods, what their containers call themselves, and pods that StatefulSets will
    make again. `unclear` are containers whose POD_NAME can't be told from the pod."""

    names: frozenset[str]
    sets: tuple[tuple[str, int, int], ...] = ()
    unclear: tuple[str, ...] = ()

    def have(self, name: str) -> bool:
        if name in self.names:
            return True
        found = re.fullmatch(r"(.+)-(\d+)", name)
        return found is not None and any(
            found[1] == of and first <= int(found[2]) < first + count for of, first, count in self.sets
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """One instance of a proxy. `keep` says why it is left alone; empty: its pod is gone, and it may be ended."""

    instance: instances.Instance
    pod_name: str
    keep: str = ""


def judge(
    found: Iterable[instances.Instance], owners: Owners, cluster_id: str, now_s: float, *, unnamed: bool = False
) -> list[Finding]:
    """All instances of proxies, each with its verdict. `unnamed`: also those made without a cluster id count as ours,
    which only holds where no other cluster rents on the account."""
    several = [each for each in found if (each.label or "").startswith(_PREFIX)]
    return [_judged(each, owners, cluster_id, now_s, unnamed) for each in several]


def _judged(instance: instances.Instance, owners: Owners, cluster_id: str, now_s: float, unnamed: bool) -> Finding:
    name = (instance.label or "").removeprefix(_PREFIX)
    mark = labels.Mark.parse(instance.tags.get(decide.MARK_TAG))
    theirs = mark.cluster_id if mark is not None else abouts.UNNAMED_CLUSTER
    keep = ""
    if theirs == abouts.UNNAMED_CLUSTER and not unnamed:
        keep = "it was made without BAREBOAT_CLUSTER_ID, so it may be another cluster's (--unnamed counts it as ours)"
    elif theirs not in (abouts.UNNAMED_CLUSTER, cluster_id):
        keep = f"it belongs to cluster {theirs}"
    elif owners.have(name):
        keep = "its pod exists, or its StatefulSet makes it again"
    elif owners.unclear:
        keep = f"{owners.unclear[0]} takes its POD_NAME from elsewhere, which may be this name"
    elif instance.started_s is None or now_s - instance.started_s < GUARD_AGE_S:
        keep = f"it is younger than {GUARD_AGE_S:g} s, or tells no age"
    return Finding(instance, name, keep)


def owners_of(pods: Iterable[Pod], sets: Iterable[StatefulSet]) -> Owners:
    """Pure: what `owners` reads."""
    names: set[str] = set()
    unclear: list[str] = []
    for pod in pods:
        names.add(pod.metadata.name)
        for variable in _variables(pod):
            told = _told(variable, pod)
            if told is None:
                unclear.append(f"pod {pod.metadata.namespace}/{pod.metadata.name}")
            else:
                names.add(told)
    kept = ((each.metadata.name, each.spec.ordinals.start, each.spec.replicas) for each in sets)
    return Owners(frozenset(names), tuple(kept), tuple(unclear))


def _variables(pod: Pod) -> list[EnvVar]:
    return [each for container in pod.spec.containers or () for each in container.env or () if each.name == VARIABLE]


def _told(variable: EnvVar, pod: Pod) -> str | None:
    if variable.value_from is None:
        return None if "$(" in variable.value else variable.value
    place = (variable.value_from.get("fieldRef") or {}).get("fieldPath")
    return pod.metadata.name if place == "metadata.name" else None


async def owners(client: clients.Client) -> Owners:
    """Fresh and complete: all pods and StatefulSets of all namespaces, or it raises a `KubeError`."""
    pods = await _all(client, resources.PODS, Pod)
    return owners_of(pods, await _all(client, resources.STATEFUL_SETS, StatefulSet))


async def _all(client: clients.Client, kind: resources.Resource, item: type[msgspec.Struct]) -> list[Any]:
    found: list[Any] = []
    continue_: str | None = None
    while True:
        page = await client.list(kind.path(), item=item, limit=PAGE, continue_=continue_)
        found += page.items or ()
        continue_ = page.metadata.continue_
        if not continue_:
            return found


async def look(
    client: clients.Client, cloud: clouds.Cloud, cluster_id: str, clock: clocks.Clock, *, unnamed: bool = False
) -> list[Finding]:
    """The account's list first, then the cluster's: a pod that appears between the two keeps its instance."""
    listing = await cloud.instances()
    return judge(listing.instances, await owners(client), cluster_id, clock.now_s(), unnamed=unnamed)
