"""The workflow as a decision: which instance stays, which end and why, whether one is to be made. Pure.

An instance is ours when it carries the pod's label and no mark of another cluster. Nothing is made while one of ours is
left, so that a pod never pays for two for longer than it takes to see them.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from bareboat.core import instances, labels
from bareboat.core.instances import Fault, State
from bareboat.proxy import about as abouts

MARK_TAG = "BAREBOAT_MARK"
IMAGE_TAG = "BAREBOAT_IMAGE"
_PRICE_SLACK = 1.02
_RANK = {State.RUNNING: 0, State.STARTING: 1, State.PULLING: 2, State.PROVISIONING: 3}
_HOPELESS = (Fault.IMAGE_NOT_FOUND, Fault.IMAGE_UNAUTHORIZED)
_ENDED = {
    State.EXITED: "its process has ended",
    State.STOPPED: "it is stopped",
}

Upstream = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Wanted:
    """`port` is the number inside the instance. `ban_after_s` is None when no host is to be banned for being slow."""

    image: str
    template_hash: str
    port: int
    cluster_id: str = abouts.UNNAMED_CLUSTER
    cap_usd_per_hour: float | None = None
    ban_after_s: float | None = None
    unreachable_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside the reads, by instance id: since when it is not up, since when it is silent. `banned_hosts`
    maps a host's id to the reason; `condemned` are instances whose host was banned because of them."""

    now_s: float
    waiting_since_s: Mapping[str, float] = field(default_factory=dict)
    silent_since_s: Mapping[str, float] = field(default_factory=dict)
    banned_hosts: Mapping[str, str] = field(default_factory=dict)
    condemned: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with one instance; no `why` when nothing is. `bad_host`: it is the machine's fault. `hopeless`: no
    machine will do better."""

    why: str = ""
    bad_host: bool = False
    hopeless: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """An instance to be destroyed."""

    instance: instances.Instance
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Decision:
    """`keep` is the one that serves or will; `create` holds only when none of ours is left."""

    keep: instances.Instance | None = None
    ends: tuple[End, ...] = ()
    foreign: tuple[instances.Instance, ...] = ()

    @property
    def ours(self) -> tuple[instances.Instance, ...]:
        ended = tuple(end.instance for end in self.ends)
        return ended if self.keep is None else (self.keep, *ended)

    @property
    def create(self) -> bool:
        return self.keep is None and not self.ends


def decide(found: Sequence[instances.Instance], wanted: Wanted, known: Known) -> Decision:
    """`found` carry the pod's label, and are complete."""
    foreign = tuple(each for each in found if not is_ours(each, wanted.cluster_id))
    ours = sorted((each for each in found if each not in foreign), key=lambda each: _order(each, wanted.port))
    verdicts = [(each, verdict(each, wanted, known)) for each in ours]
    keep = next((each for each, told in verdicts if not told.why), None)
    ends = []
    for each, told in verdicts:
        if each is keep:
            continue
        why = told if told.why or keep is None else Verdict(f"a stray: instance {keep.id} has the same label")
        ends.append(End(each, why))
    return Decision(keep, tuple(ends), foreign)


def verdict(instance: instances.Instance, wanted: Wanted, known: Known) -> Verdict:
    """Whether it may stay."""
    return _outdated(instance, wanted) or _of_host(instance, wanted, known) or _of_state(instance, wanted, known)


def upstream(instance: instances.Instance | None, port: int) -> Upstream | None:
    """Where the instance's port answers from outside; None until it runs and the cloud tells."""
    if instance is None or instance.state is not State.RUNNING or not instance.address:
        return None
    public = instance.ports.get((port, "TCP"))
    if public is None:
        # Ports from 70000 up are told under the number that they got; an only port can't be another.
        others = {number for (inside, kind), number in instance.ports.items() if kind == "TCP" and inside != 22}
        public = others.pop() if len(others) == 1 and port >= 65536 else None
    return None if public is None else (instance.address, public)


def same_image(one: str, other: str) -> bool:
    """Whether two names mean the same image: Docker Hub's default names and `latest` may be left out."""
    if "@vastai-automatic-tag" in one + other:  # Vast puts a tag in its place
        return _repository(one) == _repository(other)
    return _canonical(one) == _canonical(other)


def _outdated(instance: instances.Instance, wanted: Wanted) -> Verdict | None:
    image = instance.tags.get(IMAGE_TAG) or instance.image
    if image is not None and not same_image(image, wanted.image):
        return Verdict(f"its image is {image}, wanted is {wanted.image}")
    if instance.template != wanted.template_hash:
        return Verdict("its template has been edited" if instance.template else "it was made without the template")
    return None


def _of_host(instance: instances.Instance, wanted: Wanted, known: Known) -> Verdict | None:
    if instance.id in known.condemned:
        return Verdict("its host was banned because of it")
    if instance.host_id is not None and instance.host_id in known.banned_hosts:
        return Verdict(f"its host {instance.host_id} is banned: {known.banned_hosts[instance.host_id]}")
    cap, price = wanted.cap_usd_per_hour, instance.usd_per_hour
    if cap is not None and price is not None and price > cap * _PRICE_SLACK:
        return Verdict(f"it costs {price:.3f} $/h, over the cap of {cap:.3f} $/h", bad_host=True)
    return None


def _of_state(instance: instances.Instance, wanted: Wanted, known: Known) -> Verdict:
    told = f": {instance.message}" if instance.message else ""
    if instance.state in _ENDED:
        return Verdict(_ENDED[instance.state] + told)
    if instance.fault in _HOPELESS:
        return Verdict(f"its image can't be pulled{told}", hopeless=True)
    if instance.fault is Fault.CREATE_FAILED:
        return Verdict(f"its container can't be created{told}", bad_host=True)
    silent_s = known.now_s - known.silent_since_s.get(instance.id, known.now_s)
    if instance.state is State.UNREACHABLE and silent_s >= wanted.unreachable_s:
        return Verdict(f"its host is offline for {silent_s:.0f} s")
    waited_s = known.now_s - known.waiting_since_s.get(instance.id, known.now_s)
    if wanted.ban_after_s is not None and waited_s >= wanted.ban_after_s and upstream(instance, wanted.port) is None:
        return Verdict(f"it is not up after {waited_s:.0f} s{told}", bad_host=True)
    return Verdict()


def is_ours(instance: instances.Instance, cluster_id: str) -> bool:
    """One made by hand, by other programs or before a cluster id was set carries none: the label alone counts."""
    mark = labels.Mark.parse(instance.tags.get(MARK_TAG))
    ids = (mark.cluster_id if mark else abouts.UNNAMED_CLUSTER, cluster_id)
    return abouts.UNNAMED_CLUSTER in ids or ids[0] == ids[1]


def _order(instance: instances.Instance, port: int) -> tuple[bool, int, int, str]:
    """The one that serves first, then the one that is nearest to it, then the oldest."""
    up = upstream(instance, port) is not None
    return (not up, _RANK.get(instance.state, 9), len(instance.id), instance.id)


def _canonical(image: str) -> str:
    name = re.sub(r"^(index\.docker\.io|registry-1\.docker\.io|docker\.io)/", "", image.strip())
    name = name.removeprefix("library/")
    last = name.rsplit("/", 1)[-1]
    return name if ":" in last or "@" in last else f"{name}:latest"


def _repository(image: str) -> str:
    name = _canonical(image).partition("@")[0]
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(":")[0]
