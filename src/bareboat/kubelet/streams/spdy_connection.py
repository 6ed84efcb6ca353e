"""The asyncio edge of a SPDY session: streams that tasks read and write, over a `link.Link`.

Answers each new stream in the very call that brought it, holds at most some MiB of what nobody has read yet, and says
goodbye only after the peer has proved by a pong that it read everything: a connection that breaks off early would look
like success to kubectl.
"""

import asyncio
from collections.abc import Callable, Mapping

from bareboat.kubelet.streams import inbox as inboxes
from bareboat.kubelet.streams import link as links
from bareboat.kubelet.streams import spdy_framing as framing
from bareboat.kubelet.streams import spdy_session as sessions
from bareboat.plumbing import clock as clocks

NOT_TAKEN = "the connection was used before it had a link"


class Stream:
    """One accepted stream. One task may read it and one may write it."""

    def __init__(self, connection: "Connection", stream_id: int, headers: Mapping[str, str]) -> None:
        self.stream_id = stream_id
        self.headers = headers
        self._connection = connection
        self._inbox = inboxes.Inbox(connection.consumed)
        self.was_reset = False

    async def read(self) -> bytes:
        """The next bytes; empty once the peer has ended its half, reset the stream or gone."""
        return await self._inbox.read()

    async def write(self, data: bytes) -> bool:
        """Waits for room, then sends. False when the stream takes nothing more."""
        return await self._connection.write(self.stream_id, data)

    def finish(self, last_words: bytes = b"") -> None:
        """Ends our half, after all that was written and `last_words`, for which no room is waited. Idempotent."""
        self._connection.finish(self.stream_id, last_words)

    def reset(self, status: int = framing.CANCEL) -> None:
        """Ends both halves at once. Idempotent."""
        self._connection.reset(self.stream_id, status)

    def drop_input(self) -> None:
        """Reads no more: what is here and what comes is thrown away, so that it can't hold up the other streams."""
        self._inbox.drop()

    def feed(self, data: bytes) -> None:
        """For the connection alone."""
        self._inbox.feed(data)

    def end(self, *, was_reset: bool = False) -> None:
        """For the connection alone. What was received before a reset is dropped."""
        self._inbox.end()
        if was_reset:
            self.was_reset = True
            self._inbox.drop()


class Connection:
    """A `link.Receiver`. `on_stream` is asked about each new stream, must not wait, and says whether to accept it."""

    def __init__(self, clock: clocks.Clock, on_stream: Callable[[Stream], bool]) -> None:
        self._clock = clock
        self._on_stream = on_stream
        self._session = sessions.Session()
        self._link: links.Link | None = None
        self._streams: dict[int, Stream] = {}
        self._ponged = asyncio.Event()
        self.over = asyncio.Event()
        """Set when nothing more can be received: the peer is gone, or speaks no SPDY (then `failure` says so)."""
        self.gone = asyncio.Event()
        """Set when nothing more can be sent either."""
        self.failure = ""
        self.heard_s = self.moved_s = clock.monotonic_s()
        """When the last frame came or went; when the last payload moved on (own pings don't count)."""

    @property
    def link(self) -> links.Link:
        assert self._link is not None, NOT_TAKEN
        return self._link

    @property
    def is_paused(self) -> bool:
        """Nothing is read, since what came before is not used up; so the peer's end would not be seen either."""
        return not self._session.wants_data

    def use(self, link: links.Link) -> None:
        self._link = link

    def received(self, data: bytes) -> None:
        if self.over.is_set():
            return
        self.heard_s = self._clock.monotonic_s()
        try:
            events = self._session.receive(data)
        except framing.ProtocolError as error:
            self._end(f"the client sent {error}")
            return
        for event in events:
            self._handle(event)
        self._flush()
        if not self._session.wants_data:
            self.link.pause()

    def lost(self) -> None:
        self.gone.set()
        self._end("")

    def consumed(self, count: int) -> None:
        self._session.consumed(count)
        self.moved_s = self._clock.monotonic_s()
        if self._session.wants_data:
            self.link.resume()

    async def write(self, stream_id: int, data: bytes) -> bool:
        await self.link.room()
        if self.gone.is_set() or not self._session.send(stream_id, data):
            return False
        self._flush()
        self.heard_s = self.moved_s = self._clock.monotonic_s()
        return True

    def finish(self, stream_id: int, last_words: bytes = b"") -> None:
        if last_words:
            self._session.send(stream_id, last_words)
        self._session.finish(stream_id)
        self._flush()
        self._forget_closed(stream_id)

    def reset(self, stream_id: int, status: int) -> None:
        self._session.reject(stream_id, status)
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            stream.end(was_reset=True)
        self._flush()

    async def probe(self) -> None:
        """A ping of our own: on a dead connection it makes the kernel notice."""
        self._ping()

    async def goodbye(self, patience_s: float, linger_s: float) -> None:
        """Ends the connection after the peer has read all, for which it has `patience_s`, and a little more to hang up
        by itself: closing with unread bytes in the socket would reset the connection."""
        try:
            for stream in self._streams.values():
                stream.drop_input()
            if not self.over.is_set():
                self._ponged.clear()
                self._ping()
            await clocks.within(self._clock, self._ponged, patience_s)
            self._session.go_away()
            self._flush()
            await clocks.within(self._clock, self.gone, linger_s)
        finally:
            self.link.close()

    def _ping(self) -> None:
        self._session.ping()
        self._flush()

    def _handle(self, event: sessions.Event) -> None:
        if isinstance(event, sessions.Received):
            receiver = self._streams.get(event.stream_id)
            if receiver is None:
                self._session.consumed(len(event.data))
            else:
                receiver.feed(event.data)
                self.moved_s = self.heard_s
        elif isinstance(event, sessions.Opened):
            self._opened(event)
        elif isinstance(event, sessions.Ended):
            ended = self._streams.get(event.stream_id)
            if ended is not None:
                ended.end()
                self._forget_closed(event.stream_id)
        elif isinstance(event, sessions.WasReset):
            was_reset = self._streams.pop(event.stream_id, None)
            if was_reset is not None:
                was_reset.end(was_reset=True)
        elif isinstance(event, sessions.Ponged):
            self._ponged.set()

    def _opened(self, event: sessions.Opened) -> None:
        stream = Stream(self, event.stream_id, event.headers)
        self._streams[event.stream_id] = stream
        if self._on_stream(stream):
            self._session.accept(event.stream_id)
        else:
            del self._streams[event.stream_id]
            self._session.reject(event.stream_id)

    def _forget_closed(self, stream_id: int) -> None:
        if not self._session.is_open(stream_id):
            self._streams.pop(stream_id, None)

    def _flush(self) -> None:
        out = self._session.take_output()
        if out:
            self.link.write(out)

    def _end(self, failure: str) -> None:
        if not self.over.is_set():
            self.failure = failure
            self.over.set()
        for stream in self._streams.values():
            stream.end()
        # No pong will come any more.
        self._ponged.set()
