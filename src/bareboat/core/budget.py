"""Caps on money, and the ledger that holds to them: reserve before renting, settle at the price really charged, release
when the instance is proven gone.

One process, no awaits: between the check and the entry nothing can come, so workloads that race can't pass a cap
together. Money accrues as $/h × time from the moment of the reservation, so it errs on the side of too much. Traffic is
not counted. Times are unix seconds and given by the caller; keys are the caller's (an attempt's mark is a good one).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

HOUR_S = 3600.0
EPSILON_USD = 1e-6
"""Sums of many prices are not exact; a millionth of a dollar passes no cap that anybody set."""


@dataclass(frozen=True, slots=True)
class Caps:
    """None is no cap. `usd_per_hour` holds for all that is rented at one time, `usd` for all that was ever spent."""

    usd_per_hour: float | None = None
    usd: float | None = None

    def __post_init__(self) -> None:
        for name in ("usd_per_hour", "usd"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"cap {name} is {value}; allowed is a number from 0 up")


@dataclass(frozen=True, slots=True)
class Limits:
    """`each` caps one workload's $/h. A namespace in `by_namespace` has its own caps instead of `namespace`.

    `least_run_s`: what is left of a total must pay for so long of everything that runs, the new one included;
    otherwise workloads would be started only to be ended.
    """

    each_usd_per_hour: float | None = None
    namespace: Caps = field(default_factory=Caps)
    installation: Caps = field(default_factory=Caps)
    by_namespace: Mapping[str, Caps] = field(default_factory=dict)
    least_run_s: float = 600.0


class OverBudget(Exception):
    """A cap is in the way; nothing was entered. Say it, stay pending, and ask again when something was released.

    `scope` is `workload`, `namespace` or `installation`; `wanted`, `used` so far and `cap` are in `unit`.
    """

    def __init__(self, scope: str, who: str, unit: str, wanted: float, used: float, cap: float) -> None:
        self.scope, self.unit, self.wanted, self.used, self.cap = scope, unit, wanted, used, cap
        self.sentence = _sentence(scope, who, unit, wanted, used, cap)
        super().__init__(self.sentence)


def _sentence(scope: str, who: str, unit: str, wanted: float, used: float, cap: float) -> str:
    whose = who if scope != "namespace" else f"namespace {who}"
    if scope == "workload":
        return f"{wanted:.3f} $/h is over the cap of {cap:.3f} $/h for {whose}"
    if unit == "$/h":
        return f"{wanted:.3f} $/h more would bring {whose} to {used + wanted:.3f} $/h; the cap is {cap:.3f} $/h"
    return (
        f"{whose} has spent ${used:.2f} of ${cap:.2f}; what is left does not pay for the ${wanted:.2f} "
        "that a start takes at the least"
    )


@dataclass(slots=True)
class Entry:
    """One workload's rent. `spent_usd` is what it had cost at `since_s`; from there `usd_per_hour` runs.

    `settled` once the cloud has told what it charges: before that nothing may have been bought yet.
    """

    key: str
    namespace: str
    usd_per_hour: float
    since_s: float
    spent_usd: float = 0.0
    settled: bool = False

    def usd(self, now_s: float) -> float:
        return self.spent_usd + self.usd_per_hour * max(0.0, now_s - self.since_s) / HOUR_S


@dataclass(slots=True)
class _Meter:
    """The sum of many entries as one line over time, so that a burst of reservations does not add them all up again."""

    usd_per_hour: float = 0.0
    usd_at_origin: float = 0.0

    def usd(self, hours: float) -> float:
        return self.usd_at_origin + self.usd_per_hour * hours

    def start(self, usd_per_hour: float, hours: float) -> None:
        self.usd_per_hour += usd_per_hour
        self.usd_at_origin -= usd_per_hour * hours

    def stop(self, usd_per_hour: float, hours: float) -> None:
        self.start(-usd_per_hour, hours)


@dataclass(frozen=True, slots=True)
class Spend:
    """`usd_per_hour` now, `usd` in all, of a namespace or the installation."""

    usd_per_hour: float
    usd: float


class Ledger:
    """Not for several threads. After a start: `restore` every instance that is ours and `restore_spent` what ended
    ones had cost, and only then `reserve`; otherwise the caps start from nothing."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        """May be replaced at any time; what runs already stays, and counts."""
        self._entries: dict[str, Entry] = {}
        self._ended_usd: dict[str, float] = {}
        self._meters: dict[str, _Meter] = {"": _Meter()}
        self._origin_s: float | None = None

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries.values())

    def reserve(
        self, key: str, namespace: str, usd_per_hour: float, now_s: float, *, cap_usd_per_hour: float | None = None
    ) -> None:
        """Before the rent call, at the price of the offer. `cap_usd_per_hour` is the workload's own cap.

        Raises `OverBudget`. A key that is reserved already is replaced if the new price fits (the next offer of the
        same attempt), and left as it was if not. What a settled one had cost stays on the books.
        """
        held = self._entries.get(key)
        self._admit(namespace, usd_per_hour, now_s, cap_usd_per_hour, instead_of=held)
        if held is not None:
            self.release(key, now_s, bought=False)
        self._start(Entry(key, namespace, usd_per_hour, now_s))

    def settle(
        self, key: str, usd_per_hour: float, now_s: float, *, cap_usd_per_hour: float | None = None
    ) -> OverBudget | None:
        """After the rent call, and whenever the cloud changes the price: what it really charges, from now on.

        Always entered, since it is being paid. Returns the cap that it breaks, if it does: the caller then gives the
        instance up. A price that did not rise breaks nothing. An unknown key raises KeyError: nothing was reserved.
        """
        held = self._entries[key]
        over = None
        if usd_per_hour > held.usd_per_hour + EPSILON_USD:
            try:
                self._admit(held.namespace, usd_per_hour, now_s, cap_usd_per_hour, instead_of=held, totals=False)
            except OverBudget as broken:
                over = broken
        self._stop(held, now_s)
        self._start(Entry(key, held.namespace, usd_per_hour, now_s, held.usd(now_s), settled=True))
        return over

    def release(self, key: str, now_s: float, *, bought: bool = True) -> float:
        """The instance is proven gone: stops the meter and returns what it cost. Idempotent: a second call costs 0.

        `bought=False` when it is certain that nothing was rented: the reservation then cost nothing. What was settled
        was bought, whatever is said here.
        """
        held = self._entries.get(key)
        if held is None:
            return 0.0
        self._stop(held, now_s)
        usd = held.usd(now_s)
        if not (bought or held.settled):
            for meter in self._both(held.namespace):
                meter.usd_at_origin -= usd
            return 0.0
        self._ended_usd[held.namespace] = self._ended_usd.get(held.namespace, 0.0) + usd
        return usd

    def restore(self, key: str, namespace: str, usd_per_hour: float, since_s: float, *, spent_usd: float = 0.0) -> None:
        """Enters an instance that runs already, whatever the caps say. A key that is there stays as it is."""
        if key in self._entries:
            return
        for meter in self._both(namespace):
            meter.usd_at_origin += spent_usd
        self._start(Entry(key, namespace, usd_per_hour, since_s, spent_usd, settled=True))

    def restore_spent(self, usd_by_namespace: Mapping[str, float]) -> None:
        """What instances that have ended had cost, from `ended_usd` of the last life. Sets, does not add."""
        for namespace in {*self._ended_usd, *usd_by_namespace}:
            usd = usd_by_namespace.get(namespace, 0.0) - self._ended_usd.get(namespace, 0.0)
            for meter in self._both(namespace):
                meter.usd_at_origin += usd
        self._ended_usd = dict(usd_by_namespace)

    def ended_usd(self) -> dict[str, float]:
        """By namespace, what ended instances cost: to be kept where a restart finds it."""
        return dict(self._ended_usd)

    def spend(self, now_s: float, namespace: str | None = None) -> Spend:
        """Of one namespace, or of all."""
        meter = self._meters.get("" if namespace is None else f"/{namespace}", _Meter())
        return Spend(max(0.0, meter.usd_per_hour), max(0.0, meter.usd(self._hours(now_s))))

    def room_usd_per_hour(self, namespace: str, now_s: float) -> float | None:
        """The highest price that `reserve` would take now; None when no cap is set. 0 means: no need to search."""
        room = [] if self.limits.each_usd_per_hour is None else [self.limits.each_usd_per_hour]
        least_h = self.limits.least_run_s / HOUR_S
        for _, caps, spend in self._scopes(namespace, now_s):
            if caps.usd_per_hour is not None:
                room.append(caps.usd_per_hour - spend.usd_per_hour)
            if caps.usd is not None:
                left = caps.usd - spend.usd
                room.append(left / least_h - spend.usd_per_hour if least_h else float("inf") if left > 0 else 0.0)
        return max(0.0, min(room)) if room else None

    def overrun(self, now_s: float, *, ahead_s: float = 0.0) -> tuple[str, ...]:
        """Keys whose namespace's or installation's total will be spent within `ahead_s`: they have to end.

        Cheap enough for every tick. With `ahead_s` of one tick and a destroy, the total is not passed.
        """
        over: dict[str, None] = {}
        for namespace in dict.fromkeys(entry.namespace for entry in self._entries.values()):
            for who, caps, spend in self._scopes(namespace, now_s):
                will_be = spend.usd + spend.usd_per_hour * ahead_s / HOUR_S
                if caps.usd is not None and will_be > caps.usd + EPSILON_USD:
                    over.update(dict.fromkeys(self._keys(namespace if who else None)))
        return tuple(over)

    def _keys(self, namespace: str | None) -> Iterable[str]:
        return [key for key, entry in self._entries.items() if namespace is None or entry.namespace == namespace]

    def _scopes(self, namespace: str, now_s: float) -> tuple[tuple[str, Caps, Spend], ...]:
        """(namespace or "", caps, spend), the narrower first."""
        caps = self.limits.by_namespace.get(namespace, self.limits.namespace)
        return (
            (namespace, caps, self.spend(now_s, namespace)),
            ("", self.limits.installation, self.spend(now_s)),
        )

    def _hours(self, at_s: float) -> float:
        """Counted from the first entry, which keeps the sums exact to far below a cent."""
        if self._origin_s is None:
            self._origin_s = at_s
        return (at_s - self._origin_s) / HOUR_S

    def _both(self, namespace: str) -> tuple[_Meter, _Meter]:
        return self._meters.setdefault(f"/{namespace}", _Meter()), self._meters[""]

    def _start(self, entry: Entry) -> None:
        self._entries[entry.key] = entry
        for meter in self._both(entry.namespace):
            meter.start(entry.usd_per_hour, self._hours(entry.since_s))

    def _stop(self, entry: Entry, now_s: float) -> None:
        del self._entries[entry.key]
        for meter in self._both(entry.namespace):
            meter.stop(entry.usd_per_hour, self._hours(max(now_s, entry.since_s)))

    def _admit(
        self,
        namespace: str,
        usd_per_hour: float,
        now_s: float,
        cap: float | None,
        *,
        instead_of: Entry | None = None,
        totals: bool = True,
    ) -> None:
        if not 0 <= usd_per_hour < float("inf"):
            raise ValueError(f"a price of {usd_per_hour} $/h; allowed is a number from 0 up")
        for who, most in (("this pod", cap), ("one pod", self.limits.each_usd_per_hour)):
            if most is not None and usd_per_hour > most + EPSILON_USD:
                raise OverBudget("workload", who, "$/h", usd_per_hour, 0.0, most)
        for name, caps, spend in self._scopes(namespace, now_s):
            scope, who = ("namespace", name) if name else ("installation", "this installation")
            used = spend.usd_per_hour - (instead_of.usd_per_hour if instead_of is not None else 0.0)
            if caps.usd_per_hour is not None and used + usd_per_hour > caps.usd_per_hour + EPSILON_USD:
                raise OverBudget(scope, who, "$/h", usd_per_hour, used, caps.usd_per_hour)
            if totals and caps.usd is not None:
                least = (used + usd_per_hour) * self.limits.least_run_s / HOUR_S
                if spend.usd + least > caps.usd + EPSILON_USD or spend.usd >= caps.usd:
                    raise OverBudget(scope, who, "$", least, spend.usd, caps.usd)
