"""Port-forward over SPDY: any number of connections to the pod in one session, each of two streams.

A connection that fails ends without a word on its error stream: kubectl takes any word there for the end of the whole
session and drops its other ports too. The word goes to the log instead.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from bareboat.kubelet import containers
from bareboat.kubelet.streams import portforward, relay, spdy_connection
from bareboat.kubelet.streams import spdy_framing as framing
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()

Connect = Callable[[int], Awaitable[containers.Connection]]
LOOK_S = 5.0


class _PodGone(Exception):
    """There is nothing left to connect to."""


class SpdyForwards:
    """One session; `connection` is what a link feeds, `run` has to run."""

    def __init__(
        self, connect: Connect, clock: clocks.Clock, about: str, has_pod: Callable[[], bool] = lambda: True
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._about = about
        self._has_pod = has_pod
        self._pairing = portforward.Pairing()
        self._streams: dict[int, spdy_connection.Stream] = {}
        self._complete: asyncio.Queue[portforward.Pair] = asyncio.Queue()
        self.connection = spdy_connection.Connection(clock, self._on_stream)

    def _on_stream(self, stream: spdy_connection.Stream) -> bool:
        try:
            pair = self._pairing.add(stream.stream_id, stream.headers, self._clock.monotonic_s())
        except portforward.BadStream as error:
            log.info("kubelet.forward_refused", why=str(error), **self._fields())
            return False
        self._streams[stream.stream_id] = stream
        if pair is not None:
            self._complete.put_nowait(pair)
        return True

    async def run(self) -> None:
        """Until cancelled, for a client ends the session by hanging up, or until the pod is gone."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._look(), name="kubelet.streams.look")
                while True:
                    pair = await self._complete.get()
                    group.create_task(self._forward(pair), name="kubelet.streams.forward")
        except* _PodGone:
            log.info("kubelet.forward_ended", why="the pod is gone", **self._fields())

    async def _forward(self, pair: portforward.Pair) -> None:
        error, data = self._streams[pair.error_id], self._streams[pair.data_id]
        error.drop_input()
        try:
            connection = await self._connect(pair.port)
            try:
                await relay.both_ways(data, connection, on_down_end=error.finish)
            finally:
                await connection.close()
            data.finish()
        except containers.ContainersError as failure:
            log.warning("kubelet.forward_failed", port=pair.port, why=str(failure), **self._fields())
            data.reset(framing.CANCEL)
        finally:
            data.drop_input()
            error.finish()
            del self._streams[pair.error_id], self._streams[pair.data_id]

    async def _look(self) -> None:
        """Drops streams whose other half never came; notices that the pod is gone, which no idle connection does."""
        while True:
            await self._clock.sleep(LOOK_S)
            if not self._has_pod():
                raise _PodGone
            for stream_id in self._pairing.overdue(self._clock.monotonic_s()):
                self._streams.pop(stream_id).reset(framing.CANCEL)

    def _fields(self) -> dict[str, str]:
        return {"pod": self._about}
