"""All faults together: whatever the cloud does, marks find what was bought, and destroying until a read says gone ends
it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest
from tests.contract import rigs

from bareboat.clouds import discovery
from bareboat.core import cloud as seam
from bareboat.core import errors, labels, needs
from bareboat.plumbing import clock as clocks

T = TypeVar("T")

RENTS = 25


@contextlib.asynccontextmanager
async def _passing(clock: clocks.ManualClock) -> AsyncIterator[None]:
    """Time moves on whenever nothing is under way."""

    async def move() -> None:
        while True:
            for _ in range(30):
                await asyncio.sleep(0)
            await clock.advance(1.0)

    moving = asyncio.create_task(move(), name="time")
    try:
        yield
    finally:
        moving.cancel()


async def _rent_one(rig: rigs.Rig, clock: clocks.Clock, mark: labels.Mark) -> str | None:
    """The id of what was bought, or none: for certain, as far as the cloud lets itself be asked."""
    offer = next(iter(await rig.cloud.search(needs.Needs(ports=1))), None)
    if offer is None:
        return None
    try:
        bought = await rig.cloud.rent(offer, rig.a_launch(), mark)
    except errors.OutcomeUnknown as unknown:
        if unknown.instance_id is not None:
            return unknown.instance_id
        return await _looked_up(rig, clock, mark)
    return bought.id


async def _looked_up(rig: rigs.Rig, clock: clocks.Clock, mark: labels.Mark) -> str | None:
    await clock.sleep(rig.cloud.visibility_window_s)
    found = await _until_told(lambda: rig.cloud.marked(mark))
    assert len(found) <= 1, "one attempt buys once at most"
    return found[0].id if found else None


async def _until_told(ask: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await ask()
        except (errors.CloudDown, errors.Throttled):
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cloud", discovery.names())
async def test_nothing_is_lost_and_everything_ends(cloud: str, seed: int) -> None:
    clock = clocks.ManualClock()
    async with rigs.nasty(cloud, clock, seed) as rig, _passing(clock):
        bought: set[str] = set()
        for attempt in range(RENTS):
            mark = labels.Mark("nasty", f"owner-{attempt}", "1")
            with contextlib.suppress(errors.OfferGone, errors.CloudDown, errors.Throttled):
                instance_id = await _rent_one(rig, clock, mark)
                bought |= {instance_id} if instance_id else set()
        owned = set(rig.rented())
        assert owned <= bought, "what the books know, we know"
        await clock.sleep(rig.cloud.visibility_window_s)
        listed = {each.id for each in (await _until_told(rig.cloud.instances)).instances}
        assert owned <= listed
        if isinstance(rig.cloud, seam.HasCensus):
            census = await _until_told(rig.cloud.census)
            assert census.total >= len(owned)
        for instance_id in bought:
            while await _until_told(lambda: rig.cloud.instance(instance_id)) is not None:  # noqa: B023
                await _until_told(lambda: rig.cloud.destroy(instance_id))  # noqa: B023
                await clock.sleep(5)
        assert rig.left() == []
