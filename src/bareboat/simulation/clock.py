"""The clock of a served simulation: real time times a speed, and jumps. Both can change while tasks sleep on it."""

import asyncio
import time


class SimulatedClock:
    """Real time multiplied by `speed`, from `start_s` (unix seconds; default: the present)."""

    def __init__(self, speed: float = 1.0, start_s: float | None = None) -> None:
        self._speed = check_speed(speed)
        self._start_s = time.time() if start_s is None else start_s
        self._mark_real_s = time.monotonic()
        self._mark_s = 0.0
        self._changed = asyncio.Event()

    @property
    def speed(self) -> float:
        return self._speed

    def now_s(self) -> float:
        return self._start_s + self.monotonic_s()

    def monotonic_s(self) -> float:
        return self._mark_s + (time.monotonic() - self._mark_real_s) * self._speed

    async def sleep(self, seconds: float) -> None:
        until_s = self.monotonic_s() + seconds
        while True:
            left_s = until_s - self.monotonic_s()
            if left_s <= 0:
                await asyncio.sleep(0)
                return
            try:
                await asyncio.wait_for(self._changed.wait(), left_s / self._speed)
            except TimeoutError:
                return

    def set_speed(self, speed: float) -> None:
        self._rebase(self.monotonic_s())
        self._speed = check_speed(speed)

    async def advance(self, seconds: float) -> None:
        """Jumps ahead; sleepers whose time has come wake up."""
        if seconds < 0:
            raise ValueError(f"the clock can't go back by {-seconds:g} s")
        self._rebase(self.monotonic_s() + seconds)
        await asyncio.sleep(0)

    def _rebase(self, elapsed_s: float) -> None:
        self._mark_real_s, self._mark_s = time.monotonic(), elapsed_s
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def check_speed(speed: float) -> float:
    """Raises ValueError with a sentence."""
    if not 0 < speed <= 1e6:
        raise ValueError(f"speed is {speed:g}; it has to be greater than 0 and at most 1000000")
    return float(speed)
