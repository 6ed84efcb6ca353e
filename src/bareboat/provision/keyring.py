"""The Secret `ssh-authorized-keys`: one key per client, and the documented one, which is the last client's.

Every write touches only the entries that it is about, so clients who come and go at once don't clobber each other. Its
annotations note which clients are being made or removed: what a process that died in the middle of it left behind.
"""

import asyncio
from dataclasses import dataclass

import msgspec
import structlog

from bareboat.kube import client as clients
from bareboat.kube import errors, patches, resources
from bareboat.plumbing import clock as clocks
from bareboat.provision import found, manifests, refusals

log = structlog.get_logger()

_TRIES = 8


@dataclass
class _Ticket:
    line: str
    written: bool = False


class Keyring:
    """The Secret of one namespace."""

    def __init__(self, client: clients.Client, namespace: str, clock: clocks.Clock) -> None:
        self._client = client
        self._namespace = namespace
        self._clock = clock
        self._settled: set[str] = set()
        self._writing = asyncio.Lock()
        self._waiting: dict[str, _Ticket] = {}
        self._path = resources.SECRETS.path(namespace, manifests.SECRET)

    async def put(self, name: str, line: str) -> None:
        """Adds or replaces the client's key, making the Secret if there is none. Raises `refusals.Refused`.

        Whoever comes while a write is under way is written together with all others who wait.
        """
        ticket = _Ticket(line)
        self._waiting[name] = ticket
        try:
            async with self._writing:
                if not ticket.written:
                    batch = dict(self._waiting)
                    await self._put({each: other.line for each, other in batch.items()})
                    for other in batch.values():
                        other.written = True
        finally:
            if self._waiting.get(name) is ticket:
                del self._waiting[name]

    async def _put(self, lines: dict[str, str]) -> None:
        doing = f"write the Secret {manifests.SECRET}"
        for _ in range(_TRIES):
            try:
                patch = manifests.secret_patch(lines, self._clock.now_s())
                await self._client.patch(self._path, patch, clients.Patch.MERGE)
                return
            except errors.NotFound:
                if await self._made(lines, doing):
                    return
            except errors.Conflict:
                continue
            except errors.KubeError as failure:
                raise refusals.from_cluster(failure, doing, self._namespace, "ssh_public_key") from failure
        raise _busy(doing)

    async def drop(self, name: str) -> bool:
        """Takes the client's key out, also where it is the documented one; an empty Secret of ours goes as well.

        False when there was none. Raises `refusals.Refused`.
        """
        doing = f"take the key out of the Secret {manifests.SECRET}"
        for _ in range(_TRIES):
            try:
                async with self._writing:
                    return await self._dropped(name)
            except errors.NotFound:
                return False
            except errors.Conflict:
                continue
            except errors.KubeError as failure:
                raise refusals.from_cluster(failure, doing, self._namespace, "ssh_public_key") from failure
        raise _busy(doing)

    async def begins(self, name: str) -> None:
        """Notes that the client is about to be removed. Best effort, as `settled` is."""
        await self._note({name: self._clock.now_s()})

    async def settled(self, name: str) -> None:
        """The client stands as a whole, or is gone as a whole. Whoever comes while a write is under way is written
        together with all others who wait. A note that can't be written is left to `unsettled`."""
        self._settled.add(name)
        async with self._writing:
            if name in self._settled:
                batch = tuple(self._settled)
                self._settled.clear()
                await self._note(dict.fromkeys(batch))

    async def unsettled(self, before_s: float) -> list[str]:
        """Clients whose making or removal began before then and was not noted as done. Raises `KubeError`."""
        try:
            secret = await self._client.get(self._path, type=found.Secret)
        except errors.NotFound:
            return []
        noted = (secret.metadata.annotations or {}).items()
        return [key.removeprefix(manifests.MAKING) for key, since in noted if key.startswith(manifests.MAKING)
                and (not since.isdigit() or float(since) < before_s)]  # fmt: skip

    async def drop_empty(self) -> None:
        """Removes a Secret of ours that a process emptied and did not live to remove. Raises `KubeError`."""
        try:
            secret = await self._client.get(self._path, type=found.Secret)
        except errors.NotFound:
            return
        await self._delete_empty(secret)

    async def _note(self, since_s: dict[str, float] | dict[str, None]) -> None:
        try:
            await self._client.patch(self._path, manifests.making_patch(since_s), clients.Patch.MERGE)
        except errors.NotFound:
            return
        except errors.KubeError as failure:
            log.warning("client.unnoted", clients=sorted(since_s), why=str(failure))

    async def _made(self, lines: dict[str, str], doing: str) -> bool:
        """False when somebody else has made it meanwhile."""
        try:
            await self._client.create(
                resources.SECRETS.path(self._namespace), manifests.secret(lines, self._clock.now_s())
            )
        except errors.KubeError as failure:
            if isinstance(failure, errors.Conflict) and failure.already_exists:
                return False
            raise refusals.from_cluster(failure, doing, self._namespace, "ssh_public_key") from failure
        return True

    async def _dropped(self, name: str) -> bool:
        encoded = (await self._client.get(self._path, type=found.Secret)).data or {}
        if name not in encoded:
            return False
        if encoded.get(manifests.DOCUMENTED_KEY) == encoded[name]:
            await self._drop_documented(encoded[name])
        patch = {**manifests.making_patch({name: None}), "data": {name: None}}
        left = await self._client.patch(self._path, patch, clients.Patch.MERGE, type=found.Secret)
        await self._delete_empty(left)
        return True

    async def _drop_documented(self, value: str) -> None:
        place = patches.pointer("data", manifests.DOCUMENTED_KEY)
        steps = [{"op": "test", "path": place, "value": value}, {"op": "remove", "path": place}]
        try:
            await self._client.request(
                "PATCH", self._path, msgspec.json.encode(steps), content_type=clients.Patch.JSON.value
            )
        except errors.Invalid:
            # Another client's by now, or nobody's: the test of the patch did not pass.
            return

    async def _delete_empty(self, secret: found.Secret) -> None:
        metadata = secret.metadata
        if secret.data or not manifests.MANAGED_BY.items() <= (metadata.labels or {}).items():
            return
        try:
            await self._client.delete(self._path, uid=metadata.uid, resource_version=metadata.resource_version)
        except (errors.Conflict, errors.NotFound):
            # A client has come meanwhile, or somebody was quicker.
            return


def _busy(doing: str) -> refusals.Refused:
    return refusals.refused(409, "ssh_public_key", f"could not {doing}: others write it all the time; repeat", 1.0)
