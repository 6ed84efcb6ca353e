"""Remembers answers of the API server for a while. Bounded, so that made-up tokens can't fill the memory."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from bareboat.plumbing import clock as clocks

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Verdicts(Generic[K, V]):
    """The newest `capacity` answers, each until its own time is over."""

    def __init__(self, clock: clocks.Clock, capacity: int = 4096) -> None:
        self._clock = clock
        self._capacity = capacity
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """None when unknown or too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        until_s, value = entry
        if self._clock.monotonic_s() >= until_s:
            del self._entries[key]
            return None
        return value

    def put(self, key: K, value: V, ttl_s: float) -> None:
        if ttl_s <= 0:
            return
        self._entries[key] = (self._clock.monotonic_s() + ttl_s, value)
        self._entries.move_to_end(key)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
