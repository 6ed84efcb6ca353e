"""A simulated Vast.ai inside this process whose machines really run, seen by the owner of its account."""

import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import aiohttp

from bareboat.clouds.vast import sim
from bareboat.simulation import clock, estate, market, rentals
from bareboat.simulation.machines import forked

PLAN = estate.Plan(churn=market.Churn.none(), boot=rentals.BootTimes.instant())


@dataclasses.dataclass
class Owner:
    """Who holds the key."""

    sim: sim.Simulator
    http: aiohttp.ClientSession

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.sim.api_key}"}
        async with self.http.request(method, self.sim.url + path, json=body, headers=headers) as response:
            return json.loads(await response.read())


OwnerT = TypeVar("OwnerT", bound=Owner)


@contextlib.asynccontextmanager
async def opened(kind: type[OwnerT]) -> AsyncIterator[OwnerT]:
    """A world without misfortunes, limits or changes of price, where instances boot at once."""
    switches = sim.Switches(rate_limits=False)
    async with (
        forked.ForkedMachines() as park,
        sim.served(
            clock=clock.SimulatedClock(), plan=PLAN, switches=switches, script={"profile": "none"}, park=park
        ) as served,
        aiohttp.ClientSession() as http,
    ):
        yield kind(served, http)
