"""Names of images, as Docker reads them: `nginx` is `docker.io/library/nginx:latest`. Pure."""

import re
from dataclasses import dataclass

HUB = "docker.io"
HUB_NAMES = frozenset({HUB, "index.docker.io", "registry-1.docker.io"})
LONGEST = 4096

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Malformed(ValueError):
    """No name of an image; the message says which part and what is allowed."""


@dataclass(frozen=True, slots=True)
class Reference:
    """`registry` and `repository` in full. A `digest` decides, and `tag` is then for people; one of the two is set."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def wanted(self) -> str:
        """What to ask the registry for."""
        return self.digest or self.tag

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Raises Malformed."""
    if len(text) > LONGEST:
        raise Malformed(f"image {text[:60]!r}…: longer than {LONGEST} characters")
    named, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise Malformed(f"image {text!r}: digest {digest!r} is not sha256: and 64 hexadecimal digits")
    first, rest = split(named)
    if not _HOST.fullmatch(first):
        raise Malformed(f"image {text!r}: {first!r} is not the name of a registry, with or without a port")
    repository, colon, tag = rest.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise Malformed(f"image {text!r}: tag {tag!r} is not up to 128 letters, digits, '_', '.' or '-'")
    if not _REPOSITORY.fullmatch(repository):
        allowed = "lower-case letters and digits, joined by '.', '_' or '-', in parts divided by '/'"
        raise Malformed(f"image {text!r}: {repository!r} is no repository; allowed are {allowed}")
    registry = HUB if first in HUB_NAMES else first
    if registry == HUB and "/" not in repository:
        repository = f"library/{repository}"
    return Reference(registry, repository, tag or ("" if digest else "latest"), digest)


def split(name: str) -> tuple[str, str]:
    """The registry as it is written, and the rest. A first part is a registry if it has a dot or a colon, has an
    upper-case letter, or is localhost; else the image is of Docker Hub."""
    first, slash, rest = name.partition("/")
    if slash and (any(char in first for char in ".:") or first == "localhost" or first != first.lower()):
        return first, rest
    return HUB, name


def canonical(text: str) -> str:
    """The same text for all spellings of one image; a malformed name is its own."""
    try:
        return str(parse(text))
    except Malformed:
        return text


def is_digest(text: str) -> bool:
    """Whether it is `sha256:` or `sha512:` and as many hexadecimal digits as belong to it."""
    return _DIGEST.fullmatch(text) is not None
