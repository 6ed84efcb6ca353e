import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest

from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import errors, resources
from bareboat.sandbox import controlplane

numbers = itertools.count(1)


@pytest.fixture
async def client(sandbox: controlplane.ControlPlane) -> AsyncIterator[clients.Client]:
    async with clients.Client(configs.load(sandbox.kubeconfig_path)) as opened:
        yield opened


@pytest.fixture
async def namespace(client: clients.Client) -> AsyncIterator[str]:
    """A namespace in which pods can be made; deleted afterwards without waiting for it."""
    name = f"kube-{next(numbers)}"
    await client.create(resources.NAMESPACES.path(), {"metadata": {"name": name}})
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(errors.NotFound):
                await client.get(resources.SERVICE_ACCOUNTS.path(name, "default"))
                break
            await asyncio.sleep(0.05)
    yield name
    await client.delete(resources.NAMESPACES.path(name=name))
