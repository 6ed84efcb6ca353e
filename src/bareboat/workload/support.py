"""Which fields of a pod plain access can't honour, and why: one table of rules. Pure.

Owns what is said and whether a pod with such a field may rent at all; leaves values (prices, quantities, references)
to those who read them. Silent on purpose: the service account token that the API server mounts into every pod by
itself (`kube-api-access-…`: the file is missing, nobody asked for it), volumes that no container mounts, and whatever
the API server or the scheduler does alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bareboat.workload import annotations, launch, probing
from bareboat.workload import pod as pods

TOKEN_VOLUME = "kube-api-access-"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
RUNTIME_CLASSES = frozenset({"", "nvidia"})
LONGEST_SENTENCE = 1000

# Where in the pod (`spec.containers[0].tty`), and what stands there if that matters.
Hit = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Unsupported:
    """`field` is the full path. With `fatal` the pod never rents; else it runs, and its user is told once."""

    field: str
    why: str
    fatal: bool

    def __str__(self) -> str:
        return f"{self.field}: {self.why}"


@dataclass(frozen=True, slots=True)
class Rule:
    """`field` is for the documentation (`[*]` stands for any index); `{value}` in `why` is what was found."""

    field: str
    why: str
    fatal: bool
    hits: Callable[[pods.Pod], Iterable[Hit]]


def check(pod: pods.Pod) -> tuple[Unsupported, ...]:
    """Everything that can't be honoured, the fatal first."""
    found = [
        Unsupported(field, rule.why.replace("{value}", value), rule.fatal)
        for rule in RULES
        for field, value in rule.hits(pod)
    ]
    return tuple(sorted(found, key=lambda each: not each.fatal))


def sentence(found: Iterable[Unsupported], longest: int = LONGEST_SENTENCE) -> str:
    """All of it as the text of one Event; what does not fit is counted."""
    texts = [str(each) for each in found]
    joined = "; ".join(texts)
    shown = len(texts)
    while len(joined) > longest and shown > 1:
        shown -= 1
        joined = "; ".join(texts[:shown]) + f"; and {len(texts) - shown} more"
    return joined


def _containers(pod: pods.Pod) -> Iterator[tuple[str, pods.Container]]:
    for index, container in enumerate(pod.spec.containers):
        yield f"spec.containers[{index}]", container


def _more_containers(pod: pods.Pod) -> Iterator[Hit]:
    for index, container in enumerate(pod.spec.containers[1:], start=1):
        yield f"spec.containers[{index}]", container.name


def _init_containers(pod: pods.Pod) -> Iterator[Hit]:
    for index, container in enumerate(pod.spec.init_containers):
        yield f"spec.initContainers[{index}]", container.name


def _ephemeral_containers(pod: pods.Pod) -> Iterator[Hit]:
    for index, container in enumerate(pod.spec.ephemeral_containers):
        yield f"spec.ephemeralContainers[{index}]", str(container.get("name", ""))


def _mounts(kinds: frozenset[str]) -> Callable[[pods.Pod], Iterator[Hit]]:
    def hits(pod: pods.Pod) -> Iterator[Hit]:
        volumes = {volume.name: volume for volume in pod.spec.volumes}
        for path, container in _containers(pod):
            for index, mount in enumerate(container.volume_mounts):
                kind = _volume_kind(volumes.get(mount.name))
                if kind in kinds and not _is_token(volumes.get(mount.name), mount):
                    yield f"{path}.volumeMounts[{index}]", f"{kind} volume {mount.name!r} at {mount.mount_path}"

    return hits


def _volume_kind(volume: pods.Volume | None) -> str:
    if volume is None:
        return "unknown"
    kinds: dict[str, object] = {
        "emptyDir": volume.empty_dir,
        "configMap": volume.config_map,
        "secret": volume.secret,
        "projected": volume.projected,
        "downwardAPI": volume.downward_api,
        "persistentVolumeClaim": volume.persistent_volume_claim,
        "hostPath": volume.host_path,
        "csi": volume.csi,
        "ephemeral": volume.ephemeral,
        "nfs": volume.nfs,
    }
    return next((kind for kind, source in kinds.items() if source is not None), "unknown")


def _is_token(volume: pods.Volume | None, mount: pods.VolumeMount) -> bool:
    return (
        volume is not None
        and volume.projected is not None
        and volume.name.startswith(TOKEN_VOLUME)
        and mount.mount_path == TOKEN_PATH
    )


def _flag(field: str, value: Callable[[pods.PodSpec], object]) -> Callable[[pods.Pod], Iterator[Hit]]:
    def hits(pod: pods.Pod) -> Iterator[Hit]:
        found = value(pod.spec)
        if found:
            yield field, str(found)

    return hits


def _each(field: str, value: Callable[[pods.Container], object]) -> Callable[[pods.Pod], Iterator[Hit]]:
    def hits(pod: pods.Pod) -> Iterator[Hit]:
        for path, container in _containers(pod):
            found = value(container)
            if found:
                yield f"{path}.{field}", str(found)

    return hits


def _security(field: str, asks: Callable[[Any], bool]) -> Callable[[pods.Pod], Iterator[Hit]]:
    """A key of the pod's or a container's securityContext (`capabilities.add` is one step down)."""
    outer, _, inner = field.partition(".")

    def hits(pod: pods.Pod) -> Iterator[Hit]:
        contexts = [("spec", pod.spec.security_context)]
        contexts += [(path, container.security_context) for path, container in _containers(pod)]
        for path, context in contexts:
            value = (context or {}).get(outer)
            if inner:
                value = value.get(inner) if isinstance(value, dict) else None
            if value is not None and asks(value):
                yield f"{path}.securityContext.{field}", _shown(value)

    return hits


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={value[key]}" for key in sorted(value))
    if isinstance(value, list):
        return ", ".join(str(each.get("name")) if isinstance(each, dict) else str(each) for each in value)
    return str(value)


def _given(_value: object) -> bool:
    return True


def _env_source(wanted: Callable[[pods.EnvSource], str]) -> Callable[[pods.Pod], Iterator[Hit]]:
    def hits(pod: pods.Pod) -> Iterator[Hit]:
        for path, container in _containers(pod):
            for index, variable in enumerate(container.env):
                if variable.value_from is not None and not variable.value and (value := wanted(variable.value_from)):
                    yield f"{path}.env[{index}].valueFrom.{value}", variable.name

    return hits


def _pod_address(source: pods.EnvSource) -> str:
    asked = source.field_ref is not None and source.field_ref.field_path in ("status.podIP", "status.podIPs")
    return "fieldRef" if asked else ""


def _file_key(source: pods.EnvSource) -> str:
    return "fileKeyRef" if source.file_key_ref is not None else ""


def _probes(container: pods.Container) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, probe in (("startupProbe", container.startup_probe), ("readinessProbe", container.readiness_probe)):
        if probe is not None:
            yield name, probe


def _probe_handlers(pod: pods.Pod) -> Iterator[Hit]:
    for path, container in _containers(pod):
        for name, probe in _probes(container):
            for handler in ("exec", "grpc"):
                if probe.get(handler) is not None:
                    yield f"{path}.{name}.{handler}", "ready" if name == "readinessProbe" else "started"


def _probe_hosts(pod: pods.Pod) -> Iterator[Hit]:
    for path, container in _containers(pod):
        for name, probe in _probes(container):
            for handler in ("httpGet", "tcpSocket"):
                if host := (probe.get(handler) or {}).get("host"):
                    yield f"{path}.{name}.{handler}.host", str(host)


def _probe_ports(pod: pods.Pod) -> Iterator[Hit]:
    for path, container in _containers(pod):
        for name, probe in _probes(container):
            for handler in ("httpGet", "tcpSocket"):
                action = probe.get(handler)
                if action is not None and probing.port(container, action.get("port")) is None:
                    yield f"{path}.{name}.{handler}.port", str(action.get("port"))


def _ports(field: str, asks: Callable[[pods.ContainerPort], object]) -> Callable[[pods.Pod], Iterator[Hit]]:
    def hits(pod: pods.Pod) -> Iterator[Hit]:
        for path, container in _containers(pod):
            for index, port in enumerate(container.ports):
                if found := asks(port):
                    yield f"{path}.ports[{index}].{field}", str(found)

    return hits


def _working_dir(pod: pods.Pod) -> Iterator[Hit]:
    # Where the command is wrapped to report its exit code, the wrapper changes the folder as well.
    if not pod.spec.containers or not pod.spec.containers[0].working_dir:
        return
    try:
        wrapped = launch.reports_exit_code(pod)
    except annotations.Invalid:
        return  # told by whoever reads annotations; such a pod does not run at all
    if not wrapped:
        yield "spec.containers[0].workingDir", pod.spec.containers[0].working_dir


_FILES = frozenset({"configMap", "secret", "projected", "downwardAPI"})
_STORAGE = frozenset({"persistentVolumeClaim", "hostPath", "csi", "ephemeral", "nfs", "unknown"})
_ONE_MACHINE = "a pod here is one rented container"
_HOST = "the host of a rented container belongs to somebody else, its namespaces can't be shared"
_DNS = "a rented container is outside the cluster's network; its name resolution is the host's"
_NOT_ENFORCED = "not enforced (asked: {value}); on a rented container the image and its host decide"

RULES: tuple[Rule, ...] = (
    Rule("spec.containers[1:]", f"{_ONE_MACHINE}; give {{value}} a pod of its own", True, _more_containers),
    Rule("spec.initContainers[*]", f"{_ONE_MACHINE}; do the work of {{value}} in the command", True, _init_containers),
    Rule("spec.ephemeralContainers[*]", f"{_ONE_MACHINE}; {{value}} can't be added", True, _ephemeral_containers),
    Rule(
        "spec.containers[*].volumeMounts[*] of configMap, secret, projected, downwardAPI",
        "files can't be put into a rented container in plain access ({value}); pass the values as environment",
        True,
        _mounts(_FILES),
    ),
    Rule(
        "spec.containers[*].volumeMounts[*] of any other volume except emptyDir",
        "storage of the cluster can't be reached from a rented machine ({value}); use storage on the network",
        True,
        _mounts(_STORAGE),
    ),
    Rule("spec.hostNetwork", _HOST, True, _flag("spec.hostNetwork", lambda spec: spec.host_network)),
    Rule("spec.hostPID", _HOST, True, _flag("spec.hostPID", lambda spec: spec.host_pid)),
    Rule("spec.hostIPC", _HOST, True, _flag("spec.hostIPC", lambda spec: spec.host_ipc)),
    Rule(
        "spec.runtimeClassName",
        f"it is '{{value}}'; allowed is {' or '.join(sorted(RUNTIME_CLASSES - {''}))}, or leave it out",
        True,
        _flag(
            "spec.runtimeClassName",
            lambda spec: spec.runtime_class_name not in RUNTIME_CLASSES and spec.runtime_class_name,
        ),
    ),
    Rule(
        "securityContext.privileged",
        "clouds rent unprivileged containers only",
        True,
        _security("privileged", bool),
    ),
    Rule(
        "securityContext.capabilities.add",
        "clouds give no further capabilities (asked: {value})",
        True,
        _security("capabilities.add", bool),
    ),
    Rule(
        "spec.containers[*].env[*].valueFrom.fieldRef of status.podIP, status.podIPs",
        "{value}: a rented container has no address in the cluster's network",
        True,
        _env_source(_pod_address),
    ),
    Rule(
        "spec.containers[*].env[*].valueFrom.fileKeyRef",
        "{value}: there is no init container that could write the file; use a ConfigMap or a Secret",
        True,
        _env_source(_file_key),
    ),
    Rule(
        "spec.containers[*].volumeMounts[*] of emptyDir",
        "nothing is mounted ({value}): the folder is on the container's own disk, and exists only if the image has it",
        False,
        _mounts(frozenset({"emptyDir"})),
    ),
    Rule(
        "spec.containers[*].livenessProbe",
        "not performed: a rented container can't be restarted in place; the process should exit when it is broken",
        False,
        _each("livenessProbe", lambda container: "set" if container.liveness_probe is not None else ""),
    ),
    Rule(
        "spec.containers[*].startupProbe, readinessProbe with exec or grpc",
        "not performed: only httpGet and tcpSocket reach a rented container; it counts as {value} once it runs",
        False,
        _probe_handlers,
    ),
    Rule(
        "spec.containers[*].startupProbe, readinessProbe .httpGet.host, .tcpSocket.host",
        "'{value}' is left out: the probe goes to the rented machine's public address",
        False,
        _probe_hosts,
    ),
    Rule(
        "spec.containers[*].startupProbe, readinessProbe .httpGet.port, .tcpSocket.port",
        "it is '{value}'; allowed is a number from 1 to 65535 or the name of one of the container's ports; "
        "the pod never gets ready",
        False,
        _probe_ports,
    ),
    Rule(
        "spec.containers[*].lifecycle",
        "{value} is not performed: nothing reaches into a rented container in plain access",
        False,
        _each("lifecycle", lambda container: ", ".join(sorted(container.lifecycle or {}))),
    ),
    Rule("spec.containers[*].stdin", "nobody can attach to it", False, _each("stdin", lambda each: each.stdin)),
    Rule("spec.containers[*].tty", "there is no terminal", False, _each("tty", lambda each: each.tty)),
    Rule(
        "spec.containers[*].workingDir",
        "'{value}' is left out: the process starts in the image's own folder unless the pod has a command and "
        "reports its exit code",
        False,
        _working_dir,
    ),
    Rule(
        "spec.containers[*].restartPolicy",
        "'{value}' is left out: the pod's restartPolicy counts",
        False,
        _each("restartPolicy", lambda container: container.restart_policy),
    ),
    Rule(
        "spec.containers[*].ports[*].hostPort",
        "{value} is left out: the cloud chooses the public port (see the annotation bareboat.dev/ports)",
        False,
        _ports("hostPort", lambda port: port.host_port),
    ),
    Rule(
        "spec.containers[*].ports[*].protocol SCTP",
        "{value} can't be mapped to a public port; allowed are TCP and UDP",
        False,
        _ports("protocol", lambda port: port.protocol if port.protocol not in ("", "TCP", "UDP") else ""),
    ),
    Rule("spec.hostAliases", _DNS, False, _flag("spec.hostAliases", lambda spec: spec.host_aliases)),
    Rule("spec.dnsConfig", _DNS, False, _flag("spec.dnsConfig", lambda spec: spec.dns_config)),
    Rule("spec.subdomain", _DNS, False, _flag("spec.subdomain", lambda spec: spec.subdomain)),
    *(
        Rule(f"securityContext.{field}", _NOT_ENFORCED, False, _security(field, asks))
        for field, asks in (
            ("runAsUser", _given),
            ("runAsGroup", _given),
            ("runAsNonRoot", bool),
            ("readOnlyRootFilesystem", bool),
            ("allowPrivilegeEscalation", lambda value: value is False),
            ("capabilities.drop", bool),
            ("seccompProfile.type", lambda value: value != "Unconfined"),
            ("appArmorProfile.type", lambda value: value != "Unconfined"),
            ("seLinuxOptions", bool),
            ("procMount", lambda value: value != "Default"),
            ("fsGroup", _given),
            ("supplementalGroups", bool),
            ("sysctls", bool),
        )
    ),
)
