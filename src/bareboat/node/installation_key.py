"""The ssh key of this installation, kept in a Secret: made at the first start, read again now and then.

Every node of an installation shares it. Without the right to read or make it there is no ssh access, and pods that can
do without run in plain access.
"""

import asyncio
import base64
import binascii

import msgspec
import structlog

from bareboat.access import failures, keys
from bareboat.kube import client as clients
from bareboat.kube import errors, objects, resources
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()

EVERY_S = 60.0
AGAIN_S = 5.0
TYPE = "kubernetes.io/ssh-auth"


class Kept(objects.Partial, frozen=True):
    """The Secret."""

    metadata: objects.ObjectMeta
    data: dict[str, str] = msgspec.field(default_factory=dict)


class InstallationKey:
    """`ring` is None, and `trouble` says why, as long as there is no key. `settled` is set once that is known."""

    def __init__(self, client: clients.Client, clock: clocks.Clock, *, namespace: str, name: str) -> None:
        self.ring: keys.Ring | None = None
        self.trouble = "its key has not been read yet"
        self.settled = asyncio.Event()
        self._client = client
        self._clock = clock
        self._namespace = namespace
        self._name = name

    @property
    def public_keys(self) -> tuple[str, ...]:
        """What new instances are to take."""
        return () if self.ring is None else (self.ring.current.public,)

    def present(self) -> keys.Ring:
        """For connections. Raises `Unreachable` as long as there is none, as in the first moment of a node that finds
        machines of an earlier process: it is tried again."""
        if self.ring is None:
            raise failures.Unreachable("all", self.trouble)
        return self.ring

    async def run(self) -> None:
        """Reads the Secret every minute, so that a rotation is followed; makes it where there is none."""
        while True:
            await self.refresh()
            await self._clock.sleep(AGAIN_S if self.ring is None else EVERY_S)

    async def refresh(self) -> None:
        """One read, and one more call where there is no Secret yet. Raises nothing of the API's."""
        try:
            self.ring = await self._read_or_make()
            self.trouble = ""
        except (errors.KubeError, keys.BadKey) as problem:
            why = f"Secret {self._namespace}/{self._name} with the installation's ssh key can't be used: {problem}"
            if self.trouble != why:
                log.warning("ssh_key.unusable", why=why)
            self.trouble = why
        self.settled.set()

    async def rotate(self) -> keys.Ring:
        """A new current key; what was rented with the old one is still reached with that. Raises `KubeError`, `BadKey`,
        and `Conflict` when somebody else wrote meanwhile: then nothing has changed and it can be done again."""
        path = resources.SECRETS.path(self._namespace, self._name)
        kept = await self._client.get(path, type=Kept)
        ring = keys.from_secret(_decoded(kept.data)).rotated(keys.make(f"bareboat-{self._name}"))
        version = kept.metadata.resource_version
        body = {"metadata": {"resourceVersion": version}, "data": _encoded(keys.to_secret(ring))}
        await self._client.patch(path, body, clients.Patch.MERGE)
        self.ring = ring
        return ring

    async def read(self) -> keys.Ring:
        """As it stands. Raises `KubeError` (NotFound before a node has made it) and `BadKey`. One call."""
        kept = await self._client.get(resources.SECRETS.path(self._namespace, self._name), type=Kept)
        return keys.from_secret(_decoded(kept.data))

    async def _read_or_make(self) -> keys.Ring:
        try:
            return await self.read()
        except errors.NotFound:
            return keys.from_secret(_decoded((await self._make()).data))

    async def _make(self) -> Kept:
        fresh = keys.Ring(keys.make(f"bareboat-{self._name}"))
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": TYPE,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "data": _encoded(keys.to_secret(fresh)),
        }
        try:
            made = await self._client.create(resources.SECRETS.path(self._namespace), body, type=Kept)
        except errors.Conflict:
            # Another node was quicker: its key is everybody's.
            return await self._client.get(resources.SECRETS.path(self._namespace, self._name), type=Kept)
        log.info("ssh_key.made", secret=f"{self._namespace}/{self._name}", public=fresh.current.public)
        return made


def _encoded(data: dict[str, str]) -> dict[str, str]:
    return {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}


def _decoded(data: dict[str, str]) -> dict[str, str]:
    try:
        return {name: base64.b64decode(text, validate=True).decode() for name, text in data.items()}
    except (binascii.Error, UnicodeDecodeError):
        raise keys.BadKey("its data is not base64 of text") from None
