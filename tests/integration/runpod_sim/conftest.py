import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable

import pytest

from bareboat.clouds.runpod import api, cloud, sim
from bareboat.core import errors, instances, labels, launches, needs
from bareboat.plumbing import clock as clocks
from bareboat.simulation import clock, market, rentals
from bareboat.simulation.machines import forked

DEADLINE_S = 30.0
PLAN = sim.planned(churn=market.Churn.none(), boot=rentals.BootTimes.instant())


@dataclasses.dataclass
class Account:
    """The driver on a simulated RunPod whose pods really run."""

    sim: sim.Simulator
    cloud: cloud.RunpodCloud
    attempts: int = 0

    async def rented(self, image: str, *words: str, gpu: str = "RTX 4090", **more: object) -> str:
        """`words`: entrypoint and its arguments."""
        self.attempts += 1
        mark = labels.Mark("machines", "owner", str(self.attempts))
        launch = launches.Launch(image=image, command=words[:1] or None, args=words[1:] or None, **more)  # type: ignore[arg-type]
        for offer in await self.cloud.search(needs.Needs(gpu_names=(gpu,))):
            if offer.gpu_name == gpu and offer.datacenter:
                try:
                    return (await self.cloud.rent(offer, launch, mark)).id
                except errors.OfferGone:
                    continue
        raise AssertionError("nothing to rent")

    async def until(self, pod_id: str, good: Callable[[instances.Instance], bool]) -> instances.Instance:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                found = await self.cloud.instance(pod_id)
                assert found is not None
                if good(found):
                    return found
                await asyncio.sleep(0.05)

    async def ends(self, pod_id: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if await self.cloud.instance(pod_id) is None:
                    return
                await asyncio.sleep(0.02)

    async def becomes(self, pod_id: str, state: instances.State) -> instances.Instance:
        return await self.until(pod_id, lambda found: found.state is state)


@pytest.fixture
async def account() -> AsyncIterator[Account]:
    async with (
        forked.ForkedMachines() as park,
        sim.served(
            clock=clock.SimulatedClock(),
            plan=PLAN,
            script={"profile": "none", "switches": {"rate_limits": False, "ssh_delay_s": 0.0}},
            park=park,
        ) as served,
    ):
        bases = api.Bases(f"{served.url}/v2", f"{served.url}/v1", f"{served.url}/graphql")
        clock_ = clocks.SystemClock()
        driver = cloud.RunpodCloud(api.Api(bases, served.api_key, clock_), clock_, quiet_s=0.3)
        try:
            yield Account(served, driver)
        finally:
            await driver.close()
