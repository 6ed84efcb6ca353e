"""Image names → what a simulated machine runs, and what a registry would say of them.

Owns `images.yaml`, image references and the pull's outcome; how the image becomes processes is the machines' affair.
Digests follow from the content alone, so that they are the same in every run.
"""

import fnmatch
import functools
import gzip
import hashlib
import importlib.resources
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import yaml

DOCKER_HUB = "docker.io"
HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
RefusalKind = Literal["bad-reference", "missing", "login-required", "login-wrong"]

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class BadReference(ValueError):
    """The text is no image reference; the message says which part and what is allowed."""


@dataclass(frozen=True, slots=True)
class Reference:
    """`registry/repository:tag@digest` with docker's defaults filled in."""

    registry: str
    repository: str
    tag: str
    digest: str | None = None

    def __str__(self) -> str:
        text = f"{self.registry}/{self.repository}:{self.tag}"
        return f"{text}@{self.digest}" if self.digest else text

    @property
    def familiar(self) -> str:
        """The name as people write it: no docker.io, no library/."""
        if self.registry != DOCKER_HUB:
            return f"{self.registry}/{self.repository}"
        return self.repository.removeprefix("library/")


def parse_reference(text: str) -> Reference:
    """Raises `BadReference`."""
    rest, at, digest = text.strip().partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise BadReference(f"image {text!r}: digest {digest!r} is not sha256: and 64 hexadecimal digits")
    head, slash, tail = rest.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        registry, path = head, tail
    else:
        registry, path = DOCKER_HUB, rest
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DOCKER_HUB
    repository, colon, tag = path.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise BadReference(f"image {text!r}: tag {tag!r} is not up to 128 letters, digits, '_', '.' or '-'")
    if not _HOST.fullmatch(registry):
        raise BadReference(f"image {text!r}: {registry!r} is not the name of a registry")
    if not _REPOSITORY.fullmatch(repository):
        raise BadReference(
            f"image {text!r}: {repository!r} is no repository; allowed are lower-case letters and digits, joined by"
            " '.', '_' or '-', in parts divided by '/'"
        )
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return Reference(registry, repository, tag or "latest", digest or None)


@dataclass(frozen=True, slots=True)
class Login:
    """What a client shows a registry."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The pull failed. `message` is what the docker daemon would print."""

    kind: RefusalKind
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A pulled image. `root` is "host" (the host's programs under a file tree of its own) or "busybox".

    `files` are files of the image: absolute path → text, executable when it begins with "#!". `pull_s` replaces the
    time that the size would take, in simulated seconds. `stand_in` says what runs instead when the real program is not
    on this computer.
    """

    name: str
    digest: str
    root: Literal["host", "busybox"] = "host"
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    exposed: tuple[tuple[int, str], ...] = ()
    size_gib: float = 0.1
    pull_s: float | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    login: Login | None = None
    stand_in: str = ""


class Catalog:
    """Every image the simulated registries hold. `unknown` says what a name outside the list is: the host's programs
    under a bare file tree, or missing.
    """

    def __init__(
        self, entries: Mapping[str, Any] | None = None, *, unknown: Literal["host", "missing"] = "host"
    ) -> None:
        self._entries: Mapping[str, Any] = entries if entries is not None else _packaged_entries()
        self._unknown = unknown

    @property
    def names(self) -> list[str]:
        """The names and patterns the list holds, in the order they are tried."""
        return [pattern for entry in self._entries.values() for pattern in entry["names"]]

    def resolve(self, reference: str, login: Login | None = None) -> Image | Refusal:
        """What pulling `reference` with `login` gives. Never raises; a text that is no reference is a refusal, too."""
        try:
            asked = parse_reference(reference)
        except BadReference as error:
            return Refusal("bad-reference", f"invalid reference format: {error}")
        entry = self._entry(asked)
        if entry is None or entry.get("missing"):
            return Refusal("missing", _missing(asked))
        image = _image(asked, entry)
        if image.login is not None and login is None:
            return Refusal("login-required", _missing(asked))
        if image.login is not None and login != image.login:
            message = f'Head "{_manifest_url(asked)}": unauthorized: incorrect username or password'
            return Refusal("login-wrong", message)
        return image

    def _entry(self, asked: Reference) -> Mapping[str, Any] | None:
        for entry in self._entries.values():
            if any(fnmatch.fnmatchcase(asked.familiar, pattern) for pattern in entry["names"]):
                return cast(Mapping[str, Any], entry)
        return None if self._unknown == "missing" else {}


@dataclass(frozen=True, slots=True)
class Documents:
    """What a registry serves for one image, as bytes; each is named by its own SHA-256."""

    index: bytes
    manifest: bytes
    config: bytes
    layer: bytes


def digest_of(document: bytes) -> str:
    return "sha256:" + hashlib.sha256(document).hexdigest()


def documents(image: Image) -> Documents:
    """The OCI index, manifest, config and one tiny layer. `Image.digest` is the index's."""
    tree = f"simulated image {image.name}\n".encode()
    layer = gzip.compress(tree, mtime=0)
    settings: dict[str, Any] = {"Env": [f"{name}={value}" for name, value in image.env.items()]}
    for key, value in (("Entrypoint", image.entrypoint), ("Cmd", image.cmd)):
        if value:
            settings[key] = list(value)
    if image.exposed:
        settings["ExposedPorts"] = {f"{number}/{protocol}": {} for number, protocol in image.exposed}
    settings |= {"WorkingDir": image.workdir, "User": image.user, "Labels": {"dev.bareboat.image": image.name}}
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tree)]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "simulated"}],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _described(CONFIG_TYPE, config),
            "layers": [_described(LAYER_TYPE, layer)],
            "annotations": {"dev.bareboat.size-gib": str(image.size_gib)},
        }
    )
    platform = {"architecture": "amd64", "os": "linux"}
    index = _json(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [{**_described(MANIFEST_TYPE, manifest), "platform": platform}],
        }
    )
    return Documents(index, manifest, config, layer)


def _described(media_type: str, document: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(document), "size": len(document)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _missing(asked: Reference) -> str:
    if asked.registry != DOCKER_HUB:
        return f"failed to resolve reference {str(asked)!r}: {asked}: not found"
    return (
        f"pull access denied for {asked.familiar}, repository does not exist or may require 'docker login':"
        " denied: requested access to the resource is denied"
    )


def _manifest_url(asked: Reference) -> str:
    registry = "registry-1.docker.io" if asked.registry == DOCKER_HUB else asked.registry
    return f"https://{registry}/v2/{asked.repository}/manifests/{asked.digest or asked.tag}"


def _image(asked: Reference, entry: Mapping[str, Any]) -> Image:
    stand_in = entry.get("stand_in")
    instead = stand_in is not None and shutil.which(stand_in["program"], path=HOST_PATH) is None
    files = dict(entry.get("files", {}))
    if stand_in is not None and instead:
        files[stand_in["path"]] = stand_in["content"]
    login = entry.get("login")
    image = Image(
        name=f"{asked.familiar}:{asked.tag}",
        digest="",
        root=entry.get("root", "host"),
        entrypoint=tuple(entry.get("entrypoint", ())),
        cmd=tuple(entry.get("cmd", ("sh",))),
        env={"PATH": HOST_PATH, **entry.get("env", {})},
        workdir=entry.get("workdir", "/"),
        user=str(entry.get("user", "")),
        exposed=tuple(_port(text) for text in entry.get("expose", ())),
        size_gib=float(entry.get("size_gib", 0.5)),
        pull_s=entry.get("pull_s"),
        files={path: _content(name) for path, name in files.items()},
        folders=tuple(entry.get("folders", ())),
        login=Login(login["user"], login["password"]) if login else None,
        stand_in=stand_in["says"] if stand_in is not None and instead else "",
    )
    return replace(image, digest=asked.digest or digest_of(documents(image).index))


def _port(text: object) -> tuple[int, str]:
    number, _, protocol = str(text).partition("/")
    return int(number), protocol or "tcp"


@functools.cache
def _content(name: str) -> str:
    return (importlib.resources.files("bareboat.simulation.machines") / "content" / name).read_text()


@functools.cache
def _packaged_entries() -> Mapping[str, Any]:
    text = (importlib.resources.files("bareboat.simulation") / "images.yaml").read_text()
    return cast(Mapping[str, Any], yaml.safe_load(text)["images"])
