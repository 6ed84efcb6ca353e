"""What the node remembers of one pod's renting. Everything that money depends on is also in the pod's annotations.

A record is rebuilt from annotations and status at start, the wait before a restart of its container among it; what is
only in memory (the pause after a failed try to rent) may be lost.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from bareboat.access import documents
from bareboat.core import offers
from bareboat.node import restarting
from bareboat.workload import annotations as notes
from bareboat.workload import pod as pods
from bareboat.workload import probing, ssh_status
from bareboat.workload import status as statuses

DEAREST_USD_PER_HOUR = 1000.0
PLAIN, SSH = "plain", "ssh"


class Renting(Enum):
    """How far the present attempt is.

    NONE      nothing rented and nothing asked for
    UNKNOWN   a rent call may have bought: only reads until that is certain
    RENTED    `instance_id` is ours
    """

    NONE = "none"
    UNKNOWN = "unknown"
    RENTED = "rented"


@dataclass(frozen=True, slots=True)
class End:
    """The pod's own end, decided once: `terminated` of the container, and what the pod's status says beside it.

    `process_ended` is whether the process is known to have ended by itself; if not, the end is told only once the
    instance is gone, since a terminal phase promises that nothing runs any more.
    """

    terminated: pods.Terminated
    reason: str = ""
    message: str = ""
    disrupted_why: str = ""
    process_ended: bool = False


@dataclass(slots=True)
class Record:
    """Mutable, one per pod uid, touched by that key's one worker only.

    `asked_s` is the latest moment at which a rent call of the present attempt may have been under way. In ssh access
    `told` is the newest word of the present instance's runner, `unfollowed_why` why there is none, and `stop_by_s` the
    end of the grace that its containers were given.
    """

    uid: str
    key: tuple[str, str]
    acknowledged_s: float
    attempt: int = 0
    attempted_s: float = 0.0
    asked_s: float = 0.0
    renting: Renting = Renting.NONE
    instance_id: str | None = None
    cloud: str = ""
    offer_id: str = ""
    machine_id: str = ""
    gpu: str = ""
    region: str = ""
    usd_per_hour: float = 0.0
    image: str = ""
    wanted_image: str = ""
    rented_s: float = 0.0
    running_s: float | None = None
    unreachable_s: float | None = None
    avoid: set[str] = field(default_factory=set)
    spent_usd: float = 0.0
    restart_count: int = 0
    last: pods.Terminated | None = None
    end: End | None = None
    ending_why: str = ""
    waiting: pods.Waiting = field(default_factory=lambda: pods.Waiting("ContainerCreating"))
    not_before_s: float = 0.0
    failures: int = 0
    exit_reads: int = 0
    probe: probing.Verdict | None = None
    resumed_probe: probing.Verdict | None = None
    has_run: bool = False
    access: str = PLAIN
    told: documents.State | None = None
    host_key: str = ""
    image_id: str = ""
    unfollowed_why: str = ""
    ssh_failures: int = 0
    told_number: int = 0
    earlier: dict[str, ssh_status.Earlier] = field(default_factory=dict)
    """By container, in ssh access: what it did on machines that are gone."""
    is_resumed: bool = False
    """What stands in the pod's status is of the present machine, whose runner has not been heard yet."""
    stop_by_s: float | None = None
    refused_generation: int = 0
    stale: bool = False
    told_support: bool = False
    told_access: str = ""
    told_wait: str = ""

    def new_attempt(
        self, offer: offers.Offer, usd_per_hour: float, image: str, now_s: float, access: str = PLAIN
    ) -> None:
        """The mark of this attempt is unique from here on; written to the pod before anything is bought."""
        self.attempt += 1
        self.attempted_s = self.asked_s = now_s
        self.renting = Renting.UNKNOWN
        self.instance_id = None
        self.take(offer, usd_per_hour)
        self.image = image
        self.running_s = self.unreachable_s = None
        self.exit_reads = 0
        self.probe = self.resumed_probe = None
        self.access = access
        self.host_key = self.image_id = ""
        self.told = self.stop_by_s = None
        self.told_number = 0
        self.is_resumed = False

    def hear(self, told: documents.State) -> None:
        """The newest word of the runner of the present instance."""
        if self.is_resumed:
            # Those that its runner tells are not earlier ones.
            present = {each.name: each.restarts for each in (*told.init, *told.containers)}
            self.earlier = {
                name: dataclasses.replace(each, restarts=max(0, each.restarts - present.get(name, 0)))
                for name, each in self.earlier.items()
            }
            self.is_resumed = False
        self.told = told
        self.unfollowed_why = ""

    @property
    def has_begun(self) -> bool:
        """Whether the runner has told of any process of the pod on the present machine."""
        every = () if self.told is None else (*self.told.containers, *self.told.init)
        return any(each.running is not None or each.terminated is not None or each.last is not None for each in every)

    @property
    def is_followed(self) -> bool:
        """Whether a runner tells how the pod's containers are."""
        return self.access == SSH and self.told is not None

    @property
    def container_id(self) -> str:
        """Of the present instance; empty when there is none."""
        return f"{self.cloud}://{self.instance_id}" if self.instance_id else ""

    @property
    def is_counted(self) -> bool:
        """The end of the present instance's container stands in the status already, as its last state."""
        return self.last is not None and bool(self.container_id) and self.last.container_id == self.container_id

    def take(self, offer: offers.Offer, usd_per_hour: float) -> None:
        """The offer of the present attempt, first or next."""
        self.cloud = offer.cloud
        self.offer_id = offer.id
        self.machine_id = offer.machine_id or ""
        self.gpu = f"{offer.gpu_count}x {offer.gpu_name}"
        self.region = offer.region or ""
        self.usd_per_hour = usd_per_hour

    def rented(self, instance_id: str, now_s: float) -> None:
        self.renting = Renting.RENTED
        self.instance_id = instance_id
        self.rented_s = self.rented_s or now_s

    def disclaim(self, now_s: float) -> None:
        """What it was said to have is not its own; what its mark bought is to be looked up."""
        self.renting = Renting.UNKNOWN
        self.instance_id = None
        self.rented_s = 0.0
        self.asked_s = now_s
        self.ending_why = ""

    def nothing_rented(self, now_s: float) -> None:
        """Proven: this attempt has no instance (any more)."""
        if self.rented_s:
            self.spent_usd += self.usd_per_hour * max(0.0, now_s - self.rented_s) / 3600
        self.renting = Renting.NONE
        self.instance_id = None
        self.rented_s = 0.0
        self.ending_why = ""
        self.running_s = self.unreachable_s = self.stop_by_s = None
        self.probe = None
        if self.end is None:
            self.told = None

    def annotations(self) -> dict[str, str | None]:
        """The part that outlives this process; None takes an annotation away."""
        rented = self.instance_id is not None
        return {
            notes.ATTEMPT: str(self.attempt) if self.attempt else None,
            # There as long as the attempt may have bought something: what is settled needs no looking up.
            notes.ATTEMPTED_AT: statuses.stamp(self.attempted_s) if self.renting is not Renting.NONE else None,
            notes.CLOUD: self.cloud or None,
            notes.OFFER: self.offer_id or None,
            notes.MACHINE: self.machine_id or None,
            notes.GPU: self.gpu or None,
            notes.REGION: self.region or None,
            notes.PRICE: f"{self.usd_per_hour:.4f}" if self.cloud else None,
            notes.INSTANCE: f"{self.cloud}/{self.instance_id}" if rented else None,
            notes.IMAGE: self.image or None,
            notes.AVOID: ",".join(sorted(self.avoid)) or None,
            notes.ACCESS_USED: self.access if rented or self.renting is Renting.UNKNOWN else None,
            notes.HOST_KEY: self.host_key or None if rented else None,
            notes.SPENT: f"{self.spent_usd:.6f}" if self.spent_usd else None,
        }


def from_pod(pod: pods.Pod, now_s: float) -> Record:
    """The record of a pod that this process sees for the first time. An attempt without an instance is UNKNOWN."""
    known: Mapping[str, str] = pod.metadata.annotations or {}
    record = Record(pod.metadata.uid, pod.key, statuses.unix_s(pod.status.start_time) or now_s)
    created = pod.metadata.creation_timestamp
    created_s = now_s if created is None else min(created.timestamp(), now_s)
    record.attempt = _count(known.get(notes.ATTEMPT))
    record.attempted_s = min(max(statuses.unix_s(known.get(notes.ATTEMPTED_AT)) or now_s, created_s), now_s)
    record.cloud = known.get(notes.CLOUD, "")
    record.offer_id = known.get(notes.OFFER, "")
    record.machine_id = known.get(notes.MACHINE, "")
    record.gpu = known.get(notes.GPU, "")
    record.region = known.get(notes.REGION, "")
    record.image = known.get(notes.IMAGE, "")
    record.usd_per_hour = usd(known.get(notes.PRICE), DEAREST_USD_PER_HOUR)
    record.spent_usd = usd(known.get(notes.SPENT), DEAREST_USD_PER_HOUR * (now_s - created_s) / 3600)
    record.access = SSH if known.get(notes.ACCESS_USED) == SSH else PLAIN
    record.host_key = known.get(notes.HOST_KEY, "")
    record.avoid = {each for each in known.get(notes.AVOID, "").split(",") if each}
    record.asked_s = now_s  # an earlier process may have been asking until its very end
    cloud, _, instance_id = known.get(notes.INSTANCE, "").partition("/")
    if instance_id:
        record.cloud = cloud
        record.instance_id = instance_id
        record.renting = Renting.RENTED
        record.rented_s = record.attempted_s
    elif record.attempt and (notes.ATTEMPTED_AT in known or notes.INSTANCE in known):
        record.renting = Renting.UNKNOWN
    _from_status(record, pod, now_s)
    return record


def _from_status(record: Record, pod: pods.Pod, now_s: float) -> None:
    for told in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        record.earlier[told.name] = ssh_status.Earlier(told.restart_count, told.last_state.terminated)
        record.has_run |= record.access == SSH and told.last_state.terminated is not None
    record.is_resumed = record.renting is Renting.RENTED
    for each in pod.status.container_statuses[:1]:
        record.restart_count = each.restart_count
        record.last = each.last_state.terminated
        if record.is_counted:
            record.ending_why = "its container has ended"
        if each.state.waiting is not None:
            record.waiting = each.state.waiting
            record.not_before_s = restarting.not_before_s(each, now_s)
        if each.state.running is not None:
            record.running_s = statuses.unix_s(each.state.running.started_at)
            record.has_run = True
            # A ready pod stays ready over a restart of the node until a probe says otherwise.
            record.resumed_probe = probing.Verdict(started=bool(each.started), ready=each.ready)
        if each.state.terminated is not None and pod.status.phase in statuses.TERMINAL:
            record.end = End(each.state.terminated, pod.status.reason, pod.status.message, process_ended=True)
    if pod.status.phase in statuses.TERMINAL and record.end is None:
        unknown = pods.Terminated(137, "ContainerStatusUnknown")
        record.end = End(unknown, pod.status.reason, pod.status.message, process_ended=True)


def _count(text: str | None) -> int:
    """Annotations can be edited by anybody: what is no such number counts as 0, and the clouds' marks tell the rest."""
    return int(text) if text and re.fullmatch("[0-9]{1,9}", text) else 0


def usd(text: str | None, most: float) -> float:
    """Dollars out of an annotation, likewise; a price that is not finite would void every cap."""
    try:
        number = float(text or 0)
    except ValueError:
        return 0.0
    return number if 0 <= number <= most else 0.0
