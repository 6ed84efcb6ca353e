"""Keeps what ended pods have cost over restarts of the node, so that caps on total dollars hold.

The sums lie in one small ConfigMap, written only where a total cap is set: without one nothing is kept and no right to
write ConfigMaps is needed.
"""

import asyncio

import msgspec
import structlog

from bareboat.core import budget
from bareboat.kube import client as clients
from bareboat.kube import errors, objects, resources
from bareboat.plumbing import clock as clocks
from bareboat.plumbing import supervise

log = structlog.get_logger()

EVERY_S = 15.0
KEY = "ended-usd-by-namespace"


def name_for(node_name: str) -> str:
    """Of the ConfigMap."""
    return f"bareboat-spend-{node_name}"


class Kept(objects.Partial, frozen=True):
    """The ConfigMap."""

    metadata: objects.ObjectMeta
    data: dict[str, str] = msgspec.field(default_factory=dict)


class Spending:
    """`restored` is set once the ledger knows what was spent before: nothing is rented until then."""

    def __init__(
        self,
        client: clients.Client,
        ledger: budget.Ledger,
        clock: clocks.Clock,
        *,
        namespace: str,
        name: str,
    ) -> None:
        self.restored = asyncio.Event()
        self._client = client
        self._ledger = ledger
        self._clock = clock
        self._namespace = namespace
        self._name = name
        self._written: dict[str, float] = {}
        limits = ledger.limits
        several = (limits.namespace, limits.installation, *limits.by_namespace.values())
        self._totals = any(caps.usd is not None for caps in several)
        if not self._totals:
            self.restored.set()

    async def run(self) -> None:
        """Looks every fifteen seconds. What can't be read or written is said and tried again; renting waits for it only
        at the start."""
        while True:
            try:
                if not self.restored.is_set():
                    await self._restore()
                if self._totals:
                    await self._save()
            except errors.KubeError as failure:
                log.warning("spending.unsaved", why=str(failure))
            await self._clock.sleep(EVERY_S)

    async def _restore(self) -> None:
        try:
            kept = await self._client.get(resources.CONFIG_MAPS.path(self._namespace, self._name), type=Kept)
        except errors.NotFound:
            self.restored.set()
            return
        except errors.Forbidden as refused:
            raise supervise.Fatal(
                f"a cap on total dollars is set, but what was spent before can't be read ({refused}); grant get, patch "
                f"and create on ConfigMap {self._namespace}/{self._name} or take the cap away",
                exit_code=2,
            ) from refused
        try:
            sums = msgspec.json.decode(kept.data.get(KEY, "{}"), type=dict[str, float])
        except msgspec.DecodeError as wrong:
            log.error(
                "spending.unreadable",
                config_map=f"{self._namespace}/{self._name}",
                why=str(wrong),
                what="nothing is rented until it is mended or deleted: total caps could be passed",
            )
            return
        self._ledger.restore_spent(sums)
        self._written = sums
        self.restored.set()

    async def _save(self) -> None:
        sums = {name: round(usd, 6) for name, usd in self._ledger.ended_usd().items()}
        if sums == self._written or not self.restored.is_set():
            return
        data = {KEY: msgspec.json.encode(sums).decode()}
        path = resources.CONFIG_MAPS.path(self._namespace, self._name)
        try:
            await self._client.patch(path, {"data": data}, clients.Patch.MERGE)
        except errors.NotFound:
            made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self._name}, "data": data}
            await self._client.create(resources.CONFIG_MAPS.path(self._namespace), made)
        self._written = sums
