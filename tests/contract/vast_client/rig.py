"""The simulated Vast under the contract tests: in process, over real HTTP, on a clock that stands still."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from bareboat.clouds.vast import api, cloud
from bareboat.clouds.vast import sim as simulated_vast
from bareboat.core import launches, offers
from bareboat.plumbing import clock as clocks
from bareboat.simulation import estate, market

KEY = "k3y-of-the-contract-tests"


class VastRig:
    def __init__(self, simulator: simulated_vast.Simulator, driver: cloud.VastCloud) -> None:
        self.simulator = simulator
        self.cloud = driver

    async def advance(self, seconds: float) -> None:
        await self.simulator.control.advance(seconds)

    def fault(self, name: str, **rule: Any) -> None:
        """Strikes once, unless the rule says otherwise."""
        self.simulator.control.add_fault(name, {"count": 1} | rule)

    def somebody_rents(self, offer: offers.Offer) -> None:
        self.simulator.control.take_offer(int(offer.id))

    def everything_is_rented(self) -> None:
        self.simulator.control.take_all_offers()

    def next_rent_is_lost(self) -> None:
        self.fault("create_lost_answer", how="drop")

    def next_rent_fails(self) -> None:
        self.fault("create_error")

    def out_of_order(self) -> None:
        self.simulator.control.add_fault("server_errors", {"rate": 1.0})

    def key_is_revoked(self) -> None:
        self.simulator.control.revoke_key()

    def money_runs_out(self) -> None:
        self.simulator.control.set_credit(0.0)

    def workload_ends(self, instance_id: str) -> None:
        self.simulator.control.exit(int(instance_id))

    def somebody_destroys(self, instance_id: str) -> None:
        self.simulator.control.vanish(int(instance_id))

    def rented(self) -> list[str]:
        return [str(entry.id) for entry in self.simulator.ledger.ever_rented()]

    def left(self) -> list[str]:
        return [str(entry.id) for entry in self.simulator.ledger.running_now()]

    def a_launch(self) -> launches.Launch:
        return launches.Launch(image="nginx:latest", ports=(launches.Port(8080),))

    def an_impossible_launch(self) -> launches.Launch:
        return launches.Launch(image="busybox:latest", args=("x" * 5000,))


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
    **client: Any,
) -> AsyncIterator[VastRig]:
    """A quiet world, unless told otherwise. The client's own waits are short: its clock runs fast."""
    script = {
        "profile": profile,
        "faults": dict(faults or {}),
        "switches": {"rate_limits": limited} | dict(switches or {}),
    }
    world_clock = clock or clocks.ManualClock()
    quiet = plan or estate.Plan(churn=market.Churn.none())
    async with simulated_vast.served(clock=world_clock, script=script, plan=quiet, seed=seed, api_key=KEY) as simulator:
        client_clock = clock or clocks.ScaledClock(50.0)
        told: dict[str, Any] = {"limited": limited, "timeout_s": 5.0, "patience_s": 20.0} | client
        driver = cloud.VastCloud(api.Api(simulator.url, KEY, client_clock, **told), client_clock)
        try:
            yield VastRig(simulator, driver)
        finally:
            await driver.close()


FAULTS = {
    "create_lost_answer": [{"rate": 0.1, "how": how} for how in ("504", "drop", "empty", "400")],
    "create_error": 0.1,
    "create_unsuccessful": 0.1,
    "create_phantom": 0.05,
    "list_page_shift": 0.1,
    "list_ghost": 0.3,
    "destroy_fails": 0.2,
    "server_errors": {"rate": 0.01, "for_s": [5, 20]},
}
"""On top of the nasty profile, which alone would need hundreds of rents to show them."""


def nasty(clock: clocks.Clock, seed: int) -> contextlib.AbstractAsyncContextManager[VastRig]:
    """Every fault at once."""
    plan = estate.Plan(seed=seed)
    return simulated(profile="nasty", faults=FAULTS, clock=clock, plan=plan, seed=seed, patience_s=60.0)
