"""The two steps that money hangs on: renting for a pod, and finding out what a lost answer bought.

Order of a rent: reserve the price, write the mark to the pod, buy. Whatever interrupts this leaves either nothing
rented, or an attempt on the pod whose mark finds the instance.
"""

import structlog

from bareboat.core import budget, errors, instances, labels
from bareboat.fleet import accounts, broker
from bareboat.kube import errors as kube_errors
from bareboat.node import parts, preparation, records, telling, writing
from bareboat.workload import pod as pods
from bareboat.workload import support

log = structlog.get_logger()

FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0
LOOK_AGAIN_S = 3.0
SSH_TRIES = 2
THROTTLED = "CloudThrottled"


class Renting:
    """Steps for one pod at a time; the caller sees to it that no pod is in two hands."""

    def __init__(self, use: parts.Parts, writer: writing.Writer) -> None:
        self._use = use
        self._writer = writer

    async def rent(self, pod: pods.Pod, record: records.Record) -> float | None:
        """Tries to rent. Returns the seconds after which to look again; None when only a change helps.

        The record's `waiting` says how it went; the caller writes it to the pod.
        """
        prepared = await preparation.prepare(pod, self._use, ssh_obstacles(record))
        if isinstance(prepared, preparation.NotNow):
            return self._not_now(pod, record, prepared)
        self._tell_problems(pod, record, prepared)
        try:
            choice = await self._use.broker.choose(prepared.wanted, record.avoid, namespace=pod.key[0])
            self._use.broker.reserve(record.uid, pod.key[0], choice, prepared.wanted)
        except broker.NoOffers as none:
            return self._wait(pod, record, "NoOffers", none.sentence)
        except budget.OverBudget as over:
            return self._wait(pod, record, "OverBudget", over.sentence)
        except errors.CloudError as trouble:
            return self._wait(pod, record, _word(trouble), str(trouble), _after_s(trouble))
        for _ in self._use.accounts:
            if not await self._write_mark(pod, record, choice, str(prepared.access.access)):
                self._use.broker.put_back(choice)
                return 0.0
            try:
                return await self._buy(pod, record, prepared, choice)
            except broker.Elsewhere as elsewhere:
                choice = elsewhere.choice
        self._use.broker.put_back(choice)
        self.nothing_bought(record)
        return FIRST_PAUSE_S

    async def look_up(self, record: records.Record, account: accounts.Account) -> float | None:
        """Settles an UNKNOWN attempt: adopts what its mark finds, or finds for certain that nothing was bought, by a
        listing and a read that both began after the visibility window: a listing that is shown to be false shows that
        the read by mark may be, too. One call, then.

        Returns the seconds after which to look again while that is not certain, else 0.
        """
        mark = self.mark(record)
        accounts_ = (account, *(each for each in self._use.accounts.values() if each is not account))
        found = [each for one in accounts_ for each in one.watcher.of(record.uid) if each.mark == mark]
        left_s = record.asked_s + max(each.cloud.visibility_window_s for each in accounts_) - self._use.clock.now_s()
        if not found and left_s > 0:
            # Nothing can be ruled out yet, and the next listing shows all that such attempts have bought at once.
            for one in accounts_:
                one.watcher.poke()
            return min(LOOK_AGAIN_S, left_s + 0.1)
        if not found and not all([one.watcher.listed_since(-left_s) for one in accounts_]):
            return LOOK_AGAIN_S
        for one in accounts_ if not found else ():
            marked = list(await one.cloud.marked(mark))
            for each in marked:
                one.watcher.rented(each)
            found += marked
        if found:
            self.adopt(record, found[0])
            return 0.0
        log.info("attempt.bought_nothing", pod="/".join(record.key), mark=str(mark))
        self.nothing_bought(record)
        return 0.0

    def mark(self, record: records.Record) -> labels.Mark:
        """Of the record's present attempt."""
        return labels.Mark(self._use.cluster_id, record.uid, str(record.attempt))

    def adopt(self, record: records.Record, instance: instances.Instance) -> None:
        """The instance is this attempt's."""
        record.rented(instance.id, record.attempted_s or self._use.clock.now_s())
        record.cloud = instance.cloud
        record.machine_id = instance.machine_id or record.machine_id
        if instance.ssh:
            record.access = records.SSH  # its annotation may be gone
        price = record.usd_per_hour if instance.usd_per_hour is None else instance.usd_per_hour
        self._use.broker.ledger.restore(record.uid, record.key[0], price, self._use.clock.now_s())
        log.info("instance.adopted", pod="/".join(record.key), cloud=instance.cloud, id=instance.id)

    def nothing_bought(self, record: records.Record) -> None:
        self._use.broker.ledger.release(record.uid, self._use.clock.now_s(), bought=False)
        record.renting = records.Renting.NONE
        record.instance_id = None

    async def _write_mark(self, pod: pods.Pod, record: records.Record, choice: broker.Choice, access: str) -> bool:
        """True when the mark stands on the pod and the pod is still wanted."""
        image = pod.spec.containers[0].image
        record.new_attempt(choice.offer, choice.usd_per_hour, image, self._use.clock.now_s(), access)
        offer = choice.offer
        record.waiting = pods.Waiting(
            "Renting", f"renting {record.gpu} from {offer.cloud}, offer {offer.id}, at ${choice.usd_per_hour:.3f}/h"
        )
        try:
            # Another process of this node may be at it too (a roll-out, a partition): of two marks one is written.
            written = await self._writer.write(
                pod, record, None, always=True, unchanged_since=pod.metadata.resource_version
            )
        except kube_errors.KubeError as refused:
            self.nothing_bought(record)
            record.stale = isinstance(refused, kube_errors.Conflict)
            self._use.broker.put_back(choice)
            raise
        if written is None or written.metadata.deletion_timestamp is not None:
            self.nothing_bought(record)
            return False
        return True

    async def _buy(
        self, pod: pods.Pod, record: records.Record, prepared: preparation.Prepared, choice: broker.Choice
    ) -> float | None:
        attempt = str(record.attempt)
        try:
            instance, choice = await self._use.broker.rent(
                choice,
                prepared.wanted,
                lambda offer: prepared.launch(offer, attempt),
                self.mark(record),
                namespace=pod.key[0],
                avoid=record.avoid,
            )
        except errors.OutcomeUnknown as unknown:
            return self._unknown(pod, record, unknown)
        except broker.NoOffers as none:
            record.renting = records.Renting.NONE
            return self._wait(pod, record, "NoOffers", none.sentence)
        except budget.OverBudget as over:
            record.renting = records.Renting.NONE
            return self._wait(pod, record, "OverBudget", over.sentence)
        except errors.LaunchRefused as refused:
            record.renting = records.Renting.NONE
            self._refused(pod, record, refused)
            return None
        except errors.CloudError as trouble:
            record.renting = records.Renting.NONE
            return self._wait(pod, record, _word(trouble), str(trouble), _after_s(trouble))
        record.take(choice.offer, choice.usd_per_hour)
        record.rented(instance.id, self._use.clock.now_s())
        record.told_wait = ""
        self._use.accounts[instance.cloud].watcher.rented(instance)
        self._use.recorder.normal(telling.about(pod), "Rented", telling.rented(choice, instance.id))
        return None

    def _unknown(self, pod: pods.Pod, record: records.Record, unknown: errors.OutcomeUnknown) -> float:
        log.warning("rent.outcome_unknown", pod="/".join(record.key), mark=str(self.mark(record)), why=unknown.why)
        message = f"the answer to the rent call was lost or unclear ({unknown.why}); looking for what it bought"
        record.waiting = pods.Waiting("RentUnknown", message)
        record.asked_s = self._use.clock.now_s()
        record.cloud = unknown.cloud
        self._use.recorder.warning(telling.about(pod), "RentUnknown", message)
        if unknown.instance_id is not None:
            record.rented(unknown.instance_id, record.asked_s)
            # The answer to our own call proves whose it is, whatever became of its label.
            named = instances.Instance(
                unknown.cloud, unknown.instance_id, instances.State.PROVISIONING, label=str(self.mark(record))
            )
            self._use.accounts[unknown.cloud].watcher.rented(named)
            record.ending_why = f"its rent call failed: {unknown.why}"
        return LOOK_AGAIN_S

    def _refused(self, pod: pods.Pod, record: records.Record, refused: errors.LaunchRefused) -> None:
        """No second try before the pod is changed: it would be refused everywhere."""
        record.waiting = pods.Waiting("LaunchRefused", refused.why)
        record.refused_generation = pod.metadata.generation
        self._use.recorder.warning(telling.about(pod), "LaunchRefused", refused.why)

    def _not_now(self, pod: pods.Pod, record: records.Record, why: preparation.NotNow) -> float | None:
        for problem in why.problems:
            self._use.recorder.warning(telling.about(pod, container=True), problem.kind.value, problem.message)
        changed = record.waiting != pods.Waiting(why.reason, why.message)
        record.waiting = pods.Waiting(why.reason, why.message)
        if why.event and (changed or not why.lasting):
            self._use.recorder.warning(telling.about(pod), why.event, why.message)
        elif why.problems and changed:
            self._use.recorder.warning(telling.about(pod, container=True), "Failed", f"Error: {why.message}")
        return None if why.lasting else 10.0

    def _wait(self, pod: pods.Pod, record: records.Record, reason: str, message: str, least_s: float = 0.0) -> float:
        """Stays Pending with the reason, says so in an Event, tries again after a growing pause."""
        pause_s = max(least_s, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(record.failures, 10)))
        record.failures += 1
        record.not_before_s = self._use.clock.now_s() + pause_s
        record.waiting = pods.Waiting(reason, message)
        # A cloud that is busy is busy for many tries; the status goes on to tell of each.
        again = reason == record.told_wait == THROTTLED
        record.told_wait = reason
        if again:
            return pause_s
        told = f"{message.rstrip('.')}; trying again in {telling.duration(pause_s)}"
        self._use.recorder.warning(telling.about(pod), reason, told)
        return pause_s

    def _tell_problems(self, pod: pods.Pod, record: records.Record, prepared: preparation.Prepared) -> None:
        about = telling.about(pod, container=True)
        unheeded = support.check(pod, prepared.access.access) if not record.told_support else ()
        if prepared.access.why and prepared.access.why != record.told_access:
            self._use.recorder.warning(telling.about(pod), "AccessChanged", prepared.access.why)
            record.told_access = prepared.access.why
        if unheeded:
            self._use.recorder.warning(telling.about(pod), "NotHonoured", support.sentence(unheeded))
        record.told_support = True
        for problem in prepared.problems:
            self._use.recorder.warning(about, problem.kind.value, problem.message)
        for login in prepared.login_problems:
            self._use.recorder.warning(telling.about(pod), "FailedToRetrieveImagePullSecret", login.message)


def ssh_obstacles(record: records.Record) -> tuple[str, ...]:
    """Why this pod is not tried over ssh once more."""
    if record.ssh_failures < SSH_TRIES:
        return ()
    return (
        f"{record.ssh_failures} machines could not be made ready over ssh, the last because {record.unfollowed_why}",
    )


def _after_s(trouble: errors.CloudError) -> float:
    return trouble.after_s if isinstance(trouble, errors.Throttled) else 0.0


def _word(trouble: errors.CloudError) -> str:
    """The reason that stands in the status while a cloud can't be rented from."""
    words: dict[type[errors.CloudError], str] = {
        errors.NoCapacity: "NoCapacity",
        errors.CredentialsRefused: "CloudCredentialsRefused",
        errors.CreditExhausted: "CloudCreditExhausted",
        errors.Throttled: THROTTLED,
        errors.LaunchRefused: "LaunchRefused",
    }
    return words.get(type(trouble), "CloudUnreachable")
