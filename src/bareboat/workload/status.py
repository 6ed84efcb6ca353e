"""A pod's status as a kubelet would write it, from what is known of its rental. Pure.

Invariants: container names and images are the spec's; exactly one container state is set; a condition's transition time
moves only with its status; a terminal phase is never left; Ready is False in a terminal phase.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from bareboat.workload import pod as pods

Told = tuple[bool, str, str]
"""Of a condition: whether it holds, its reason, its message."""
SUCCEEDED, FAILED, RUNNING, PENDING = "Succeeded", "Failed", "Running", "Pending"
TERMINAL = frozenset({SUCCEEDED, FAILED})
MESSAGE_BYTES = 1024
# As a runtime has it for a container that could not be started.
NEVER_RAN = 128
NO_EPHEMERAL = "no container can be added to a rented machine; kubectl exec opens a shell in one of those that it has"


@dataclass(frozen=True, slots=True)
class View:
    """What is known of a pod's one container at this moment.

    Exactly one of `waiting`, `running_since_s` and `ended` is set. `final` says that `ended` is the end of the pod.
    `network_up` is whether a machine is rented and answers. `acknowledged_s` is when the node took the pod.
    """

    acknowledged_s: float
    waiting: pods.Waiting | None = None
    running_since_s: float | None = None
    ended: pods.Terminated | None = None
    final: bool = False
    ready: bool = False
    started: bool = True
    unready_why: str = ""
    network_up: bool = False
    last: pods.Terminated | None = None
    restart_count: int = 0
    container_id: str = ""
    reason: str = ""
    message: str = ""
    disrupted_why: str = ""


def stamp(unix_s: float) -> str:
    """RFC 3339 in whole seconds, as Kubernetes writes times of a status."""
    return datetime.fromtimestamp(int(unix_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix_s(text: str | None) -> float | None:
    """The other way round; None for nothing and for what is no such time."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def phase(pod: pods.Pod, view: View) -> str:
    """A terminal phase that the API already has stays, and what ran is never Pending again."""
    if pod.status.phase in TERMINAL:
        return pod.status.phase
    if view.final:
        failed = view.reason or view.ended is None or view.ended.exit_code != 0
        return FAILED if failed else SUCCEEDED
    has_run = view.running_since_s is not None or view.ended is not None or view.last is not None
    return RUNNING if has_run or pod.status.phase == RUNNING else PENDING


def build(pod: pods.Pod, view: View, host_ip: str, now_s: float) -> pods.PodStatus:
    """The whole status. `pod` gives the spec and the status that stands in the API."""
    now_phase = phase(pod, view)
    is_ready = view.ready and view.running_since_s is not None and now_phase == RUNNING
    return pods.PodStatus(
        phase=now_phase,
        reason=view.reason,
        message=clip(view.message),
        conditions=_conditions(pod, view, now_phase, is_ready, now_s),
        host_ip=host_ip,
        host_ips=[pods.HostIP(host_ip)] if host_ip else [],
        start_time=pod.status.start_time or stamp(view.acknowledged_s),
        container_statuses=[_container(container, view, is_ready) for container in _by_name(pod)],
        ephemeral_container_statuses=ephemeral(pod),
        observed_generation=pod.metadata.generation,
    )


def ephemeral(pod: pods.Pod) -> list[pods.ContainerStatus]:
    """Of containers that somebody adds to a running pod: ended before they began, so that `kubectl debug` says why
    and does not wait for ever."""
    return [
        pods.ContainerStatus(
            name=str(container.get("name", "")),
            image=str(container.get("image", "")),
            started=False,
            state=pods.ContainerState(terminated=pods.Terminated(NEVER_RAN, "ContainerCannotRun", NO_EPHEMERAL)),
        )
        for container in pod.spec.ephemeral_containers
    ]


def clip(text: str) -> str:
    """At most `MESSAGE_BYTES` of text."""
    raw = text.encode()
    return text if len(raw) <= MESSAGE_BYTES else raw[: MESSAGE_BYTES - 3].decode(errors="ignore") + "…"


def encode(status: pods.PodStatus, previous: pods.PodStatus) -> bytes:
    """The status as it goes into a strategic merge patch: what a merge would leave standing is taken back by null."""
    standing = {condition.type: condition for condition in previous.conditions}
    stale = [
        (
            condition,
            [field for field in ("reason", "message") if _ended(standing.get(condition.type), condition, field)],
        )
        for condition in status.conditions
    ]
    ended = [field for field in ("reason", "message") if _ended(previous, status, field)]
    if not ended and not any(fields for _, fields in stale):
        return msgspec.json.encode(status)
    body = msgspec.to_builtins(status)
    body.update(dict.fromkeys(ended))
    body["conditions"] = [msgspec.to_builtins(each) | dict.fromkeys(fields) for each, fields in stale]
    return msgspec.json.encode(body)


def same(left: pods.PodStatus, right: pods.PodStatus) -> bool:
    """Whether writing `left` over `right` would change anything that we own."""
    ours = {condition.type: condition for condition in left.conditions}
    theirs = {condition.type: condition for condition in right.conditions if condition.type in ours}
    if left.pod_ip and (left.pod_ip, left.pod_ips) != (right.pod_ip, right.pod_ips):
        return False
    return ours == theirs and all(
        getattr(left, field) == getattr(right, field)
        for field in (
            "phase",
            "reason",
            "message",
            "host_ip",
            "start_time",
            "container_statuses",
            "init_container_statuses",
            "ephemeral_container_statuses",
            "observed_generation",
        )
    )


def _ended(before: pods.PodStatus | pods.Condition | None, after: pods.PodStatus | pods.Condition, field: str) -> bool:
    return before is not None and bool(getattr(before, field)) and not getattr(after, field)


def _by_name(pod: pods.Pod) -> list[pods.Container]:
    return sorted(pod.spec.containers, key=lambda container: container.name)


def _container(container: pods.Container, view: View, is_ready: bool) -> pods.ContainerStatus:
    running = view.running_since_s is not None
    if running:
        state = pods.ContainerState(running=pods.Running(stamp(view.running_since_s or 0)))
    elif view.ended is not None:
        state = pods.ContainerState(terminated=view.ended)
    else:
        state = pods.ContainerState(waiting=view.waiting or pods.Waiting("ContainerCreating"))
    return pods.ContainerStatus(
        name=container.name,
        image=container.image,
        container_id=view.container_id if running or view.ended is not None else "",
        ready=is_ready,
        started=running and view.started,
        restart_count=view.restart_count,
        state=state,
        last_state=pods.ContainerState(terminated=view.last) if view.last else pods.ContainerState(),
    )


def _conditions(pod: pods.Pod, view: View, now_phase: str, is_ready: bool, now_s: float) -> list[pods.Condition]:
    names = " ".join(container.name for container in pod.spec.containers)
    unready = ("", "") if is_ready else _why_unready(view, now_phase, names)
    initialized = (True, "PodCompleted" if now_phase == SUCCEEDED else "", "")
    return conditions(
        pod,
        network_up=view.network_up,
        initialized=initialized,
        containers_ready=(is_ready, *unready),
        disrupted_why=view.disrupted_why,
        now_s=now_s,
    )


def conditions(
    pod: pods.Pod, *, network_up: bool, initialized: Told, containers_ready: Told, disrupted_why: str, now_s: float
) -> list[pods.Condition]:
    """The kubelet's own conditions; a merge by type leaves everybody else's as they are."""
    standing = {each.type: each for each in pod.status.conditions}
    ready = containers_ready
    if ready[0] and (why := _open_gates(pod, standing)):
        ready = (False, "ReadinessGatesNotReady", clip(why))
    wanted: list[tuple[str, Told]] = [
        ("PodReadyToStartContainers", (network_up, "", "")),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", (True, "", "")),
    ]
    if disrupted_why:
        wanted.append(("DisruptionTarget", (True, "TerminationByKubelet", clip(disrupted_why))))
    return [_condition(pod, standing.get(kind), kind, *told, now_s) for kind, told in wanted]


def _open_gates(pod: pods.Pod, standing: Mapping[str, pods.Condition]) -> str:
    """Why the pod's readiness gates are not all open, in the kubelet's words; empty when they are."""
    why = []
    for gate in (each.get("conditionType", "") for each in pod.spec.readiness_gates):
        found = standing.get(gate)
        if found is None:
            why.append(f'corresponding condition of pod readiness gate "{gate}" does not exist.')
        elif found.status != "True":
            why.append(f'the status of pod readiness gate "{gate}" is not "True", but {found.status}')
    return ", ".join(why)


def _why_unready(view: View, now_phase: str, names: str) -> tuple[str, str]:
    if now_phase == SUCCEEDED:
        return "PodCompleted", ""
    if now_phase == FAILED:
        return "PodFailed", ""
    return "ContainersNotReady", clip(view.unready_why) or f"containers with unready status: [{names}]"


def _condition(
    pod: pods.Pod, before: pods.Condition | None, kind: str, holds: bool, reason: str, message: str, now_s: float
) -> pods.Condition:
    status = "True" if holds else "False"
    moved = before is None or before.status != status
    return pods.Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=stamp(now_s) if before is None or moved else before.last_transition_time or stamp(now_s),
        last_probe_time=None if before is None else before.last_probe_time,
        observed_generation=pod.metadata.generation,
    )
