"""Which login of a pod's image pull secrets fits its image, by the kubelet's matching rules. Pure.

A secret that is missing or malformed is a Problem, never an end: the image may well be public. No password is ever in
a repr or a message.
"""

import base64
import binascii
import fnmatch
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec

from bareboat.core import launches
from bareboat.registry import references
from bareboat.workload import pod as pods
from bareboat.workload import sources

# What the kubelet calls an event about pull secrets that it can't use.
REASON = "FailedToRetrieveImagePullSecret"
HUB = references.HUB
_HUB_KEY = "index.docker.io"
_FORMATS = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}


@dataclass(frozen=True, slots=True)
class Problem:
    """A pull secret that is of no use, in a sentence; `secret` is its name. When `unknown`, it could not be read just
    now: better ask again than rent a machine that may not be able to pull."""

    secret: str
    message: str
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Logins:
    """`fitting`: every login that may pull the image, the most specific first (a cloud takes one: the first)."""

    fitting: tuple[launches.RegistryLogin, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def best(self) -> launches.RegistryLogin | None:
        return self.fitting[0] if self.fitting else None


class _Entry(msgspec.Struct):
    username: str = ""
    password: str = ""
    auth: str = ""
    identitytoken: str = ""


class _Config(msgspec.Struct):
    auths: dict[str, msgspec.Raw] | None = None


@dataclass(frozen=True, slots=True)
class _Credential:
    key: str
    username: str
    password: str = field(repr=False)


class _Unusable(Exception):
    """Why a secret or one entry of it can't be used, without its content."""


def find(pod: pods.Pod, image: str, found: sources.Sources) -> Logins:
    """The logins for `image` among the pod's `imagePullSecrets`, and what is wrong with those secrets."""
    credentials: list[_Credential] = []
    problems: list[Problem] = []
    for name in dict.fromkeys(secret.name for secret in pod.spec.image_pull_secrets if secret.name):
        try:
            for credential in _read(found.secret(name)):
                if isinstance(credential, _Credential):
                    credentials.append(credential)
                else:
                    problems.append(Problem(name, f"image pull secret {name!r}: {credential}"))
        except _Unusable as why:
            message = f"image pull secret {name!r}: {why}; the image is pulled without it, which may not succeed"
            problems.append(Problem(name, message, isinstance(found.secret(name), sources.Unreadable)))
    registry, repository = split(image)
    fitting = _lookup(credentials, registry, repository)
    logins = tuple(launches.RegistryLogin(registry, item.username, item.password) for item in fitting)
    return Logins(logins, tuple(problems))


def split(image: str) -> tuple[str, str]:
    """Registry and repository of an image reference, in full, without tag and digest; also of one that is malformed.

    `nginx:1` is ("docker.io", "library/nginx").
    """
    first, rest = references.split(image.partition("@")[0])
    repository = re.sub(r":[^/:]*$", "", rest)
    if first == _HUB_KEY:
        first = HUB
    if first == HUB and "/" not in repository:
        repository = f"library/{repository}"
    return first, repository


def _read(secret: sources.Secret | sources.Unreadable | None) -> Iterator[_Credential | str]:
    """Credentials of one secret in their order; a string says what is wrong with one entry."""
    if secret is None:
        raise _Unusable("it does not exist in the pod's namespace")
    if isinstance(secret, sources.Unreadable):
        raise _Unusable(f"it could not be read ({secret.why})")
    key = _FORMATS.get(secret.type)
    if key is None:
        raise _Unusable(f"its type is {secret.type!r}; allowed are {' and '.join(_FORMATS)}")
    raw = (secret.data or {}).get(key)
    if not raw:
        raise _Unusable(f"it has no data under the key {key!r}")
    for server, entry in _entries(key, raw).items():
        try:
            yield _credential(server, entry)
        except _Unusable as why:
            yield f"the entry for {server!r} is left out: {why}"


def _entries(key: str, raw: bytes) -> dict[str, msgspec.Raw]:
    try:
        if key == ".dockercfg":
            return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        return msgspec.json.decode(raw, type=_Config).auths or {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        wanted = "an object of registries" if key == ".dockercfg" else 'an object with the registries under "auths"'
        # The decoder's own words may quote the content, which is secret.
        raise _Unusable(f"{key!r} is not the JSON of a Docker login; it should be {wanted}") from None


def _credential(server: str, raw: msgspec.Raw) -> _Credential:
    try:
        entry = msgspec.json.decode(raw, type=_Entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _Unusable("it should be an object with the strings username and password, or auth") from None
    username, password = _decoded(entry.auth) if entry.auth else (entry.username, entry.password)
    if not username or not password:
        if entry.identitytoken:
            raise _Unusable("it has an identity token only; a rented machine needs a username and a password")
        raise _Unusable("it has no username or no password")
    return _Credential(_key(server), username, password)


def _decoded(auth: str) -> tuple[str, str]:
    text = auth.strip()
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise _Unusable("auth is not base64 of username:password") from None
    username, colon, password = plain.partition(":")
    if not colon:
        raise _Unusable("auth is not base64 of username:password")
    return username, password


def _key(server: str) -> str:
    """The host and path that an entry stands for: without scheme, and without a leading /v1/ or /v2/."""
    text = server if server.startswith(("https://", "http://")) else f"https://{server}"
    try:
        parts = urlsplit(text)
    except ValueError:
        raise _Unusable("it is not a host with an optional path") from None
    path = parts.path
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return parts.netloc + (path if path != "/" else "")


def _lookup(credentials: list[_Credential], registry: str, repository: str) -> list[_Credential]:
    # Reversed order of keys puts registry/team before registry; within one key the pod's order stands. Unlike the
    # kubelet we send a Docker Hub login to Docker Hub alone, not to a registry called localhost as well.
    ordered = sorted(credentials, key=lambda credential: credential.key, reverse=True)
    fitting = [item for item in ordered if _matches(item.key, registry, repository)]
    if not fitting and registry == HUB:
        fitting = [item for item in ordered if item.key == _HUB_KEY]
    return fitting


def _matches(key: str, registry: str, repository: str) -> bool:
    """Host labels may be globs, the port has to be the same, the path is a plain prefix."""
    host, slash, path = key.partition("/")
    if slash and not repository.startswith(path):
        return False
    pattern, pattern_port = _port(host)
    name, port = _port(registry)
    return pattern_port == port and _labels_match(pattern.split("."), name.split("."))


def _port(host: str) -> tuple[str, str]:
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and not host.endswith("]") else (host, "")


def _labels_match(patterns: Iterable[str], names: Iterable[str]) -> bool:
    wanted, given = list(patterns), list(names)
    return len(wanted) == len(given) and all(map(fnmatch.fnmatchcase, given, wanted))
