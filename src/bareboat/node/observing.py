"""What cloud and runner show of a pod's present machine, into its record: state, probes, price.

Changes records and memory only; what follows is `decide`'s.
"""

from collections.abc import Callable

from bareboat.core import instances
from bareboat.node import decide, endings, following, parts, preparation, prober, records, telling
from bareboat.workload import pod as pods
from bareboat.workload import probing


class Observing:
    """For all pods of a node. `changed` is told the uid of a pod of which a session has heard something new; `prober`
    is set while there is one."""

    def __init__(self, use: parts.Parts, ends: endings.Endings, changed: Callable[[str], None]) -> None:
        self.prober: prober.Prober | None = None
        self.following = None if use.ssh is None else following.Following(use, use.ssh, changed)
        self._use = use
        self._endings = ends

    def note(self, pod: pods.Pod, record: records.Record, instance: instances.Instance) -> None:
        """`instance` is the one of the present attempt."""
        if self.following is not None:
            self.following.hear(pod, record, instance)
        self._note_reach(record, instance)
        self._note_start(pod, record, instance)
        self._note_probe(pod, record, instance)
        if instance.usd_per_hour is not None and record.uid in self._use.broker.ledger:
            self._note_price(pod, record, instance.usd_per_hour)

    @staticmethod
    def note_image(pod: pods.Pod, record: records.Record) -> None:
        """Another image owes nothing to the failures of the last one."""
        image = pod.spec.containers[0].image
        if image != record.wanted_image and record.wanted_image and record.renting is records.Renting.NONE:
            record.not_before_s = 0.0
            record.failures = 0
        record.wanted_image = image

    def stopped_paying(self, record: records.Record) -> None:
        """The present machine is gone for certain."""
        if self.prober is not None:
            self.prober.forget(record.uid)
        if self.following is not None:
            self.following.drop(record.uid)
        now_s = self._use.clock.now_s()
        self._use.broker.ledger.release(record.uid, now_s)
        record.nothing_rented(now_s)

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        if self.prober is not None:
            self.prober.forget(uid)
        if self.following is not None:
            self.following.forget(uid)

    def take_away(self, pod: pods.Pod, record: records.Record, reason: str, message: str) -> None:
        """Money ends it: what ran counts as lost, what never ran is given back."""
        if record.running_s is not None:
            self._endings.settle(decide.lost(record, message, self._use.clock.now_s()), pod, record)
        else:
            avoid = reason == "TooDear"
            self._endings.gave_up(pod, record, decide.GiveUp(reason, message, reason, avoid_machine=avoid))

    def _note_reach(self, record: records.Record, instance: instances.Instance) -> None:
        again = instance.state in instances.BOOTING and record.running_s is not None
        if instance.state is instances.State.UNREACHABLE or again:
            record.unreachable_s = record.unreachable_s or self._use.clock.now_s()
        else:
            record.unreachable_s = None

    def _note_start(self, pod: pods.Pod, record: records.Record, instance: instances.Instance) -> None:
        plain = record.access == records.PLAIN
        begun = instance.state is instances.State.RUNNING and (plain or record.has_begun)
        if not begun or record.running_s is not None or record.ending_why:
            return
        now_s = self._use.clock.now_s()
        record.running_s = now_s
        record.has_run = True
        record.failures = record.ssh_failures = 0
        self._use.broker.note(record.cloud, record.machine_id, good=True)
        if plain:  # a runner tells of each start itself
            took = telling.duration(now_s - record.rented_s)
            self._use.recorder.normal(
                telling.about(pod, container=True),
                "Started",
                f"Started container on {record.cloud}/{instance.id} after {took}",
            )

    def _note_probe(self, pod: pods.Pod, record: records.Record, instance: instances.Instance) -> None:
        running = instance.state is instances.State.RUNNING and record.access == records.PLAIN
        planned = probing.plan(pod) if running else None
        if self.prober is None or planned is None or record.running_s is None:
            return
        target = prober.Target(instance.address, instance.ports)
        record.probe = self.prober.watch(record.uid, planned, target, record.running_s, resumed=record.resumed_probe)

    def _note_price(self, pod: pods.Pod, record: records.Record, usd_per_hour: float) -> None:
        """The price that is really charged; over a cap, the instance is given back."""
        if abs(usd_per_hour - record.usd_per_hour) < 1e-4 or record.ending_why or record.end is not None:
            return
        if usd_per_hour < record.usd_per_hour and record.running_s is None:
            return  # what boots may be billed less than what runs: its share of the caps stays taken
        cap = preparation.most_usd_per_hour(pod, self._use)
        over = self._use.broker.ledger.settle(record.uid, usd_per_hour, self._use.clock.now_s(), cap_usd_per_hour=cap)
        if over is None:
            record.usd_per_hour = usd_per_hour
            return
        message = (
            f"the cloud charges ${usd_per_hour:.3f}/h, the offer said ${record.usd_per_hour:.3f}/h: {over.sentence}"
        )
        self.take_away(pod, record, "TooDear", message)
