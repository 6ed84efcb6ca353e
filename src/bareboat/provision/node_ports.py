"""Which node ports a client gets: the documents' defaults while they are free, else the next free ones.

The API server has the last word: a port that it calls taken is passed over. What is handed out and not yet seen in a
Service is held back, so that clients who come at once don't chase the same port.
"""

import re
from collections.abc import Collection
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

HTTP = 30080
SSH = 30022
HIGHEST = 32767
"""The end of Kubernetes' own range, unless the cluster was given another one."""

_TAKEN = re.compile(r"nodePort: Invalid value: (\d+): provided port is already allocated")


def taken(detail: str) -> frozenset[int]:
    """The ports that the API server's refusal of a Service calls taken."""
    return frozenset(int(port) for port in _TAKEN.findall(detail))


def out_of_range(detail: str) -> bool:
    """Whether the refusal says that this cluster's node ports lie elsewhere."""
    return "provided port is not in the valid range" in detail


def exhausted(detail: str) -> bool:
    """Whether there is no free node port at all."""
    return "range is full" in detail


class Held:
    """The ports that requests under way have chosen."""

    def __init__(self) -> None:
        self._held: set[int] = set()

    def choosing(self) -> "Choosing":
        return Choosing(self._held)


class Choosing(AbstractContextManager["Choosing"]):
    """One request's choice; what it holds is let go at the end of the block."""

    def __init__(self, held: set[int]) -> None:
        self._others = held
        self._mine: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()

    def pair(self, used: Collection[int]) -> tuple[int | None, int | None]:
        """Ports for HTTP and ssh that are neither used nor held by others; None when there is none left.

        Each steps over the other's default, which is for a client who finds everything free.
        """
        self._let_go()
        http = self._next(HTTP, used, SSH)
        ssh = self._next(SSH, used, HTTP)
        return http, ssh

    def _next(self, first: int, used: Collection[int], other: int) -> int | None:
        for port in range(first, HIGHEST + 1):
            if port != other and port not in used and port not in self._others:
                self._others.add(port)
                self._mine.add(port)
                return port
        return None

    def _let_go(self) -> None:
        self._others -= self._mine
        self._mine.clear()
