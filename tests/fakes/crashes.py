"""Points at which a process under test can be made to die: every await on the world outside it."""

import asyncio


class CrashPoint:
    """The `at`-th call of `reached` never returns, and none after it: what follows a crash does not happen."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.count = 0
        self.happened = asyncio.Event()
        self.where = ""

    async def reached(self, where: str) -> None:
        self.count += 1
        if self.happened.is_set() or self.count == self.at:
            if not self.happened.is_set():
                self.where = where
            self.happened.set()
            await asyncio.get_running_loop().create_future()
