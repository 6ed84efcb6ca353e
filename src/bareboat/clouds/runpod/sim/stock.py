"""What is free of each GPU type, and what a create gets of it: rows of the catalogue over machines of the market.

What the catalogue shows lags behind what is there (fault 2); a create looks at the machines themselves.
"""

import random
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from bareboat.clouds.runpod.sim import hosts, replies
from bareboat.simulation import market, world

if TYPE_CHECKING:
    from bareboat.clouds.runpod.sim import simulator

LEVELS = ("NONE", "LOW", "MEDIUM", "HIGH")
REFUSALS_BY_STOCK = {"HIGH": 0.02, "MEDIUM": 0.10, "LOW": 0.40, "NONE": 1.0}
CAPACITY = (
    "There are no longer any instances available with the requested specifications. Please refresh and try again.",
    "There are no instances currently available",
    "There are no longer any instances available with enough disk space.",
    "This machine does not have the resources to deploy your pod. Please try a different machine.",
)
OVER_CONSTRAINED = "We could not find any pods with required specifications. Please change them and try again."
SPOT_CAPACITY = "There are no longer any instances available with the request specifications. Please try again later."


class Stock:
    def __init__(self, sim: "simulator.Simulator") -> None:
        self._sim = sim
        self._dice = random.Random(f"{sim.estate.plan.seed}:runpod:stock")

    def machines(
        self, kind: hosts.GpuType, cloud: str, data_centers: Collection[str] = (), countries: Collection[str] = ()
    ) -> Iterator[world.Host]:
        """Those of a type in one cloud (`ALL`: both) that are up, in the named places."""
        now_s = self._sim.estate.now()
        self._sim.estate.market.catch_up(now_s)
        for host in self._sim.estate.market.hosts.values():
            if host.gpu.name != kind.id or (cloud != "ALL" and host.datacenter != (cloud == "SECURE")):
                continue
            if (data_centers and host.place not in data_centers) or host.is_down(now_s):
                continue
            if not countries or country(host) in countries:
                yield host

    def level(self, machines: Collection[world.Host], gpus: int) -> str:
        places = sum(host.gpus_free // gpus for host in machines)
        return "HIGH" if places >= 12 else "MEDIUM" if places >= 5 else "LOW" if places else "NONE"

    def find(
        self,
        kind: hosts.GpuType,
        cloud: str,
        gpus: int,
        data_centers: Collection[str],
        *,
        countries: Collection[str] = (),
        cuda: float = 0.0,
        spot: bool = False,
    ) -> market.Ask:
        """An ask that fits; raises Refused with one of the capacity texts."""
        fitting = [host for host in self.machines(kind, cloud, data_centers, countries) if host.cuda >= cuda]
        if not any(host.gpus >= gpus for host in fitting):
            raise self.refusal(OVER_CONSTRAINED)
        level = self.level(fitting, gpus)
        free = [host for host in fitting if host.gpus_free >= gpus]
        unlucky = self._sim.switches.stock_luck and self._dice.random() < REFUSALS_BY_STOCK[level]
        if not free or unlucky:
            raise self.refusal(SPOT_CAPACITY if spot else self._dice.choice(CAPACITY))
        ask = self._sim.estate.market.carve(max(free, key=lambda host: (host.gpus_free, host.machine_id)), gpus)
        assert ask is not None
        return ask

    def refusal(self, text: str) -> replies.Refused:
        how = self._sim.switches.capacity_status
        status = 500 if how == "500" or (how == "mixed" and self._dice.random() < 0.05) else 400
        return replies.Refused(status, text, v1_status=500, code="SUPPLY_CONSTRAINT")

    def take_all(self, kind_id: str | None = None, place: str | None = None, cloud: str | None = None) -> None:
        """Others rent everything that is free, of one row or of all."""
        for host in self._rows(kind_id, place, cloud):
            self._sim.estate.market.occupy(host)

    def free_all(self, kind_id: str | None = None, place: str | None = None, cloud: str | None = None) -> None:
        """All others leave."""
        for host in self._rows(kind_id, place, cloud):
            host.gpus_taken = 0
            self._sim.estate.market.release(host, 0)

    def _rows(self, kind_id: str | None, place: str | None, cloud: str | None) -> Iterator[world.Host]:
        for host in self._sim.estate.market.hosts.values():
            if kind_id is not None and host.gpu.name != kind_id:
                continue
            if cloud is not None and host.datacenter != (cloud == "SECURE"):
                continue
            if place is None or host.place == place:
                yield host


def country(host: world.Host) -> str:
    """Two letters."""
    parts = (host.place or "").split("-")
    return parts[1] if parts[0] in ("EU", "EUR", "AP", "OC") else parts[0]
