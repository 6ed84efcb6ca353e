"""A byte link to a peer: over a TLS connection taken from HTTP, or through the messages of a WebSocket.

Owns writing with back-pressure, and pausing. What the bytes mean, and when all is said, belongs to the `Receiver`.
"""

import asyncio
import socket
from typing import Protocol

WRITE_HIGH_BYTES = 256 * 1024
MAX_UNSENT_BYTES = 16 * WRITE_HIGH_BYTES
"""Reached only by a peer who makes us answer (pings, resets) and doesn't read the answers."""
_TAKEN_AWAY = "the link was used before it had a transport"


class Receiver(Protocol):
    """What a link tells, in the event loop, without waiting."""

    def received(self, data: bytes) -> None: ...

    def lost(self) -> None:
        """The peer is gone; told once, also after `close` and `abort`."""
        ...


class Link(Protocol):
    def write(self, data: bytes) -> None:
        """Queues; nothing when the peer is gone."""
        ...

    async def room(self) -> None:
        """Returns when little enough is unsent that more may be written, or the peer is gone."""
        ...

    def pause(self) -> None:
        """No more `received` until `resume`, soon. Both are idempotent."""
        ...

    def resume(self) -> None: ...

    def close(self) -> None:
        """Ends; what is unsent may be lost after a second, so make sure first that the peer has read it."""
        ...

    def abort(self) -> None:
        """Ends now; what was written may be lost."""
        ...


class TransportLink(asyncio.Protocol):
    """Over a transport that was taken from whoever had it before; `take` it first."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._transport: asyncio.Transport | None = None
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._paused = False
        self.gone = asyncio.Event()

    def take(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        transport.set_protocol(self)
        if transport.is_closing():
            self.connection_lost(None)

    def write(self, data: bytes) -> None:
        transport = self._transport
        assert transport is not None, _TAKEN_AWAY
        if not data or self.gone.is_set() or transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            transport.abort()

    async def room(self) -> None:
        # More than one may wait, and the first to write may fill it again.
        while not self._has_room.is_set():
            await self._has_room.wait()

    def pause(self) -> None:
        if not self._paused and self._transport is not None and not self.gone.is_set():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None and not self.gone.is_set():
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None and not self.gone.is_set():
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None and not self.gone.is_set():
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._receiver.received(data)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._has_room.clear()

    def resume_writing(self) -> None:
        self._has_room.set()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.gone.is_set():
            self.gone.set()
            self._has_room.set()
            self._receiver.lost()


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Lets the kernel find a peer that vanished without a word: after about a minute, where it can."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    options = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in options.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
