"""Pods for the tests, and a wire that can be cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


def a_pod(name: str, node: str | None = None, **more: Any) -> dict[str, Any]:
    """A pod that nothing in the control plane touches: bound to a node that has no kubelet, or gated."""
    place: dict[str, Any] = {"nodeName": node} if node is not None else {"schedulingGates": [{"name": "test/held"}]}
    spec = {"containers": [{"name": "main", "image": "busybox"}], **place, **more}
    return {"metadata": {"name": name}, "spec": spec}


class Wire:
    """A TCP proxy in front of the API server. `cut` aborts what is open, `blocked` refuses what comes."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open: set[asyncio.StreamWriter] = set()
        self.blocked = False
        self.port = 0
        self.cuts = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.blocked:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._open |= {writer, far_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, far_writer))
                group.create_task(self._copy(far_reader, writer))
        finally:
            for end in (writer, far_writer):
                self._open.discard(end)
                end.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    def cut(self) -> None:
        self.cuts += 1
        for end in list(self._open):
            end.transport.abort()


@asynccontextmanager
async def wired(host: str, port: int) -> AsyncIterator[Wire]:
    wire = Wire(host, port)
    server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        wire.cut()
        server.close()
        await asyncio.sleep(0.05)
        await server.wait_closed()
