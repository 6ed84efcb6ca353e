"""A server of leases and a client of it, for the node's lease and for elections."""

from collections.abc import AsyncIterator

import pytest
from tests.unit.kube.leasing import leasestore

from bareboat.kube import client as clients


@pytest.fixture
async def served() -> AsyncIterator[tuple[leasestore.LeaseApi, clients.Client]]:
    async with leasestore.served() as pair:
        yield pair


@pytest.fixture
def api(served: tuple[leasestore.LeaseApi, clients.Client]) -> leasestore.LeaseApi:
    return served[0]


@pytest.fixture
def client(served: tuple[leasestore.LeaseApi, clients.Client]) -> clients.Client:
    return served[1]
