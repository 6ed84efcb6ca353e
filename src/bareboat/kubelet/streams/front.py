"""The first word on each connection: an upgrade to SPDY is kept here, everything else goes to aiohttp as it came.

aiohttp can't hand over a connection together with the bytes that came right after the head; so each connection belongs
to a `Front` until its first head is whole. Limits of size and time for that head are set here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import structlog

from bareboat.kubelet.streams import heads, link, requests, service, spdy_connection, watch
from bareboat.plumbing import supervise

log = structlog.get_logger()

HEAD_BYTES = 1 << 20
"""As much as Go's server allows: a command's words stand in the query."""
HEAD_S = 30.0
MAX_WAITING = 256

Guard = Callable[[Mapping[str, Any] | None, str | None, str, str], Awaitable[requests.Refusal | None]]
"""(peer certificate, Authorization header, method, path) → why not, if not."""


class Fronts:
    """Makes a protocol for each connection and owns what the SPDY ones run."""

    def __init__(
        self,
        plain: Callable[[], asyncio.Protocol],
        streams: service.Streams | None,
        guard: Guard,
        head_s: float = HEAD_S,
    ) -> None:
        self.plain = plain
        self._streams = streams
        self._guard = guard
        self.head_s = head_s
        self._waiting: dict[Front, None] = {}
        self._running: set[asyncio.Task[None]] = set()

    def __call__(self) -> "Front":
        return Front(self)

    def add(self, front: "Front") -> None:
        """Nobody has shown yet who he is: of too many that say nothing the one that has been silent longest goes."""
        self._waiting[front] = None
        if len(self._waiting) > MAX_WAITING:
            next(iter(self._waiting)).abort()

    def remove(self, front: "Front") -> None:
        self._waiting.pop(front, None)

    @property
    def running(self) -> int:
        return len(self._running)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="kubelet.streams.connection")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def close(self, patience_s: float) -> None:
        """Waits for the sessions, which were told to stop, then ends what is left."""
        for front in list(self._waiting):
            front.abort()
        if self._running:
            await asyncio.wait(self._running, timeout=patience_s)
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def serve(self, head: heads.Head, transport: asyncio.Transport, early: bytes, lost: asyncio.Event) -> None:
        """One request for an upgrade, to the end of its connection. `lost` is set when the connection is lost before
        it was taken over."""

        def take_over(connection: spdy_connection.Connection, protocol: str) -> None:
            nonlocal lost
            taken = link.TransportLink(connection)
            lost = taken.gone
            connection.use(taken)
            transport.write(heads.switching(protocol))
            taken.take(transport)
            if early:
                connection.received(early)
            transport.resume_reading()

        before = lost
        try:
            crash = await supervise.guarded(self._upgrade(head, transport, take_over))
            if isinstance(crash, requests.Refusal):
                transport.write(heads.refusal(crash.status, crash.text, crash.headers))
            elif isinstance(crash, Exception):
                log.error("kubelet.stream_crashed", exc_info=crash)
                if lost is before:
                    transport.write(heads.refusal(500, watch.CRASHED))
        finally:
            # What the client still sends has to be read, or its goodbye is not seen.
            transport.resume_reading()
            transport.close()
            await lost.wait()

    async def _upgrade(self, head: heads.Head, transport: asyncio.Transport, take_over: service.TakeOver) -> None:
        authorization = head.header("authorization")
        refusal = await self._guard(transport.get_extra_info("peercert"), authorization, head.method, head.path)
        if refusal is not None:
            raise refusal
        ask = requests.parse(head.path, head.query)
        if ask is None or ask.verb == "run" or head.method not in ("GET", "POST"):
            raise requests.Refusal(404, "404 page not found")
        if self._streams is None:
            raise requests.Refusal(405, "Debug endpoints are disabled.")
        await self._streams.spdy(head, ask, take_over)


class Front(asyncio.Protocol):
    """A connection that has not said yet what it wants."""

    def __init__(self, fronts: Fronts) -> None:
        self._fronts = fronts
        self._held = bytearray()
        self._transport: asyncio.Transport | None = None
        self._late: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._decided = False
        self._lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        link.keep_alive(transport)
        self._fronts.add(self)
        self._late = asyncio.get_running_loop().call_later(self._fronts.head_s, self._refuse, 408, "no request came")

    def data_received(self, data: bytes) -> None:
        if self._decided:
            return
        # Only the new bytes, and three before them, can hold the head's end.
        searched = max(0, len(self._held) - len(heads.END) + 1)
        self._held += data
        end = self._held.find(heads.END, searched)
        if end < 0 and len(self._held) > HEAD_BYTES:
            self._refuse(431, f"the head of the request has more than {HEAD_BYTES} bytes")
        elif end >= 0:
            self._decide(end + len(heads.END))

    def _decide(self, end: int) -> None:
        transport = self._transport
        assert transport is not None
        self._forget()
        try:
            head = heads.parse(bytes(self._held[:end]))
        except heads.Malformed:
            head = None
        if head is not None and head.asks_for_spdy:
            transport.pause_reading()
            early = bytes(self._held[end:])
            self._task = self._fronts.spawn(self._fronts.serve(head, transport, early, self._lost))
            return
        plain = self._fronts.plain()
        transport.set_protocol(plain)
        plain.connection_made(transport)
        plain.data_received(bytes(self._held))

    def _refuse(self, status: int, text: str) -> None:
        self._forget()
        if self._transport is not None:
            self._transport.write(heads.refusal(status, text))
            self._transport.close()

    def abort(self) -> None:
        self._forget()
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        self._forget()
        self._lost.set()
        # Before the connection was taken over: whoever asks for leave need not wait for the answer.
        if self._task is not None:
            self._task.cancel()

    def _forget(self) -> None:
        self._decided = True
        self._fronts.remove(self)
        if self._late is not None:
            self._late.cancel()
