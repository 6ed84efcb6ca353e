"""SSH public keys as `authorized_keys` and `ssh-keygen` write them: one line, type, base64, comment. Pure.

Options before the type (`command="…"`, `from="…"`) are refused: they would be run or obeyed inside the container.
"""

import base64
import binascii
from dataclasses import dataclass

TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
LONGEST = 16_384
LONGEST_COMMENT = 256
_ED25519_BYTES = 32
_SHORTEST_RSA_BYTES = 128
_CURVES = {"nistp256": 65, "nistp384": 97, "nistp521": 133}


class NoKey(ValueError):
    """The text is no SSH public key; the message says which part is wrong and what is allowed."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """`blob` is the base64 text, in its one canonical spelling."""

    type: str
    blob: str
    comment: str = ""

    @property
    def identity(self) -> str:
        """The key without its comment: two texts with the same identity open the same doors."""
        return f"{self.type} {self.blob}"

    @property
    def line(self) -> str:
        return f"{self.identity} {self.comment}".rstrip()


def parse(text: str) -> PublicKey:
    """Raises `NoKey`."""
    text = text.strip()
    if not text:
        raise NoKey("is empty; it should be one line such as 'ssh-ed25519 AAAA… user@example'")
    if len(text) > LONGEST:
        raise NoKey(f"has {len(text)} characters; a public key has at most {LONGEST}")
    if "PRIVATE KEY" in text:
        raise NoKey("is a private key; send the public one (the file that ends in .pub) and treat this one as known")
    if any(not char.isprintable() for char in text):
        raise NoKey("has line breaks or control characters; send exactly one key, on one line")
    type_, _, rest = text.partition(" ")
    blob, _, comment = rest.strip().partition(" ")
    if type_ not in TYPES:
        raise NoKey(f"begins with {type_[:60]!r}; allowed are keys without options of the types {', '.join(TYPES)}")
    if not blob:
        raise NoKey(f"has nothing after {type_!r}; the key itself is missing")
    _check(type_, _decoded(blob))
    comment = comment.strip()
    if len(comment) > LONGEST_COMMENT:
        raise NoKey(f"has a comment of {len(comment)} characters; allowed are {LONGEST_COMMENT}")
    return PublicKey(type_, blob, comment)


def _decoded(blob: str) -> bytes:
    try:
        decoded = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError):
        raise NoKey(f"has {blob[:24]!r}… where its base64 should be; copy the whole line of the .pub file") from None
    if base64.b64encode(decoded).decode() != blob:
        raise NoKey("has base64 that ends wrongly; copy the whole line of the .pub file")
    return decoded


def _check(type_: str, decoded: bytes) -> None:
    parts = _parts(decoded)
    embedded = parts[0].decode("ascii", "replace") if parts else ""
    if embedded != type_:
        raise NoKey(f"says it is {type_!r}, but its base64 holds {embedded[:60]!r}; the key is damaged")
    if not _fits(type_, parts[1:]):
        raise NoKey(f"has base64 that is no {type_} key: its parts have the wrong number or length")


def _fits(type_: str, parts: list[bytes]) -> bool:
    lengths = [len(part) for part in parts]
    if type_ == "ssh-ed25519":
        return lengths == [_ED25519_BYTES]
    if type_ == "sk-ssh-ed25519@openssh.com":
        return len(lengths) == 2 and lengths[0] == _ED25519_BYTES and lengths[1] > 0
    if type_ == "ssh-rsa":
        return len(lengths) == 2 and lengths[0] > 0 and len(parts[1].lstrip(b"\0")) >= _SHORTEST_RSA_BYTES
    return _fits_curve(type_, parts)


def _fits_curve(type_: str, parts: list[bytes]) -> bool:
    curve = type_.removesuffix("@openssh.com").rpartition("-")[2]
    wanted = 3 if type_.startswith("sk-") else 2
    return (
        len(parts) == wanted
        and parts[0] == curve.encode()
        and len(parts[1]) == _CURVES[curve]
        and parts[1][:1] == b"\x04"
    )


def _parts(decoded: bytes) -> list[bytes]:
    """The strings of RFC 4251 that the key is made of; raises `NoKey` when lengths and data don't agree."""
    parts: list[bytes] = []
    place = 0
    while place < len(decoded):
        length = int.from_bytes(decoded[place : place + 4])
        place += 4
        if place + length > len(decoded):
            raise NoKey("is cut off: its base64 holds less than it announces; copy the whole line of the .pub file")
        parts.append(decoded[place : place + length])
        place += length
    return parts
