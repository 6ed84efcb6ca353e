"""The loop of the policy: what informers show goes into one plan at a time, and what the plan lets go is bound.

Level-triggered: an event only says *look again*. A pass looks at everything that waits, so that thresholds, order and
budgets hold over all Jobs; the shortest pause between two passes bounds what a burst costs.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from bareboat.kube import client as clients
from bareboat.kube import errors, events, informer, resources
from bareboat.offload import binder as binders
from bareboat.offload import jobs, ledger, policy, results, telling, wishes
from bareboat.plumbing import clock as clocks
from bareboat.workload import annotations as notes

log = structlog.get_logger()

BREATH_S = 0.05
BINDINGS_AT_ONCE = 16
TAKEN_REST_S = 2.0
TROUBLE_REST_S = 5.0
TROUBLE_LOOK_S = 1.0
NO_OFFER_REST_S = 10.0
TOLD_AGAIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Read:
    """What a Job's annotations say, or why they make no sense; `wish` None and no `why`: it is not managed."""

    version: str
    wish: wishes.Wish | None = None
    why: str = ""


class Offload:
    """One policy for one virtual node. `trouble_of_clouds()` is asked before each plan: why none can be rented from."""

    def __init__(
        self,
        client: clients.Client,
        recorder: events.Recorder,
        clock: clocks.Clock,
        rules: policy.Rules,
        *,
        node_name: str,
        binder: binders.Binder,
        reconcile_s: float = 30.0,
    ) -> None:
        self.rules = rules
        self._by_uid: dict[str, jobs.Job] = {}
        self.jobs = informer.Informer(client, resources.JOBS, jobs.Job, clock=clock)
        self.waiting = informer.Informer(
            client, resources.PODS, jobs.LeanPod, field_selector="spec.nodeName=,status.phase=Pending", clock=clock
        )
        self.placed = informer.Informer(
            client, resources.PODS, jobs.Pod, field_selector=f"spec.nodeName={node_name}", clock=clock
        )
        self.nodes = informer.Informer(
            client, resources.NODES, jobs.Node, field_selector=f"metadata.name={node_name}", clock=clock
        )
        self.ledger = ledger.Ledger(clock, rules.max_usd_per_hour)
        self.results = results.Results(client, recorder, clock, self.placed, self._by_uid.get)
        self.passed_s: float | None = None
        self.bound = self.taken = 0
        self.trouble_of_clouds: Callable[[], str | None] = lambda: None
        self._recorder = recorder
        self._clock = clock
        self._node_name = node_name
        self._binder = binder
        self._reconcile_s = reconcile_s
        self._pods_by_job: dict[str, dict[str, jobs.Pod]] = {}
        self._reads: dict[str, Read] = {}
        self._unfit: dict[str, tuple[str, str]] = {}
        self._resting: dict[str, float] = {}
        self._told: dict[str, str] = {}
        self._told_no_offer_s: dict[str, float] = {}
        self._due = asyncio.Event()
        self.jobs.add_handler(self._job)
        self.waiting.add_handler(self._waiting_pod)
        self.placed.add_handler(self._placed_pod)
        self.nodes.add_handler(self._node)

    @property
    def informers(self) -> Mapping[str, informer.Informer[Any]]:
        """To be run beside `run`, by name."""
        return {"jobs": self.jobs, "waiting-pods": self.waiting, "placed-pods": self.placed, "node": self.nodes}

    def waits_for(self) -> str | None:
        """What has to be read before the first look; a standby reads nothing yet."""
        missing = [name for name, each in self.informers.items() if not each.synced.is_set()]
        return f"waits for the first list of {', '.join(missing)}, or for its turn to lead" if missing else None

    def trouble(self) -> str | None:
        """Why nothing can leave now, of the clouds or of the Node."""
        return self.trouble_of_clouds() or self.ledger.trouble()

    async def run(self) -> None:
        """Plans and binds until cancelled."""
        for each in self.informers.values():
            await each.synced.wait()
        while True:
            self._due.clear()
            after_s = await self.look()
            self.passed_s = self._clock.monotonic_s()
            if self.trouble() is not None:
                after_s = min(after_s, TROUBLE_LOOK_S)  # its end is nobody's event
            await self._clock.sleep(BREATH_S)
            await clocks.within(self._clock, self._due, max(0.0, min(self._reconcile_s, after_s) - BREATH_S))

    async def look(self) -> float:
        """One pass. Returns the seconds after which a rule may hold that does not now, if nothing changes."""
        now_s = self._clock.now_s()
        verdicts = self.plan()
        leaving = [each for each in verdicts if isinstance(each, policy.Leave)]
        if leaving:
            await self._let_go(leaving)
        dues = [each.due_s - now_s for each in verdicts if isinstance(each, policy.Stay) and each.due_s is not None]
        rests = [until_s - self._clock.monotonic_s() for until_s in self._resting.values()]
        return max(0.0, min([*dues, *rests], default=self._reconcile_s))

    def plan(self) -> list[policy.Verdict]:
        """What is to be done now; does nothing."""
        self._end_rests()
        room = self.ledger.room(self.trouble_of_clouds())
        return policy.plan(self._candidates(), self.rules, room, self._clock.now_s())

    def explained(self) -> list[tuple[jobs.Job, str, str]]:
        """(Job, what becomes of it, why) of each managed Job: what the next pass would do."""
        verdicts = {each.job.metadata.uid: each for each in self.plan()}
        told = []
        for uid, job in self._by_uid.items():
            read = self._read(job)
            verdict = verdicts.get(uid)
            if isinstance(verdict, policy.Leave):
                told.append((job, f"leaves ({verdict.rule.value}, {len(verdict.pods)} pods)", verdict.why))
            elif verdict is not None:
                told.append((job, "stays", verdict.why))
            elif read.why:
                told.append((job, "refused", read.why))
            elif read.wish is not None:
                told.append((job, "stays", policy.why_kept(job, self.rules) or "no pod of it waits for a place"))
        return sorted(told, key=lambda each: each[0].key)

    def _candidates(self) -> list[policy.Waiting]:
        found = []
        for uid, several in self._pods_by_job.items():
            job = self._by_uid.get(uid)
            if job is None:
                continue
            read = self._read(job)
            if read.wish is None or policy.why_kept(job, self.rules) or self._is_unfit(job):
                continue
            ready = sorted(
                (
                    (since.timestamp(), pod.metadata.name, pod)
                    for pod in several.values()
                    if (since := self._since(pod))
                ),
                key=lambda each: each[:2],
            )
            if ready:
                found.append(policy.Waiting(job, read.wish, tuple(each[2] for each in ready), ready[0][0]))
        return found

    def _since(self, pod: jobs.Pod) -> datetime | None:
        if pod.metadata.uid in self.ledger or pod.metadata.uid in self._resting:
            return None
        return pod.waits_since()

    def _read(self, job: jobs.Job) -> Read:
        """Of this version of the Job; nonsense is told once for each of its wordings."""
        uid, version = job.metadata.uid, job.metadata.resource_version
        known = self._reads.get(uid)
        if known is not None and known.version == version:
            return known
        try:
            read = Read(version, wishes.read(job))
            self._told.pop(uid, None)
        except notes.Invalid as nonsense:
            read = Read(version, why=str(nonsense))
            self._tell_kept(job, "InvalidOffload", read.why)
        self._reads[uid] = read
        return read

    def _tell_kept(self, job: jobs.Job, reason: str, why: str) -> None:
        if self._told.get(job.metadata.uid) == why:
            return
        self._told[job.metadata.uid] = why
        log.info("job.kept", job="/".join(job.key), reason=reason, why=why)
        self._recorder.warning(telling.about(job), reason, telling.kept(why))

    def _tell_no_offer(self, job: jobs.Job, why: str) -> None:
        """Seldom: figures change from one look to the next, and what they mean does not."""
        now_s, told_s = self._clock.monotonic_s(), self._told_no_offer_s.get(job.metadata.uid)
        if told_s is not None and now_s - told_s < TOLD_AGAIN_S:
            return
        self._told_no_offer_s[job.metadata.uid] = now_s
        log.info("job.no_offer", job="/".join(job.key), why=why)
        self._recorder.warning(telling.about(job), "NoOffers", telling.no_offer(why))

    def _is_unfit(self, job: jobs.Job) -> bool:
        """Found so at a binding, of the same annotations (a Job's pod template does not change)."""
        known = self._unfit.get(job.metadata.uid)
        return known is not None and known[0] == _annotations_of(job)

    async def _let_go(self, leaving: list[policy.Leave]) -> None:
        several = [(each, pod) for each in leaving for pod in each.pods]
        for each, pod in several:
            self.ledger.reserve(pod, each.wish.gpus, self.rules.price(each.wish))
        turn = asyncio.Semaphore(BINDINGS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for each, pod in several:
                group.create_task(self._bind(each, pod, turn), name=f"offload.bind-{pod.metadata.name}")

    async def _bind(self, leave: policy.Leave, pod: jobs.Pod, turn: asyncio.Semaphore) -> None:
        uid = pod.metadata.uid
        async with turn:
            try:
                outcome = await self._binder.bind(pod, leave, self.rules)
            except errors.KubeError as failure:
                # It may have been bound all the same: its room stays taken until the node's pods have had time to
                # show it, and a second try would be refused.
                log.warning("offload.unbound", pod="/".join(pod.key), why=str(failure))
                self._rest(uid, TROUBLE_REST_S)
                return
        match outcome:
            case binders.Bound():
                self.bound += 1
                log.info("offload.bound", pod="/".join(pod.key), rule=leave.rule.value, why=leave.why)
                said = telling.offloaded(pod, leave, outcome, self._node_name)
                self._recorder.normal(telling.about(leave.job), "Offloaded", said)
            case binders.Taken():
                self.taken += 1
                log.info("offload.taken", pod="/".join(pod.key), why=outcome.why)
                self.ledger.give_back(uid)
                self._rest(uid, TAKEN_REST_S)
            case binders.NoOffer():
                self.ledger.give_back(uid)
                self._rest(uid, NO_OFFER_REST_S)
                self._tell_no_offer(leave.job, outcome.why)
            case binders.Unfit():
                self.ledger.give_back(uid)
                self._unfit[leave.job.metadata.uid] = (_annotations_of(leave.job), outcome.why)
                self._tell_kept(leave.job, "NotOffloadable", outcome.why)

    def _rest(self, pod_uid: str, seconds: float) -> None:
        """The pod is left alone until what was done to it has had the time to be seen."""
        self._resting[pod_uid] = self._clock.monotonic_s() + seconds

    def _end_rests(self) -> None:
        now_s = self._clock.monotonic_s()
        for uid in [uid for uid, until_s in self._resting.items() if until_s <= now_s]:
            del self._resting[uid]
            self.ledger.give_back(uid)

    def _job(self, _key: informer.Key, old: jobs.Job | None, new: jobs.Job | None) -> None:
        if new is None and old is not None:
            for several in (self._by_uid, self._reads, self._unfit, self._told, self._told_no_offer_s):
                several.pop(old.metadata.uid, None)
            self.results.forget(old.metadata.uid)
        if new is not None:
            self._by_uid[new.metadata.uid] = new
            self._read(new)
        self._due.set()

    def _waiting_pod(self, _key: informer.Key, old: jobs.Pod | None, new: jobs.Pod | None) -> None:
        pod = new or old
        job_uid = pod.job_uid if pod is not None else None
        if pod is None or job_uid is None:
            return
        if new is not None:
            self._pods_by_job.setdefault(job_uid, {})[pod.metadata.uid] = new
        else:
            several = self._pods_by_job.get(job_uid, {})
            several.pop(pod.metadata.uid, None)
            self._resting.pop(pod.metadata.uid, None)
            if not several:
                self._pods_by_job.pop(job_uid, None)
        self._due.set()

    def _placed_pod(self, _key: informer.Key, old: jobs.Pod | None, new: jobs.Pod | None) -> None:
        if new is not None:
            self.ledger.shown(new)
        elif old is not None:
            self.ledger.gone(old.metadata.uid)
        self._due.set()

    def _node(self, _key: informer.Key, _old: jobs.Node | None, new: jobs.Node | None) -> None:
        self.ledger.node = new
        self._due.set()


def _annotations_of(job: jobs.Job) -> str:
    """What of them a person writes: results that are written to the Job don't make it another one."""
    own = job.metadata.annotations or {}
    return repr(sorted((name, text) for name, text in own.items() if name in wishes.SPOKEN))
