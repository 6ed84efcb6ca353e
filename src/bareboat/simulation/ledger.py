"""Every instance ever rented, its states with their times, its dollars by kind, and who was refused what. The judge of
the money rules in tests: it only remembers, and it forgets nothing."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

from bareboat.plumbing import clock as clocks
from bareboat.simulation import rentals

Owner = Callable[[str | None], str | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """One request that was not granted."""

    at_s: float
    who: str
    what: str
    status: int
    error: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger says of one instance at one moment."""

    id: int
    label: str | None
    labels: tuple[tuple[float, str | None], ...]
    machine_id: int
    host_id: int
    gpu: str
    gpus: int
    ask_id: int
    image: str
    usd_per_hour: float
    bid: bool
    created_s: float
    destroy_asked_s: float | None
    gone_s: float | None
    stage: str
    states: tuple[rentals.Moment, ...]
    usd: rentals.Usd
    reason: str

    def ever_labelled(self, prefix: str) -> bool:
        return any(label is not None and label.startswith(prefix) for _, label in self.labels)


def owner_of_mark(label: str | None) -> str | None:
    """Whose instance a label says it is: `bareboat/<cluster>/<owner>/<attempt>` without its attempt, else the label."""
    if label and label.startswith("bareboat/") and label.count("/") >= 3:
        return label.rsplit("/", 1)[0]
    return label or None


class Ledger:
    """Reads rentals; costs nothing until it is asked."""

    MOST_REFUSALS = 10_000

    def __init__(self, clock: clocks.Clock) -> None:
        self._clock = clock
        self._rentals: list[rentals.Rental] = []
        self._closed: dict[int, rentals.Usd] = {}
        self.refusals: list[Refusal] = []
        self.refusals_by_error: dict[str, int] = {}
        self.catch_up: Callable[[float], None] = lambda now_s: None

    # -- writing

    def opened(self, rental: rentals.Rental) -> None:
        self._rentals.append(rental)

    def refused(self, who: str, what: str, status: int, error: str, message: str) -> None:
        self.refusals_by_error[error] = self.refusals_by_error.get(error, 0) + 1
        if len(self.refusals) < self.MOST_REFUSALS:
            self.refusals.append(Refusal(self._clock.now_s(), who, what, status, error, message))

    # -- questions

    def entries(self) -> list[Entry]:
        """Everything ever rented, oldest first; phantoms (sold but never there) are among them, with no dollars."""
        now_s = self._now_s()
        return [self._entry(rental, now_s) for rental in self._rentals]

    def running_now(self) -> list[Entry]:
        """Instances that exist now in whatever state: each of them costs money."""
        now_s = self._now_s()
        return [self._entry(rental, now_s) for rental in self._rentals if not rental.is_gone(now_s)]

    def ever_rented(self, label_prefix: str = "") -> list[Entry]:
        """Instances that ever carried a label with this prefix (all instances when it is empty), without phantoms."""
        real = [entry for entry in self.entries() if entry.stage != rentals.Stage.PHANTOM]
        return [entry for entry in real if not label_prefix or entry.ever_labelled(label_prefix)]

    def double_rents(self, owner: Owner = owner_of_mark) -> list[tuple[Entry, Entry]]:
        """Pairs with one owner that were both wanted at one time, i.e. before a destroy was asked for either."""
        by_owner: dict[str, list[Entry]] = {}
        for entry in self.ever_rented():
            whose = owner(entry.labels[0][1])
            if whose is not None:
                by_owner.setdefault(whose, []).append(entry)
        pairs = itertools.chain.from_iterable(itertools.combinations(group, 2) for group in by_owner.values())
        return [(one, other) for one, other in pairs if _overlap(one, other)]

    def spend(self, label_prefix: str = "") -> rentals.Usd:
        """Dollars of everything that ever carried a label with this prefix (everything, when it is empty)."""
        return self.spent_by(self._now_s(), label_prefix)

    def spent_by(self, now_s: float, label_prefix: str = "") -> rentals.Usd:
        """The same at a moment, without first letting happen what was due by then."""
        total = rentals.Usd()
        for rental in self._rentals:
            if not label_prefix or any((label or "").startswith(label_prefix) for _, label in rental.labels):
                total = total.plus(self._spent(rental, now_s))
        return total

    def report(self) -> dict[str, Any]:
        """The whole ledger as JSON-able data: times in unix seconds, dollars by kind."""
        total = self.spend()
        return {
            "now_s": self._clock.now_s(),
            "instances": [_as_json(entry) for entry in self.entries()],
            "running": [entry.id for entry in self.running_now()],
            "double_rents": [[one.id, other.id] for one, other in self.double_rents()],
            "usd": {**dataclasses.asdict(total), "total": total.total},
            "refusals": [dataclasses.asdict(refusal) for refusal in self.refusals],
            "refusals_by_error": self.refusals_by_error,
        }

    # -- how

    def _now_s(self) -> float:
        now_s = self._clock.now_s()
        self.catch_up(now_s)
        return now_s

    def _spent(self, rental: rentals.Rental, now_s: float) -> rentals.Usd:
        closed = self._closed.get(rental.id)
        if closed is None:
            closed = rental.spent(now_s)
            if rental.is_gone(now_s):
                self._closed[rental.id] = closed
        return closed

    def _entry(self, rental: rentals.Rental, now_s: float) -> Entry:
        gone = rental.is_gone(now_s)
        return Entry(
            id=rental.id,
            label=rental.label,
            labels=tuple(rental.labels),
            machine_id=rental.host.machine_id,
            host_id=rental.host.owner_id,
            gpu=rental.host.gpu.name,
            gpus=rental.gpus,
            ask_id=rental.ask_id,
            image=rental.image,
            usd_per_hour=rental.usd_per_hour if rental.bid_usd_per_hour is None else rental.bid_usd_per_hour,
            bid=rental.bid_usd_per_hour is not None,
            created_s=rental.created_s,
            destroy_asked_s=rental.destroy_asked_s,
            gone_s=rental.gone_s if gone else None,
            stage=str(rental.at(now_s).stage),
            states=tuple(moment for moment in rental.life if moment.at_s <= now_s),
            usd=self._spent(rental, now_s),
            reason=rental.end_reason,
        )


def _overlap(one: Entry, other: Entry) -> bool:
    first, second = sorted((one, other), key=lambda entry: entry.created_s)
    given_up = [moment for moment in (first.destroy_asked_s, first.gone_s) if moment is not None]
    return not given_up or min(given_up) > second.created_s


def _as_json(entry: Entry) -> dict[str, Any]:
    document = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}
    document["states"] = [
        {"at_s": moment.at_s, "stage": str(moment.stage), "message": moment.message, "exit_code": moment.exit_code}
        for moment in entry.states
    ]
    document["usd"] = {**dataclasses.asdict(entry.usd), "total": entry.usd.total}
    return document
