"""Watches over one session while it works: the client that is gone, the server that stops, and the limits of time."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from bareboat.kubelet.streams import wires
from bareboat.plumbing import clock as clocks
from bareboat.plumbing import supervise

log = structlog.get_logger()

T = TypeVar("T")

SHUTTING_DOWN = "the node agent is shutting down"
CRASHED = "internal error of the node agent; its log says more"


@dataclass(frozen=True)
class Limits:
    """Of streaming sessions, in seconds but for `sessions`."""

    idle_s: float = 4 * 3600.0
    """Without any frame either way; pings count, so that only a connection that nobody uses or minds comes to it."""
    creation_s: float = 30.0
    """For a client to open the streams that it asked for."""
    probe_s: float = 5.0
    """Between looks at all this, and between pings of our own while nothing is read."""
    stalled_s: float = 1800.0
    """Without a byte of payload either way while nothing is read, because the process doesn't take its input: the
    client may be long gone, which can't be seen then."""
    linger_s: float = 5.0
    """For a client that has read everything to hang up by itself."""
    sessions: int = 1000
    """At the same time."""


@dataclass(frozen=True)
class Ended(Generic[T]):
    """`result` of the work, or None and `why` it was cut off (empty: the client is gone)."""

    result: T | None
    why: str = ""


async def over(
    work: Coroutine[Any, Any, T],
    watched: wires.Watched,
    stopping: asyncio.Event,
    clock: clocks.Clock,
    limits: Limits,
) -> Ended[T]:
    """Runs `work` until it returns or has to end; it is cancelled, and has cleaned up, before this returns. A work
    that crashes is logged and ends in words, too."""
    working = asyncio.create_task(supervise.guarded(work), name="kubelet.streams.session")
    limiting = asyncio.create_task(_limit(watched, clock, limits), name="kubelet.streams.limits")
    events = [asyncio.create_task(event.wait(), name="kubelet.streams.end") for event in (watched.over, stopping)]
    tasks: list[asyncio.Task[Any]] = [working, limiting, *events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        # One that was cancelled before its first step would be complained about as never awaited.
        work.close()
    if not working.cancelled():
        result = working.result()
        if not isinstance(result, Exception):
            return Ended(result)
        log.error("kubelet.stream_crashed", exc_info=result)
        return Ended(None, CRASHED)
    if watched.over.is_set():
        return Ended(None, watched.failure)
    return Ended(None, SHUTTING_DOWN if limiting.cancelled() else limiting.result())


async def _limit(watched: wires.Watched, clock: clocks.Clock, limits: Limits) -> str:
    while True:
        await clock.sleep(limits.probe_s)
        now_s = clock.monotonic_s()
        if now_s - watched.heard_s >= limits.idle_s:
            return f"the stream was idle for {limits.idle_s / 3600:g} h and has been closed"
        if watched.is_paused:
            if now_s - watched.moved_s >= limits.stalled_s:
                return f"nothing moved for {limits.stalled_s / 60:g} min while the process left its input unread"
            await watched.probe()
