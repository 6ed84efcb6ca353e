"""Reads the two selection ConfigMaps again and again, so that a change holds for the next pod. One bad value changes
nothing: the last good configuration stays, and the value is named in the log and on the Node."""

import msgspec
import structlog

from bareboat.fleet import broker
from bareboat.kube import client as clients
from bareboat.kube import errors, events, objects, resources
from bareboat.plumbing import clock as clocks
from bareboat.workload import selection

log = structlog.get_logger()

NAMESPACE = "kube-system"
CONFIG, WEIGHTS = "vast-provider-config", "vast-selection-weights"
EVERY_S = 15.0


class ConfigMap(objects.Partial, frozen=True):
    data: dict[str, str] = msgspec.field(default_factory=dict)


class SelectionSource:
    """`now()` is what holds at the moment."""

    def __init__(
        self,
        client: clients.Client,
        live: selection.Live,
        recorder: events.Recorder,
        node_name: str,
        clock: clocks.Clock,
    ) -> None:
        self._client = client
        self._live = live
        self._recorder = recorder
        self._about = events.Reference("v1", "Node", node_name, uid=node_name)
        self._clock = clock
        self._said: set[str] = set()

    def now(self) -> broker.Selection:
        return broker.Selection(self._live.rules, self._live.weights)

    async def run(self) -> None:
        """Two reads every fifteen seconds."""
        while True:
            try:
                await self.look()
            except errors.KubeError as failure:
                log.warning("selection.unread", why=str(failure))
            await self._clock.sleep(EVERY_S)

    async def look(self) -> None:
        """Reads both once. Raises a KubeError when one can't be read (one that is not there is no error)."""
        found = self._live.update(await self._data(CONFIG), await self._data(WEIGHTS))
        said = {*found.errors, *found.warnings}
        for sentence in sorted(said - self._said):
            log.warning("selection.config", what=sentence)
            self._recorder.warning(self._about, "InvalidSelection", sentence)
        self._said = said

    async def _data(self, name: str) -> dict[str, str] | None:
        try:
            return (await self._client.get(resources.CONFIG_MAPS.path(NAMESPACE, name), type=ConfigMap)).data
        except errors.NotFound:
            return None
