"""A container's environment with every reference resolved, by the real kubelet's rules. Pure.

Owns order, precedence and what is missing; leaves fetching to an edge (`wanted` names what to fetch) and rented
machines to the caller. Where something mandatory is missing the environment is incomplete and `blocking` says why.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from bareboat.workload import downward, expansion, service_links, sources
from bareboat.workload import pod as pods


class Kind(StrEnum):
    """What is wrong; the value is the reason of the Event. The first ten are virtual-kubelet's words."""

    OPTIONAL_CONFIG_MAP_NOT_FOUND = "OptionalConfigMapNotFound"
    OPTIONAL_CONFIG_MAP_KEY_NOT_FOUND = "OptionalConfigMapKeyNotFound"
    OPTIONAL_SECRET_NOT_FOUND = "OptionalSecretNotFound"
    OPTIONAL_SECRET_KEY_NOT_FOUND = "OptionalSecretKeyNotFound"
    MANDATORY_CONFIG_MAP_NOT_FOUND = "MandatoryConfigMapNotFound"
    MANDATORY_CONFIG_MAP_KEY_NOT_FOUND = "MandatoryConfigMapKeyNotFound"
    MANDATORY_SECRET_NOT_FOUND = "MandatorySecretNotFound"
    MANDATORY_SECRET_KEY_NOT_FOUND = "MandatorySecretKeyNotFound"
    FAILED_TO_READ_OPTIONAL_CONFIG_MAP = "FailedToReadOptionalConfigMap"
    FAILED_TO_READ_MANDATORY_CONFIG_MAP = "FailedToReadMandatoryConfigMap"
    FAILED_TO_READ_OPTIONAL_SECRET = "FailedToReadOptionalSecret"
    FAILED_TO_READ_MANDATORY_SECRET = "FailedToReadMandatorySecret"
    FAILED_TO_READ_TOKEN = "FailedToReadServiceAccountToken"
    INVALID_NAMES = "InvalidEnvironmentVariableNames"
    INVALID_VALUE = "InvalidEnvironmentVariableValue"
    UNSUPPORTED_SOURCE = "UnsupportedEnvironmentSource"
    UNSUPPORTED_FILE = "UnsupportedVolumeSource"
    INVALID_PATH = "InvalidVolumePath"


_NOT_FOUND = {
    (sources.Kind.CONFIG_MAP, True): Kind.OPTIONAL_CONFIG_MAP_NOT_FOUND,
    (sources.Kind.CONFIG_MAP, False): Kind.MANDATORY_CONFIG_MAP_NOT_FOUND,
    (sources.Kind.SECRET, True): Kind.OPTIONAL_SECRET_NOT_FOUND,
    (sources.Kind.SECRET, False): Kind.MANDATORY_SECRET_NOT_FOUND,
}
_KEY_NOT_FOUND = {
    (sources.Kind.CONFIG_MAP, True): Kind.OPTIONAL_CONFIG_MAP_KEY_NOT_FOUND,
    (sources.Kind.CONFIG_MAP, False): Kind.MANDATORY_CONFIG_MAP_KEY_NOT_FOUND,
    (sources.Kind.SECRET, True): Kind.OPTIONAL_SECRET_KEY_NOT_FOUND,
    (sources.Kind.SECRET, False): Kind.MANDATORY_SECRET_KEY_NOT_FOUND,
}
_FAILED = {
    (sources.Kind.CONFIG_MAP, True): Kind.FAILED_TO_READ_OPTIONAL_CONFIG_MAP,
    (sources.Kind.CONFIG_MAP, False): Kind.FAILED_TO_READ_MANDATORY_CONFIG_MAP,
    (sources.Kind.SECRET, True): Kind.FAILED_TO_READ_OPTIONAL_SECRET,
    (sources.Kind.SECRET, False): Kind.FAILED_TO_READ_MANDATORY_SECRET,
}
_TITLES = {sources.Kind.CONFIG_MAP: "ConfigMap", sources.Kind.SECRET: "Secret"}


@dataclass(frozen=True, slots=True)
class Problem:
    """`kind` is the Event's reason. A problem that `blocks` leaves the container Waiting with reason
    CreateContainerConfigError and `message`, which for missing objects and keys is the kubelet's own text.

    `field` is where in the container (`env[2] (NAME)`); no value of a Secret is ever in a message.
    """

    kind: Kind
    message: str
    blocks: bool
    field: str = ""

    @property
    def lasting(self) -> bool:
        """Asking again is of no use before the pod itself changes."""
        return self.kind in (Kind.UNSUPPORTED_SOURCE, Kind.UNSUPPORTED_FILE, Kind.INVALID_PATH)


@dataclass(frozen=True, slots=True)
class Resolved:
    """`env` in order: envFrom, then env, then Services. Only to be used when nothing is `blocking`."""

    env: dict[str, str] = field(repr=False)
    problems: tuple[Problem, ...] = ()

    @property
    def blocking(self) -> Problem | None:
        """The first reason why the container can't be started now."""
        return next((problem for problem in self.problems if problem.blocks), None)


def wanted(pod: pods.Pod) -> frozenset[sources.Reference]:
    """Every ConfigMap and Secret that environments need, and image pull secrets. What the files of volumes are made of
    is told by `volume_files.references_of`."""
    found: set[tuple[sources.Kind, str]] = {
        (sources.Kind.SECRET, secret.name) for secret in pod.spec.image_pull_secrets if secret.name
    }
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        for source in container.env_from:
            if source.config_map_ref is not None:
                found.add((sources.Kind.CONFIG_MAP, source.config_map_ref.name))
            if source.secret_ref is not None:
                found.add((sources.Kind.SECRET, source.secret_ref.name))
        for variable in container.env:
            if variable.value or variable.value_from is None:
                continue
            if variable.value_from.config_map_key_ref is not None:
                found.add((sources.Kind.CONFIG_MAP, variable.value_from.config_map_key_ref.name))
            if variable.value_from.secret_key_ref is not None:
                found.add((sources.Kind.SECRET, variable.value_from.secret_key_ref.name))
    return frozenset(sources.Reference(kind, pod.metadata.namespace, name) for kind, name in found)


def missing(
    kind: sources.Kind,
    name: str,
    known: sources.ConfigMap | sources.Secret | sources.Unreadable | None,
    optional: bool,
    so: str,
) -> Problem | None:
    """What is wrong when an object is not there or not known; `so` says what an optional one's absence leads to."""
    if isinstance(known, sources.Unreadable):
        # Optional means that it may be absent, not that it may be unknown: else a passing fault changes a pod.
        return Problem(_FAILED[kind, optional], known.why, True)
    if known is None:
        message = f'{kind} "{name}" not found' + (f"; it is optional, {so}" if optional else "")
        return Problem(_NOT_FOUND[kind, optional], message, not optional)
    return None


def missing_key(kind: sources.Kind, *, optional: bool) -> Kind:
    return _KEY_NOT_FOUND[kind, optional]


def resolve(
    pod: pods.Pod,
    container: pods.Container,
    found: sources.Sources,
    node: sources.NodeFacts,
    *,
    services: Iterable[sources.Service] = (),
    pod_ips: Sequence[str] = (),
) -> Resolved:
    """The environment of one container. `services` is empty where their cluster addresses can't be reached (plain
    access); variables of the user's own that look like a Service's are left alone either way."""
    links = service_links.variables(services, pod.metadata.namespace, links=pod.spec.enable_service_links is not False)
    resolution = _Resolution(pod, container, found, node, links, pod_ips)
    for index, source in enumerate(container.env_from):
        resolution.take_all(source, f"envFrom[{index}]")
    for index, variable in enumerate(container.env):
        resolution.take_one(variable, f"env[{index}] ({variable.name})")
    env = resolution.env
    return Resolved(env | {name: value for name, value in links.items() if name not in env}, tuple(resolution.problems))


def expand(strings: Iterable[str] | None, env: Mapping[str, str]) -> tuple[str, ...] | None:
    """A command or its arguments with `$(VAR)` replaced. None and an empty list are None: the image's own applies."""
    return tuple(expansion.expand(text, env) for text in strings or ()) or None


class _Resolution:
    """One container's environment in the making."""

    def __init__(
        self,
        pod: pods.Pod,
        container: pods.Container,
        found: sources.Sources,
        node: sources.NodeFacts,
        links: Mapping[str, str],
        pod_ips: Sequence[str],
    ) -> None:
        self.env: dict[str, str] = {}
        self.problems: list[Problem] = []
        self._pod = pod
        self._container = container
        self._found = found
        self._node = node
        self._links = links
        self._pod_ips = pod_ips

    def take_all(self, source: pods.EnvFrom, field: str) -> None:
        if source.config_map_ref is not None:
            kind, selector = sources.Kind.CONFIG_MAP, source.config_map_ref
        elif source.secret_ref is not None:
            kind, selector = sources.Kind.SECRET, source.secret_ref
        else:
            return
        data = self._data(kind, selector.name, selector.optional, field)
        for key, raw in (data or {}).items():
            self._set(source.prefix + key, raw, f"{field} key {key}")

    def take_one(self, variable: pods.EnvVar, field: str) -> None:
        source = variable.value_from
        if variable.value or source is None:
            self._set(variable.name, expansion.expand(variable.value, self.env, self._links), field)
        elif source.config_map_key_ref is not None:
            self._take_key(variable.name, sources.Kind.CONFIG_MAP, source.config_map_key_ref, field)
        elif source.secret_key_ref is not None:
            self._take_key(variable.name, sources.Kind.SECRET, source.secret_key_ref, field)
        else:
            try:
                self._set(variable.name, self._from_pod(source), field)
            except downward.Refused as refusal:
                self._problem(Kind.UNSUPPORTED_SOURCE, f"{variable.name}: {refusal}", True, field)

    def _from_pod(self, source: pods.EnvSource) -> str:
        if source.field_ref is not None:
            if source.field_ref.api_version not in ("", "v1"):
                raise downward.Refused(f"apiVersion of a fieldRef is {source.field_ref.api_version!r}; allowed is v1")
            return downward.field(self._pod, source.field_ref.field_path, self._node, self._pod_ips)
        if source.resource_field_ref is not None:
            return downward.resource(self._pod, self._container, source.resource_field_ref, self._node)
        if source.file_key_ref is not None:
            raise downward.Refused(
                "fileKeyRef reads a file that an init container writes, and a rented container has neither; "
                "put the value into a ConfigMap or a Secret"
            )
        raise downward.Refused(
            "valueFrom names no known source; allowed are configMapKeyRef, secretKeyRef, fieldRef and resourceFieldRef"
        )

    def _take_key(self, name: str, kind: sources.Kind, selector: pods.KeySelector, field: str) -> None:
        data = self._data(kind, selector.name, selector.optional, field)
        if data is None:
            return
        if selector.key in data:
            self._set(name, data[selector.key], field)
            return
        where = f"{_TITLES[kind]} {self._pod.metadata.namespace}/{selector.name}"
        message = f"couldn't find key {selector.key} in {where}"
        if selector.optional:
            message += f"; it is optional, {name} is left out"
        self._problem(_KEY_NOT_FOUND[kind, selector.optional], message, not selector.optional, field)

    def _data(
        self, kind: sources.Kind, name: str, optional: bool, field: str
    ) -> Mapping[str, str] | Mapping[str, bytes] | None:
        known = self._found.config_map(name) if kind is sources.Kind.CONFIG_MAP else self._found.secret(name)
        problem = missing(kind, name, known, optional, "its variables are left out")
        if problem is not None:
            self._problem(problem.kind, problem.message, problem.blocks, field)
        return known.data or {} if isinstance(known, sources.ConfigMap | sources.Secret) else None

    def _set(self, name: str, raw: str | bytes, field: str) -> None:
        if not name or "=" in name or not (name.isascii() and name.isprintable()):
            self._problem(
                Kind.INVALID_NAMES,
                f"{name!r} can't name an environment variable: allowed are printable ASCII characters except '='",
                False,
                field,
            )
            return
        try:
            value = raw if isinstance(raw, str) else raw.decode()
        except UnicodeDecodeError:
            value = "\0"
        if "\0" in value:
            message = f"{name} can't be an environment variable: its value is not text (UTF-8 without NUL bytes)"
            self._problem(Kind.INVALID_VALUE, message, True, field)
            return
        self.env.pop(name, None)  # the later declaration gives the place as well as the value
        self.env[name] = value

    def _problem(self, kind: Kind, message: str, blocks: bool, field: str) -> None:
        problem = Problem(kind, message, blocks, field)
        if all((known.kind, known.message) != (kind, message) for known in self.problems):
            self.problems.append(problem)
