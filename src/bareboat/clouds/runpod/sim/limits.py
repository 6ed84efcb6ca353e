"""RunPod's quotas: so many calls in a minute, an hour and a day for each user, told with every answer of v2."""

from typing import NamedTuple


class Window(NamedTuple):
    name: str
    length_s: int
    calls: int


class Limiter:
    """Fixed windows from the first call on. `policy` and `state` are the two headers."""

    def __init__(self) -> None:
        self._since_s: dict[tuple[str, str], float] = {}
        self._used: dict[tuple[str, str], int] = {}

    def spend(self, caller: str, windows: list[Window], now_s: float) -> tuple[str, Window, float] | None:
        """Counts a call. None when it is within all windows, else the headers' state, the window and its rest."""
        for window in windows:
            bucket = (caller, window.name)
            if now_s >= self._since_s.get(bucket, float("-inf")) + window.length_s:
                self._since_s[bucket], self._used[bucket] = now_s, 0
        for window in windows:
            bucket = (caller, window.name)
            if self._used[bucket] >= window.calls:
                return self.state(caller, windows, now_s), window, self._since_s[bucket] + window.length_s - now_s
        for window in windows:
            self._used[caller, window.name] += 1
        return None

    def state(self, caller: str, windows: list[Window], now_s: float) -> str:
        parts = []
        for window in windows:
            bucket = (caller, window.name)
            left = window.calls - self._used.get(bucket, 0)
            rest_s = self._since_s.get(bucket, now_s) + window.length_s - now_s
            parts.append(f'"{window.name}";r={left};t={int(rest_s) + 1}')
        return ", ".join(parts)


def policy(windows: list[Window]) -> str:
    return ", ".join(f'"{window.name}";q={window.calls};w={window.length_s}' for window in windows)
