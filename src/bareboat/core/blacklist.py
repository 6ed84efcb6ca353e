"""Machines that are not to be tried for a while, and hosts (owners of machines) with several such machines.

Pure data and the time it is given; sharing it (ConfigMap, Redis) is its user's business, through `dump` and `load`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bareboat.core import machines, offers

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Ban:
    """`scope` is `machine` or `host`, `id` the cloud's. Over at `until_s` (unix seconds)."""

    scope: str
    cloud: str
    id: str
    until_s: float
    reason: str
    host_id: str | None = None

    def __str__(self) -> str:
        return f"{self.scope} {self.id} of {self.cloud}: {self.reason}"


class Blacklist:
    """`machines_per_host` different machines of one host banned at the same time ban the host."""

    def __init__(
        self, *, machine_ttl_s: float = HOUR_S, host_ttl_s: float = 24 * HOUR_S, machines_per_host: int = 2
    ) -> None:
        self._machine_ttl_s = machine_ttl_s
        self._host_ttl_s = host_ttl_s
        self._machines_per_host = machines_per_host
        self._machines: dict[machines.Key, Ban] = {}
        self._hosts: dict[machines.Key, Ban] = {}

    def ban(self, offer: offers.Offer, reason: str, now_s: float, *, ttl_s: float | None = None) -> Ban:
        """Bans the offer's machine; returns the widest ban that follows. A longer ban in force is kept."""
        cloud, machine = machines.key(offer)
        return self.ban_machine(cloud, machine, reason, now_s, host_id=offer.host_id, ttl_s=ttl_s)

    def ban_machine(
        self,
        cloud: str,
        machine_id: str,
        reason: str,
        now_s: float,
        *,
        host_id: str | None = None,
        ttl_s: float | None = None,
    ) -> Ban:
        """The same for callers that know a machine but no offer (an instance's `machine_id` and `host_id`)."""
        until_s = now_s + (self._machine_ttl_s if ttl_s is None else ttl_s)
        ban = self._keep(self._machines, Ban("machine", cloud, machine_id, until_s, reason, host_id), now_s)
        if host_id is None:
            return ban
        bad = [b for b in self._machines.values() if b.cloud == cloud and b.host_id == host_id and b.until_s > now_s]
        if len(bad) < self._machines_per_host:
            return ban
        return self.ban_host(cloud, host_id, f"{len(bad)} of its machines are banned; last: {reason}", now_s)

    def ban_host(self, cloud: str, host_id: str, reason: str, now_s: float, *, ttl_s: float | None = None) -> Ban:
        """Bans all machines of one owner."""
        until_s = now_s + (self._host_ttl_s if ttl_s is None else ttl_s)
        return self._keep(self._hosts, Ban("host", cloud, host_id, until_s, reason), now_s)

    def lift(self, cloud: str, *, machine_id: str | None = None, host_id: str | None = None) -> None:
        """Ends bans before their time; one that is not there is no error."""
        if machine_id is not None:
            self._machines.pop((cloud, machine_id), None)
        if host_id is not None:
            self._hosts.pop((cloud, host_id), None)

    def why(self, offer: offers.Offer, now_s: float) -> Ban | None:
        """The ban that keeps this offer out, the host's before the machine's; None when it may be tried."""
        if offer.host_id is not None:
            host = self._hosts.get((offer.cloud, offer.host_id))
            if host is not None and host.until_s > now_s:
                return host
        ban = self._machines.get(machines.key(offer))
        return ban if ban is not None and ban.until_s > now_s else None

    def is_banned(self, offer: offers.Offer, now_s: float) -> bool:
        return self.why(offer, now_s) is not None

    def in_force(self, now_s: float) -> tuple[Ban, ...]:
        """All bans, soonest end first; forgets those that are over."""
        for kept in (self._machines, self._hosts):
            for key in [key for key, ban in kept.items() if ban.until_s <= now_s]:
                del kept[key]
        return tuple(sorted((*self._machines.values(), *self._hosts.values()), key=lambda ban: ban.until_s))

    def dump(self, now_s: float) -> list[dict[str, Any]]:
        """JSON-ready, for `load` of this or another process."""
        return [
            {
                "scope": ban.scope,
                "cloud": ban.cloud,
                "id": ban.id,
                "until_s": ban.until_s,
                "reason": ban.reason,
                "host_id": ban.host_id,
            }
            for ban in self.in_force(now_s)
        ]

    def load(self, rows: Iterable[Mapping[str, Any]], now_s: float) -> tuple[str, ...]:
        """Adds bans from `dump`; returns a sentence for each row that makes no sense and was left out."""
        problems = []
        for row in rows:
            try:
                host = row.get("host_id")
                ban = Ban(
                    str(row["scope"]),
                    str(row["cloud"]),
                    str(row["id"]),
                    float(row["until_s"]),
                    str(row.get("reason", "no reason kept")),
                    None if host is None else str(host),
                )
            except (KeyError, TypeError, ValueError, AttributeError) as wrong:
                problems.append(f"a ban was left out: {row!r} has no usable {wrong}")
                continue
            if ban.scope not in ("machine", "host"):
                problems.append(f"a ban was left out: its scope is {ban.scope!r}; allowed are machine and host")
            elif ban.until_s > now_s:
                self._keep(self._machines if ban.scope == "machine" else self._hosts, ban, now_s)
        return tuple(problems)

    def _keep(self, kept: dict[machines.Key, Ban], ban: Ban, now_s: float) -> Ban:
        held = kept.get((ban.cloud, ban.id))
        if held is not None and held.until_s > max(ban.until_s, now_s):
            return held
        kept[(ban.cloud, ban.id)] = ban
        return ban
