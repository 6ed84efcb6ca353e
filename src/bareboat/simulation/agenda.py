"""Things that will happen: a queue of actions by simulated time. Whoever reads the simulation first lets the due ones
happen; a driver that sleeps until the next one is only needed where real processes have to start or end on time."""

import asyncio
import heapq
import itertools
from collections.abc import Callable

from bareboat.plumbing import clock as clocks

Action = Callable[[float], None]


class Agenda:
    """Actions in order of their time; each receives the moment it was due, not the moment somebody looked."""

    def __init__(self) -> None:
        self._order = itertools.count()
        self._due: list[tuple[float, int, Action]] = []
        self._earlier = asyncio.Event()

    def add(self, at_s: float, action: Action) -> None:
        heapq.heappush(self._due, (at_s, next(self._order), action))
        if self._due[0][2] is action:
            self._earlier.set()

    @property
    def next_s(self) -> float | None:
        return self._due[0][0] if self._due else None

    def catch_up(self, now_s: float) -> None:
        """Performs everything that was due by now, in order; actions may add more."""
        while self._due and self._due[0][0] <= now_s:
            at_s, _, action = heapq.heappop(self._due)
            action(at_s)

    async def drive(self, clock: clocks.Clock) -> None:
        """Performs actions as their time comes, for ever."""
        while True:
            self._earlier.clear()
            self.catch_up(clock.now_s())
            async with asyncio.TaskGroup() as waiting:
                earlier = waiting.create_task(self._earlier.wait(), name="simulation.agenda.earlier")
                if self.next_s is None:
                    continue
                due = waiting.create_task(clock.sleep(self.next_s - clock.now_s()), name="simulation.agenda.due")
                await asyncio.wait((earlier, due), return_when=asyncio.FIRST_COMPLETED)
                earlier.cancel()
                due.cancel()
