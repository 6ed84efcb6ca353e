"""What to do next for one pod: `decide(pod, record, instance, now) → Action`. Pure; tested with tables.

An action is one step. After it the pod is looked at again, so an order of steps is an order of questions here.
"""

from dataclasses import dataclass

from bareboat.access import documents
from bareboat.core import instances
from bareboat.node import records, restarting
from bareboat.workload import pod as pods
from bareboat.workload import status as statuses

PULL_FIRST_S, PULL_LONGEST_S = 10.0, 300.0
GRACE_S = 30


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits in seconds of the node's clock, and whether a price over the pod's limit ends an instance."""

    start_timeout_s: float = 900.0
    unreachable_timeout_s: float = 600.0
    visibility_window_s: float = 60.0
    exit_reads: int = 6


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do; look again after `seconds` (None: when something changes)."""

    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Rent:
    """Find an offer, write the mark, buy."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """Find out by its mark whether the present attempt bought anything."""


@dataclass(frozen=True, slots=True)
class Confirm:
    """Ask with an exact read whether the instance that no list shows exists."""


@dataclass(frozen=True, slots=True)
class ReadExit:
    """Find out how the process ended."""


@dataclass(frozen=True, slots=True)
class EndInstance:
    """Have the instance destroyed until a read says gone."""

    why: str


@dataclass(frozen=True, slots=True)
class StopContainers:
    """Have the runner stop them in order, as long as the grace lasts; the instance ends afterwards."""

    grace_s: float
    why: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing of the workload ran: end this instance, say why, take another machine after a pause."""

    reason: str
    message: str
    event: str
    avoid_machine: bool = True
    pull_problem: bool = False
    ssh_problem: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """The container ended, or is lost. The restart policy decides what follows."""

    terminated: pods.Terminated
    why: str
    disrupted: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """The pod is over, whatever the restart policy says."""

    end: records.End


@dataclass(frozen=True, slots=True)
class Replace:
    """The pod's image was changed: the instance makes way for one with the new image."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Nothing is rented for this pod, for certain: the object may go."""


Action = (
    Rest
    | Rent
    | LookUp
    | Confirm
    | ReadExit
    | EndInstance
    | StopContainers
    | GiveUp
    | Ended
    | Finish
    | Replace
    | Remove
)


def decide(
    pod: pods.Pod, record: records.Record, instance: instances.Instance | None, now_s: float, policy: Policy
) -> Action:
    """`instance` is the one of the present attempt, as last seen."""
    if record.renting is records.Renting.UNKNOWN:
        return LookUp()
    if pod.metadata.deletion_timestamp is not None:
        rented = record.renting is records.Renting.RENTED
        return _stopped(pod, record, now_s, "its pod was deleted") if rented else Remove()
    if record.end is not None:
        rented = record.renting is records.Renting.RENTED
        return _stopped(pod, record, now_s, "its pod is over") if rented else Rest()
    left_s = deadline_left_s(pod, record, now_s)
    if left_s is not None and left_s <= 0:
        return Finish(_deadline_exceeded(record, now_s))
    action = _rented(pod, record, instance, now_s, policy) if record.instance_id else _vacant(pod, record, now_s)
    if isinstance(action, Rest) and left_s is not None:
        return Rest(min(left_s, action.seconds if action.seconds is not None else left_s))
    return action


def grace_s(pod: pods.Pod, now_s: float) -> float:
    """What is left to the containers: of a deleted pod until its deletion time, else what its spec gives."""
    deleted = pod.metadata.deletion_timestamp
    if deleted is not None:
        return max(0.0, deleted.timestamp() - now_s)
    given_s = pod.spec.termination_grace_period_seconds
    return float(GRACE_S if given_s is None else given_s)


def _stopped(pod: pods.Pod, record: records.Record, now_s: float, why: str) -> Action:
    """The end of the instance, once its containers have had their grace."""
    if record.is_followed and record.told is not None and not record.told.ended and not record.ending_why:
        if record.stop_by_s is None:
            return StopContainers(grace_s(pod, now_s), why)
        if now_s < record.stop_by_s:
            return Rest(record.stop_by_s - now_s)
    return EndInstance(why)


def deadline_left_s(pod: pods.Pod, record: records.Record, now_s: float) -> float | None:
    """Seconds of `activeDeadlineSeconds` that are left, counted from when the node took the pod."""
    if pod.spec.active_deadline_seconds is None:
        return None
    return record.acknowledged_s + pod.spec.active_deadline_seconds - now_s


def _vacant(pod: pods.Pod, record: records.Record, now_s: float) -> Action:
    if record.refused_generation == pod.metadata.generation and record.refused_generation:
        return Rest()
    wait_s = record.not_before_s - now_s
    return Rest(wait_s) if wait_s > 0 else Rent()


def _rented(
    pod: pods.Pod, record: records.Record, instance: instances.Instance | None, now_s: float, policy: Policy
) -> Action:
    if record.ending_why:
        return EndInstance(record.ending_why)
    if pod.spec.containers[0].image != record.image and record.image:
        return Replace()
    if instance is None:
        young_s = max(record.rented_s, record.asked_s) + policy.visibility_window_s - now_s
        return Rest(young_s) if young_s > 0 else Confirm()
    if instance.state in instances.BOOTING and record.running_s is None:
        return _booting(record, instance, now_s, policy)
    if instance.state is instances.State.FAILED:
        return _failed(record, instance, now_s)
    if instance.state is instances.State.EXITED:
        return lost(record, _why_stopped(instance), now_s) if record.access == records.SSH else ReadExit()
    if instance.state is instances.State.STOPPED:
        return lost(record, _why_stopped(instance), now_s)
    if instance.state in instances.BOOTING:
        left_s = (record.unreachable_s or now_s) + policy.start_timeout_s - now_s
        return Rest(left_s) if left_s > 0 else lost(record, f"it does not start again: {instance.message}", now_s)
    if instance.state is instances.State.UNREACHABLE:
        left_s = (record.unreachable_s or now_s) + policy.unreachable_timeout_s - now_s
        return Rest(left_s) if left_s > 0 else lost(record, f"its host was unreachable: {instance.message}", now_s)
    return _followed(record, now_s, policy) if record.access == records.SSH else Rest()


def _followed(record: records.Record, now_s: float, policy: Policy) -> Action:
    """The machine runs: what its runner says counts, once it has said anything."""
    told = record.told
    if told is not None:
        return Finish(end_of(told, record, now_s)) if told.ended else Rest()
    # A process that has just started has not had the time to reach it.
    left_s = max(record.rented_s, record.asked_s) + policy.start_timeout_s - now_s
    if record.has_run:
        return Rest()  # it runs without us; that it can't be reached is no reason to end it
    if left_s > 0:
        return Rest(left_s)
    why = record.unfollowed_why or "no answer"
    message = (
        f"machine {record.machine_id} could not be made ready over ssh within {policy.start_timeout_s:.0f} s: {why}"
    )
    return GiveUp("SshUnreachable", message, "SshUnreachable", ssh_problem=True)


def end_of(told: documents.State, record: records.Record, now_s: float) -> records.End:
    """Of a pod whose runner says that all is over."""
    if told.failure:
        broken = pods.Terminated(128, "ContainerCannotRun", told.failure)
        return records.End(_timed(broken, record, now_s), "RunnerFailed", told.failure, process_ended=True)
    ends = [each.terminated for each in (*told.containers, *told.init) if each.terminated is not None]
    first = next((each for each in ends if each.exit_code), ends[0] if ends else None)
    if first is None:
        return records.End(_timed(pods.Terminated(137, "Error"), record, now_s), process_ended=True)
    ended = pods.Terminated(first.exit_code, first.reason, first.message)
    return records.End(_timed(ended, record, now_s), process_ended=True)


def lost(record: records.Record, why: str, now_s: float) -> Action:
    """What follows when an instance is taken away or has vanished."""
    if record.running_s is None:
        return GiveUp("InstanceLost", why, "InstanceLost")
    terminated = pods.Terminated(137, "ContainerStatusUnknown", f"The instance was lost: {why}")
    return Ended(_timed(terminated, record, now_s), why, disrupted=True)


def ended(record: records.Record, exit_code: int | None, message: str, now_s: float) -> Ended:
    """What follows when the process has ended; `exit_code` is None when nobody can tell it."""
    if exit_code is None:
        why = "The cloud tells no exit code, and the pod's command did not report one"
        terminated = pods.Terminated(137, "ContainerStatusUnknown", why)
    else:
        terminated = pods.Terminated(exit_code, "Completed" if exit_code == 0 else "Error", message)
    return Ended(_timed(terminated, record, now_s), f"its process ended with exit code {terminated.exit_code}")


def restarts(pod: pods.Pod, terminated: pods.Terminated) -> bool:
    """Whether the pod's restart policy wants the container again."""
    policy = pod.spec.restart_policy
    return policy == "Always" or (policy == "OnFailure" and terminated.exit_code != 0)


def restart_pause_s(record: records.Record, now_s: float) -> float:
    """How long the container that ends now waits for its next start."""
    return restarting.pause_s(record.restart_count, None if record.running_s is None else now_s - record.running_s)


def _booting(record: records.Record, instance: instances.Instance, now_s: float, policy: Policy) -> Action:
    took_s = now_s - record.rented_s
    if took_s < policy.start_timeout_s:
        return Rest(policy.start_timeout_s - took_s)
    told = f"; the cloud says: {instance.message}" if instance.message else ""
    return GiveUp(
        "StartTooSlow",
        f"machine {record.machine_id} did not start the container within {policy.start_timeout_s:.0f} s{told}",
        "StartTooSlow",
    )


def _failed(record: records.Record, instance: instances.Instance, now_s: float) -> Action:
    told = instance.message or "the cloud says that it failed, and not why"
    if record.running_s is not None:
        return lost(record, told, now_s)
    if instance.fault is instances.Fault.CREATE_FAILED:
        return GiveUp("CreateContainerError", told, "Failed")
    pull = instance.fault in (
        instances.Fault.IMAGE_NOT_FOUND,
        instances.Fault.IMAGE_UNAUTHORIZED,
        instances.Fault.IMAGE_PULL,
    )
    if pull:
        # The image is at fault, not the machine.
        return GiveUp("ErrImagePull", told, "Failed", avoid_machine=False, pull_problem=True)
    return GiveUp("RunContainerError", told, "Failed")


def _why_stopped(instance: instances.Instance) -> str:
    if instance.fault is instances.Fault.OUTBID:
        return "somebody outbid it"
    return f"it was stopped by the cloud or by hand: {instance.message or 'no reason given'}"


def _deadline_exceeded(record: records.Record, now_s: float) -> records.End:
    message = "Pod was active on the node longer than the specified deadline"
    terminated = _timed(pods.Terminated(137, "DeadlineExceeded", message), record, now_s)
    return records.End(terminated, "DeadlineExceeded", message)


def _timed(terminated: pods.Terminated, record: records.Record, now_s: float) -> pods.Terminated:
    terminated.started_at = statuses.stamp(record.running_s) if record.running_s is not None else None
    terminated.finished_at = statuses.stamp(now_s)
    terminated.container_id = record.container_id
    return terminated
