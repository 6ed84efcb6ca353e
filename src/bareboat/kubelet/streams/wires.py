"""What carries one exec or attach session, whichever protocol its client speaks."""

import asyncio
from typing import Protocol

from bareboat.kubelet.streams import remotecommand


class Wire(Protocol):
    """One client of exec or attach. `read_…` has one reader each; `write` may be called by several tasks."""

    over: asyncio.Event
    """Set when nothing more will be received; `failure` says why if the client is still there to be told."""

    @property
    def failure(self) -> str: ...

    async def read_stdin(self) -> bytes:
        """Empty at the end of the client's input."""
        ...

    async def read_sizes(self) -> list[remotecommand.Size]:
        """New sizes of the client's terminal, oldest first; empty when there will be none."""
        ...

    def drop_input(self) -> None:
        """Whatever the client still sends is thrown away."""
        ...

    async def write(self, channel: remotecommand.Channel, data: bytes) -> None:
        """Waits for room. What the client doesn't take any more is dropped."""
        ...

    async def end(self, outcome: remotecommand.Outcome, patience_s: float) -> None:
        """The status, the end of all streams, and goodbye, for which a client that reads slowly has `patience_s`. Input
        that nobody reads any more is dropped: it must not stall the connection that the status has to pass."""
        ...


class Watched(Protocol):
    """What the watch over a session (`watch`) looks at; times by the session's clock."""

    over: asyncio.Event

    @property
    def failure(self) -> str: ...

    @property
    def heard_s(self) -> float:
        """When the last frame came or went."""
        ...

    @property
    def moved_s(self) -> float:
        """When the last payload moved on; own pings don't count."""
        ...

    @property
    def is_paused(self) -> bool: ...

    async def probe(self) -> None:
        """Sends something that a living peer ignores and that lets a dead one be noticed."""
        ...
