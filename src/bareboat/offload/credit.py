"""Whether the accounts can pay at all: an empty one answers lists all the same, and would keep Jobs it can't run."""

from collections.abc import Mapping

import structlog

from bareboat.core import cloud as clouds
from bareboat.core import errors
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()

EVERY_S = 300.0
EMPTY_EVERY_S = 30.0
"""One call for each cloud that tells its balance."""


class Credit:
    """`trouble(name)` is a sentence when that account can't pay, or was not asked yet; one that does not tell can."""

    def __init__(self, several: Mapping[str, clouds.Cloud], clock: clocks.Clock) -> None:
        self._clouds = several
        self._clock = clock
        self._empty: dict[str, str] = {}
        self._asked: set[str] = set()

    def trouble(self, name: str) -> str | None:
        if name not in self._asked and isinstance(self._clouds[name], clouds.HasBilling):
            return "its balance was not read yet"
        return self._empty.get(name)

    async def run(self) -> None:
        while True:
            await self.look()
            await self._clock.sleep(EMPTY_EVERY_S if self._empty else EVERY_S)

    async def look(self) -> None:
        for name, cloud in self._clouds.items():
            if not isinstance(cloud, clouds.HasBilling):
                continue
            try:
                left_usd = await cloud.credit_usd()
            except errors.CloudError as trouble:
                self._asked.add(name)
                # Unknown is not empty; that a cloud can't be asked is told by those who list it.
                log.debug("credit.unknown", cloud=name, why=trouble.why)
                continue
            self._asked.add(name)
            if left_usd > 0:
                self._empty.pop(name, None)
            else:
                self._empty[name] = f"the account has no credit left (${left_usd:.2f})"
