"""The node's heartbeat: a Lease in kube-node-lease, renewed every ten seconds whatever else goes on.

Give it a Client of its own, so that no burst of other requests delays it. Invariant: the lease is owned by the live
Node (else garbage collection would delete it under us), so nothing is written before the Node's uid is known.
"""

import asyncio
import contextlib
from typing import Any

import msgspec
import structlog

from bareboat.kube import client as clients
from bareboat.kube import errors, objects, resources, times
from bareboat.plumbing import backoff
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()

NAMESPACE = "kube-node-lease"
DURATION_S = 40
EVERY_S = 10.0  # a quarter of the duration, as kubelets do; the node controller's patience is 50 s
TRIES_AT_ONCE = 5


class Lease(objects.Partial, frozen=True, kw_only=True):
    """`spec` is kept whole, so that a PUT doesn't drop fields of newer versions."""

    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"
    metadata: objects.ObjectMeta
    spec: dict[str, Any] = msgspec.field(default_factory=dict)


def body(metadata: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


class NodeLease:
    """`renewed_at_s`: when the last renewal succeeded, on the clock's monotonic scale; None before the first."""

    def __init__(
        self,
        client: clients.Client,
        node: str,
        *,
        clock: clocks.Clock | None = None,
        duration_s: int = DURATION_S,
        every_s: float = EVERY_S,
    ) -> None:
        self.renewed_at_s: float | None = None
        self._client = client
        self._node = node
        self._clock = clocks.SystemClock() if clock is None else clock
        self._duration_s = duration_s
        self._every_s = every_s
        self._uid = ""
        self._owned = asyncio.Event()
        self._lease: Lease | None = None

    def own(self, node_uid: str) -> None:
        """The live Node's uid; call it again when the Node was made anew: the next renewal rewrites the owner."""
        self._uid = node_uid
        self._owned.set()

    async def run(self) -> None:
        """Renews until cancelled. Failures are logged and tried again, at the latest after seven seconds."""
        await self._owned.wait()
        pause = backoff.Backoff(0.2, 7.0)
        while True:
            started_s = self._clock.monotonic_s()
            try:
                await self._renew_in_time()
            except errors.KubeError as failure:
                wait_s = pause.next_s()
                log.warning("lease.not_renewed", node=self._node, again_in_s=round(wait_s, 1), error=str(failure))
            else:
                pause.reset()
                self.renewed_at_s = self._clock.monotonic_s()
                wait_s = self._every_s - (self.renewed_at_s - started_s)
            await self._clock.sleep(wait_s)

    async def delete(self) -> None:
        """For good, when the Node is taken out of the cluster. Done is done: a missing lease is fine."""
        with contextlib.suppress(errors.NotFound):
            await self._client.delete(resources.LEASES.path(NAMESPACE, self._node))

    async def _renew_in_time(self) -> None:
        try:
            async with asyncio.timeout(self._every_s):
                await self._renew()
        except TimeoutError as late:
            raise errors.Timeout(f"the lease was not renewed within {self._every_s} s") from late

    async def _renew(self) -> None:
        failure: errors.KubeError | None = None
        for _ in range(TRIES_AT_ONCE):
            try:
                self._lease = await self._write()
                return
            except (errors.Conflict, errors.NotFound) as stale:
                self._lease = None
                failure = stale
        if failure is not None:
            raise failure

    async def _write(self) -> Lease:
        path = resources.LEASES.path(NAMESPACE, self._node)
        if self._lease is None:
            try:
                self._lease = await self._client.get(path, type=Lease)
            except errors.NotFound:
                made = body(self._metadata(None), self._spec({}))
                return await self._client.create(resources.LEASES.path(NAMESPACE), made, type=Lease)
        kept = self._lease
        return await self._client.replace(path, body(self._metadata(kept), self._spec(kept.spec)), type=Lease)

    def _metadata(self, kept: Lease | None) -> dict[str, Any]:
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": self._uid}
        metadata: dict[str, Any] = {"name": self._node, "namespace": NAMESPACE, "ownerReferences": [owner]}
        if kept is not None:
            metadata["resourceVersion"] = kept.metadata.resource_version
            metadata["labels"] = kept.metadata.labels
            metadata["annotations"] = kept.metadata.annotations
        return metadata

    def _spec(self, kept: dict[str, Any]) -> dict[str, Any]:
        return {
            **kept,
            "holderIdentity": self._node,
            "leaseDurationSeconds": self._duration_s,
            "renewTime": times.micro(self._clock.now_s()),
        }
