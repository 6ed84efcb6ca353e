"""Time, injected. Code that waits or stamps takes a `Clock`, so that tests and simulators decide what time it is."""

import asyncio
import heapq
import itertools
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for stamps, monotonic time for durations, and a sleep on the same scale."""

    def now_s(self) -> float:
        """Unix seconds."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after `seconds` of this clock's time; a negative value yields once."""
        ...


class SystemClock:
    """The machine's own time."""

    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class ScaledClock:
    """Real time multiplied by `speed`, counted from `start_s` (unix seconds; default: the present)."""

    def __init__(self, speed: float = 1.0, start_s: float | None = None) -> None:
        if speed <= 0:
            raise ValueError(f"speed is {speed}; it has to be greater than 0")
        self.speed = speed
        self._origin_s = time.monotonic()
        self._start_s = time.time() if start_s is None else start_s

    def now_s(self) -> float:
        return self._start_s + self.monotonic_s()

    def monotonic_s(self) -> float:
        return (time.monotonic() - self._origin_s) * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.speed)


class ManualClock:
    """Time that stands still until `advance` moves it; wakes sleepers in order of their deadlines."""

    def __init__(self, start_s: float = 1_790_000_000.0) -> None:
        self._now_s = start_s
        self._start_s = start_s
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_s(self) -> float:
        return self._now_s

    def monotonic_s(self) -> float:
        return self._now_s - self._start_s

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_s + seconds, next(self._order), woken))
        await woken

    @property
    def sleeping(self) -> int:
        """How many tasks wait for this clock."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Moves time on, waking each sleeper at its own moment; woken tasks run up to their next wait in between."""
        end_s = self._now_s + seconds
        await self._let_tasks_run()
        while self._sleepers and self._sleepers[0][0] <= end_s:
            due_s, _, woken = heapq.heappop(self._sleepers)
            self._now_s = max(self._now_s, due_s)
            if not woken.done():
                woken.set_result(None)
                await self._let_tasks_run()
        self._now_s = end_s

    @staticmethod
    async def _let_tasks_run() -> None:
        for _ in range(10):
            await asyncio.sleep(0)


async def within(clock: Clock, event: asyncio.Event, seconds: float) -> bool:
    """Waits until `event` is set, at most `seconds` of `clock`; whether it is set then."""
    if event.is_set() or seconds <= 0:
        return event.is_set()
    sleep = asyncio.ensure_future(clock.sleep(seconds))
    happened = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((sleep, happened), return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleep.cancel()
        happened.cancel()
        await asyncio.gather(sleep, happened, return_exceptions=True)
    return event.is_set()
