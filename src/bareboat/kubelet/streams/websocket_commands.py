"""Exec and attach over WebSocket: one message, one piece of one channel."""

import asyncio

from aiohttp import web

from bareboat.kubelet.streams import inbox, remotecommand, websockets
from bareboat.plumbing import clock as clocks


class WebSocketWire(websockets.Watched):
    """A `wires.Wire`; `receive` has to run beside whoever uses it."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, protocol: str, clock: clocks.Clock) -> None:
        super().__init__(request, socket, clock)
        self._protocol = protocol
        self._stdin = inbox.Inbox(self.used)
        self._sizes: asyncio.Queue[list[remotecommand.Size]] = asyncio.Queue()
        self._size_decoder = remotecommand.SizeDecoder()

    async def greet(self, asked: remotecommand.Asked) -> None:
        """Old clients wait for a first, empty message on the lowest channel that they can read."""
        lowest = remotecommand.Channel.ERROR
        if asked.stderr:
            lowest = remotecommand.Channel.STDERR
        if asked.stdout:
            lowest = remotecommand.Channel.STDOUT
        await self.write(lowest, b"")

    async def receive(self) -> None:
        """Until the client is gone or sends what is no message of its protocol."""
        try:
            while (message := await self.next_message()) is not None:
                sent = remotecommand.unpack(self._protocol, message)
                if sent is not None:
                    await self._take(sent)
        except remotecommand.BadMessage as error:
            self.failure = f"the client sent {error}"
        finally:
            self.over.set()
            self._stdin.end()
            self._sizes.put_nowait([])

    async def _take(self, sent: remotecommand.Sent) -> None:
        if sent.channel == remotecommand.Channel.RESIZE:
            if sizes := self._size_decoder.feed(sent.data):
                self._sizes.put_nowait(sizes)
        elif sent.channel == remotecommand.Channel.STDIN:
            self.holds(len(sent.data))
            self._stdin.feed(sent.data)
            if sent.end:
                self._stdin.end()
            await self.room()

    async def read_stdin(self) -> bytes:
        return await self._stdin.read()

    async def read_sizes(self) -> list[remotecommand.Size]:
        return await self._sizes.get()

    def drop_input(self) -> None:
        self._stdin.drop()

    async def write(self, channel: remotecommand.Channel, data: bytes) -> None:
        await self.send(remotecommand.pack(self._protocol, channel, data))

    async def end(self, outcome: remotecommand.Outcome, patience_s: float) -> None:
        self.drop_input()
        status = remotecommand.status(self._protocol, outcome)
        if status:
            await self.write(remotecommand.Channel.ERROR, status)
        await self.close_socket()
