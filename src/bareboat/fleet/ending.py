"""Ends a few instances on somebody's word, for commands that run once; the node's own endings are the reaper's.

Whose instance may be ended is the caller's decision. Invariant: nothing is called gone before a read says so.
"""

from collections.abc import Iterable, Mapping

import structlog

from bareboat.core import cloud as clouds
from bareboat.core import errors, instances
from bareboat.plumbing import backoff
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()

LONGEST_S = 120.0


async def end(
    several: Iterable[instances.Instance],
    opened: Mapping[str, clouds.Cloud],
    clock: clocks.Clock,
    *,
    why: str,
    longest_s: float = LONGEST_S,
) -> list[instances.Instance]:
    """Asks again until reads say that they are gone; returns those that are not gone in time.

    Each is read once more before the first call: one whose label is not what it was is left alone, and not returned.
    """
    left = []
    for each in several:
        if await _is_as_it_was(each, opened[each.cloud]):
            left.append(each)
    give_up_s = clock.monotonic_s() + longest_s
    pause = backoff.Backoff(1.0, 10.0)
    while left:
        left = [each for each in left if not await _is_ended(each, opened[each.cloud], clock, why)]
        if not left or clock.monotonic_s() >= give_up_s:
            break
        await clock.sleep(pause.next_s())
    return left


async def _is_as_it_was(told: instances.Instance, cloud: clouds.Cloud) -> bool:
    now = await cloud.instance(told.id)
    return now is not None and now.label == told.label


async def _is_ended(each: instances.Instance, cloud: clouds.Cloud, clock: clocks.Clock, why: str) -> bool:
    try:
        await cloud.destroy(each.id)
        if await cloud.instance(each.id) is not None:
            return False
    except errors.Throttled as slow:
        await clock.sleep(slow.after_s)
        return False
    except errors.CloudDown as trouble:
        log.warning("instance.end_failed", cloud=cloud.name, id=each.id, why=trouble.why)
        return False
    log.info("instance.ended", cloud=cloud.name, id=each.id, why=why)
    return True
