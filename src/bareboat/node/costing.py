"""What pods have cost so far and cost an hour now. Pure, but for the read of what the node keeps of ended pods.

Sources: the annotation with what a pod's ended attempts cost, and the clouds' own prices and ages of what is rented.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from bareboat.kube import client as clients
from bareboat.kube import errors, objects, resources
from bareboat.node import inventory, records, spending
from bareboat.workload import annotations as notes

NODES = "bareboat.dev/node=true"


@dataclass(frozen=True, slots=True)
class Line:
    """One pod, or (without a name) what is rented for no pod that exists."""

    namespace: str
    pod: str
    usd: float
    usd_per_hour: float
    phase: str = ""


@dataclass(frozen=True, slots=True)
class Total:
    """Of one namespace. `usd` counts pods that are gone too, where the node keeps their sum."""

    namespace: str
    usd: float
    usd_per_hour: float


@dataclass(frozen=True, slots=True)
class Costs:
    """`complete`: ended pods are counted, since the node keeps their sums (it does where a total cap is set)."""

    lines: tuple[Line, ...]
    totals: tuple[Total, ...]
    complete: bool

    @property
    def usd(self) -> float:
        return sum(each.usd for each in self.totals)

    @property
    def usd_per_hour(self) -> float:
        return sum(each.usd_per_hour for each in self.totals)


def costs(found: inventory.Inventory, kept: Mapping[str, float] | None = None) -> Costs:
    """`kept`: dollars of ended instances by namespace; None when nobody keeps them."""
    runs: dict[str, list[inventory.Held]] = {}
    for each in found.held:
        runs.setdefault(each.owner_uid if each.pod is not None else "", []).append(each)
    lines, ended = [], dict.fromkeys(kept or {}, 0.0)
    for uid, pod in found.pods.items():
        spent = _spent(pod, found.now_s)
        if not spent and uid not in runs:
            continue
        namespace = pod.metadata.namespace
        ended[namespace] = ended.get(namespace, 0.0) + spent
        now = runs.get(uid, [])
        lines.append(Line(namespace, pod.metadata.name, spent + _usd(now), _usd_per_hour(now), phase=pod.status.phase))
    if "" in runs:
        lines.append(Line("", "", _usd(runs[""]), _usd_per_hour(runs[""])))
    lines.sort(key=lambda line: (-line.usd_per_hour, -line.usd, line.namespace, line.pod))
    # What the node keeps holds the ended attempts of pods that still exist as well.
    more = {name: max(0.0, usd - ended[name]) for name, usd in (kept or {}).items()}
    return Costs(tuple(lines), _totals(lines, more), kept is not None)


def _totals(lines: Iterable[Line], more: Mapping[str, float]) -> tuple[Total, ...]:
    sums = {name: (usd, 0.0) for name, usd in more.items()}
    for line in lines:
        usd, usd_per_hour = sums.get(line.namespace, (0.0, 0.0))
        sums[line.namespace] = usd + line.usd, usd_per_hour + line.usd_per_hour
    return tuple(Total(name, *both) for name, both in sorted(sums.items()))


def _spent(pod: inventory.Pod, now_s: float) -> float:
    created = pod.metadata.creation_timestamp
    lived_h = 0.0 if created is None else max(0.0, now_s - created.timestamp()) / 3600
    return records.usd((pod.metadata.annotations or {}).get(notes.SPENT), records.DEAREST_USD_PER_HOUR * lived_h)


def _usd(held: Iterable[inventory.Held]) -> float:
    return sum(each.usd for each in held)


def _usd_per_hour(held: Iterable[inventory.Held]) -> float:
    return sum(each.instance.usd_per_hour or 0.0 for each in held)


async def kept(client: clients.Client, namespace: str) -> dict[str, float] | None:
    """What the nodes of this cluster keep of ended instances, by namespace; None when none of them keeps anything.

    A list of nodes and a read for each of ours. Raises a `KubeError`, `Forbidden` among them.
    """
    page = await client.list(resources.NODES.path(), item=objects.Metadata, label_selector=NODES)
    sums: dict[str, float] | None = None
    for node in page.items or ():
        path = resources.CONFIG_MAPS.path(namespace, spending.name_for(node.metadata.name))
        with contextlib.suppress(errors.NotFound, msgspec.DecodeError):
            told = await client.get(path, type=spending.Kept)
            decoded = msgspec.json.decode(told.data.get(spending.KEY, "{}"), type=dict[str, float])
            sums = sums or {}
            for name, usd in decoded.items():
                sums[name] = sums.get(name, 0.0) + usd
    return sums
