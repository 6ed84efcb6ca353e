"""Manifests and indexes of images, Docker's schema 2 and OCI's alike: what to read next. Pure."""

import hashlib

import msgspec

INDEXES = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
MANIFESTS = frozenset(
    {"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"}
)
ACCEPT = ", ".join(sorted(INDEXES | MANIFESTS))
OS = "linux"
# What stands in an index beside the images: signatures and build records, marked as for no machine.
_NO_PLATFORM = "unknown"


class Unreadable(ValueError):
    """Neither; the message says what is wrong."""


class NoVariant(ValueError):
    """An index without the wanted platform; the message names those that it has."""


class Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    digest: str = ""
    media_type: str = ""
    size: int = 0
    platform: Platform | None = None


class Document(msgspec.Struct, frozen=True, rename="camel"):
    """An index has `manifests`, a manifest has a `config`."""

    schema_version: int = 0
    media_type: str = ""
    manifests: tuple[Descriptor, ...] | None = None
    config: Descriptor | None = None


def decode(body: bytes) -> Document:
    """Raises Unreadable. A document is told by what is in it: some registries send the wrong Content-Type."""
    try:
        found = msgspec.json.decode(body, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise Unreadable(f"its manifest is not what a manifest looks like ({problem})") from None
    if found.schema_version == 1:
        raise Unreadable("its manifest is of Docker's schema 1, which is out of use; push the image anew")
    if found.manifests is None and found.config is None:
        raise Unreadable("its manifest names neither a config nor variants")
    return found


def choose(index: Document, architecture: str) -> Descriptor:
    """The first variant for linux on `architecture`; raises NoVariant."""
    variants = index.manifests or ()
    for each in variants:
        if each.platform is not None and (each.platform.os, each.platform.architecture) == (OS, architecture):
            return each
    known = {
        f"{each.platform.os}/{each.platform.architecture}"
        for each in variants
        if each.platform is not None and each.platform.os != _NO_PLATFORM
    }
    has = f"it has {', '.join(sorted(known))}" if known else "it names no platform at all"
    raise NoVariant(f"there is no variant for {OS}/{architecture}; {has}")


def digest_of(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


def matches(body: bytes, digest: str) -> bool:
    """Whether these bytes are what `digest` names. An algorithm that nobody uses matches nothing."""
    algorithm, _, wanted = digest.partition(":")
    if algorithm not in ("sha256", "sha512"):
        return False
    return hashlib.new(algorithm, body).hexdigest() == wanted
