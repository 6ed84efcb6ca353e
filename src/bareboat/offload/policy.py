"""Which Jobs leave, and when: `plan(waiting, rules, room, now) → verdicts`. Pure; tested with tables.

A Job leaves when one of three rules holds and nothing that money or room forbids is in the way. What stays says why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from bareboat.offload import jobs, selectors, wishes


class Rule(Enum):
    """Why a Job leaves."""

    FORCE = "force"
    TIME = "time"
    THRESHOLD = "threshold"


class Order(Enum):
    """Who leaves first where not all can."""

    OLDEST = "oldest"
    NEWEST = "newest"
    FEWEST_GPUS = "fewest-gpus"


@dataclass(frozen=True, slots=True)
class Rules:
    """`namespaces` empty: all. `most_pods`: out at one time in all, and of each namespace. Budgets are $/h by namespace
    for all that is out; `*` names every namespace that has none of its own."""

    max_pending_s: float = 0.0
    pending_job_threshold: int = 1
    max_usd_per_hour: float = 0.5
    order: Order = Order.OLDEST
    clouds: tuple[str, ...] = ()
    selector: selectors.Selector = field(default_factory=selectors.Selector)
    namespaces: frozenset[str] = frozenset()
    most_pods: int | None = None
    most_pods_per_namespace: int | None = None
    usd_per_hour_by_namespace: Mapping[str, float] = field(default_factory=dict)

    def price(self, wish: wishes.Wish) -> float:
        """The most that one pod of the Job may cost."""
        return min(self.max_usd_per_hour, wish.most_usd_per_hour or self.max_usd_per_hour)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A Job that may leave, with its pods that wait for a place, the longest waiting first."""

    job: jobs.Job
    wish: wishes.Wish
    pods: tuple[jobs.Pod, ...]
    since_s: float


@dataclass(slots=True)
class Room:
    """What is left on the virtual node. `trouble`: why nothing may be sent there at all. By namespace: pods that are
    out, and what they cost an hour at the most."""

    pods: int
    gpus: int
    most_gpus: int
    trouble: str | None = None
    out: int = 0
    out_by_namespace: dict[str, int] = field(default_factory=dict)
    usd_by_namespace: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Leave:
    """These pods of the Job are bound now. `why` is a sentence without a full stop."""

    job: jobs.Job
    wish: wishes.Wish
    rule: Rule
    why: str
    pods: tuple[jobs.Pod, ...]


@dataclass(frozen=True, slots=True)
class Stay:
    """`due_s` (unix seconds): when the Job is to be looked at again by itself; None: when something changes."""

    job: jobs.Job
    why: str
    due_s: float | None = None


Verdict = Leave | Stay


def why_kept(job: jobs.Job, rules: Rules) -> str:
    """Why a managed Job is no candidate at all, whatever waits; empty when it is one."""
    if job.metadata.deletion_timestamp is not None:
        return "it is being deleted"
    if job.spec.suspend:
        return "it is suspended"
    if job.is_finished:
        return "it is finished"
    if rules.namespaces and job.metadata.namespace not in rules.namespaces:
        return f"namespace {job.metadata.namespace} is none of those whose Jobs may leave"
    if not rules.selector.fits(job.metadata.labels):
        return f"its labels don't fit the selector {rules.selector.text!r} of what may leave"
    return ""


def plan(waiting: Sequence[Waiting], rules: Rules, room: Room, now_s: float) -> list[Verdict]:
    """A verdict for each. `room` is used up by what leaves."""
    ordered = sorted(waiting, key=lambda each: _place(each, rules.order))
    chosen: list[tuple[Waiting, Rule, str]] = []
    rest: list[Waiting] = []
    for each in ordered:
        called = _called(each, rules, now_s)
        if called is None:
            rest.append(each)
        else:
            chosen.append((each, *called))
    chosen.sort(key=lambda item: item[1] is not Rule.FORCE)
    verdicts = [_let_go(each, rule, why, rules, room) for each, rule, why in chosen]
    left = len(rest) + sum(isinstance(verdict, Stay) for verdict in verdicts)
    for each in rest:
        if left > rules.pending_job_threshold:
            why = f"{left} Jobs are pending, more than {rules.pending_job_threshold}"
            verdict = _let_go(each, Rule.THRESHOLD, why, rules, room)
            left -= isinstance(verdict, Leave)
        else:
            verdict = _waits(each, rules, left)
        verdicts.append(verdict)
    return verdicts


def _place(each: Waiting, order: Order) -> tuple[float, float, tuple[str, str]]:
    match order:
        case Order.OLDEST:
            return each.since_s, 0.0, each.job.key
        case Order.NEWEST:
            return -each.since_s, 0.0, each.job.key
        case Order.FEWEST_GPUS:
            return each.wish.gpus, each.since_s, each.job.key


def _called(each: Waiting, rules: Rules, now_s: float) -> tuple[Rule, str] | None:
    """The rule that holds for the Job whatever others do."""
    if each.wish.forced_by:
        return Rule.FORCE, f'annotation {each.wish.forced_by} is "true"'
    pending_s = max(0.0, now_s - each.since_s)
    if pending_s >= rules.max_pending_s:
        return Rule.TIME, f"pending for {pending_s:.0f} s, at most {rules.max_pending_s:g} s are allowed"
    return None


def _waits(each: Waiting, rules: Rules, pending: int) -> Stay:
    due_s = each.since_s + rules.max_pending_s
    jobs_text = "Job is" if pending == 1 else "Jobs are"
    why = (
        f"it may be pending for {rules.max_pending_s:g} s, and {pending} {jobs_text} pending, not more than "
        f"{rules.pending_job_threshold}"
    )
    return Stay(each.job, why, due_s)


def _let_go(each: Waiting, rule: Rule, why: str, rules: Rules, room: Room) -> Verdict:
    if room.trouble is not None:
        return Stay(each.job, f"nothing can leave now: {room.trouble}")
    if each.wish.gpus > room.most_gpus:
        return Stay(each.job, f"a pod asks for {each.wish.gpus} GPUs; the virtual node has {room.most_gpus} in all")
    taken: list[jobs.Pod] = []
    against = ""
    for pod in each.pods:
        against = _against(each, rules, room)
        if against:
            break
        _take(each, rules, room)
        taken.append(pod)
    if not taken:
        return Stay(each.job, against)
    return Leave(each.job, each.wish, rule, why, tuple(taken))


def _against(each: Waiting, rules: Rules, room: Room) -> str:
    """Why not one more pod of the Job may leave; empty when it may."""
    namespace = each.job.metadata.namespace
    if room.pods < 1 or room.gpus < each.wish.gpus:
        return f"the virtual node has room for {max(0, room.pods)} pods and {max(0, room.gpus)} GPUs"
    if rules.most_pods is not None and room.out >= rules.most_pods:
        return f"{room.out} pods are out, and no more than {rules.most_pods} may be"
    out = room.out_by_namespace.get(namespace, 0)
    if rules.most_pods_per_namespace is not None and out >= rules.most_pods_per_namespace:
        return f"{out} pods of namespace {namespace} are out, and no more than {rules.most_pods_per_namespace} may be"
    budget = rules.usd_per_hour_by_namespace.get(namespace, rules.usd_per_hour_by_namespace.get("*"))
    used, price = room.usd_by_namespace.get(namespace, 0.0), rules.price(each.wish)
    if budget is not None and used + price > budget + 1e-9:
        return (
            f"namespace {namespace} has a budget of {budget:g} $/h; {used:.3f} $/h are out, and one more pod may cost "
            f"{price:g} $/h"
        )
    return ""


def _take(each: Waiting, rules: Rules, room: Room) -> None:
    namespace = each.job.metadata.namespace
    room.pods -= 1
    room.gpus -= each.wish.gpus
    room.out += 1
    room.out_by_namespace[namespace] = room.out_by_namespace.get(namespace, 0) + 1
    room.usd_by_namespace[namespace] = room.usd_by_namespace.get(namespace, 0.0) + rules.price(each.wish)
