"""Exec and attach over SPDY: one stream for each channel, all of which have to be there before anything starts."""

import asyncio

from bareboat.kubelet.streams import remotecommand, spdy_connection
from bareboat.plumbing import clock as clocks

NOT_OPENED = "the client did not open all streams in time"


class SpdyWire:
    """A `wires.Wire`. `connection` is what a link feeds."""

    def __init__(self, asked: remotecommand.Asked, protocol: str, clock: clocks.Clock, linger_s: float) -> None:
        self._protocol = protocol
        self._clock = clock
        self._linger_s = linger_s
        self._missing = set(remotecommand.expected(asked, protocol))
        self._streams: dict[remotecommand.Channel, spdy_connection.Stream] = {}
        self._complete = asyncio.Event()
        self._sizes = remotecommand.SizeDecoder()
        self.connection = spdy_connection.Connection(clock, self._on_stream)
        self.over = self.connection.over

    @property
    def failure(self) -> str:
        return self.connection.failure

    def _on_stream(self, stream: spdy_connection.Stream) -> bool:
        name = stream.headers.get("streamtype", "").partition("\0")[0].lower()
        channel = remotecommand.BY_STREAM_TYPE.get(name)
        if channel is None or channel in self._streams:
            return False
        self._streams[channel] = stream
        self._missing.discard(channel)
        if not self._missing:
            self._complete.set()
        return True

    async def opened(self, within_s: float) -> bool:
        """Whether all streams have come in that time."""
        return await clocks.within(self._clock, self._complete, within_s)

    async def read_stdin(self) -> bytes:
        stream = self._streams.get(remotecommand.Channel.STDIN)
        return b"" if stream is None else await stream.read()

    async def read_sizes(self) -> list[remotecommand.Size]:
        stream = self._streams.get(remotecommand.Channel.RESIZE)
        if stream is None:
            return []
        while chunk := await stream.read():
            try:
                sizes = self._sizes.feed(chunk)
            except remotecommand.BadMessage:
                stream.drop_input()
                return []
            if sizes:
                return sizes
        return []

    def drop_input(self) -> None:
        for stream in self._streams.values():
            stream.drop_input()

    async def write(self, channel: remotecommand.Channel, data: bytes) -> None:
        stream = self._streams.get(channel)
        if stream is not None:
            await stream.write(data)

    async def end(self, outcome: remotecommand.Outcome, patience_s: float) -> None:
        error = self._streams.get(remotecommand.Channel.ERROR)
        if error is not None:
            error.finish(remotecommand.status(self._protocol, outcome))
        for stream in self._streams.values():
            stream.finish()
        await self.connection.goodbye(patience_s, self._linger_s)
