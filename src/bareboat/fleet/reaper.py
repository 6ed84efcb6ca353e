"""Ends instances: asks again until a read says that they are gone, however long the cloud takes to understand.

Whose instance may be ended is the caller's decision. Here an end once asked for is never forgotten while the process
lives; the next process finds the instance by its mark.
"""

import asyncio
from collections.abc import Callable

import structlog

from bareboat.core import cloud as clouds
from bareboat.core import errors
from bareboat.fleet import watcher as watchers
from bareboat.plumbing import backoff
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()

EXACT_READS = 8
LISTING_S = 5.0


class Reaper:
    """`end` is called any number of times for one id; the work is done once. `on_ended` are called after the proof."""

    def __init__(
        self,
        cloud: clouds.Cloud,
        watcher: watchers.Watcher,
        clock: clocks.Clock,
        *,
        at_once: int = 64,
    ) -> None:
        self._cloud = cloud
        self._watcher = watcher
        self._clock = clock
        self.on_ended: list[Callable[[str], None]] = []
        self._asked: asyncio.Queue[str] = asyncio.Queue()
        self._pending: dict[str, str] = {}
        self._calls = asyncio.Semaphore(at_once)
        self._vanished: dict[str, asyncio.Event] = {}
        watcher.on_gone.append(self._listed_gone)

    @property
    def pending(self) -> int:
        return len(self._pending)

    def end(self, instance_id: str, why: str) -> None:
        """Asks for the end of an instance that is provably ours. Returns at once."""
        if instance_id not in self._pending:
            self._pending[instance_id] = why
            self._asked.put_nowait(instance_id)

    async def run(self) -> None:
        """Works for ever; after a crash, what was pending is taken up again."""
        self._asked = asyncio.Queue()
        for instance_id in self._pending:
            self._asked.put_nowait(instance_id)
        async with asyncio.TaskGroup() as group:
            while True:
                instance_id = await self._asked.get()
                group.create_task(self._end(instance_id), name=f"{self._cloud.name}.reaper.{instance_id}")

    async def _end(self, instance_id: str) -> None:
        why = self._pending.get(instance_id)
        if why is None:
            return
        pause = backoff.Backoff(1.0, 60.0)
        vanished = self._vanished.setdefault(instance_id, asyncio.Event())
        while not vanished.is_set():
            try:
                async with self._calls:
                    await self._cloud.destroy(instance_id)
                    self._watcher.ending(instance_id)
                if await self._is_gone(instance_id, pause.failures):
                    break
                wait_s = pause.next_s() if len(self._pending) <= EXACT_READS else pause.next_s() + LISTING_S
            except errors.Throttled as slow:
                wait_s = max(slow.after_s, 0.1)
            except errors.CloudError as trouble:
                wait_s = pause.next_s()
                log.warning("instance.end_failed", cloud=self._cloud.name, id=instance_id, why=trouble.why)
            await clocks.within(self._clock, vanished, wait_s)
        self._pending.pop(instance_id, None)
        self._vanished.pop(instance_id, None)
        log.info("instance.ended", cloud=self._cloud.name, id=instance_id, why=why)
        for told in self.on_ended:
            told(instance_id)
        self._watcher.gone(instance_id)

    async def _is_gone(self, instance_id: str, earlier_tries: int) -> bool:
        """Few: an exact read each. Many: the watcher's listing shows them all at once; stragglers are read later."""
        if len(self._pending) > EXACT_READS and not earlier_tries:
            return False
        async with self._calls:
            missing = await self._cloud.instance(instance_id) is None
        return missing and not self._watcher.may_be_hidden(instance_id)

    def _listed_gone(self, instance_id: str) -> None:
        vanished = self._vanished.get(instance_id)
        if vanished is not None:
            vanished.set()
