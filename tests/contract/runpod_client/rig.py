"""The simulated RunPod under the contract tests: in process, over real HTTP, on a clock that stands still."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from bareboat.clouds.runpod import api, cloud
from bareboat.clouds.runpod import sim as simulated_runpod
from bareboat.core import launches, offers
from bareboat.plumbing import clock as clocks
from bareboat.simulation import estate, market

KEY = "rpa_K3YOFTHECONTRACTTESTS"


class RunpodRig:
    def __init__(self, simulator: simulated_runpod.Simulator, driver: cloud.RunpodCloud) -> None:
        self.simulator = simulator
        self.cloud = driver

    async def advance(self, seconds: float) -> None:
        await self.simulator.control.advance(seconds)

    def fault(self, name: str, **rule: Any) -> None:
        """Strikes once, unless the rule says otherwise."""
        self.simulator.control.add_fault(name, {"count": 1} | rule)

    def somebody_rents(self, offer: offers.Offer) -> None:
        row = offer.raw
        self.simulator.control.take_all(row.gpu_id, row.data_center, row.cloud)

    def everything_is_rented(self) -> None:
        self.simulator.control.take_all()

    def next_rent_is_lost(self) -> None:
        self.fault("create_lost_answer", how="drop")

    def next_rent_fails(self) -> None:
        self.fault("create_error")

    def out_of_order(self) -> None:
        self.simulator.control.add_fault("bad_gateway", {"rate": 1.0})

    def key_is_revoked(self) -> None:
        self.simulator.control.revoke_key()

    def money_runs_out(self) -> None:
        self.simulator.control.set_credit(0.0)

    def workload_ends(self, instance_id: str) -> None:
        self.simulator.control.exit(instance_id)

    def somebody_destroys(self, instance_id: str) -> None:
        self.simulator.control.vanish(instance_id)

    def rented(self) -> list[str]:
        return self.simulator.control.rented()

    def left(self) -> list[str]:
        books = self.simulator
        return [books.pods.pod_id(entry.id) for entry in books.ledger.running_now()]

    def a_launch(self) -> launches.Launch:
        return launches.Launch(image="nginx:latest", ports=(launches.Port(8080),))

    def an_impossible_launch(self) -> launches.Launch:
        return launches.Launch(image="busybox:latest", ports=(launches.Port(53, "UDP"),))


@contextlib.asynccontextmanager
async def simulated(
    *,
    switches: Mapping[str, Any] | None = None,
    faults: Mapping[str, Any] | None = None,
    profile: str = "none",
    limited: bool = False,
    clock: clocks.Clock | None = None,
    plan: estate.Plan | None = None,
    seed: int = 1,
    foreign: int = 0,
    **client: Any,
) -> AsyncIterator[RunpodRig]:
    """A quiet world, unless told otherwise. The client's own waits are short: its clock runs fast."""
    script = {
        "profile": profile,
        "faults": dict(faults or {}),
        "switches": {"rate_limits": limited} | dict(switches or {}),
    }
    world_clock = clock or clocks.ManualClock()
    quiet = plan or simulated_runpod.planned(churn=market.Churn.none())
    async with simulated_runpod.served(
        clock=world_clock, script=script, plan=quiet, seed=seed, api_key=KEY, foreign=foreign
    ) as simulator:
        client_clock = clock or clocks.ScaledClock(50.0)
        told: dict[str, Any] = {"limited": limited, "timeout_s": 5.0, "patience_s": 20.0} | client
        bases = api.Bases(f"{simulator.url}/v2", f"{simulator.url}/v1", f"{simulator.url}/graphql")
        driver = cloud.RunpodCloud(api.Api(bases, KEY, client_clock, **told), client_clock, quiet_s=0.15)
        try:
            yield RunpodRig(simulator, driver)
        finally:
            await driver.close()


FAULTS = {
    "create_lost_answer": [{"rate": 0.1, "how": how} for how in ("500", "504", "drop", "empty")],
    "create_error": 0.1,
    "capacity": 0.2,
    "list_lag": {"rate": 0.5, "for_s": [1, 15]},
    "list_ghost": 0.3,
    "destroy_fails": 0.3,
    "bad_gateway": 0.02,
    "answer_cut": 0.02,
    "rate_limited": {"rate": 0.01, "after_s": 3},
}
"""On top of the nasty profile, which alone would need hundreds of rents to show them."""


def nasty(clock: clocks.Clock, seed: int) -> contextlib.AbstractAsyncContextManager[RunpodRig]:
    """Every fault at once, in a list with pages."""
    plan = simulated_runpod.planned(seed=seed)
    switches = {"page": 7, "stock_luck": True}
    return simulated(profile="nasty", faults=FAULTS, switches=switches, clock=clock, plan=plan, seed=seed, tries=6)
