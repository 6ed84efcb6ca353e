"""Keeps long-lived parts alive: the one place that catches every exception, says so, and starts the part again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from bareboat.plumbing import clock as clocks

log = structlog.get_logger()

T = TypeVar("T")


class Fatal(Exception):
    """Ends the program: nothing that a restart of the part could mend. `exit_code` is what the command returns."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def cause(failure: BaseException) -> BaseException:
    """What to raise for what ended a program: the first `Fatal` when a group holds nothing else, else the failure."""
    first: BaseException = failure
    if isinstance(failure, BaseExceptionGroup) and failure.split(Fatal)[1] is None:
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
    return first


async def supervise(
    name: str,
    part: Callable[[], Awaitable[None]],
    *,
    clock: clocks.Clock,
    on_crash: Callable[[str, BaseException], None] | None = None,
    first_pause_s: float = 0.5,
    longest_pause_s: float = 30.0,
) -> None:
    """Runs `part` for ever: logs a crash under `name` and starts it again after a growing, jittered pause.

    The pause falls back once the part has lived longer than the longest pause. `Fatal` and cancellation pass through.
    """
    pause_s = first_pause_s
    while True:
        started_s = clock.monotonic_s()
        try:
            await part()
            reason: BaseException = RuntimeError(f"{name} returned; a part is meant to run for ever")
        except (Fatal, asyncio.CancelledError):
            raise
        except Exception as crash:  # noqa: BLE001 - the one place
            reason = crash
        if clock.monotonic_s() - started_s > longest_pause_s:
            pause_s = first_pause_s
        log.error("part.crashed", part=name, again_in_s=round(pause_s, 1), exc_info=reason)
        if on_crash is not None:
            on_crash(name, reason)
        await clock.sleep(pause_s * random.uniform(0.8, 1.2))
        pause_s = min(pause_s * 2, longest_pause_s)


async def guarded(work: Awaitable[T]) -> T | Exception:
    """One piece of work among many: a failure comes back as a value, so that it can't take its neighbours along.

    The caller logs it and tries again. `Fatal` and cancellation pass through.
    """
    try:
        return await work
    except Fatal:
        raise
    except Exception as crash:  # noqa: BLE001 - the one place
        return crash
