from collections.abc import AsyncIterator

import pytest
from tests.unit.kube import fakeapi

from bareboat.kube import client as clients


@pytest.fixture
async def api() -> AsyncIterator[fakeapi.FakeApi]:
    async with fakeapi.served(fakeapi.FakeApi()) as running:
        yield running


@pytest.fixture
async def client(api: fakeapi.FakeApi) -> AsyncIterator[clients.Client]:
    async with clients.Client(api.config(), timeout_s=5.0) as opened:
        yield opened
