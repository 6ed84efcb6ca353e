"""Makes the Node object and keeps its status: on a change at once, else every five minutes. The lease beats beside it.

A Node that somebody deletes is made anew. Shutdown leaves it: pods and what is rented for them stay.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from bareboat.kube import client as clients
from bareboat.kube import errors, leases, objects, resources
from bareboat.node import node_object
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()

LOOK_S = 2.0
REFRESH_S = 300.0
STANDS_S = 10.0


class NodeSpec(objects.Partial, frozen=True):
    taints: list[dict[str, Any]] | None = None


class NodeStatus(objects.Partial, frozen=True):
    conditions: list[dict[str, Any]] | None = None


class Node(objects.Partial, frozen=True):
    """What is read back of it."""

    metadata: objects.ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class Registration:
    """`registered` is set once the Node stands. `health()` is asked every few seconds; it costs nothing."""

    def __init__(
        self,
        client: clients.Client,
        spec: Callable[[], node_object.Spec],
        health: Callable[[], node_object.Health],
        lease: leases.NodeLease,
        clock: clocks.Clock,
    ) -> None:
        self.registered = asyncio.Event()
        self._client = client
        self._spec = spec
        self._health = health
        self._lease = lease
        self._clock = clock
        self._written: tuple[node_object.Spec, node_object.Health] | None = None
        self._written_s = self._stood_s = 0.0

    async def run(self) -> None:
        """Works until cancelled. What the API server refuses is tried again by the supervisor."""
        await self._register()
        while True:
            await self._clock.sleep(LOOK_S)
            now = (self._spec(), self._health())
            try:
                if now != self._written or self._clock.monotonic_s() - self._written_s > REFRESH_S:
                    await self._update()
                elif self._clock.monotonic_s() - self._stood_s > STANDS_S:
                    await self._check(now[0].name)
            except errors.NotFound:
                log.warning("node.deleted", node=now[0].name, what="somebody deleted the Node; it is made anew")
                await self._register()

    async def _check(self, name: str) -> None:
        """Long before the control plane removes the pods of a Node that is gone (40 s)."""
        node = await self._client.get(resources.NODES.path(None, name), type=objects.Metadata)
        self._lease.own(node.metadata.uid)
        self._stood_s = self._clock.monotonic_s()

    async def _register(self) -> None:
        spec, health = self._spec(), self._health()
        try:
            manifest = node_object.manifest(spec, health, self._clock.now_s())
            node = await self._client.create(resources.NODES.path(), manifest, type=Node)
            log.info("node.registered", node=spec.name, address=spec.address, port=spec.port)
        except errors.Conflict:
            node = await self._update()
        self._lease.own(node.metadata.uid)
        self._note(spec, health)
        self.registered.set()

    async def _update(self) -> Node:
        spec, health = self._spec(), self._health()
        path = resources.NODES.path(None, spec.name)
        node = await self._client.get(path, type=Node)
        self._lease.own(node.metadata.uid)
        standing = {each["type"]: each for each in node.status.conditions or ()}
        body = {"status": node_object.status(spec, health, standing, self._clock.now_s())}
        await self._client.patch(f"{path}/status", msgspec.json.encode(body), clients.Patch.STRATEGIC)
        if await self._settle(path, spec, health):
            self._note(spec, health)
        return node

    async def _settle(self, path: str, spec: node_object.Spec, health: node_object.Health) -> bool:
        """Taints and labels, from a fresh read; False when somebody wrote in between: the next look tries again."""
        node = await self._client.get(path, type=Node)
        foreign = node.spec.taints or []
        wanted = node_object.taints(spec, health, foreign)
        labels = node_object.labels(spec)
        standing = node.metadata.labels or {}
        if sorted(map(str, foreign)) == sorted(map(str, wanted)) and labels.items() <= standing.items():
            return True
        # Pinned to what was read, so that taints which others add in between stay.
        pinned = {"resourceVersion": node.metadata.resource_version, "labels": labels}
        try:
            await self._client.patch(path, {"metadata": pinned, "spec": {"taints": wanted}}, clients.Patch.MERGE)
        except errors.Conflict:
            return False
        return True

    def _note(self, spec: node_object.Spec, health: node_object.Health) -> None:
        if self._written is not None and self._written[1].trouble != health.trouble:
            log.info("node.health", node=spec.name, trouble=health.trouble)
        self._written = (spec, health)
        self._written_s = self._stood_s = self._clock.monotonic_s()
