"""How a pod's renting looks as a kubelet's status: record and instance → `status.View`. Pure."""

from bareboat.core import instances
from bareboat.node import decide, records
from bareboat.workload import annotations as notes
from bareboat.workload import pod as pods
from bareboat.workload import ssh_status
from bareboat.workload import status as statuses

_BOOTING = {
    instances.State.PROVISIONING: "ContainerCreating",
    instances.State.PULLING: "Pulling",
    instances.State.STARTING: "ContainerCreating",
}


def view(pod: pods.Pod, record: records.Record, instance: instances.Instance | None) -> statuses.View:
    """What to tell about the pod now."""
    container_id = record.container_id
    if record.end is not None:
        container_id = record.end.terminated.container_id
    common = {
        "acknowledged_s": record.acknowledged_s,
        "restart_count": record.restart_count,
        "last": record.last,
        "container_id": container_id,
    }
    if record.end is not None and (record.end.process_ended or record.renting is records.Renting.NONE):
        return statuses.View(
            **common,  # type: ignore[arg-type]
            ended=record.end.terminated,
            final=True,
            reason=record.end.reason,
            message=record.end.message,
            disrupted_why=record.end.disrupted_why,
        )
    if record.running_s is not None and not record.ending_why:
        # A machine that no list shows at the moment is unknown, not gone: what ran is still told as running.
        unseen = (False, f"{record.cloud}/{record.instance_id} is not in the cloud's list at the moment")
        ready, why = unseen if instance is None else readiness(pod, record, instance)
        return statuses.View(
            **common,  # type: ignore[arg-type]
            running_since_s=record.running_s,
            ready=ready,
            started=record.probe is None or record.probe.started,
            unready_why=why,
            network_up=True,
        )
    waiting = record.waiting
    if instance is not None and not record.ending_why:
        waiting = pods.Waiting(_BOOTING.get(instance.state, "ContainerCreating"), _booting_message(record, instance))
    return statuses.View(**common, waiting=waiting, network_up=bool(record.instance_id))  # type: ignore[arg-type]


def status(
    pod: pods.Pod, record: records.Record, instance: instances.Instance | None, host_ip: str, now_s: float
) -> pods.PodStatus:
    """The pod's whole status as it is to stand in the API."""
    if record.access != records.SSH:
        return statuses.build(pod, view(pod, record, instance), host_ip, now_s)
    return ssh_status.build(pod, known(pod, record, instance), host_ip, now_s)


def known(pod: pods.Pod, record: records.Record, instance: instances.Instance | None) -> ssh_status.Known:
    """What is known of a pod in ssh access."""
    plain = view(pod, record, instance)
    end = None
    if record.end is not None and (record.end.process_ended or record.renting is records.Renting.NONE):
        end = ssh_status.End(record.end.reason, record.end.message, record.end.disrupted_why)
    gone = bool(record.ending_why) and record.end is None
    waiting = plain.waiting
    if instance is not None and instance.state is instances.State.RUNNING and not gone:
        why = record.unfollowed_why or _booting_message(record, instance)
        waiting = pods.Waiting("ContainerCreating", why)
    return ssh_status.Known(
        acknowledged_s=record.acknowledged_s,
        # What a machine that is given back said of itself counts no more: another will begin anew.
        state=None if gone else record.told,
        waiting=waiting,
        image_id=record.image_id,
        network_up=bool(record.instance_id),
        untouched_why=record.unfollowed_why,
        end=end,
        earlier=record.earlier,
        resumed=record.is_resumed and not gone,
    )


def readiness(pod: pods.Pod, record: records.Record, instance: instances.Instance) -> tuple[bool, str]:
    """Ready, or why not: the process runs, its ports are mapped, its probe (if it has one) succeeds."""
    if instance.state is instances.State.UNREACHABLE:
        return False, f"the cloud has lost touch with the host of {record.cloud}/{instance.id}"
    if instance.state is not instances.State.RUNNING:
        return False, f"the cloud says that {record.cloud}/{instance.id} is {instance.state.value}"
    unmapped = [
        str(port.container_port)
        for port in pod.spec.containers[0].ports
        if (port.container_port, port.protocol or "TCP") not in instance.ports
    ]
    if unmapped:
        return False, f"not yet mapped to a public port: {', '.join(unmapped)}"
    if record.probe is not None and not record.probe.ready:
        return False, record.probe.message
    return True, ""


def address_annotations(instance: instances.Instance | None) -> dict[str, str | None]:
    """Where the workload answers: `bareboat.dev/address` and `bareboat.dev/ports` (`8001/TCP=41234,…`)."""
    if instance is None or not instance.address:
        return {notes.ADDRESS: None, notes.PORTS: None}
    mapped = sorted(instance.ports.items())
    ports = ",".join(f"{number}/{protocol}={public}" for (number, protocol), public in mapped)
    return {notes.ADDRESS: instance.address, notes.PORTS: ports or None}


def _booting_message(record: records.Record, instance: instances.Instance) -> str:
    rented = f"rented {record.gpu} as {record.cloud}/{instance.id} at ${record.usd_per_hour:.3f}/h"
    return f"{rented}; {instance.message}" if instance.message else rented


def restart_waiting(pod: pods.Pod, record: records.Record, pause_s: float) -> pods.Waiting:
    """What stands in the status between the end of a container and its next start."""
    name = pod.spec.containers[0].name
    return pods.Waiting(
        "CrashLoopBackOff",
        f"back-off {pause_s:.0f}s restarting failed container={name} pod={pod.metadata.name}_{pod.metadata.namespace}",
    )


def pull_pause_s(record: records.Record) -> float:
    """10 s doubling to 300 s."""
    return float(min(decide.PULL_LONGEST_S, decide.PULL_FIRST_S * 2 ** min(record.failures, 10)))
