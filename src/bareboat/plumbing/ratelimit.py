"""Spaces out calls to something that refuses whoever asks too often. Knows nothing of what is called."""

import asyncio
import collections
import random

from bareboat.plumbing import clock as clocks

_SHORTEST_WAIT_S = 0.001
"""Less than the margin. A clock that counts in unix seconds can't tell much shorter waits from none."""


class Limiter:
    """At most `calls` in any `per_s` seconds, first come first served; slower for a while after each refusal.

    The other side counts arrivals, not departures, so a small margin is added to each interval.
    """

    def __init__(
        self,
        clock: clocks.Clock,
        calls: int,
        per_s: float,
        *,
        penalty_s: float = 2.0,
        longest_penalty_s: float = 60.0,
    ) -> None:
        self._clock = clock
        self._calls = calls
        self._per_s = _with_margin(per_s)
        self._penalty_s = penalty_s
        self._longest_penalty_s = longest_penalty_s
        self._sent_s: collections.deque[float] = collections.deque(maxlen=calls)
        self._closed_until_s = float("-inf")
        self._line = asyncio.Lock()
        self._waiting = 0
        self._refusals = 0

    def wait_s(self) -> float:
        """About how long a newcomer would wait."""
        return max(0.0, self._free_in_s()) + self._waiting * self._per_s / self._calls

    async def turn(self) -> None:
        """Returns when it is the caller's turn; the call counts from then on. A cancelled wait counts nothing."""
        self._waiting += 1
        try:
            async with self._line:
                while (wait_s := self._free_in_s()) > _SHORTEST_WAIT_S:
                    await self._clock.sleep(wait_s)
                self._sent_s.append(self._clock.monotonic_s())
        finally:
            self._waiting -= 1

    def refused(self, threshold_s: float = 0.0, after_s: float = 0.0) -> float:
        """Closes the door after a refusal, twice as long each time in a row; returns for how many seconds.

        `threshold_s` is the interval that the refusal named, if it named one: a larger one than known replaces it.
        `after_s` is the wait that it named: this time it is no less than that.
        """
        if _with_margin(threshold_s) > self._per_s / self._calls:
            self._calls, self._per_s = 1, _with_margin(min(threshold_s, self._longest_penalty_s))
            self._sent_s = collections.deque(self._sent_s, maxlen=1)
        penalty_s = max(self._per_s / self._calls, self._penalty_s * 2.0 ** min(self._refusals, 10))
        penalty_s = min(max(penalty_s, after_s), self._longest_penalty_s) * (1 + random.uniform(0.0, 0.1))
        self._refusals += 1
        self._closed_until_s = max(self._closed_until_s, self._clock.monotonic_s() + penalty_s)
        return penalty_s

    def granted(self) -> None:
        """Says that a call was served: the next refusal counts as the first in a row again."""
        self._refusals = 0

    def _free_in_s(self) -> float:
        free_at_s = self._closed_until_s
        if len(self._sent_s) == self._calls:
            free_at_s = max(free_at_s, self._sent_s[0] + self._per_s)
        return free_at_s - self._clock.monotonic_s()


def _with_margin(seconds: float) -> float:
    return seconds * 1.03 + 0.05
