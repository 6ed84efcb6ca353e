"""Sends a log to a client: headers at once, each line as soon as it is there, many in one write when they queue up.

A client that goes away cancels the source. A source that fails is told in a last line, as the status was sent long ago
and kube-apiserver hides a cut connection from kubectl (seen on 1.36); the connection is cut all the same.
"""

import asyncio

import structlog
from aiohttp import web

from bareboat.kubelet import logs

log = structlog.get_logger()

BUFFER_BYTES = 64 * 1024


class _Buffer:
    """Bytes between the source and the socket. The source waits while more than `BUFFER_BYTES` are unsent."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._ended = False

    async def put(self, chunk: bytes) -> None:
        self._held += chunk
        self._filled.set()
        if len(self._held) >= BUFFER_BYTES:
            self._drained.clear()
            await self._drained.wait()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._filled.set()

    async def take(self) -> bytes:
        """All that is held, at least one byte; empty at the end."""
        await self._filled.wait()
        taken = bytes(self._held)
        self._held.clear()
        self._drained.set()
        if not self._ended:
            self._filled.clear()
        return taken


async def respond(
    request: web.Request, lines: logs.Lines, options: logs.LogOptions, stopping: asyncio.Event
) -> web.StreamResponse:
    """Sends until the source ends, the byte limit is reached, the client leaves, or `stopping` is set (then the answer
    ends cleanly after what was already read)."""
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    buffer = _Buffer()
    source = asyncio.create_task(_fill(buffer, lines, options), name="kubelet.logs.source")
    # Not from within: a task that is cancelled before its first step runs none of its own clean-up.
    source.add_done_callback(lambda _: buffer.end())
    stop = asyncio.create_task(stopping.wait(), name="kubelet.logs.stop")
    stop.add_done_callback(lambda _: source.cancel())
    try:
        while chunk := await buffer.take():
            await response.write(chunk)
        if source.done() and not source.cancelled():
            source.result()
        await response.write_eof()
    except logs.LogsError as error:
        log.warning("kubelet.logs_cut", path=request.path, why=str(error))
        await response.write(f"[bareboat: the log breaks off here: {error}]\n".encode())
        if request.transport is not None:
            request.transport.close()
    except ConnectionError:
        # The client left between two writes: as good an end as any other.
        pass
    finally:
        stop.cancel()
        source.cancel()
        await asyncio.wait([source, stop])
        # Now, and not when the garbage collector comes by.
        await lines.aclose()
    return response


async def _fill(buffer: _Buffer, lines: logs.Lines, options: logs.LogOptions) -> None:
    renderer = logs.Renderer(options)
    async for line in lines:
        chunk = renderer.feed(line)
        if chunk:
            await buffer.put(chunk)
        if renderer.full:
            return
    await buffer.put(renderer.end())
