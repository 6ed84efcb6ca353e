"""A WebSocket of aiohttp as the sessions see it: messages with a bound on what is held, sending that outlives a client
who is gone, a proper end."""

import asyncio
import contextlib

from aiohttp import WSCloseCode, WSMsgType, web

from bareboat.plumbing import clock as clocks

HELD_BYTES = 1 << 20
MAX_MESSAGE_BYTES = 64 << 20
"""Libraries put a whole file into one message."""
CLOSE_S = 300.0
"""For a client that reads slowly to take the rest and answer the close."""
_DATA = (WSMsgType.BINARY, WSMsgType.TEXT)


def response(protocol: str) -> web.WebSocketResponse:
    """To be prepared once the client's offer has been looked at: aiohttp itself would go on without a protocol."""
    return web.WebSocketResponse(
        protocols=(protocol,) if protocol else (), max_msg_size=MAX_MESSAGE_BYTES, compress=False, timeout=CLOSE_S
    )


class Watched:
    """A WebSocket as `wires.Watched` sees it, and sending that outlives a client who is gone."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, clock: clocks.Clock) -> None:
        self._transport = request.transport
        self.socket = socket
        self._clock = clock
        self._held = 0
        self._has_room = asyncio.Event()
        self._has_room.set()
        self.over = asyncio.Event()
        self.failure = ""
        self.is_paused = False
        self.heard_s = self.moved_s = clock.monotonic_s()

    async def next_message(self) -> bytes | str | None:
        """None when no more will come."""
        message = await self.socket.receive()
        if message.type not in _DATA:
            return None
        self.heard_s = self.moved_s = self._clock.monotonic_s()
        data: bytes | str = message.data
        return data

    def holds(self, count: int) -> None:
        """`count` bytes have come that take memory until they are `used`."""
        self._held += count
        if self._held > HELD_BYTES:
            self._has_room.clear()

    def used(self, count: int) -> None:
        self._held -= count
        self.moved_s = self._clock.monotonic_s()
        if self._held <= HELD_BYTES:
            self._has_room.set()

    async def room(self) -> None:
        """Before the next message is asked for."""
        self.is_paused = not self._has_room.is_set()
        await self._has_room.wait()
        self.is_paused = False

    async def send(self, message: bytes | str) -> bool:
        """Waits for room; False when the client is gone."""
        try:
            if isinstance(message, str):
                await self.socket.send_str(message)
            else:
                await self.socket.send_bytes(message)
        except ConnectionError:
            return False
        self.heard_s = self.moved_s = self._clock.monotonic_s()
        return True

    async def probe(self) -> None:
        # A ping waits for room, too, and the watch must not wait.
        if self._transport is not None and not self._transport.get_write_buffer_size():
            with contextlib.suppress(ConnectionError):
                await self.socket.ping()

    async def close_socket(self) -> None:
        """A proper end: kubectl takes a connection that just breaks off for a failure."""
        await self.socket.close(code=WSCloseCode.OK)
