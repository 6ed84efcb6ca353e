"""Ends instances of this cluster whose owner no longer exists: what a crash or a forced delete left behind.

Provably ours: the mark names this cluster; the owner is in no fresh list of all pods; and it has been so for the guard
age. When pods can't be listed, nothing is ended and that is said.
"""

import asyncio
from collections.abc import Container

import structlog

from bareboat.core import instances
from bareboat.kube import errors, objects, resources
from bareboat.node import parts

log = structlog.get_logger()

PAGE = 500


class Orphans:
    """`owners` holds the uids that the node itself looks after."""

    def __init__(self, use: parts.Parts, owners: Container[str], *, guard_age_s: float = 120.0) -> None:
        self._use = use
        self._owners = owners
        self._guard_age_s = guard_age_s
        self._seen_s: dict[tuple[str, str], float] = {}
        self._listed = asyncio.Event()

    def listed(self) -> None:
        """A complete listing was taken."""
        self._listed.set()

    async def run(self) -> None:
        """Looks after listings, at most as often as the guard age allows a decision."""
        while True:
            await self._listed.wait()
            self._listed.clear()
            try:
                await self._look()
            except errors.KubeError as failure:
                log.warning("orphans.unjudged", why=str(failure), what="pods could not be listed: nothing is ended")
            await self._use.clock.sleep(min(10.0, self._guard_age_s / 4))

    async def _look(self) -> None:
        now_s = self._use.clock.monotonic_s()
        suspects = {(each.cloud, each.id): each for each in self._suspects()}
        self._seen_s = {key: self._seen_s.get(key, now_s) for key in suspects}
        old = [suspects[key] for key, since_s in self._seen_s.items() if now_s - since_s >= self._guard_age_s]
        if not old:
            return
        living = await self._all_pods()
        for instance in old:
            mark = instance.mark
            if mark is not None and mark.owner_uid not in living:
                log.warning("orphan.ended", cloud=instance.cloud, id=instance.id, mark=str(mark))
                self._use.accounts[instance.cloud].reaper.end(instance.id, "its owner does not exist in the cluster")

    def _suspects(self) -> list[instances.Instance]:
        found = []
        for account in self._use.accounts.values():
            for instance in account.watcher.known:
                mark = instance.mark
                ours = mark is not None and mark.cluster_id == self._use.cluster_id
                if not ours or mark is None or not account.watcher.is_proven(instance.id):
                    continue
                if mark.owner_uid not in self._owners:
                    found.append(instance)
        return found

    async def _all_pods(self) -> set[str]:
        """A fresh list of the uids of all pods of the cluster, whichever node they are on."""
        uids: set[str] = set()
        continue_: str | None = None
        while True:
            page = await self._use.client.list(
                resources.PODS.path(), item=objects.Metadata, limit=PAGE, continue_=continue_
            )
            uids.update(each.metadata.uid for each in page.items or ())
            continue_ = page.metadata.continue_
            if not continue_:
                return uids
