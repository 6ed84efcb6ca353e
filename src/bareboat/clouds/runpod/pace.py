"""Keeps to RunPod's quotas as its answers tell them: `RateLimit: "minute";r=12;t=33, …` is 12 calls in the next 33 s.

Nothing is assumed about the figures. A part of each quota is kept for what can't wait: the end of what costs money.
"""

import re
from collections.abc import Mapping

from bareboat.core import errors
from bareboat.plumbing import clock as clocks

_CLOUD = "runpod"
_WINDOW = re.compile(r'"?([A-Za-z]+)"?\s*((?:;\s*[a-z]+\s*=\s*\d+\s*)+)')
_PART = re.compile(r"([a-z]+)\s*=\s*(\d+)")
RESERVE = 5
"""Calls of each window that are left to destroys."""


class Pace:
    """One account on one API. Without such headers nothing is held back but for what a 429 says."""

    def __init__(self, clock: clocks.Clock, *, limited: bool = True) -> None:
        self._clock = clock
        self._limited = limited
        self._left: dict[str, tuple[int, float]] = {}
        self._closed_until_s = float("-inf")

    def told(self, headers: Mapping[str, str]) -> None:
        """Takes in the headers of an answer."""
        now_s = self._clock.monotonic_s()
        for name, parts in _WINDOW.findall(headers.get("RateLimit", "")):
            figures = dict(_PART.findall(parts))
            if "r" in figures and "t" in figures:
                self._left[name] = (int(figures["r"]), now_s + float(figures["t"]))

    def refused(self, after_s: float) -> None:
        """A 429 came: nothing more for so long."""
        self._closed_until_s = max(self._closed_until_s, self._clock.monotonic_s() + max(after_s, 1.0))

    def wait_s(self, *, urgent: bool = False) -> float:
        """How long a call would have to wait now."""
        now_s = self._clock.monotonic_s()
        free_at_s = self._closed_until_s
        for left, resets_s in self._left.values():
            if left <= (0 if urgent else RESERVE):
                free_at_s = max(free_at_s, resets_s)
        return max(0.0, free_at_s - now_s) if self._limited else 0.0

    async def turn(self, longest_s: float, *, urgent: bool = False) -> None:
        """Returns when a call may be made, and counts it. Raises `Throttled` when that is too far off."""
        waited_s = 0.0
        while (wait_s := self.wait_s(urgent=urgent)) > 0:
            if waited_s + wait_s > longest_s:
                raise errors.Throttled(_CLOUD, "the quota of calls is used up", wait_s)
            await self._clock.sleep(wait_s + 0.05)
            waited_s += wait_s
            self._forget_old()
        for name, (left, resets_s) in self._left.items():
            self._left[name] = (left - 1, resets_s)

    def _forget_old(self) -> None:
        now_s = self._clock.monotonic_s()
        self._left = {name: window for name, window in self._left.items() if window[1] > now_s}
