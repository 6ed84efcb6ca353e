"""The files of a pod's volumes: configMap, secret, projected, downwardAPI, as bytes and modes. Pure.

Owns what stands in which file and what is missing; leaves fetching, asking for tokens, uploading and replacing to
edges. Follows the kubelet: `items` choose and rename, `optional` covers the object and its keys, later sources of a
projected volume win. No file's content is ever in a repr or a message.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from bareboat.workload import downward, references, sources
from bareboat.workload import pod as pods

DEFAULT_MODE = 0o644
TOKEN_LIFE_S = 3600
REFRESH_AT = 0.8
OLDEST_TOKEN_S = 24 * 3600.0

_NO_SOURCE = "it has a source that can't be had here; allowed are configMap, secret, downwardAPI, serviceAccountToken"

Content = tuple[bytes, int]
"""A file's bytes and its permission bits."""
Files = Mapping[str, Mapping[str, Content]]
"""By volume, by path inside the volume. A volume without files (emptyDir) is there with none."""


@dataclass(frozen=True, slots=True, order=True)
class TokenRequest:
    """A service-account token that the pod wants as a file. Ask TokenRequest for `audience` (empty: the API server's
    own) and `life_s`, bound to the pod by name and uid. Two files may share one request's token."""

    audience: str = ""
    life_s: int = TOKEN_LIFE_S


@dataclass(frozen=True, slots=True)
class TokenFile:
    volume: str
    path: str
    request: TokenRequest


@dataclass(frozen=True, slots=True)
class Token:
    """What the API server gave, and when: `issued_s` and `expires_s` in unix seconds."""

    text: str = field(repr=False)
    issued_s: float
    expires_s: float

    @property
    def refresh_s(self) -> float:
        """When to ask anew: after 80 % of its life, and after a day at the latest."""
        return self.issued_s + min(REFRESH_AT * max(0.0, self.expires_s - self.issued_s), OLDEST_TOKEN_S)


@dataclass(frozen=True, slots=True)
class Found:
    """`problems` that block leave the pod in ContainerCreating with an Event FailedMount and their message; then
    `files` is incomplete and not to be sent."""

    files: Files = field(repr=False)
    problems: tuple[references.Problem, ...] = ()

    @property
    def blocking(self) -> references.Problem | None:
        return next((problem for problem in self.problems if problem.blocks), None)


class KeyPath(msgspec.Struct, omit_defaults=True):
    key: str = ""
    path: str = ""
    mode: int | None = None


class DownwardFile(msgspec.Struct, rename="camel", omit_defaults=True):
    path: str = ""
    field_ref: pods.FieldSelector | None = None
    resource_field_ref: pods.ResourceSelector | None = None
    mode: int | None = None


class TokenSource(msgspec.Struct, rename="camel", omit_defaults=True):
    path: str = ""
    audience: str = ""
    expiration_seconds: int | None = None


class ObjectSource(msgspec.Struct, rename="camel", omit_defaults=True):
    """A configMap or secret, as a volume or in a projected one. (A secret volume alone calls its name secretName.)"""

    name: str = ""
    secret_name: str = ""
    items: list[KeyPath] | None = None
    optional: bool = False


class DownwardSource(msgspec.Struct, rename="camel", omit_defaults=True):
    items: list[DownwardFile] | None = None


class Source(msgspec.Struct, rename="camel", omit_defaults=True):
    """One source of a projected volume; the other volumes are read as projected ones with one source."""

    config_map: ObjectSource | None = None
    secret: ObjectSource | None = None
    downward_api: DownwardSource | None = msgspec.field(name="downwardAPI", default=None)
    service_account_token: TokenSource | None = None


class Projection(msgspec.Struct, rename="camel", omit_defaults=True):
    sources: list[Source] = []
    default_mode: int = DEFAULT_MODE


S = TypeVar("S", bound=msgspec.Struct)


def projection(volume: pods.Volume) -> Projection | None:
    """What a volume is made of; None for one that has no files of its own."""
    if volume.projected is not None:
        return _read(volume.projected, Projection)
    for kind, source in (("configMap", volume.config_map), ("secret", volume.secret)):
        if source is not None:
            found = _read(source, ObjectSource)
            found = msgspec.structs.replace(found, name=found.name or found.secret_name)
            only = Source(config_map=found) if kind == "configMap" else Source(secret=found)
            return Projection([only], _mode(source))
    if volume.downward_api is not None:
        only = Source(downward_api=_read(volume.downward_api, DownwardSource))
        return Projection([only], _mode(volume.downward_api))
    return None


def references_of(pod: pods.Pod) -> frozenset[sources.Reference]:
    """Every ConfigMap and Secret that the volumes' files are made of."""
    found = set()
    for volume in pod.spec.volumes:
        for source in (projection(volume) or Projection()).sources:
            for kind, named in ((sources.Kind.CONFIG_MAP, source.config_map), (sources.Kind.SECRET, source.secret)):
                if named is not None and named.name:
                    found.add(sources.Reference(kind, pod.metadata.namespace, named.name))
    return frozenset(found)


def tokens(pod: pods.Pod) -> tuple[TokenFile, ...]:
    """Every token that the pod wants, by file."""
    return tuple(
        TokenFile(volume.name, source.service_account_token.path, _request(source.service_account_token))
        for volume in pod.spec.volumes
        for source in (projection(volume) or Projection()).sources
        if source.service_account_token is not None
    )


def build(
    pod: pods.Pod,
    found: sources.Sources,
    node: sources.NodeFacts,
    given: Mapping[TokenRequest, Token],
    *,
    pod_ips: Sequence[str] = (),
) -> Found:
    """All files of all volumes. `given` has what the API server answered for `tokens(pod)`; a token that is missing
    there blocks. Call it anew when an object or token changes: the result is what the volumes are to hold then."""
    group = (pod.spec.security_context or {}).get("fsGroup")
    making = _Making(pod, found, node, given, pod_ips, has_group=isinstance(group, int))
    files = {volume.name: making.volume(volume) for volume in pod.spec.volumes}
    return Found(files, tuple(making.problems))


class _Making:
    """The files of one pod in the making."""

    def __init__(
        self,
        pod: pods.Pod,
        found: sources.Sources,
        node: sources.NodeFacts,
        given: Mapping[TokenRequest, Token],
        pod_ips: Sequence[str],
        *,
        has_group: bool,
    ) -> None:
        self.problems: list[references.Problem] = []
        self._pod = pod
        self._found = found
        self._node = node
        self._given = given
        self._pod_ips = pod_ips
        self._has_group = has_group

    def volume(self, volume: pods.Volume) -> dict[str, Content]:
        made: dict[str, Content] = {}
        described = projection(volume) or Projection()
        for source in described.sources:
            for path, raw, mode in self._source(source, volume.name):
                if not is_inside(path):
                    self._block(references.Kind.INVALID_PATH, f"path {path!r} leads out of the volume", volume.name)
                    continue
                bits = described.default_mode if mode is None else mode
                if self._has_group:
                    # As the kubelet does with fsGroup: a token is for that group alone, and it may read every file.
                    bits = (0o600 if source.service_account_token is not None else bits) | 0o440
                made[path] = raw, bits & 0o777
        return made

    def _source(self, source: Source, volume: str) -> Iterator[tuple[str, bytes, int | None]]:
        if source.config_map is not None:
            yield from self._object(sources.Kind.CONFIG_MAP, source.config_map, volume)
        elif source.secret is not None:
            yield from self._object(sources.Kind.SECRET, source.secret, volume)
        elif source.downward_api is not None:
            for item in source.downward_api.items or ():
                try:
                    yield item.path, self._downward(item).encode(), item.mode
                except downward.Refused as refusal:
                    self._block(references.Kind.UNSUPPORTED_FILE, f"{item.path}: {refusal}", volume)
        elif source.service_account_token is not None:
            yield from self._token(source.service_account_token, volume)
        else:
            self._block(references.Kind.UNSUPPORTED_FILE, _NO_SOURCE, volume)

    def _token(self, source: TokenSource, volume: str) -> Iterator[tuple[str, bytes, None]]:
        token = self._given.get(_request(source))
        if token is not None:
            yield source.path, token.text.encode(), None
            return
        audience = f"audience {source.audience}" if source.audience else "the API server's audience"
        message = f"no service-account token has been issued yet for {source.path} ({audience})"
        self._block(references.Kind.FAILED_TO_READ_TOKEN, message, volume)

    def _downward(self, item: DownwardFile) -> str:
        if item.field_ref is not None:
            return downward.field(self._pod, item.field_ref.field_path, self._node, self._pod_ips)
        if item.resource_field_ref is not None:
            nobody = pods.Container()
            return downward.resource(self._pod, nobody, item.resource_field_ref, self._node)
        raise downward.Refused("it has neither a fieldRef nor a resourceFieldRef")

    def _object(self, kind: sources.Kind, source: ObjectSource, volume: str) -> Iterator[tuple[str, bytes, int | None]]:
        find = self._found.config_map if kind is sources.Kind.CONFIG_MAP else self._found.secret
        known = find(source.name)
        problem = references.missing(kind, source.name, known, source.optional, "its files are left out")
        if problem is not None:
            self._note(problem.kind, problem.message, problem.blocks, volume)
            return
        data = _content(known)
        if source.items is None:
            yield from ((key, raw, None) for key, raw in data.items())
            return
        for item in source.items:
            if item.key in data:
                yield item.path, data[item.key], item.mode
            elif not source.optional:
                word = "config" if kind is sources.Kind.CONFIG_MAP else "secret"
                message = f"references non-existent {word} key: {item.key}"
                self._block(references.missing_key(kind, optional=False), message, volume)

    def _block(self, kind: references.Kind, message: str, volume: str) -> None:
        self._note(kind, message, True, volume)

    def _note(self, kind: references.Kind, message: str, blocks: bool, volume: str) -> None:
        text = f'MountVolume.SetUp failed for volume "{volume}" : {message}' if blocks else message
        problem = references.Problem(kind, text, blocks, f"volume {volume}")
        if problem not in self.problems:
            self.problems.append(problem)


def is_inside(path: str) -> bool:
    """Whether a path stays inside its volume and names a file there. The API server checks it; a pod that came another
    way must not write elsewhere on the machine."""
    return (
        bool(path)
        and "\0" not in path
        and not path.startswith("/")
        and ".." not in path.split("/")
        and posixpath.normpath(path) != "."
    )


def _content(known: sources.ConfigMap | sources.Secret | sources.Unreadable | None) -> dict[str, bytes]:
    if isinstance(known, sources.ConfigMap):
        return {key: text.encode() for key, text in (known.data or {}).items()} | (known.binary_data or {})
    return dict(known.data or {}) if isinstance(known, sources.Secret) else {}


def _request(source: TokenSource) -> TokenRequest:
    return TokenRequest(source.audience, source.expiration_seconds or TOKEN_LIFE_S)


def _read(raw: Mapping[str, Any], kind: type[S]) -> S:
    """A source as its struct. What the API server would not have let in is read as if it said nothing."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError:
        return kind()


def _mode(source: Mapping[str, Any]) -> int:
    mode = source.get("defaultMode")
    return mode if isinstance(mode, int) else DEFAULT_MODE
