"""Work by key: never two workers on one key, a key added while it is worked on runs once more afterwards.

Level-triggered: a key says *look again*, not what happened. Failures are tried again for ever with growing pauses per
key; one key's failure never touches another's. Times are the injected clock's.
"""

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog

from bareboat.kube import errors
from bareboat.plumbing import clock as clocks
from bareboat.plumbing import supervise

log = structlog.get_logger()

K = TypeVar("K", bound=Hashable)

SLACK_S = 0.001  # clocks round; a key a hair before its time is due, not worth another sleep


class WorkQueue(Generic[K]):
    """`work(key)` does one pass; it returns None when done or the seconds after which to look again.

    Exceptions of the classes in `known` are logged in a line and tried again; others too, with their traceback.
    An exception with an `after_s` is not tried again sooner than that. `observe(seconds, failure)` after each pass.
    `add`, `add_after` and `forget` never block and are called from the event loop's thread only.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[K], Awaitable[float | None]],
        *,
        workers: int = 10,
        clock: clocks.Clock | None = None,
        known: tuple[type[Exception], ...] = (errors.KubeError,),
        first_retry_s: float = 0.05,
        longest_retry_s: float = 60.0,
        observe: Callable[[float, Exception | None], None] | None = None,
    ) -> None:
        self.name = name
        self._work = work
        self._workers = workers
        self._clock = clocks.SystemClock() if clock is None else clock
        self._known = known
        self._first_retry_s = first_retry_s
        self._longest_retry_s = longest_retry_s
        self._observe = observe
        self._ready: deque[K] = deque()
        self._queued: set[K] = set()
        self._running: set[K] = set()
        self._dirty: set[K] = set()
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0
        self._failures: dict[K, int] = {}
        self._forgotten: set[K] = set()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._timer_until_s = float("inf")
        self._timer_changed = asyncio.Event()
        self._settled = asyncio.Event()

    @property
    def depth(self) -> int:
        """Keys that wait for a worker now."""
        return len(self._ready)

    @property
    def delayed(self) -> int:
        """Keys that wait for their time."""
        return len(self._due)

    @property
    def running(self) -> int:
        return len(self._running)

    def failures(self, key: K) -> int:
        """Failed passes of this key in a row."""
        return self._failures.get(key, 0)

    def add(self, key: K) -> None:
        """As soon as a worker is free; of many adds before that, one pass is made."""
        self._due.pop(key, None)
        if key in self._running:
            self._dirty.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.append(key)
            self._wake_worker()

    def add_after(self, key: K, delay_s: float) -> None:
        """In `delay_s` seconds, unless it runs sooner; a later time than the one already set changes nothing."""
        if delay_s <= 0:
            self.add(key)
            return
        if key in self._queued or key in self._dirty:
            return
        due_s = self._clock.monotonic_s() + delay_s
        if due_s >= self._due.get(key, float("inf")):
            return
        self._due[key] = due_s
        self._order += 1
        heapq.heappush(self._heap, (due_s, self._order, key))
        if due_s < self._timer_until_s:
            self._timer_changed.set()

    def forget(self, key: K) -> None:
        """The key is of no interest any more: drops its waiting time and its count of failures.

        In the middle of a pass it also drops the retry of that pass; a later `add` works as ever.
        """
        self._due.pop(key, None)
        self._failures.pop(key, None)
        self._dirty.discard(key)
        if key in self._running:
            self._forgotten.add(key)

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._timer(), name=f"{self.name}.timer")
            for number in range(self._workers):
                group.create_task(self._worker(), name=f"{self.name}.worker-{number}")

    async def settled(self) -> None:
        """Returns once nothing is ready or running (delayed keys don't count)."""
        while self._ready or self._running:
            self._settled.clear()
            await self._settled.wait()

    async def _worker(self) -> None:
        while True:
            while not self._ready:
                idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._idle.append(idle)
                await idle
            key = self._ready.popleft()
            self._queued.discard(key)
            self._running.add(key)
            try:
                await self._pass(key)
            finally:
                self._running.discard(key)
                self._forgotten.discard(key)
                if key in self._dirty:
                    self._dirty.discard(key)
                    self.add(key)
                if not self._ready and not self._running:
                    self._settled.set()

    async def _pass(self, key: K) -> None:
        started_s = self._clock.monotonic_s()
        outcome = await supervise.guarded(self._work(key))
        failure = outcome if isinstance(outcome, Exception) else None
        if self._observe is not None:
            self._observe(self._clock.monotonic_s() - started_s, failure)
        if key in self._forgotten:
            return
        if isinstance(outcome, Exception):
            self._retry(key, outcome)
            return
        self._failures.pop(key, None)
        if outcome is not None:
            self.add_after(key, outcome)

    def _retry(self, key: K, failure: Exception) -> None:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        pause_s = min(self._longest_retry_s, self._first_retry_s * 2.0 ** min(failures, 30)) * random.uniform(0.9, 1.1)
        wait_s = max(pause_s, getattr(failure, "after_s", None) or 0.0)
        facts = {"queue": self.name, "key": str(key), "again_in_s": round(wait_s, 2), "failures": failures + 1}
        if isinstance(failure, self._known):
            log.warning("work.failed", error=str(failure), **facts)
        else:
            log.error("work.crashed", exc_info=failure, **facts)
        self.add_after(key, wait_s)

    def _wake_worker(self) -> None:
        while self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)
                return

    async def _timer(self) -> None:
        while True:
            self._timer_changed.clear()
            now_s = self._clock.monotonic_s()
            while self._heap and (self._stale(self._heap[0]) or self._heap[0][0] <= now_s + SLACK_S):
                entry = heapq.heappop(self._heap)
                if not self._stale(entry):
                    self.add(entry[2])
            self._timer_until_s = self._heap[0][0] if self._heap else float("inf")
            await self._sleep_until(self._timer_until_s, now_s)

    def _stale(self, entry: tuple[float, int, K]) -> bool:
        return self._due.get(entry[2]) != entry[0]

    async def _sleep_until(self, until_s: float, now_s: float) -> None:
        if until_s == float("inf"):
            await self._timer_changed.wait()
            return
        sleep = asyncio.ensure_future(self._clock.sleep(until_s - now_s))
        changed = asyncio.ensure_future(self._timer_changed.wait())
        try:
            await asyncio.wait((sleep, changed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleep, changed):
                task.cancel()
            await asyncio.gather(sleep, changed, return_exceptions=True)
