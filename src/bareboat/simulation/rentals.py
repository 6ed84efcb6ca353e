"""One rented instance as data: a life of dated moments, some of them still to come, and a meter of dollars by kind.
State and money are functions of (rental, moment); no task belongs to a rental."""

import dataclasses
import enum
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from bareboat.simulation import world

HOURS_PER_MONTH = 720.0


class Stage(enum.StrEnum):
    """Where a rental is in its life, in no cloud's words."""

    PLACING = "placing"
    PULLING = "pulling"
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    EXITED = "exited"
    STOPPING = "stopping"
    STOPPED = "stopped"
    GONE = "gone"
    PHANTOM = "phantom"


USES_GPU = frozenset({Stage.RUNNING, Stage.RESTARTING})
"""Stages in which the GPU is billed."""


class Moment(NamedTuple):
    """From `at_s` on the rental is in `stage`; `message` is for whoever reads its status."""

    at_s: float
    stage: Stage
    message: str = ""
    exit_code: int | None = None


@dataclasses.dataclass(slots=True)
class Usd:
    """Dollars by kind."""

    gpu: float = 0.0
    disk: float = 0.0
    bandwidth: float = 0.0

    @property
    def total(self) -> float:
        return self.gpu + self.disk + self.bandwidth

    def plus(self, other: "Usd") -> "Usd":
        return Usd(self.gpu + other.gpu, self.disk + other.disk, self.bandwidth + other.bandwidth)


@dataclasses.dataclass(slots=True, kw_only=True)
class Rental:
    """An instance from the first dollar to the last. `terms` is what the cloud's front wants to keep with it.

    `life` is sorted by time and may reach into the future; change it with `become` and `plan`, which keep that so.
    `ends_s` is the end of the contract; `moves_s` is when its public address changes.
    """

    id: int
    ask_id: int
    host: world.Host
    gpus: int
    usd_per_hour: float
    bid_usd_per_hour: float | None
    disk_gb: float
    disk_usd_per_hour: float
    label: str | None
    image: str
    created_s: float
    ends_s: float
    terms: Any = None
    life: list[Moment] = dataclasses.field(default_factory=list)
    wants_running: bool = True
    holds_gpus: bool = True
    start_queued: bool = False
    outbid: bool = False
    destroy_asked_s: float | None = None
    end_reason: str = ""
    labels: list[tuple[float, str | None]] = dataclasses.field(default_factory=list)
    silences: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    moves_s: float | None = None
    generation: int = 0
    banked: Usd = dataclasses.field(default_factory=Usd)
    banked_until_s: float = 0.0
    running_since_s: float | None = None

    def __post_init__(self) -> None:
        self.banked_until_s = self.created_s
        self.labels.append((self.created_s, self.label))

    # -- state

    def at(self, now_s: float) -> Moment:
        """The moment that holds now."""
        current = self.life[0]
        for moment in self.life:
            if moment.at_s > now_s:
                break
            current = moment
        return current

    def become(self, at_s: float, stage: Stage, message: str = "", exit_code: int | None = None) -> None:
        """Enters a stage; whatever was planned for later no longer happens."""
        self.plan([Moment(at_s, stage, message, exit_code)])

    def plan(self, moments: list[Moment]) -> None:
        """Replaces what comes after the first of `moments`."""
        first_s = moments[0].at_s
        self.life = [moment for moment in self.life if moment.at_s <= first_s]
        self.life.extend(moments)
        self.generation += 1

    def subject(self) -> dict[str, Any]:
        """What fault rules can match on."""
        return {
            "label": self.label,
            "image": self.image,
            "machine_id": self.host.machine_id,
            "instance_id": self.id,
        }

    def relabel(self, at_s: float, label: str | None) -> None:
        self.label = label
        self.labels.append((at_s, label))

    def is_gone(self, now_s: float) -> bool:
        last = self.life[-1]
        return last.stage is Stage.PHANTOM or (last.stage is Stage.GONE and last.at_s <= now_s)

    def is_silent(self, at_s: float) -> bool:
        """The host's heartbeat is missing, though it may work on."""
        return any(start_s <= at_s < end_s for start_s, end_s in self.silences)

    @property
    def gone_s(self) -> float | None:
        """When it ended or will end, as far as that is decided."""
        last = self.life[-1]
        return last.at_s if last.stage is Stage.GONE else None

    # -- money

    def bank(self, now_s: float) -> None:
        """Fixes what has been spent so far; call before a price changes."""
        self.banked = self.spent(now_s)
        self.banked_until_s = max(self.banked_until_s, now_s)

    def spent(self, now_s: float) -> Usd:
        usd = dataclasses.replace(self.banked)
        for start_s, end_s, moment in self._stretches(self.banked_until_s, now_s):
            if moment.stage in (Stage.GONE, Stage.PHANTOM):
                continue
            hours = self._online_s(start_s, end_s) / 3600
            usd.disk += hours * self.disk_usd_per_hour
            if moment.stage in USES_GPU:
                usd.gpu += hours * (self.usd_per_hour if self.bid_usd_per_hour is None else self.bid_usd_per_hour)
        return usd

    def add_traffic(self, down_gb: float = 0.0, up_gb: float = 0.0) -> None:
        self.banked.bandwidth += down_gb * self.host.down_usd_per_gb + up_gb * self.host.up_usd_per_gb

    def _stretches(self, from_s: float, until_s: float) -> Iterator[tuple[float, float, Moment]]:
        for index, moment in enumerate(self.life):
            end_s = self.life[index + 1].at_s if index + 1 < len(self.life) else until_s
            start_s, end_s = max(moment.at_s, from_s), min(end_s, until_s)
            if start_s < end_s:
                yield start_s, end_s, moment

    def _online_s(self, start_s: float, end_s: float) -> float:
        down_s = sum(max(0.0, min(end_s, until_s) - max(start_s, from_s)) for from_s, until_s in self.host.outages)
        return max(0.0, end_s - start_s - down_s)


@dataclasses.dataclass(frozen=True, slots=True)
class BootTimes:
    """How long each step to a running workload takes, in simulated seconds (ranges are drawn evenly)."""

    placing_s: tuple[float, float] = (2.0, 20.0)
    unpack_s: tuple[float, float] = (20.0, 60.0)
    cached_pull_s: tuple[float, float] = (15.0, 30.0)
    created_s: tuple[float, float] = (0.0, 3.0)
    stopping_s: tuple[float, float] = (5.0, 30.0)
    starting_s: tuple[float, float] = (5.0, 15.0)
    restart_s: tuple[float, float] = (2.0, 6.0)
    destroy_s: tuple[float, float] = (0.0, 3.0)

    @classmethod
    def instant(cls) -> "BootTimes":
        now = (0.0, 0.0)
        return cls(now, now, now, now, now, now, now, now)


def pull_s(size_gb: float, host: world.Host, times: BootTimes, dice: random.Random, *, cached: bool) -> float:
    """Seconds to fetch and unpack an image on that host."""
    if cached:
        return dice.uniform(*times.cached_pull_s)
    if times.unpack_s == (0.0, 0.0):
        return 0.0
    return size_gb * 8000 / max(1.0, host.down_mbps) + dice.uniform(*times.unpack_s)
