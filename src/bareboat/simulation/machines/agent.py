"""The process that carries connections into a machine: accepts on sockets of the host, connects inside.

A listening socket keeps the network namespace it was made in, so no bytes pass through the simulator. It is forked by
the monitor when the first connection comes, joins the machine's namespaces, and dies with them. A server for shells
would listen here too: it sees the machine's files, network and processes.
"""

import asyncio
import contextlib
import socket
import struct

_CHUNK_BYTES = 1 << 18


def serve(listeners: list[tuple[socket.socket, int]]) -> None:
    """Relays each listener to a port of the machine; returns never."""
    asyncio.run(_serve(listeners))


async def _serve(listeners: list[tuple[socket.socket, int]]) -> None:
    servers = [await _relay(listener, port) for listener, port in listeners]
    await asyncio.gather(*(server.serve_forever() for server in servers))


async def _relay(listener: socket.socket, port: int) -> asyncio.Server:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port, limit=_CHUNK_BYTES)
        except OSError:
            reset(writer.get_extra_info("socket"))
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        for end in (writer, inner_writer):
            end.close()

    return await asyncio.start_server(carry, sock=listener, limit=_CHUNK_BYTES)


def reset(sock: socket.socket) -> None:
    """Has the close of `sock` send RST: to the caller, nobody listens."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies until the end of one direction and passes that end on; the other direction may go on (half-closed)."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
        return
    writer.transport.abort()
