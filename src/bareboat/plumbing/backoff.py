"""How long to wait before the next try."""

import random


class Backoff:
    """Doubling waits with jitter; `reset` after a success. Not shared between tasks."""

    def __init__(self, first_s: float, longest_s: float, *, jitter: float = 0.1, seed: int | None = None) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._jitter = jitter
        self._random = random.Random(seed)
        self.failures = 0

    def next_s(self) -> float:
        """Seconds to wait now; counts one more failure."""
        wait_s: float = min(self._longest_s, self._first_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return wait_s * (1 + self._random.uniform(-self._jitter, self._jitter))

    def reset(self) -> None:
        self.failures = 0
