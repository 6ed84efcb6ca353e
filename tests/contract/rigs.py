"""What the contract tests need of a cloud's simulator, in words that fit every cloud.

A cloud named `x` brings `tests/contract/x_client/rig.py` with `simulated() -> AbstractAsyncContextManager[Rig]` and
`nasty(clock, seed)`; nothing else lists the clouds.
"""

import contextlib
import importlib
from typing import Protocol

from bareboat.core import cloud as seam
from bareboat.core import launches, offers
from bareboat.plumbing import clock as clocks


class Rig(Protocol):
    """One driver on one fresh simulated account with money and no faults. Its time stands still until `advance`."""

    cloud: seam.Cloud

    async def advance(self, seconds: float) -> None:
        """Moves the simulated time on."""
        ...

    def somebody_rents(self, offer: offers.Offer) -> None: ...

    def everything_is_rented(self) -> None: ...

    def next_rent_is_lost(self) -> None:
        """The next rent call is carried out, and its answer never arrives."""
        ...

    def next_rent_fails(self) -> None:
        """The next rent call is answered with the cloud's own trouble, and nothing happens."""
        ...

    def out_of_order(self) -> None:
        """From now on everything is answered with trouble."""
        ...

    def key_is_revoked(self) -> None: ...

    def money_runs_out(self) -> None: ...

    def workload_ends(self, instance_id: str) -> None: ...

    def somebody_destroys(self, instance_id: str) -> None: ...

    def rented(self) -> list[str]:
        """Ids of all instances ever rented, from the books of the simulator."""
        ...

    def left(self) -> list[str]:
        """Ids of those that exist now, in whatever state: each of them costs money."""
        ...

    def a_launch(self) -> launches.Launch:
        """One that works on the simulated machines and listens on port 8080."""
        ...

    def an_impossible_launch(self) -> launches.Launch:
        """One that this cloud can never carry."""
        ...


def nasty(cloud: str, clock: clocks.Clock, seed: int) -> contextlib.AbstractAsyncContextManager[Rig]:
    """The same on a bad day: every fault of its simulator at once, on this clock."""
    rig = importlib.import_module(f"tests.contract.{cloud}_client.rig")
    opened: contextlib.AbstractAsyncContextManager[Rig] = rig.nasty(clock, seed)
    return opened


def simulated(cloud: str) -> contextlib.AbstractAsyncContextManager[Rig]:
    """The rig of a cloud by its name."""
    rig = importlib.import_module(f"tests.contract.{cloud}_client.rig")
    opened: contextlib.AbstractAsyncContextManager[Rig] = rig.simulated()
    return opened
