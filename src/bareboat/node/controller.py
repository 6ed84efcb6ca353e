"""The reconcile of pods: one key, one worker, one step at a time, from the newest state that is known.

Watch events and cloud listings only enqueue uids. Each pass folds in what the cloud shows, asks `decide` for a step,
does it, and writes the pod's status if that changed.
"""

import asyncio

import structlog

from bareboat.core import errors, instances
from bareboat.fleet import accounts
from bareboat.kube import errors as kube_errors
from bareboat.kube import informer as informers
from bareboat.kube import resources, workqueue
from bareboat.node import (
    decide,
    endings,
    observing,
    parts,
    prober,
    records,
    renting,
    telling,
    views,
    writing,
)
from bareboat.workload import pod as pods
from bareboat.workload import probing
from bareboat.workload import status as statuses

log = structlog.get_logger()

STEPS_A_PASS = 8
BREATH_S = 0.1
"""After so many steps without a rest: no pod may keep a worker busy, whatever its cloud says."""
SETTLE_S = 1.0
UNPROVEN_S = 30.0


class Pods:
    """All pods of one virtual node. `run()` works until cancelled; `records` is for reading by others."""

    def __init__(self, use: parts.Parts, informer: informers.Informer[pods.Pod], *, workers: int = 64) -> None:
        self.records: dict[str, records.Record] = {}
        self.kept_logs = endings.KeptLogs()
        self._use = use
        self._informer = informer
        self._pods: dict[str, pods.Pod] = {}
        self._gone: set[tuple[str, str]] = set()
        self._ending: dict[tuple[str, str], str] = {}
        self._unpayable: set[str] = set()
        self._writer = writing.Writer(use)
        self._renting = renting.Renting(use, self._writer)
        self._endings = endings.Endings(use, self.kept_logs)
        self.queue: workqueue.WorkQueue[str] = workqueue.WorkQueue(
            "pods",
            self._pass,
            workers=workers,
            clock=use.clock,
            known=(kube_errors.KubeError, errors.CloudError),
            first_retry_s=0.5,
        )
        self._observing = observing.Observing(use, self._endings, self.changed)
        self._books_known = asyncio.Event()
        self._books_known.set()
        informer.add_handler(self._noticed)

    def hold_until(self, known: asyncio.Event) -> None:
        """No pod is worked on before `known` is set: what was spent earlier counts against the caps."""
        self._books_known = known

    async def run(self) -> None:
        await self._informer.synced.wait()
        await self._books_known.wait()
        if self._use.ssh is not None:
            # Else the pods of a node's first moment would run in plain access for good.
            await self._use.ssh.key.settled.wait()
        self._open_books()
        async with (
            asyncio.TaskGroup() as group,
            prober.Prober(group, self._probed, clock=self._use.clock) as probes,
        ):
            self._observing.prober = probes
            await self.queue.run()

    def changed(self, uid: str) -> None:
        """Something about this pod's instances changed."""
        if uid in self._pods or uid in self.records:
            self.queue.add(uid)

    def _probed(self, uid: str, _verdict: probing.Verdict) -> None:
        self.queue.add(uid)

    def ended(self, cloud: str, instance_id: str) -> None:
        """The instance is proven gone."""
        uid = self._ending.pop((cloud, instance_id), None)
        if uid is not None:
            self._gone.add((cloud, instance_id))
            self.queue.add(uid)

    def _open_books(self) -> None:
        """Before anything is rented, all that earlier processes rented counts against the caps."""
        now_s = self._use.clock.now_s()
        for uid, pod in self._pods.items():
            if uid not in self.records:
                self._count(records.from_pod(pod, now_s))

    def _count(self, record: records.Record) -> None:
        if record.renting is not records.Renting.NONE:
            since_s = record.attempted_s if record.instance_id else self._use.clock.now_s()
            # What its earlier attempts cost stands with what has ended (`spending`), not in its annotation.
            self._use.broker.ledger.restore(record.uid, record.key[0], record.usd_per_hour, since_s)

    def listed(self) -> None:
        """A complete listing is there: pods that waited for the first can go on; what can't be paid any more ends."""
        for uid in self._use.broker.ledger.overrun(self._use.clock.now_s(), ahead_s=SETTLE_S):
            self._unpayable.add(uid)
            self.queue.add(uid)
        for uid in self._pods:
            if uid not in self.records:
                self.queue.add(uid)

    def pod(self, uid: str) -> pods.Pod | None:
        """As last seen."""
        pod = self._pods.get(uid)
        return None if pod is None else self._writer.newest(pod)

    def by_name(self, namespace: str, name: str) -> pods.Pod | None:
        pod = self._informer.get(namespace, name)
        return None if pod is None else self.pod(pod.metadata.uid)

    @property
    def all(self) -> list[pods.Pod]:
        return list(self._pods.values())

    @property
    def writes(self) -> int:
        """Patches of pods sent so far."""
        return self._writer.writes

    def _noticed(self, key: informers.Key, old: pods.Pod | None, new: pods.Pod | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._pods.pop(old.metadata.uid, None)
            self.queue.add(old.metadata.uid)
        if new is not None:
            self._pods[new.metadata.uid] = new
            self.queue.add(new.metadata.uid)

    async def _pass(self, uid: str) -> float | None:
        for _ in range(STEPS_A_PASS):
            pod, record = self.pod(uid), self.records.get(uid)
            if pod is None:
                return await self._without_pod(uid, record)
            if record is None or record.stale:
                # Stale: somebody else wrote to the pod meanwhile, so what stands there counts.
                record = records.from_pod(pod, self._use.clock.now_s())
                if self._use.account(record.cloud) is None:
                    self._claim_by_mark(record)
                if not self._can_judge(record):
                    return await self._unjudged(pod, record)
                self._take_up(record)
            instance = self._fold_in(pod, record)
            action = decide.decide(pod, record, instance, self._use.clock.now_s(), self._use.policy)
            again, after_s = await self._step(action, pod, record, instance)
            if not again:
                if self._worth_telling(action, record):
                    await self._report(uid, record)
                return after_s
        return BREATH_S

    def _worth_telling(self, action: decide.Action, record: records.Record) -> bool:
        """Right after a rent the next listing mostly says more than «rented»: that write is spared."""
        if isinstance(action, decide.Rent) and record.renting is records.Renting.RENTED:
            return False
        return record.uid in self.records and not isinstance(action, decide.Remove)

    def _can_judge(self, record: records.Record) -> bool:
        """What an earlier process rented is judged only after a complete listing. A pod without any trace of an attempt
        may have lost it (annotations can be edited), so it waits for the clouds that answer."""
        if record.attempt or record.instance_id:
            account = self._use.account(record.cloud)
            return account is not None and account.watcher.complete.is_set()
        watchers = [account.watcher for account in self._use.accounts.values()]
        return all(each.complete.is_set() or each.trouble is not None for each in watchers)

    async def _unjudged(self, pod: pods.Pod, record: records.Record) -> float | None:
        if (record.attempt or record.instance_id) and self._use.account(record.cloud) is None:
            why = f"it rented from {record.cloud!r}, which is not configured; nothing is done until it is"
            self._use.recorder.warning(telling.about(pod), "CloudNotConfigured", why)
            return 60.0
        return SETTLE_S

    def _take_up(self, record: records.Record) -> None:
        """A pod that this process has not seen before. Annotations are hints: where marks say otherwise, they hold."""
        self.records[record.uid] = record
        self._claim_by_mark(record)
        self._count(record)
        if record.instance_id is not None:
            self._use.accounts[record.cloud].watcher.expect(record.instance_id)

    def _claim_by_mark(self, record: records.Record) -> None:
        """Sets the record to what the clouds show as this pod's, if they show anything."""
        mine = {each.id: each for each in self._instances_of(record) if self._is_ours(each, record)}
        tries = {key: int(each.mark.attempt) for key, each in mine.items() if each.mark and each.mark.attempt.isdigit()}
        if not tries:
            return
        newest = max(tries, key=lambda key: tries[key])
        unseen = record.instance_id not in tries and record.attempt > tries[newest]
        if record.cloud in self._use.accounts and (record.instance_id is None or unseen):
            # What this attempt bought may not be shown yet, while lists still show what an earlier one had.
            record.attempt = max(record.attempt, tries[newest])
            return
        named = record.instance_id if record.instance_id in tries else newest
        record.attempt = tries[named]
        if named != record.instance_id:
            self._renting.adopt(record, mine[named])
        record.cloud = mine[named].cloud

    def _instances_of(self, record: records.Record) -> list[instances.Instance]:
        return [each for account in self._use.accounts.values() for each in account.watcher.of(record.uid)]

    def _fold_in(self, pod: pods.Pod, record: records.Record) -> instances.Instance | None:
        """What the cloud shows, into the record; strays of earlier attempts are ended. The present instance."""
        current: instances.Instance | None = None
        self._observing.note_image(pod, record)
        for instance in self._instances_of(record):
            if not self._is_ours(instance, record):
                continue
            present = instance.mark == self._renting.mark(record)
            if present and record.renting is not records.Renting.RENTED:
                self._renting.adopt(record, instance)
            if present and instance.id == record.instance_id:
                current = instance
            elif self._use.accounts[instance.cloud].watcher.is_proven(instance.id):
                why = "a second instance of one attempt" if present else "another attempt for its pod"
                self._use.accounts[instance.cloud].reaper.end(instance.id, why)
        if record.instance_id and (record.cloud, record.instance_id) in self._gone:
            self._gone.discard((record.cloud, record.instance_id))
            self._observing.stopped_paying(record)
            return None
        if current is not None:
            self._observing.note(pod, record, current)
        if record.uid in self._unpayable:
            self._unpayable.discard(record.uid)
            if record.renting is records.Renting.RENTED and not record.ending_why and record.end is None:
                self._observing.take_away(pod, record, "OverBudget", "what may be spent in all is spent")
        return current

    async def _step(
        self, action: decide.Action, pod: pods.Pod, record: records.Record, instance: instances.Instance | None
    ) -> tuple[bool, float | None]:
        """Does one step: (look at the pod again at once, else seconds until the next look)."""
        match action:
            case decide.Rest():
                return False, action.seconds
            case decide.Rent():
                return await self._rent(pod, record)
            case decide.LookUp():
                return await self._look_up(pod, record)
            case decide.Confirm():
                return await self._confirm(record)
            case decide.EndInstance():
                return await self._end_instance(action, pod, record)
            case decide.ReadExit() if instance is not None:
                account = self._use.accounts[record.cloud]
                after_s = await self._endings.read_exit(pod, record, instance, account)
                return after_s is None, after_s
            case decide.ReadExit():
                return False, SETTLE_S
            case decide.Remove():
                return await self._remove(pod, record)
            case _:
                if isinstance(action, decide.StopContainers) and self._observing.following is not None:
                    self._observing.following.stop(record, action)
                self._endings.settle(action, pod, record)
                return True, None

    async def _end_instance(
        self, action: decide.EndInstance, pod: pods.Pod, record: records.Record
    ) -> tuple[bool, float | None]:
        """Once the instance is gone nobody can read again what its container said and how it ended."""
        if self._observing.following is not None:
            await self._observing.following.keep_output(pod, record, self.kept_logs)
        if record.end is not None or record.is_counted:
            await self._report(record.uid, record)
        return await self._end(record, action.why)

    async def _rent(self, pod: pods.Pod, record: records.Record) -> tuple[bool, float | None]:
        after_s = await self._renting.rent(pod, record)
        return False, SETTLE_S if record.renting is records.Renting.RENTED else after_s

    async def _look_up(self, pod: pods.Pod, record: records.Record) -> tuple[bool, float | None]:
        after_s = await self._renting.look_up(record, self._use.accounts[record.cloud])
        if record.renting is records.Renting.NONE and record.running_s is not None:
            now_s = self._use.clock.now_s()
            self._endings.settle(decide.lost(record, "no instance with its mark exists any more", now_s), pod, record)
            self._observing.stopped_paying(record)
        return not after_s, after_s

    async def _end(self, record: records.Record, why: str) -> tuple[bool, float | None]:
        """Only what its mark proves to be ours: annotations can be written by others, and labels too."""
        account = self._use.accounts[record.cloud]
        instance_id = record.instance_id or ""
        known = account.watcher.get(instance_id)
        if known is None or not (self._is_ours(known, record) and account.watcher.is_proven(instance_id)):
            instance = await account.cloud.instance(instance_id)
            if instance is None:
                hidden_s = record.asked_s + account.cloud.visibility_window_s - self._use.clock.now_s()
                if hidden_s > 0:
                    return False, min(renting.LOOK_AGAIN_S, hidden_s)
                account.watcher.gone(instance_id)
                self._gone.add((record.cloud, instance_id))
                return True, None
            if not self._is_ours(instance, record):
                return self._not_ours(instance, record, account)
            account.watcher.seen(instance)
        self._ending[(record.cloud, instance_id)] = record.uid
        account.reaper.end(instance_id, why)
        return False, None

    def _is_ours(self, instance: instances.Instance, record: records.Record) -> bool:
        mark = instance.mark
        return mark is not None and (mark.cluster_id, mark.owner_uid) == (self._use.cluster_id, record.uid)

    def _not_ours(
        self, instance: instances.Instance, record: records.Record, account: accounts.Account
    ) -> tuple[bool, float | None]:
        """A mark of somebody else's proves that the annotation lies: the pod's own mark tells what it has. An instance
        without a mark is told as the pod's; nothing is ended and nothing rented instead until a person decides."""
        mark = self._renting.mark(record)
        pod = self.pod(record.uid)
        if instance.mark is not None:
            record.disclaim(self._use.clock.now_s())
            if pod is not None:
                why = f"{instance.cloud}/{instance.id}, named by its annotation, belongs to another owner: left alone"
                self._use.recorder.warning(telling.about(pod), "NotItsInstance", why)
            return True, None
        account.watcher.follow(instance, mark)
        if pod is not None:
            why = (
                f"{instance.cloud}/{instance.id} carries the label {instance.label or ''!r} instead of {str(mark)!r}: "
                "it can't be proven to be this pod's and will not be ended; put the label back, or destroy it yourself"
            )
            self._use.recorder.warning(telling.about(pod), "MarkMissing", why)
        return False, UNPROVEN_S

    async def _confirm(self, record: records.Record) -> tuple[bool, float | None]:
        """No list shows the instance any more: an exact read decides."""
        account = self._use.accounts[record.cloud]
        instance_id = record.instance_id or ""
        instance = await account.cloud.instance(instance_id)
        if instance is not None and not self._is_ours(instance, record):
            return self._not_ours(instance, record, account)
        if instance is not None:
            account.watcher.seen(instance)
            return False, SETTLE_S
        pod = self.pod(record.uid)
        account.watcher.gone(instance_id)
        if pod is not None:
            action = decide.lost(
                record, f"{record.cloud}/{instance_id} does not exist any more", self._use.clock.now_s()
            )
            self._endings.settle(action, pod, record)
        self._observing.stopped_paying(record)
        return True, None

    async def _remove(self, pod: pods.Pod, record: records.Record) -> tuple[bool, float | None]:
        """Nothing is rented: the object may go. Whoever looks at its end (owner, finalizer) finds a terminal phase."""
        if any(self._is_ours(each, record) for each in self._instances_of(record)):
            return False, SETTLE_S  # of an earlier attempt, not yet proven gone
        if record.has_run and record.end is None:
            now_s = self._use.clock.now_s()
            killed = pods.Terminated(137, "Error", "The instance was destroyed because the pod was deleted")
            killed.finished_at = statuses.stamp(now_s)
            record.end = records.End(killed)
            if pod.metadata.owner_references or pod.metadata.finalizers:
                await self._writer.write(pod, record, None)
        namespace, name = pod.key
        try:
            await self._use.client.delete(resources.PODS.path(namespace, name), uid=pod.metadata.uid, grace_s=0)
        except (kube_errors.NotFound, kube_errors.OtherObject):
            return False, None
        return False, 30.0

    async def _without_pod(self, uid: str, record: records.Record | None) -> float | None:
        """The object is gone (deleted by force, or by us): what is still rented for it is ended."""
        if record is None:
            return None
        account = self._use.accounts.get(record.cloud)
        if account is not None and await self._still_rented(record, account):
            return SETTLE_S * 5
        self._use.broker.ledger.release(uid, self._use.clock.now_s())
        self.records.pop(uid, None)
        self._observing.forget(uid)
        self._writer.forget(uid)
        self.kept_logs.drop(uid)
        self.queue.forget(uid)
        return None

    async def _still_rented(self, record: records.Record, account: accounts.Account) -> bool:
        if record.renting is records.Renting.UNKNOWN and await self._renting.look_up(record, account):
            return True
        instance_id = record.instance_id
        if instance_id is None:
            return False
        if (record.cloud, instance_id) in self._gone:
            self._gone.discard((record.cloud, instance_id))
            return False
        if await self._exists(record):
            log.warning("pod.cache_behind", pod="/".join(record.key))
            return True
        await self._end(record, "its pod does not exist any more")
        return True

    async def _exists(self, record: records.Record) -> bool:
        """A fresh, exact read of the owner."""
        namespace, name = record.key
        try:
            pod = await self._use.client.get(resources.PODS.path(namespace, name), type=pods.Pod)
        except kube_errors.NotFound:
            return False
        return pod.metadata.uid == record.uid and pod.spec.node_name == self._use.node_name

    async def _report(self, uid: str, record: records.Record) -> None:
        pod = self.pod(uid)
        if pod is None:
            return
        instance = self._current(record)
        await self._writer.write(pod, record, instance)

    def _current(self, record: records.Record) -> instances.Instance | None:
        account = self._use.accounts.get(record.cloud)
        return account.watcher.get(record.instance_id) if account is not None and record.instance_id else None

    def waiting_view(self, uid: str) -> statuses.View | None:
        """How the pod stands, for those who answer questions about it."""
        pod, record = self.pod(uid), self.records.get(uid)
        return None if pod is None or record is None else views.view(pod, record, self._current(record))
