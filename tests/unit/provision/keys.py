"""Public keys for the tests: valid ones without a private half, made in microseconds."""

import base64
import os
import struct


def blob(*parts: bytes) -> str:
    return base64.b64encode(b"".join(struct.pack(">I", len(part)) + part for part in parts)).decode()


def a_key(comment: str = "user@example") -> str:
    """A new one each time."""
    return f"ssh-ed25519 {blob(b'ssh-ed25519', os.urandom(32))} {comment}".strip()
