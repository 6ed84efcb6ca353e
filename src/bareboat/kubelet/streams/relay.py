"""Carries bytes between a client's stream and a connection to the pod, each direction to its own end."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from bareboat.kubelet import containers
from bareboat.kubelet.streams import remotecommand


class Duplex(Protocol):
    """The client's side."""

    @property
    def was_reset(self) -> bool:
        """The client wants no more, in either direction."""
        ...

    async def read(self) -> bytes:
        """Empty at the end of what the client sends."""
        ...

    async def write(self, data: bytes) -> bool:
        """Waits for room; False when the client takes no more."""
        ...

    def finish(self) -> None:
        """Nothing more will be written."""
        ...


async def both_ways(
    client: Duplex, connection: containers.Connection, *, on_down_end: Callable[[], None] | None = None
) -> None:
    """Until both directions have ended; `on_down_end` is called when the pod's has. Raises `containers.MachineAway`."""
    down = asyncio.create_task(_down(client, connection), name="kubelet.streams.down")
    if on_down_end is not None:
        ended = on_down_end
        down.add_done_callback(lambda _: ended())
    up = asyncio.create_task(_up(client, connection, down), name="kubelet.streams.up")
    try:
        await asyncio.wait((down, up), return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in (down, up):
            task.cancel()
        results = await asyncio.gather(down, up, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _up(client: Duplex, connection: containers.Connection, down: asyncio.Task[None]) -> None:
    try:
        while chunk := await client.read():
            await connection.write(chunk)
    except containers.StdinClosed:
        return
    if client.was_reset:
        # How clients close a connection whose server closed first; then there is nobody left to read for.
        down.cancel()
        return
    await connection.close_write()


async def _down(client: Duplex, connection: containers.Connection) -> None:
    while chunk := await connection.read(remotecommand.CHUNK_BYTES):
        if not await client.write(chunk):
            return
    client.finish()
