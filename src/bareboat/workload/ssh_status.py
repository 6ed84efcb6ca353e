"""A pod's status in ssh access, as a kubelet would write it, from what its runner tells. Pure.

Shares conditions and their laws with `status`. Invariants beside those: a restart count never falls; a terminal phase
is told only when nothing of the pod runs any more; times are the machine's clock, corrected by the caller if need be.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from bareboat.access import documents
from bareboat.workload import pod as pods
from bareboat.workload import status

SCHEME = "bareboat://"
LOST = "The container could not be located when the pod was terminated"
LOST_CODE = 137


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a container did on machines that are gone: counted on top of what the present runner tells."""

    restarts: int = 0
    last: pods.Terminated | None = None


@dataclass(frozen=True, slots=True)
class End:
    """The pod's end for a reason of its own (deadline, lost machine, eviction), told once nothing runs any more.

    Containers that the runner did not see end are ContainerStatusUnknown, 137. `reason` may be empty (a pod that was
    deleted): then exit codes decide between Succeeded and Failed.
    """

    reason: str = ""
    message: str = ""
    disrupted_why: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a pod at this moment.

    `state`: the newest of the runner of the present machine; None before it has told any. `waiting`: what to say of
    containers that it has not told of. `untouched_why`: why nobody can vouch for readiness just now (connection lost);
    what ran is then told as running, not ready. `resumed`: what stands in the API was told of the same machine by an
    earlier process of this node, and holds until the runner answers. `skew_s`: the machine's clock minus ours.
    """

    acknowledged_s: float
    state: documents.State | None = None
    waiting: pods.Waiting | None = None
    image_id: str = ""
    network_up: bool = False
    untouched_why: str = ""
    end: End | None = None
    earlier: Mapping[str, Earlier] = field(default_factory=dict)
    pod_ips: tuple[str, ...] = ()
    resumed: bool = False
    skew_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """To be recorded about the pod; `field_path` names the container. `number` is the Occurrence's."""

    number: int
    field_path: str
    reason: str
    message: str
    warning: bool


@dataclass(frozen=True, slots=True)
class _Parts:
    """A status in the making: the containers' own parts, phase still open."""

    init: list[pods.ContainerStatus]
    containers: list[pods.ContainerStatus]


def build(pod: pods.Pod, known: Known, host_ip: str, now_s: float) -> pods.PodStatus:
    """The whole status. `pod` gives the spec and the status that stands in the API."""
    state = known.state
    told = {each.name: each for each in (*state.init, *state.containers)} if state is not None else {}
    is_over = known.end is not None or (state is not None and bool(state.failure))
    init, containers = (
        [_container(pod, each, told.get(each.name), known, is_over, is_init=first) for each in several]
        for first, several in ((True, pod.spec.init_containers), (False, pod.spec.containers))
    )
    parts = _Parts(init, sorted(containers, key=lambda each: each.name))
    phase = _phase(pod, known, parts)
    if phase in status.TERMINAL:
        for each in (*init, *containers):
            each.ready = each.ready and each.state.terminated is not None  # an init step that did its work stays ready
    return pods.PodStatus(
        phase=phase,
        reason=_reason(pod, known, phase),
        message=status.clip(_message(pod, known, phase)),
        conditions=status.conditions(
            pod,
            network_up=known.network_up,
            initialized=_initialized(pod, parts, phase),
            containers_ready=_containers_ready(pod, parts, phase, known),
            disrupted_why=known.end.disrupted_why if known.end is not None else "",
            now_s=now_s,
        ),
        host_ip=host_ip,
        host_ips=[pods.HostIP(host_ip)] if host_ip else [],
        pod_ip=known.pod_ips[0] if known.pod_ips else "",
        pod_ips=[pods.HostIP(each) for each in known.pod_ips],
        start_time=pod.status.start_time or status.stamp(known.acknowledged_s),
        container_statuses=parts.containers,
        init_container_statuses=parts.init,
        ephemeral_container_statuses=status.ephemeral(pod),
        observed_generation=pod.metadata.generation,
    )


def events(pod: pods.Pod, state: documents.State, after: int) -> Iterator[Event]:
    """What the runner noted since the occurrence numbered `after`, in order. The newest 50 at most are known: a gap in
    the numbers is what nobody heard of."""
    init = {each.name for each in pod.spec.init_containers}
    for each in sorted(state.occurrences, key=lambda occurrence: occurrence.number):
        if each.number > after:
            kind = "initContainers" if each.container in init else "containers"
            path = f"spec.{kind}{{{each.container}}}" if each.container else ""
            yield Event(each.number, path, each.reason, status.clip(each.message), each.warning)


def terminated(found: documents.Terminated, skew_s: float = 0.0) -> pods.Terminated:
    """As the status has it. An exit code is 0 to 255 there, whatever a process made of it."""
    return pods.Terminated(
        exit_code=found.exit_code & 0xFF,
        reason=found.reason or ("Completed" if found.exit_code == 0 else "Error"),
        message=found.message,
        started_at=status.stamp(found.started_at - skew_s),
        finished_at=status.stamp(found.finished_at - skew_s),
        container_id=SCHEME + found.id if found.id else "",
        signal=found.signal,
    )


def carried(pod: pods.Pod, earlier: Mapping[str, Earlier], state: documents.State | None) -> dict[str, Earlier]:
    """What a next machine counts on top, when the present one is given up: one more restart for each container that
    ran there, and how it ended. Without the runner's word that is what stands in the API."""
    told = {each.name: each for each in (*state.init, *state.containers)} if state is not None else {}
    known = Known(0.0, state, earlier=earlier, end=End("Lost"))
    counted = {}
    for first, several in ((True, pod.spec.init_containers), (False, pod.spec.containers)):
        for each in several:
            now = _container(pod, each, told.get(each.name), known, True, is_init=first)
            ended = now.state.terminated
            last = now.last_state.terminated if ended is None else ended
            counted[each.name] = Earlier(now.restart_count + (ended is not None), last)
    return counted


def _container(
    pod: pods.Pod,
    container: pods.Container,
    told: documents.ContainerState | None,
    known: Known,
    is_over: bool,
    *,
    is_init: bool,
) -> pods.ContainerStatus:
    standing = _standing(pod, container.name)
    if told is None and known.resumed and not is_over and standing.name:
        return msgspec.structs.replace(standing, image=container.image)
    earlier = known.earlier.get(container.name, Earlier())
    state = _state(pod, told, known, standing, is_over, is_init=is_init)
    last = earlier.last if told is None or told.last is None else terminated(told.last, known.skew_s)
    running = state.running is not None
    touched = not known.untouched_why
    done = is_init and not container.is_sidecar and state.terminated is not None and state.terminated.exit_code == 0
    ran = running or state.terminated is not None
    started = running and told is not None and told.started
    return pods.ContainerStatus(
        name=container.name,
        image=container.image,
        image_id=known.image_id if ran or last is not None else "",
        container_id=_container_id(told, state, standing),
        ready=done or (started and told is not None and told.ready and touched),
        started=started,
        restart_count=max(earlier.restarts + (told.restarts if told is not None else 0), standing.restart_count),
        state=state,
        last_state=pods.ContainerState(terminated=last) if last is not None else pods.ContainerState(),
    )


def _state(
    pod: pods.Pod,
    told: documents.ContainerState | None,
    known: Known,
    standing: pods.ContainerStatus,
    is_over: bool,
    *,
    is_init: bool,
) -> pods.ContainerState:
    """Exactly one of the three."""
    done = told.terminated if told is not None else None
    if done is None and told is not None and known.state is not None and known.state.ended and told.running is None:
        done = told.last  # stopped while it waited for its next start: how it ended last is how it ended
    if done is not None:
        return pods.ContainerState(terminated=terminated(done, known.skew_s))
    ran = (told is not None and (told.running is not None or told.last is not None)) or (
        standing.state.running is not None or standing.state.terminated is not None
    )
    if is_over and ran:
        if standing.state.terminated is not None and told is None:
            return standing.state
        started = told.running.started_at - known.skew_s if told is not None and told.running is not None else None
        return pods.ContainerState(terminated=_lost(started))
    if told is not None and told.running is not None:
        return pods.ContainerState(running=pods.Running(status.stamp(told.running.started_at - known.skew_s)))
    if told is not None and told.waiting is not None:
        return pods.ContainerState(waiting=pods.Waiting(told.waiting.reason, status.clip(told.waiting.message)))
    if known.waiting is not None and told is None:
        return pods.ContainerState(waiting=known.waiting)
    default = "PodInitializing" if pod.spec.init_containers else "ContainerCreating"
    return pods.ContainerState(waiting=pods.Waiting(default))


def _lost(started_s: float | None) -> pods.Terminated:
    return pods.Terminated(
        LOST_CODE, "ContainerStatusUnknown", LOST, started_at=None if started_s is None else status.stamp(started_s)
    )


def _standing(pod: pods.Pod, name: str) -> pods.ContainerStatus:
    every = (*pod.status.container_statuses, *pod.status.init_container_statuses)
    return next((each for each in every if each.name == name), pods.ContainerStatus())


def _container_id(
    told: documents.ContainerState | None, state: pods.ContainerState, standing: pods.ContainerStatus
) -> str:
    """Of the present run, or of the last one while the next has not begun."""
    if state.terminated is not None and state.terminated.container_id:
        return state.terminated.container_id
    if told is not None and told.id:
        return SCHEME + told.id
    return standing.container_id if state.terminated is not None else ""


@dataclass(slots=True)
class _Count:
    """Containers by what they are at, as the kubelet counts them before it names a phase."""

    waiting: int = 0
    running: int = 0
    stopped: int = 0
    succeeded: int = 0


def _phase(pod: pods.Pod, known: Known, parts: _Parts) -> str:
    if pod.status.phase in status.TERMINAL:
        return pod.status.phase
    state = known.state
    if known.end is not None and known.end.reason:
        return status.FAILED
    if state is not None and state.ended and state.failure:
        return status.FAILED
    init_phase = _init_phase(pod, parts)
    count = _counted(parts.containers)
    ended = known.end is not None or (state is not None and state.ended)
    if ended:
        all_well = init_phase is None and count.succeeded == len(parts.containers)
        return status.SUCCEEDED if all_well else status.FAILED
    if pod.status.phase == status.RUNNING or count.running or count.stopped:
        # What runs or ran is told as Running until the runner says that nothing is left, sidecars included.
        if init_phase is None and not count.waiting:
            return status.RUNNING
        return pod.status.phase or status.PENDING
    return status.PENDING


def _init_phase(pod: pods.Pod, parts: _Parts) -> str | None:
    """Pending while init steps are to be done or a sidecar has to start; None when the containers' turn has come."""
    for container, told in zip(pod.spec.init_containers, parts.init, strict=True):
        state, last = told.state, told.last_state.terminated
        if not container.is_sidecar:
            if state.terminated is None or state.terminated.exit_code != 0:
                return status.PENDING
        elif (state.running is not None and not told.started) or (state.waiting is not None and last is None):
            return status.PENDING
    return None


def _counted(containers: list[pods.ContainerStatus]) -> _Count:
    count = _Count()
    for each in containers:
        if each.state.running is not None:
            count.running += 1
        elif each.state.terminated is not None:
            count.stopped += 1
            count.succeeded += each.state.terminated.exit_code == 0
        elif each.last_state.terminated is not None:
            count.stopped += 1
        else:
            count.waiting += 1
    return count


def _reason(pod: pods.Pod, known: Known, phase: str) -> str:
    if pod.status.phase in status.TERMINAL:
        return pod.status.reason
    if known.end is not None:
        return known.end.reason
    return "RunnerFailed" if phase == status.FAILED and known.state is not None and known.state.failure else ""


def _message(pod: pods.Pod, known: Known, phase: str) -> str:
    if pod.status.phase in status.TERMINAL:
        return pod.status.message
    if known.end is not None:
        return known.end.message
    return known.state.failure if phase == status.FAILED and known.state is not None else ""


def _initialized(pod: pods.Pod, parts: _Parts, phase: str) -> status.Told:
    if phase == status.SUCCEEDED:
        return True, "PodCompleted", ""
    begun = any(each.state.waiting is None or each.last_state.terminated for each in parts.containers)
    unfinished = [
        told.name
        for container, told in zip(pod.spec.init_containers, parts.init, strict=True)
        if not (told.started if container.is_sidecar else told.ready)
    ]
    if begun or not unfinished:
        return True, "", ""
    return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(unfinished)}]"


def _containers_ready(pod: pods.Pod, parts: _Parts, phase: str, known: Known) -> status.Told:
    if phase == status.SUCCEEDED:
        return False, "PodCompleted", ""
    if phase == status.FAILED:
        return False, "PodFailed", ""
    sidecars = {each.name for each in pod.spec.init_containers if each.is_sidecar}
    counted = [each for each in parts.init if each.name in sidecars] + parts.containers
    unready = [each.name for each in counted if not each.ready]
    if not unready:
        return True, "", ""
    message = f"containers with unready status: [{' '.join(unready)}]"
    if known.untouched_why:
        message += f": {known.untouched_why}"
    return False, "ContainersNotReady", status.clip(message)
