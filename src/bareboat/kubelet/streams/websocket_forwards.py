"""Port-forward over WebSocket: the old form, one connection for each port of the query, and the SPDY tunnel.

In the old form a direction can't end alone: a client's only end is that of the session, the pod's is told by silence,
and the session ends when all of the pod's directions have.
"""

import asyncio

import structlog
from aiohttp import web

from bareboat.kubelet import containers
from bareboat.kubelet.streams import inbox, portforward, relay, remotecommand, spdy_forwards, websockets
from bareboat.kubelet.streams import link as links
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()


class _Port:
    """A `relay.Duplex` of one data channel."""

    def __init__(self, session: "WebSocketForwards", number: int, port: int) -> None:
        self._session = session
        self._number = number
        self.port = port
        self.inbox = inbox.Inbox(session.used)
        self.was_reset = False

    async def read(self) -> bytes:
        return await self.inbox.read()

    async def write(self, data: bytes) -> bool:
        return await self._session.send_on(portforward.data_channel(self._number), data)

    async def tell(self, text: bytes) -> bool:
        return await self._session.send_on(portforward.error_channel(self._number), text)

    def finish(self) -> None:
        """The client's direction ends with the pod's: nobody could say so otherwise."""
        self.inbox.end()


class WebSocketForwards(websockets.Watched):
    """One session; `receive` has to run beside `run`."""

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        protocol: str,
        clock: clocks.Clock,
        ports: list[int],
        connect: spdy_forwards.Connect,
    ) -> None:
        super().__init__(request, socket, clock)
        self._protocol = protocol
        self._connect = connect
        self._ports = [_Port(self, number, port) for number, port in enumerate(ports)]

    async def send_on(self, channel: int, data: bytes) -> bool:
        return await self.send(remotecommand.pack(self._protocol, channel, data))

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
            for port in self._ports:
                port.was_reset = True
                port.inbox.end()

    async def _take(self, sent: remotecommand.Sent) -> None:
        number, is_error = divmod(sent.channel, 2)
        if not is_error and number < len(self._ports):
            self.holds(len(sent.data))
            self._ports[number].inbox.feed(sent.data)
            await self.room()

    async def run(self) -> None:
        """Until every connection has ended."""
        for port in self._ports:
            greeting = portforward.greeting(port.port)
            await port.write(greeting)
            await port.tell(greeting)
        async with asyncio.TaskGroup() as group:
            for port in self._ports:
                group.create_task(self._forward(port), name="kubelet.streams.forward")

    async def _forward(self, port: _Port) -> None:
        try:
            connection = await self._connect(port.port)
            try:
                await relay.both_ways(port, connection)
            finally:
                await connection.close()
        except containers.ContainersError as failure:
            log.warning("kubelet.forward_failed", port=port.port, why=str(failure))
            await port.tell(str(failure).encode())
        finally:
            port.inbox.drop()


class TunnelLink(websockets.Watched):
    """A `link.Link` of the messages of a WebSocket; `run` has to run beside whoever uses it."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, clock: clocks.Clock) -> None:
        super().__init__(request, socket, clock)
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._closing = False

    async def run(self, receiver: links.Receiver) -> None:
        """Until the link is closed or the client is gone."""
        receiving = asyncio.create_task(self._receive(receiver), name="kubelet.streams.tunnel.in")
        sending = asyncio.create_task(self._send_all(), name="kubelet.streams.tunnel.out")
        try:
            await asyncio.wait((receiving, sending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.over.set()
            self._drained.set()
            receiving.cancel()
            sending.cancel()
            await asyncio.wait((receiving, sending))
            receiver.lost()
        if self._closing:
            await self.close_socket()

    async def _receive(self, receiver: links.Receiver) -> None:
        while (message := await self.next_message()) is not None:
            receiver.received(message if isinstance(message, bytes) else message.encode())
            await self._resumed.wait()

    async def _send_all(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            data = b"".join(self._unsent)
            self._unsent.clear()
            if data and not await self.send(data):
                return
            self._unsent_bytes -= len(data)
            if self._unsent_bytes <= links.WRITE_HIGH_BYTES:
                self._drained.set()
            if self._closing and not self._unsent:
                return

    def write(self, data: bytes) -> None:
        if self.over.is_set() or not data:
            return
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > links.MAX_UNSENT_BYTES:
            self.abort()
        elif self._unsent_bytes > links.WRITE_HIGH_BYTES:
            self._drained.clear()
        self._filled.set()

    async def room(self) -> None:
        while not self._drained.is_set():
            await self._drained.wait()

    def pause(self) -> None:
        self._resumed.clear()

    def resume(self) -> None:
        self._resumed.set()

    def close(self) -> None:
        self._closing = True
        self._filled.set()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
