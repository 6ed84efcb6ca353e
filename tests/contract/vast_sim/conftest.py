from collections.abc import AsyncIterator

import pytest
from tests.contract.vast_sim import api


@pytest.fixture
async def vast() -> AsyncIterator[api.Vast]:
    """A quiet simulated Vast.ai: instant boots, no faults, no churn, no rate limits."""
    async with api.served() as served:
        yield served
