"""Pins of host keys: who answered at the first contact is who has to answer ever after, instance by instance.

A pin is one line of text, so that the node can keep it as an annotation of the pod over its own restarts. A key is
pinned only once its server has let us in: whoever answers at a wrong address does not.
"""

import asyncssh


class BadPin(ValueError):
    """The text is no pin."""


class Pins:
    """Pins of all instances, by instance id."""

    def __init__(self) -> None:
        self._pinned: dict[str, str] = {}

    def pin(self, instance_id: str, line: str) -> None:
        """Sets or restores a pin. Raises BadPin."""
        self._pinned[instance_id] = normal(line)

    def of(self, instance_id: str) -> str | None:
        """The pin as text: type and key."""
        return self._pinned.get(instance_id)

    def forget(self, instance_id: str) -> None:
        """The next contact counts as the first. Nothing happens without a pin."""
        self._pinned.pop(instance_id, None)


def normal(line: str) -> str:
    """`type base64`, without a comment."""
    try:
        return line_of(asyncssh.import_public_key(line))
    except asyncssh.KeyImportError:
        raise BadPin(f"{line[:40]!r} is no public key in OpenSSH's format") from None


def line_of(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key().decode().split()[:2])


def algorithm(line: str) -> str:
    return line.split()[0]


def fingerprint(line: str) -> str:
    """`SHA256:…`, as `ssh-keygen -l` shows it."""
    return asyncssh.import_public_key(line).get_fingerprint()
