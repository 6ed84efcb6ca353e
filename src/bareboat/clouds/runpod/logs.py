"""The workload's output from v2's log stream, which begins with the newest lines, then goes on for ever.

A stream that was read stays open for a while: what comes in the meantime waits in its connection, so that somebody who
looks again and again costs one call and misses nothing. One that broke is taken up after the last event that was read.
"""

import asyncio
import collections
import contextlib
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

from bareboat.clouds.runpod import api as apis
from bareboat.clouds.runpod import wire
from bareboat.core import errors
from bareboat.plumbing import clock as clocks

MOST_LINES = 5000
"""The most that a stream begins with, and that are kept of it."""

KEPT_S = 60.0
LONGEST_DRAIN_S = 3.0
MOST_OPEN = 32


class Tail:
    """One pod's stream, and its newest lines."""

    def __init__(self, api: apis.Api, pod_id: str, *, source: str = "container", quiet_s: float = 0.6) -> None:
        self.lines: collections.deque[str] = collections.deque(maxlen=MOST_LINES)
        self.read_s = 0.0
        self.lock = asyncio.Lock()
        self._api = api
        self._pod_id = pod_id
        self._source = source
        self._quiet_s = quiet_s
        self._last_id = ""
        self._seen: collections.deque[str] = collections.deque(maxlen=MOST_LINES)
        self._open: contextlib.AsyncExitStack | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._rest = b""

    async def catch_up(self) -> None:
        """Takes in what has come since the last time; returns when the stream is quiet for a moment.

        Raises `InstanceGone` and what else opening raises. A stream that breaks is opened again, twice at most.
        """
        for _ in range(3):
            fresh = self._response is None
            if fresh:
                await self._reopen()
            if await self._drain(self._quiet_s if fresh else self._quiet_s / 3):
                return
            await self.close()

    async def close(self) -> None:
        """Lets go of the connection; what was read stays."""
        opened, self._open, self._response, self._rest = self._open, None, None, b""
        if opened is not None:
            await opened.aclose()

    async def _reopen(self) -> None:
        call = apis.Call("v2", "GET", f"/pods/{self._pod_id}/logs", {"source": self._source, "tail": str(MOST_LINES)})
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        stack = contextlib.AsyncExitStack()
        self._response = await stack.enter_async_context(self._api.stream(call, headers))
        self._open = stack

    async def _drain(self, quiet_s: float) -> bool:
        """False when the stream ended. Something that never stops talking is left after a while."""
        assert self._response is not None
        until_s = time.monotonic() + LONGEST_DRAIN_S
        while time.monotonic() < until_s:
            try:
                async with asyncio.timeout(quiet_s):
                    chunk = await self._response.content.readany()
            except TimeoutError:
                return True
            except (aiohttp.ClientError, OSError):
                return False
            if not chunk:
                return False
            self._take(chunk)
        return True

    def _take(self, chunk: bytes) -> None:
        *events, self._rest = (self._rest + chunk.replace(b"\r\n", b"\n")).split(b"\n\n")
        for event in events:
            fields = _fields(event)
            event_id, line = fields.get("id", ""), _line(fields.get("data", ""))
            if line is None or (event_id and event_id in self._seen):
                continue
            if event_id:
                self._last_id = event_id
                self._seen.append(event_id)
            self.lines.append(line)


class Tails:
    """The open streams of one account, the ones least lately read closed first."""

    def __init__(self, api: apis.Api, clock: clocks.Clock, *, quiet_s: float = 0.6) -> None:
        self._api = api
        self._clock = clock
        self._quiet_s = quiet_s
        self._tails: dict[str, Tail] = {}

    async def lines(self, pod_id: str) -> list[str]:
        """All lines that are kept. Raises `InstanceGone`, `CloudDown`, `Throttled`."""
        await self._tidy()
        tail = self._tails.setdefault(pod_id, Tail(self._api, pod_id, quiet_s=self._quiet_s))
        tail.read_s = self._clock.monotonic_s()
        async with tail.lock:
            try:
                await tail.catch_up()
            except errors.InstanceGone:
                self._tails.pop(pod_id, None)
                raise
            return list(tail.lines)

    async def story(self, pod_id: str) -> str:
        """What the host says of the pod's container: the last few lines. Empty when it can't be had."""
        tail = Tail(self._api, pod_id, source="system", quiet_s=self._quiet_s)
        try:
            await tail.catch_up()
        except errors.CloudError:
            return ""
        finally:
            await tail.close()
        return " ".join(list(tail.lines)[-5:])

    async def close(self) -> None:
        for tail in self._tails.values():
            await tail.close()
        self._tails.clear()

    async def _tidy(self) -> None:
        oldest_first = sorted(self._tails.items(), key=lambda pair: pair[1].read_s)
        too_many = len(oldest_first) - MOST_OPEN
        for place, (pod_id, tail) in enumerate(oldest_first):
            idle = self._clock.monotonic_s() - tail.read_s > KEPT_S
            if (idle or place < too_many) and not tail.lock.locked():
                del self._tails[pod_id]
                await tail.close()


def _fields(event: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in event.decode(errors="replace").split("\n"):
        name, _, value = line.partition(":")
        if name:
            value = value.removeprefix(" ")
            found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


def _line(data: str) -> str | None:
    try:
        told: Mapping[str, Any] = wire.mapping(wire.document(data.encode()))
    except wire.Nonsense:
        return None
    line = told.get("line")
    return line.rstrip("\r\n") if isinstance(line, str) else None


def joined(lines: list[str], tail: int | None) -> str:
    """As text, the newest `tail` of them."""
    kept = lines if tail is None else lines[-tail:]
    return "".join(f"{line}\n" for line in kept)
