"""One active process and its standbys: whoever holds a Lease leads, the others wait.

Others' clocks are not trusted: a lease counts as abandoned when *we* have seen no change of it for its duration.
Invariant: who can't renew stops leading before another may begin.
"""

import asyncio
import socket
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from bareboat.kube import client as clients
from bareboat.kube import errors, leases, resources, times
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()


def identity() -> str:
    """A new name for a candidate: that of the host for people, and a random part, as Go's clients have it.

    The host's name alone would let two processes of one host lead at once. The price: who is killed and started again
    waits for its own lease to run out.
    """
    return f"{socket.gethostname()}_{uuid.uuid4()}"


class Lost(Exception):
    """We led and could not renew in time; somebody else may lead now. What led has been cancelled."""


class Election:
    """A candidate, known by `identity` (unique among the candidates over time, as `identity()` makes it).

    Give it a Client of its own. `lease_s` is how long others wait for a silent leader, `deadline_s` how long a leader
    goes on without a successful renewal (it has to be well below: stopping takes time too).
    """

    def __init__(
        self,
        client: clients.Client,
        namespace: str,
        name: str,
        identity: str,
        *,
        clock: clocks.Clock | None = None,
        lease_s: int = 15,
        deadline_s: float = 10.0,
        every_s: float = 2.0,
    ) -> None:
        if not every_s < deadline_s < lease_s:
            raise ValueError(f"needed: every_s < deadline_s < lease_s, got {every_s}, {deadline_s}, {lease_s}")
        self.leads = False
        self.leader: str | None = None
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clocks.SystemClock() if clock is None else clock
        self._lease_s = lease_s
        self._deadline_s = deadline_s
        self._every_s = every_s
        self._lease: leases.Lease | None = None
        self._seen_at_s = 0.0

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Waits for the lease, then runs `lead` while it is ours; gives the lease back when `lead` ends or we do.

        Returns when `lead` returns; raises what it raises, or Lost.
        """
        await self._win()
        log.info("election.won", lease=self._name, identity=self._identity)
        self.leads = True
        try:
            await self._lead(lead)
        finally:
            self.leads = False
            await self._release()

    async def _win(self) -> None:
        while not await self._tried(self._deadline_s):
            await self._clock.sleep(self._every_s)

    async def _tried(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._acquire()
        except errors.Conflict:
            return False  # somebody was faster
        except (errors.KubeError, TimeoutError) as failure:
            log.warning("election.no_answer", lease=self._name, error=str(failure) or "no answer in time")
            return False

    async def _lead(self, lead: Callable[[], Awaitable[None]]) -> None:
        async def led() -> None:
            await lead()

        work = asyncio.create_task(led(), name="election.lead")
        renewing = asyncio.create_task(self._renew_until_lost(), name="election.renew")
        try:
            await asyncio.wait((work, renewing), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise Lost(f"lease {self._namespace}/{self._name} could not be renewed for {self._deadline_s} s")
            work.result()
        finally:
            for task in (work, renewing):
                task.cancel()
            await asyncio.gather(work, renewing, return_exceptions=True)

    async def _renew_until_lost(self) -> None:
        until_s = self._clock.monotonic_s() + self._deadline_s
        while self._clock.monotonic_s() < until_s:
            await self._clock.sleep(self._every_s)
            started_s = self._clock.monotonic_s()
            if await self._tried(until_s - started_s):
                until_s = started_s + self._deadline_s
            elif self.leader not in (None, self._identity):
                return

    async def _acquire(self) -> bool:
        path = resources.LEASES.path(self._namespace, self._name)
        try:
            current = await self._client.get(path, type=leases.Lease)
        except errors.NotFound:
            made = leases.body({"name": self._name, "namespace": self._namespace}, self._spec({}))
            self._saw(await self._client.create(resources.LEASES.path(self._namespace), made, type=leases.Lease))
            return True
        self._saw(current)
        holder = str(current.spec.get("holderIdentity") or "")
        if holder not in ("", self._identity) and not self._abandoned(current):
            return False
        metadata = {
            "name": self._name,
            "namespace": self._namespace,
            "resourceVersion": current.metadata.resource_version,
            "labels": current.metadata.labels,
            "annotations": current.metadata.annotations,
        }
        self._saw(await self._client.replace(path, leases.body(metadata, self._spec(current.spec)), type=leases.Lease))
        return True

    def _saw(self, lease: leases.Lease) -> None:
        known = self._lease
        if known is None or known.metadata.resource_version != lease.metadata.resource_version:
            self._seen_at_s = self._clock.monotonic_s()
        self._lease = lease
        self.leader = str(lease.spec.get("holderIdentity") or "") or None

    def _abandoned(self, lease: leases.Lease) -> bool:
        duration_s = float(lease.spec.get("leaseDurationSeconds") or self._lease_s)
        return self._clock.monotonic_s() - self._seen_at_s > duration_s

    def _spec(self, kept: dict[str, Any]) -> dict[str, Any]:
        now = times.micro(self._clock.now_s())
        spec = {
            **kept,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._lease_s,
            "renewTime": now,
        }
        if kept.get("holderIdentity") != self._identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(kept.get("leaseTransitions") or 0) + (1 if kept else 0)
        return spec

    async def _release(self) -> None:
        """So that a standby need not wait; bounded, because it may run while everything is being cancelled."""
        if self._lease is None or self.leader != self._identity:
            return
        metadata = {
            "name": self._name,
            "namespace": self._namespace,
            "resourceVersion": self._lease.metadata.resource_version,
        }
        spec = {**self._lease.spec, "holderIdentity": "", "leaseDurationSeconds": 1}
        path = resources.LEASES.path(self._namespace, self._name)
        try:
            async with asyncio.timeout(2.0):
                await self._client.replace(path, leases.body(metadata, spec))
        except (errors.KubeError, TimeoutError) as failure:
            log.warning("election.not_released", lease=self._name, error=str(failure) or "no answer in time")
