"""What became of our own attempts on each machine. Old attempts fade, so that a mended machine gets its chance."""

from dataclasses import dataclass

from bareboat.core import machines, offers

UNKNOWN = 0.5


@dataclass(slots=True)
class _Record:
    good: float
    bad: float
    at_s: float


class History:
    """At most `most` machines are remembered; the one not heard of for longest is forgotten first."""

    def __init__(self, *, half_life_s: float = 7 * 86_400.0, most: int = 10_000) -> None:
        self._half_life_s = half_life_s
        self._most = most
        self._records: dict[machines.Key, _Record] = {}

    def __len__(self) -> int:
        return len(self._records)

    def note(self, offer: offers.Offer, *, good: bool, now_s: float) -> None:
        """One attempt ended: `good` when the workload ran there, not when the offer was merely gone."""
        self.note_machine(machines.key(offer), good=good, now_s=now_s)

    def note_machine(self, key: machines.Key, *, good: bool, now_s: float) -> None:
        """The same for who knows the machine but holds no offer of it."""
        record = self._records.pop(key, None) or _Record(0.0, 0.0, now_s)
        fade = self._fade(now_s - record.at_s)
        record.good = record.good * fade + (1.0 if good else 0.0)
        record.bad = record.bad * fade + (0.0 if good else 1.0)
        record.at_s = now_s
        self._records[key] = record
        if len(self._records) > self._most:
            del self._records[next(iter(self._records))]

    def score(self, key: machines.Key, now_s: float) -> float:
        """(good + 1) / (all + 2): 0.5 for a machine never tried, towards 1 or 0 as attempts go well or badly."""
        record = self._records.get(key)
        if record is None:
            return UNKNOWN
        fade = self._fade(now_s - record.at_s)
        return (record.good * fade + 1.0) / ((record.good + record.bad) * fade + 2.0)

    def _fade(self, age_s: float) -> float:
        return float(0.5 ** (max(0.0, age_s) / self._half_life_s))
