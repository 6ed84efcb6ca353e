"""What is for rent and for how much. A machine offers overlapping slices (1, 2, 4 … GPUs) under ids that die with the
slice; other customers come and go and prices drift, both as pure functions of (seed, host, period). Nothing here runs
by itself: the market catches up with the clock whenever it is asked."""

import dataclasses
import itertools
import math
import random
from collections.abc import Iterable, Iterator

from bareboat.simulation import world


@dataclasses.dataclass(slots=True)
class Ask:
    """A slice of a host that can be rented once. `stamp` changes whenever anything shown of it changes."""

    id: int
    host: world.Host
    gpus: int
    usd_per_hour: float
    min_bid_usd_per_hour: float
    stamp: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Churn:
    """How lively the market is: prices move by up to ±`price` of themselves, `busy` is the share of hosts on which
    other customers sit; both are drawn anew every `period_s` of simulated time (a host changes every few periods)."""

    period_s: float = 60.0
    price: float = 0.06
    busy: float = 0.25

    @classmethod
    def none(cls) -> "Churn":
        return cls(price=0.0, busy=0.0)


class Market:
    """Asks over hosts. All times are unix seconds of the simulation."""

    def __init__(
        self,
        *,
        seed: int,
        start_s: float,
        offers: int,
        churn: Churn,
        hosts: Iterable[world.Host] | None = None,
    ) -> None:
        """Over `hosts`; without them over the known ten and as many grown ones as `offers` takes."""
        self._seed = seed
        self._start_s = start_s
        self._churn = churn
        self._ids = itertools.count(31_880_000)
        self._period = -1
        self._factors: dict[int, float] = {}
        self._asks: dict[int, Ask] = {}
        self._by_host: dict[int, dict[int, Ask]] = {}
        self.hosts: dict[int, world.Host] = {}
        self.stamp = 0
        for host in world.seed_hosts(start_s) if hosts is None else hosts:
            self._add(host)
        index = 0
        while hosts is None and len(self._asks) < offers:
            self._add(world.grow_host(index, seed, start_s))
            index += 1
        self._period = 0

    def _add(self, host: world.Host) -> None:
        self.hosts[host.machine_id] = host
        self._by_host[host.machine_id] = {}
        host.gpus_taken = self._others(host, 0)
        self._reprice(host, 0)
        self._relist(host)

    # -- reading

    def asks(self, now_s: float) -> Iterator[Ask]:
        """Everything for rent now, hosts that are down left out."""
        self.catch_up(now_s)
        return (ask for ask in self._asks.values() if not (ask.host.outages and ask.host.is_down(now_s)))

    def find(self, ask_id: int, now_s: float) -> Ask | None:
        self.catch_up(now_s)
        ask = self._asks.get(ask_id)
        return None if ask is None or ask.host.is_down(now_s) else ask

    # -- changing

    def take(self, ask: Ask) -> None:
        """Rents the ask out to the account: its id is gone for good, and slices that no longer fit go with it."""
        ask.host.gpus_ours += ask.gpus
        self._drop(ask)
        self._relist(ask.host)

    def carve(self, host: world.Host, gpus: int) -> Ask | None:
        """An ask of exactly so many GPUs, listed or made for the purpose; None when the host has fewer free."""
        if not 1 <= gpus <= host.gpus_free:
            return None
        current = self._by_host[host.machine_id]
        if gpus not in current:
            ask = Ask(next(self._ids), host, gpus, 0.0, 0.0)
            self._price(ask)
            current[gpus] = self._asks[ask.id] = ask
        return current[gpus]

    def claim(self, host: world.Host, gpus: int) -> bool:
        """Takes GPUs for an instance that starts again; False when others (or we) have them."""
        if host.gpus_free < gpus:
            return False
        host.gpus_ours += gpus
        self._relist(host)
        return True

    def release(self, host: world.Host, gpus: int) -> None:
        host.gpus_ours = max(0, host.gpus_ours - gpus)
        self._relist(host)

    def occupy(self, host: world.Host, gpus: int | None = None) -> None:
        """Other customers take `gpus` (default: all that are free) until the market moves the host again."""
        host.gpus_taken += host.gpus_free if gpus is None else min(gpus, host.gpus_free)
        self._relist(host)

    def retire(self, ask: Ask) -> None:
        """Somebody else rents exactly this ask."""
        if ask.id in self._asks:
            ask.host.gpus_taken += ask.gpus
            self._drop(ask)
            self._relist(ask.host)

    def set_price_factor(self, host: world.Host, factor: float) -> None:
        """Multiplies what the host asks from now on (instances already rented keep their price)."""
        host.price_factor = factor
        self._reprice(host, self._period)
        self._restamp(host)

    def catch_up(self, now_s: float) -> None:
        """Lets prices and other customers reach the present; at most one sweep over the hosts per period."""
        period = int((now_s - self._start_s) // self._churn.period_s)
        if period == self._period or (self._churn.busy == 0.0 and self._churn.price == 0.0):
            return
        self._period = period
        for host in self.hosts.values():
            self._reprice(host, period)
            taken = min(self._others(host, period), host.gpus - host.gpus_ours)
            if taken != host.gpus_taken:
                host.gpus_taken = taken
                self._relist(host)
            self._restamp(host)

    # -- how a host's slices follow its free GPUs

    def _relist(self, host: world.Host) -> None:
        current = self._by_host[host.machine_id]
        for gpus, ask in list(current.items()):
            if gpus > host.gpus_free:
                self._drop(ask)
        for gpus in slices(host.gpus):
            if gpus <= host.gpus_free and gpus not in current:
                ask_id = host.first_asks.pop(gpus, None) or next(self._ids)
                ask = Ask(ask_id, host, gpus, 0.0, 0.0)
                self._price(ask)
                current[gpus] = self._asks[ask_id] = ask
        self._restamp(host)

    def _drop(self, ask: Ask) -> None:
        self._asks.pop(ask.id, None)
        current = self._by_host[ask.host.machine_id]
        if current.get(ask.gpus) is ask:
            del current[ask.gpus]

    def _restamp(self, host: world.Host) -> None:
        self.stamp += 1
        for ask in self._by_host[host.machine_id].values():
            ask.stamp = self.stamp

    def _reprice(self, host: world.Host, period: int) -> None:
        host_dice = random.Random(f"{self._seed}:price:{host.machine_id}")
        wave = host_dice.uniform(20, 90)
        swing = math.sin((period / wave + host_dice.random()) * math.tau)
        jitter = random.Random(f"{self._seed}:price:{host.machine_id}:{period // 5}").uniform(-1, 1)
        self._factors[host.machine_id] = host.price_factor * (1 + self._churn.price * (0.7 * swing + 0.3 * jitter))
        for ask in self._by_host[host.machine_id].values():
            self._price(ask)

    def _price(self, ask: Ask) -> None:
        host = ask.host
        ask.usd_per_hour = round(host.usd_per_gpu_hour * ask.gpus * self._factors.get(host.machine_id, 1.0), 4)
        ask.min_bid_usd_per_hour = round(ask.usd_per_hour * host.bid_share, 4)

    def _others(self, host: world.Host, period: int) -> int:
        """GPUs that other customers hold on the host in that period; they stay for 4 to 40 periods."""
        if self._churn.busy == 0.0 or (period == 0 and host.first_asks):
            return 0
        stay = random.Random(f"{self._seed}:stay:{host.machine_id}").randint(4, 40)
        dice = random.Random(f"{self._seed}:busy:{host.machine_id}:{(period + host.machine_id) // stay}")
        return dice.randint(1, host.gpus) if dice.random() < self._churn.busy else 0


def slices(gpus: int) -> list[int]:
    """Sizes in which a machine of that many GPUs is offered: powers of two, and the whole machine."""
    sizes = [size for size in (1, 2, 4, 8, 16) if size <= gpus]
    return sizes if gpus in sizes else [*sizes, gpus]
