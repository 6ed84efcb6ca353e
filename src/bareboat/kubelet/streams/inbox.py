"""What a client has sent on one channel and nobody has read yet."""

import asyncio
from collections import deque
from collections.abc import Callable


class Inbox:
    """Chunks in order, one reader. `used` is told of each byte count that needs no memory any more, read or dropped."""

    def __init__(self, used: Callable[[int], None]) -> None:
        self._used = used
        self._chunks: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._dropping = False
        self.ended = False

    async def read(self) -> bytes:
        """The next chunk; empty once everything is read and the sender has ended."""
        while not self._chunks and not self.ended:
            self._changed.clear()
            await self._changed.wait()
        if not self._chunks:
            return b""
        chunk = self._chunks.popleft()
        self._used(len(chunk))
        return chunk

    def feed(self, data: bytes) -> None:
        """After `end` or `drop`, `data` is thrown away."""
        if self._dropping or self.ended:
            self._used(len(data))
        else:
            self._chunks.append(data)
            self._changed.set()

    def end(self) -> None:
        self.ended = True
        self._changed.set()

    def drop(self) -> None:
        """Throws away what is here and what comes."""
        self._dropping = True
        while self._chunks:
            self._used(len(self._chunks.popleft()))
