"""Image references as Kubernetes takes them: registry, repository, tag, digest. Pure; knows no registry."""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

HUB = "docker.io"
LONGEST = 1024
_LONGEST_REPOSITORY = 255
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_REGISTRY = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])"
    r"(?::[0-9]{1,5})?"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGESTS = {"sha256": 64, "sha384": 96, "sha512": 128}


class NoReference(ValueError):
    """The text is no image reference; the message says which part is wrong and what is allowed."""


@dataclass(frozen=True, slots=True)
class Reference:
    """With docker's defaults filled in: the registry, `library/` and `latest` (no tag beside a digest)."""

    registry: str
    repository: str
    tag: str
    digest: str

    @property
    def name(self) -> str:
        """The last part of the repository: `mock-inference`."""
        return self.repository.rpartition("/")[2]

    @property
    def place(self) -> str:
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        return self.place + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Raises `NoReference`. Nothing is stripped: the text goes into the Pod as it is."""
    if not text:
        raise NoReference("is empty; it should be an image such as docker.io/library/nginx:1.27")
    if len(text) > LONGEST:
        raise NoReference(f"has {len(text)} characters; allowed are {LONGEST}")
    if "://" in text:
        raise NoReference(f"is {text[:80]!r}; leave out the part up to '://', an image reference has none")
    rest, at, digest = text.partition("@")
    if at:
        _check_digest(digest)
    head, slash, tail = rest.partition("/")
    registry, path = (head, tail) if slash and _is_registry(head) else (HUB, rest)
    if not _REGISTRY.fullmatch(registry):
        raise NoReference(f"has {registry[:80]!r} as its registry; allowed is a host name, with or without a port")
    repository, colon, tag = path.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise NoReference(f"has the tag {tag[:80]!r}; allowed are 1 to 128 letters, digits, '_', '.' and '-'")
    _check_repository(repository)
    registry = HUB if registry in ("index.docker.io", "registry-1.docker.io") else registry
    if registry == HUB and "/" not in repository:
        repository = f"library/{repository}"
    return Reference(registry, repository, tag or ("" if digest else "latest"), digest)


def allowed(reference: Reference, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns (`docker.io/me/*`, `*` stands for anything) fits the image, with or without its tag.

    No pattern at all allows everything.
    """
    names = (reference.place, str(reference))
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _is_registry(head: str) -> bool:
    return "." in head or ":" in head or head == "localhost" or head != head.lower()


def _check_digest(digest: str) -> None:
    algorithm, _, figures = digest.partition(":")
    if algorithm not in _DIGESTS or not re.fullmatch(rf"[0-9a-f]{{{_DIGESTS[algorithm]}}}", figures):
        raise NoReference(f"has the digest {digest[:80]!r}; allowed is sha256: and 64 hexadecimal digits")


def _check_repository(repository: str) -> None:
    parts = repository.split("/")
    if len(repository) > _LONGEST_REPOSITORY or not all(_PART.fullmatch(part) for part in parts):
        raise NoReference(
            f"has the repository {repository[:80]!r}; allowed are lower-case letters and digits, joined by '.', '_' or "
            f"'-', in parts divided by '/', at most {_LONGEST_REPOSITORY} characters"
        )
