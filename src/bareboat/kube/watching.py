"""The stream of one watch: bytes to lines, cheap in a burst, and never silent for ever.

Leaves the meaning of lines to `informer`.
"""

import asyncio
from collections.abc import AsyncGenerator

import aiohttp

from bareboat.kube import errors

# In a burst of events, how long a few may wait for each other. Only reading is delayed: holding back the transport
# itself would save more, but interferes with the HTTP library's own flow control.
GATHER_S = 0.02


async def lines(
    path: str, server: str, response: aiohttp.ClientResponse, silence_s: float
) -> AsyncGenerator[bytes, None]:
    """Whole lines without their newline, until the server closes; close the generator when leaving early.

    Raises Timeout when nothing came for `silence_s` and Unreachable when the connection breaks.
    """
    rest = b""
    content = response.content
    silence = _Silence(content, silence_s)
    try:
        while chunk := await content.readany():
            hurried = silence.broken()
            pieces = (rest + chunk if rest else chunk).split(b"\n")
            rest = pieces.pop()
            for piece in pieces:
                if piece:
                    yield piece
            if hurried:
                await asyncio.sleep(GATHER_S)  # a batch costs little more than a single event does
    except TimeoutError as late:
        raise errors.Timeout(f"WATCH {path}: nothing came for {silence_s} s, the connection is dead") from late
    except (aiohttp.ClientError, OSError) as problem:
        raise errors.unreachable("WATCH", path, server, problem) from problem
    finally:
        silence.stop()


class _Silence:
    """Fails a stream on which nothing came for so long. aiohttp's own read timeout costs a timer per piece of data."""

    def __init__(self, content: aiohttp.StreamReader, longest_s: float) -> None:
        self._content = content
        self._longest_s = longest_s
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._timer = self._loop.call_later(longest_s, self._check)

    def broken(self) -> bool:
        """Something came; True when something else had come just before."""
        last_s, self._heard_s = self._heard_s, self._loop.time()
        return self._heard_s - last_s < 2 * GATHER_S

    def stop(self) -> None:
        self._timer.cancel()

    def _check(self) -> None:
        left_s = self._heard_s + self._longest_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._check)
        else:
            self._content.set_exception(TimeoutError())
