from collections.abc import AsyncIterator

import pytest
from tests.contract.runpod_sim import fronts


@pytest.fixture
async def runpod() -> AsyncIterator[fronts.Runpod]:
    """A quiet simulated RunPod: instant boots, no faults, no churn, no rate limits."""
    async with fronts.served() as served:
        yield served
