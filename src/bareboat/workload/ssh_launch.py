"""A pod as a launch document for the runner: everything resolved, nothing left to look up. Pure.

Owns what a kubelet and a container runtime decide between them: the image's defaults under the pod's own, users and
groups, mounts, named ports, hosts. Files of volumes are `volume_files`' affair; what is refused at once, `support`'s.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bareboat.access import documents
from bareboat.registry import configs
from bareboat.workload import actions, expansion, quantities, references, security, sources, volume_files
from bareboat.workload import pod as pods

GRACE_S = 30
LONGEST_HOSTNAME = 63
CLUSTER_DOMAIN = "cluster.local"
MESSAGE_PATH = "/dev/termination-log"
# By number on Linux, amd64 and arm64 alike; Python's `signal` knows those of the computer that it runs on.
_NAMES = """
HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ
VTALRM PROF WINCH IO PWR SYS
"""
_SIGNALS = {number: f"SIG{name}" for number, name in enumerate(_NAMES.split(), start=1)}


@dataclass(frozen=True, slots=True)
class Known:
    """What was found for a pod. `services`: those whose addresses the container can reach, for service variables.
    `pod_ips`: truthful addresses of the pod; without them a fieldRef of status.podIP is refused."""

    image: configs.Image
    found: sources.Sources = field(default_factory=sources.Sources)
    node: sources.NodeFacts = field(default_factory=sources.NodeFacts)
    services: Sequence[sources.Service] = ()
    pod_ips: Sequence[str] = ()
    cluster_domain: str = CLUSTER_DOMAIN


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a container can't start: `reason` and `message` for its Waiting state, in the kubelet's words where it has
    some. `lasting`: only a change of the pod (or its image) helps; else look again later."""

    container: str
    reason: str
    message: str
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """`launch` is None exactly when something is `blocking`. `told` are problems that stop nothing, for Events."""

    launch: documents.Launch | None = field(repr=False)
    blocking: Problem | None = None
    told: tuple[references.Problem, ...] = ()


class _Blocked(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem


def build(pod: pods.Pod, known: Known, *, attempt: str) -> Built:
    """The launch document of a pod that `support.refusals` lets pass. `attempt` is new with each machine."""
    told: list[references.Problem] = []
    try:
        init = tuple(_container(pod, each, known, told, first=True) for each in pod.spec.init_containers)
        containers = tuple(_container(pod, each, known, told) for each in pod.spec.containers)
    except _Blocked as blocked:
        return Built(None, blocked.problem, tuple(told))
    grace_s = pod.spec.termination_grace_period_seconds
    launch = documents.Launch(
        pod_uid=pod.metadata.uid,
        attempt=attempt,
        namespace=pod.metadata.namespace,
        pod_name=pod.metadata.name,
        hostname=hostname(pod, known.cluster_domain),
        init=init,
        containers=containers,
        volumes=tuple(_volume(volume, security.fs_group(pod)) for volume in pod.spec.volumes),
        host_aliases=tuple(
            documents.HostAlias(str(alias.get("ip", "")), tuple(str(name) for name in alias.get("hostnames") or ()))
            for alias in pod.spec.host_aliases
        ),
        subdomain=pod.spec.subdomain,
        grace_s=GRACE_S if grace_s is None else grace_s,
    )
    return Built(launch, None, tuple(told))


def hostname(pod: pods.Pod, cluster_domain: str = CLUSTER_DOMAIN) -> str:
    """What `hostname` prints in the pod: by spec, else its name, cut as the kubelet cuts it."""
    if pod.spec.hostname_override:
        return pod.spec.hostname_override
    short = (pod.spec.hostname or pod.metadata.name)[:LONGEST_HOSTNAME].rstrip("-.")
    if pod.spec.set_hostname_as_fqdn and pod.spec.subdomain:
        return f"{short}.{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{cluster_domain}"
    return short


def stop_signal(asked: str) -> str:
    """`SIGTERM` for whatever way an image or a pod writes it (`15`, `TERM`, `SIGTERM`); an unknown word is SIGTERM."""
    text = asked.strip().upper()
    if text.isascii() and text.isdigit():
        return _SIGNALS.get(int(text), "SIGTERM")
    name = text if text.startswith("SIG") else f"SIG{text}"
    return name if name in _SIGNALS.values() or re.fullmatch(r"SIGRTM(IN(\+\d+)?|AX(-\d+)?)", name) else "SIGTERM"


def _container(
    pod: pods.Pod, container: pods.Container, known: Known, told: list[references.Problem], *, first: bool = False
) -> documents.Container:
    config = known.image.config
    resolved = references.resolve(
        pod, container, known.found, known.node, services=known.services, pod_ips=known.pod_ips
    )
    told += (problem for problem in resolved.problems if not problem.blocks and problem not in told)
    if resolved.blocking is not None:
        blocking = resolved.blocking
        raise _Blocked(Problem(container.name, "CreateContainerConfigError", blocking.message, blocking.lasting))
    refusal = security.refuses_root(pod, container, config.user)
    if refusal:
        raise _Blocked(Problem(container.name, "CreateContainerConfigError", refusal, lasting=True))
    argv = _argv(container, config, resolved.env)
    if not argv:
        message = "no command specified: neither the pod nor the image says what to run"
        raise _Blocked(Problem(container.name, "CreateContainerError", message, lasting=True))
    lifecycle = container.lifecycle or {}
    return documents.Container(
        name=container.name,
        argv=argv,
        env=_env(hostname(pod, known.cluster_domain), config, resolved.env),
        working_dir=container.working_dir or config.working_dir,
        user=security.user(pod, container, config.user),
        groups=security.groups(pod),
        mounts=tuple(_mount(pod, container, mount, resolved.env) for mount in container.volume_mounts),
        restart=_restart(pod, container, first=first),
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        tty=container.tty,
        startup=actions.probe(container, container.startup_probe),
        readiness=actions.probe(container, container.readiness_probe),
        liveness=actions.probe(container, container.liveness_probe),
        post_start=actions.action(container, lifecycle.get("postStart")),
        pre_stop=actions.action(container, lifecycle.get("preStop")),
        stop_signal=stop_signal(str(lifecycle.get("stopSignal") or config.stop_signal or "SIGTERM")),
        termination_message_path=container.termination_message_path or MESSAGE_PATH,
        termination_message_from_log=container.termination_message_policy == "FallbackToLogsOnError",
        memory_limit_bytes=_limit(container, "memory"),
        cpu_limit_millis=_limit(container, "cpu"),
        no_new_privileges=security.no_new_privileges(container),
        drop_capabilities=security.dropped(container),
        read_only_root=security.read_only_root(container),
    )


def _argv(container: pods.Container, config: configs.Config, env: Mapping[str, str]) -> tuple[str, ...]:
    """A command of the pod's own takes the image's arguments away as well, arguments alone take those only."""
    command = references.expand(container.command, env)
    args = references.expand(container.args, env)
    if command is not None:
        return command + (args or ())
    return config.entrypoint + (config.cmd if args is None else args)


def _env(host: str, config: configs.Config, own: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    merged = {"HOSTNAME": host} | dict(config.env) | dict(own)
    return tuple(merged.items())


def _restart(pod: pods.Pod, container: pods.Container, *, first: bool) -> Any:
    if first and container.is_sidecar:
        return "Always"
    own = container.restart_policy or pod.spec.restart_policy
    return "OnFailure" if first and own == "Always" else own


def _mount(
    pod: pods.Pod, container: pods.Container, mount: pods.VolumeMount, env: Mapping[str, str]
) -> documents.Mount:
    sub_path = mount.sub_path
    if mount.sub_path_expr:
        sub_path = expansion.expand(mount.sub_path_expr, env)
        if "$(" in sub_path.replace("$$(", ""):
            message = f"failed to expand subPath for volumeMount {mount.name!r} of container {container.name!r}"
            raise _Blocked(Problem(container.name, "CreateContainerConfigError", message, lasting=True))
    if sub_path and not volume_files.is_inside(sub_path):
        message = f"subPath {sub_path!r} of volumeMount {mount.name!r} leads out of the volume"
        raise _Blocked(Problem(container.name, "CreateContainerConfigError", message, lasting=True))
    made_of = next((volume for volume in pod.spec.volumes if volume.name == mount.name), None)
    has_files = made_of is not None and volume_files.projection(made_of) is not None
    return documents.Mount(mount.name, mount.mount_path, sub_path, mount.read_only or has_files)


def _volume(volume: pods.Volume, group: int | None) -> documents.Volume:
    empty = volume.empty_dir
    if empty is None:
        return documents.Volume(volume.name, group=group)
    return documents.Volume(
        volume.name,
        in_memory=empty.get("medium") == "Memory",
        size_limit_bytes=_amount(empty.get("sizeLimit"), quantities.whole),
        mode=0o777,
        group=group,
    )


def _limit(container: pods.Container, name: str) -> int | None:
    return _amount(container.resources.limits.get(name), quantities.milli if name == "cpu" else quantities.whole)


def _amount(value: Any, rounded: Any) -> int | None:
    try:
        return int(rounded(value)) or None if value is not None else None
    except quantities.Malformed:
        return None  # the API server lets no such thing in
