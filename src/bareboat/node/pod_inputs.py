"""Reads the ConfigMaps, Secrets and Services that pods refer to, each by its exact name, and keeps them for seconds.

Owns fetching and caching; leaves what is wanted and what it means to `workload`. What could not be read is Unreadable,
never "not there": only an answer of the API server says that. A burst of pods with the same references costs one read.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from bareboat.kube import client as clients
from bareboat.kube import errors, resources
from bareboat.plumbing import clock as clocks
from bareboat.workload import pod as pods
from bareboat.workload import references, sources

TTL_S = 10.0
# Short: the user is probably about to create it.
MISSING_TTL_S = 2.0
UNREADABLE_TTL_S = 1.0
SERVICES_TTL_S = 60.0
MOST_ENTRIES = 2048
# A name that the API server would never have let in; in a path it could point to something else.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_RESOURCES = {sources.Kind.CONFIG_MAP: resources.CONFIG_MAPS, sources.Kind.SECRET: resources.SECRETS}

V = TypeVar("V")
Found = sources.ConfigMap | sources.Secret | sources.Unreadable | None
Services = tuple[sources.Service, ...] | sources.Unreadable


@dataclass(slots=True)
class _Slot(Generic[V]):
    """One thing that is read by one caller at a time; the others wait for the lock and find it fresh."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    until_s: float = float("-inf")
    value: V | None = None


class PodInputs:
    """Needs the right to `get` ConfigMaps and Secrets, and to `list` Services only where `services` is called."""

    def __init__(self, client: clients.Client, *, clock: clocks.Clock, ttl_s: float = TTL_S) -> None:
        self._client = client
        self._clock = clock
        self._ttl_s = ttl_s
        self._objects: dict[sources.Reference, _Slot[Found]] = {}
        self._services: _Slot[Services] = _Slot()
        self._sweep_at = MOST_ENTRIES

    async def fetch(self, pod: pods.Pod, also: Iterable[sources.Reference] = ()) -> sources.Sources:
        """Everything the pod's environment and image pull secrets refer to, and `also`. Raises nothing of the API's.

        Costs a call for each object that is not fresh in the cache: none at all for a pod without references.
        """
        found: dict[sources.Reference, Found] = {}
        stale: list[sources.Reference] = []
        now_s = self._clock.monotonic_s()
        for reference in dict.fromkeys((*references.wanted(pod), *also)):
            slot = self._objects.get(reference)
            if slot is not None and now_s < slot.until_s:
                found[reference] = slot.value
            else:
                stale.append(reference)
        if stale:
            async with asyncio.TaskGroup() as group:
                reads = {each: group.create_task(self._object(each), name=f"pod-inputs.{each.name}") for each in stale}
            found |= {reference: read.result() for reference, read in reads.items()}
        return _sorted(found)

    async def services(self) -> Services:
        """All Services of the cluster, for service variables; one list a minute at most."""
        return await self._fresh(self._services, self._list_services)

    def forget(self, namespace: str, name: str) -> None:
        """Drops what is cached of that name, so that the next pod reads it anew."""
        for kind in sources.Kind:
            self._objects.pop(sources.Reference(kind, namespace, name), None)

    async def _object(self, reference: sources.Reference) -> Found:
        if not (_NAME.fullmatch(reference.name) and _NAME.fullmatch(reference.namespace)):
            return None
        slot = self._objects.get(reference)
        if slot is None:
            self._make_room()
            slot = self._objects[reference] = _Slot()
        return await self._fresh(slot, lambda: self._read(reference))

    async def _fresh(self, slot: _Slot[V], read: Callable[[], Awaitable[tuple[V, float]]]) -> V:
        # A lock and not a shared task: whoever is cancelled while reading leaves the read to the next in line.
        async with slot.lock:
            if self._clock.monotonic_s() >= slot.until_s:
                slot.value, ttl_s = await read()
                slot.until_s = self._clock.monotonic_s() + ttl_s
            return cast(V, slot.value)  # None only where it is one of V's values

    async def _read(self, reference: sources.Reference) -> tuple[Found, float]:
        path = _RESOURCES[reference.kind].path(reference.namespace, reference.name)
        try:
            if reference.kind is sources.Kind.CONFIG_MAP:
                return await self._client.get(path, type=sources.ConfigMap), self._ttl_s
            return await self._client.get(path, type=sources.Secret), self._ttl_s
        except errors.NotFound:
            return None, MISSING_TTL_S
        except errors.KubeError as problem:
            what = f"{reference.kind} {reference.namespace}/{reference.name}"
            plural = _RESOURCES[reference.kind].plural
            return sources.Unreadable(_why(problem, what, "get", plural, reference.namespace)), UNREADABLE_TTL_S

    async def _list_services(self) -> tuple[Services, float]:
        try:
            page = await self._client.list(resources.SERVICES.path(), item=sources.Service)
        except errors.KubeError as problem:
            return sources.Unreadable(_why(problem, "services", "list", "services", None)), UNREADABLE_TTL_S
        return tuple(page.items or ()), SERVICES_TTL_S

    def _make_room(self) -> None:
        if len(self._objects) < self._sweep_at:
            return
        now_s = self._clock.monotonic_s()
        for reference, slot in list(self._objects.items()):
            if slot.until_s <= now_s and not slot.lock.locked():
                del self._objects[reference]
        self._sweep_at = max(MOST_ENTRIES, 2 * len(self._objects))


def _sorted(found: Mapping[sources.Reference, Found]) -> sources.Sources:
    config_maps: dict[str, sources.ConfigMap | sources.Unreadable | None] = {}
    secrets: dict[str, sources.Secret | sources.Unreadable | None] = {}
    for reference, value in found.items():
        if reference.kind is sources.Kind.CONFIG_MAP and not isinstance(value, sources.Secret):
            config_maps[reference.name] = value
        elif reference.kind is sources.Kind.SECRET and not isinstance(value, sources.ConfigMap):
            secrets[reference.name] = value
    return sources.Sources(config_maps, secrets)


def _why(problem: errors.KubeError, what: str, verb: str, plural: str, namespace: str | None) -> str:
    where = f" in namespace {namespace}" if namespace else ""
    if isinstance(problem, errors.Forbidden):
        return (
            f"{what} can't be read: this node lacks the right to {verb} {plural}{where}; "
            f"give it to the node's service account with a RoleBinding"
        )
    if isinstance(problem, errors.Malformed):
        return f"{what} can't be read: the API server's answer makes no sense"
    if isinstance(problem, errors.ApiError):
        return f"{what} can't be read: {problem.status} {problem.reason}: {problem.detail}"
    return f"{what} can't be read: the API server did not answer"
