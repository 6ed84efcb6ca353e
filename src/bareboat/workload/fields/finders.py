"""How rules find in a pod what they speak of: each maker gives a function from a pod to places and values. Pure."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bareboat.registry import references
from bareboat.workload import annotations, launch, probing
from bareboat.workload import pod as pods
from bareboat.workload.fields import rows

Finder = Callable[[pods.Pod], Iterator[rows.Hit]]

TOKEN_VOLUME = "kube-api-access-"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
# What a container has where its runtime gives no more and no less than by default.
_BY_DEFAULT = """
AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID
SYS_CHROOT
"""
DEFAULT_CAPABILITIES = frozenset(_BY_DEFAULT.split())


def containers(pod: pods.Pod) -> Iterator[tuple[str, pods.Container]]:
    """All that may run, with their paths; ephemeral ones are added while the pod runs and not among them."""
    for index, container in enumerate(pod.spec.containers):
        yield f"spec.containers[{index}]", container
    for index, container in enumerate(pod.spec.init_containers):
        yield f"spec.initContainers[{index}]", container


def more_containers(pod: pods.Pod) -> Iterator[rows.Hit]:
    for index, container in enumerate(pod.spec.containers[1:], start=1):
        yield f"spec.containers[{index}]", container.name


def init_containers(pod: pods.Pod) -> Iterator[rows.Hit]:
    for index, container in enumerate(pod.spec.init_containers):
        yield f"spec.initContainers[{index}]", container.name


def ephemeral_containers(pod: pods.Pod) -> Iterator[rows.Hit]:
    for index, container in enumerate(pod.spec.ephemeral_containers):
        yield f"spec.ephemeralContainers[{index}]", str(container.get("name", ""))


def other_images(pod: pods.Pod) -> Iterator[rows.Hit]:
    """Containers whose image is another than the first one's, however both are spelled."""
    first = references.canonical(pod.spec.containers[0].image) if pod.spec.containers else ""
    for path, container in containers(pod):
        if references.canonical(container.image) != first:
            yield f"{path}.image", container.image


def mounts(kinds: frozenset[str]) -> Finder:
    """Mounts of volumes of these kinds, by mount."""

    def hits(pod: pods.Pod) -> Iterator[rows.Hit]:
        volumes = {volume.name: volume for volume in pod.spec.volumes}
        for path, container in containers(pod):
            for index, mount in enumerate(container.volume_mounts):
                kind = volume_kind(volumes.get(mount.name))
                if kind in kinds and not _is_token(volumes.get(mount.name), mount):
                    yield f"{path}.volumeMounts[{index}]", f"{kind} volume {mount.name!r} at {mount.mount_path}"

    return hits


def mounted(kinds: frozenset[str]) -> Finder:
    """Volumes of these kinds that a container mounts, by volume."""

    def hits(pod: pods.Pod) -> Iterator[rows.Hit]:
        used = {mount.name for _, container in containers(pod) for mount in container.volume_mounts}
        for index, volume in enumerate(pod.spec.volumes):
            kind = volume_kind(volume)
            if volume.name in used and kind in kinds:
                yield (
                    f"spec.volumes[{index}]{'' if kind == 'unknown' else f'.{kind}'}",
                    f"{kind} volume {volume.name!r}",
                )

    return hits


def volume_kind(volume: pods.Volume | None) -> str:
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
        "image": volume.image,
        "gitRepo": volume.git_repo,
    }
    return next((kind for kind, source in kinds.items() if source is not None), "unknown")


def projected(*kinds: str) -> Finder:
    """Sources of projected volumes by their field."""

    def hits(pod: pods.Pod) -> Iterator[rows.Hit]:
        for number, volume in enumerate(pod.spec.volumes):
            for index, source in enumerate((volume.projected or {}).get("sources") or ()):
                for kind in kinds:
                    if isinstance(source, dict) and source.get(kind) is not None:
                        yield f"spec.volumes[{number}].projected.sources[{index}].{kind}", f"volume {volume.name!r}"

    return hits


def medium(pod: pods.Pod) -> Iterator[rows.Hit]:
    for index, volume in enumerate(pod.spec.volumes):
        found = str((volume.empty_dir or {}).get("medium") or "")
        if found not in ("", "Memory"):
            yield f"spec.volumes[{index}].emptyDir.medium", found


def mount_option(field: str, value: Callable[[pods.VolumeMount], str]) -> Finder:
    def hits(pod: pods.Pod) -> Iterator[rows.Hit]:
        for path, container in containers(pod):
            for index, mount in enumerate(container.volume_mounts):
                if found := value(mount):
                    yield f"{path}.volumeMounts[{index}].{field}", found

    return hits


def _is_token(volume: pods.Volume | None, mount: pods.VolumeMount) -> bool:
    return (
        volume is not None
        and volume.projected is not None
        and volume.name.startswith(TOKEN_VOLUME)
        and mount.mount_path == TOKEN_PATH
    )


def flag(field: str, value: Callable[[pods.PodSpec], object]) -> Finder:
    """A field of the spec by its truth."""

    def hits(pod: pods.Pod) -> Iterator[rows.Hit]:
        found = value(pod.spec)
        if found:
            yield f"spec.{field}", str(found)

    return hits


def each(field: str, value: Callable[[pods.Container], object]) -> Finder:
    """A field of a container by its truth."""

    def hits(pod: pods.Pod) -> Iterator[rows.Hit]:
        for path, container in containers(pod):
            found = value(container)
            if found:
                yield f"{path}.{field}", str(found)

    return hits


def given(_value: object) -> bool:
    return True


def security(field: str, asks: Callable[[Any], bool] = given, *, pod: bool = True, container: bool = True) -> Finder:
    """A key of the pod's or a container's securityContext (`capabilities.add` is one step down)."""
    outer, _, inner = field.partition(".")

    def hits(found: pods.Pod) -> Iterator[rows.Hit]:
        contexts = [("spec", found.spec.security_context)] if pod else []
        contexts += [(path, each.security_context) for path, each in containers(found)] if container else []
        for path, context in contexts:
            value = (context or {}).get(outer)
            if inner:
                value = value.get(inner) if isinstance(value, dict) else None
            if value is not None and asks(value):
                yield f"{path}.securityContext.{field}", _shown(value)

    return hits


def beyond_default(capabilities: Any) -> bool:
    """Whether there is any that a container doesn't have anyway."""
    names = capabilities if isinstance(capabilities, list) else []
    return any(str(name).upper().removeprefix("CAP_") not in DEFAULT_CAPABILITIES for name in names)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={value[key]}" for key in sorted(value))
    if isinstance(value, list):
        return ", ".join(str(one.get("name")) if isinstance(one, dict) else str(one) for one in value)
    return str(value)


def env_source(wanted: Callable[[pods.EnvSource], str]) -> Finder:
    def hits(pod: pods.Pod) -> Iterator[rows.Hit]:
        for path, container in containers(pod):
            for index, variable in enumerate(container.env):
                if variable.value_from is not None and not variable.value and (value := wanted(variable.value_from)):
                    yield f"{path}.env[{index}].valueFrom.{value}", variable.name

    return hits


def pod_address(source: pods.EnvSource) -> str:
    asked = source.field_ref is not None and source.field_ref.field_path in ("status.podIP", "status.podIPs")
    return "fieldRef" if asked else ""


def file_key(source: pods.EnvSource) -> str:
    return "fileKeyRef" if source.file_key_ref is not None else ""


def _probes(container: pods.Container, *, liveness: bool = False) -> Iterator[tuple[str, Mapping[str, Any]]]:
    found = [("startupProbe", container.startup_probe), ("readinessProbe", container.readiness_probe)]
    found += [("livenessProbe", container.liveness_probe)] if liveness else []
    for name, probe in found:
        if probe is not None:
            yield name, probe


def probe_handlers(pod: pods.Pod) -> Iterator[rows.Hit]:
    for path, container in containers(pod):
        for name, probe in _probes(container):
            for handler in ("exec", "grpc"):
                if probe.get(handler) is not None:
                    yield f"{path}.{name}.{handler}", "ready" if name == "readinessProbe" else "started"


def probe_hosts(pod: pods.Pod) -> Iterator[rows.Hit]:
    for path, container in containers(pod):
        for name, probe in _probes(container):
            for handler in ("httpGet", "tcpSocket"):
                if host := (probe.get(handler) or {}).get("host"):
                    yield f"{path}.{name}.{handler}.host", str(host)


def probe_ports(*handlers: str, liveness: bool = False) -> Finder:
    def hits(pod: pods.Pod) -> Iterator[rows.Hit]:
        for path, container in containers(pod):
            for name, probe in _probes(container, liveness=liveness):
                for handler in handlers:
                    action = probe.get(handler)
                    if action is not None and probing.port(container, action.get("port")) is None:
                        yield f"{path}.{name}.{handler}.port", str(action.get("port"))

    return hits


def ports(field: str, asks: Callable[[pods.ContainerPort], object]) -> Finder:
    def hits(pod: pods.Pod) -> Iterator[rows.Hit]:
        for path, container in containers(pod):
            for index, port in enumerate(container.ports):
                if found := asks(port):
                    yield f"{path}.ports[{index}].{field}", str(found)

    return hits


def working_dir(pod: pods.Pod) -> Iterator[rows.Hit]:
    # Where the command is wrapped to report its exit code, the wrapper changes the folder as well.
    if not pod.spec.containers or not pod.spec.containers[0].working_dir:
        return
    try:
        wrapped = launch.reports_exit_code(pod)
    except annotations.Invalid:
        return  # told by whoever reads annotations; such a pod does not run at all
    if not wrapped:
        yield "spec.containers[0].workingDir", pod.spec.containers[0].working_dir
