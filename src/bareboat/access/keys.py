"""The ssh keys of this installation: ed25519 pairs, and the ring of the present one and those before it. Pure.

The node keeps the ring in a Secret, made at its first start. After a rotation new instances get the new public key,
and older ones are still opened by the key that they were rented with.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import asyncssh

KIND = "ssh-ed25519"
PRIVATE, PUBLIC, PREVIOUS = "ssh-privatekey", "ssh-publickey", "previous"
"""Entries of the Secret; the first two are named as in Secrets of type kubernetes.io/ssh-auth."""

MOST_PREVIOUS = 2


class BadKey(ValueError):
    """The text is no private key of ours; the message says what was found, never what it holds."""


@dataclass(frozen=True, slots=True)
class Pair:
    """`private` is in OpenSSH's format, `public` one line of an authorized_keys file."""

    private: str = field(repr=False)
    public: str


@dataclass(frozen=True, slots=True)
class Ring:
    """The key that new instances get, and those that older ones may have still, newest first."""

    current: Pair
    previous: tuple[Pair, ...] = ()

    def rotated(self, fresh: Pair) -> "Ring":
        """With a new current key; the oldest of the others falls off."""
        return Ring(fresh, (self.current, *self.previous)[:MOST_PREVIOUS])

    def all(self) -> tuple[Pair, ...]:
        return (self.current, *self.previous)


def make(comment: str = "bareboat") -> Pair:
    """A new pair. `comment` shows in the public line: whose key it is."""
    if not comment or comment.split() != [comment]:
        raise BadKey(f"the comment {comment!r} of a key has to be one word")
    key = asyncssh.generate_private_key(KIND, comment=comment)
    return Pair(key.export_private_key().decode(), _public(key))


def load(private: str) -> Pair:
    """From the private key alone. Raises BadKey."""
    return Pair(f"{private.strip()}\n", _public(_import(private)))


@functools.lru_cache(maxsize=32)
def signer(private: str) -> asyncssh.SSHKeyPair:
    """What a connection logs in with. Raises BadKey."""
    [pair] = asyncssh.load_keypairs([_import(private)])
    return pair


def to_secret(ring: Ring) -> dict[str, str]:
    """The Secret's data, not yet base64."""
    return {
        PRIVATE: ring.current.private,
        PUBLIC: f"{ring.current.public}\n",
        PREVIOUS: "".join(pair.private for pair in ring.previous),
    }


def from_secret(data: Mapping[str, str]) -> Ring:
    """Raises BadKey, which names the entry. Public lines are derived, so that they can't disagree."""
    try:
        current = load(data.get(PRIVATE, ""))
    except BadKey as problem:
        raise BadKey(f"{PRIVATE}: {problem}") from None
    end = "-----END OPENSSH PRIVATE KEY-----\n"
    texts = [f"{text}{end}" for text in data.get(PREVIOUS, "").split(end) if text.strip()]
    try:
        return Ring(current, tuple(load(text) for text in texts))
    except BadKey as problem:
        raise BadKey(f"{PREVIOUS}: {problem}") from None


def _import(private: str) -> asyncssh.SSHKey:
    if not private.strip():
        raise BadKey("there is no private key")
    try:
        key = asyncssh.import_private_key(private)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        raise BadKey("this is no private key in OpenSSH's format without a passphrase") from None
    if key.get_algorithm() != KIND:
        raise BadKey(f"the private key is of type {key.get_algorithm()}; it has to be {KIND}")
    return key


def _public(key: asyncssh.SSHKey) -> str:
    return key.export_public_key().decode().strip()
