"""The Secret `ssh-authorized-keys`: one key per client, and the documented one, which is the last client's.

Every write touches only the entries that it is about, so clients who come and go at once don't clobber each other.
"""

import asyncio
from dataclasses import dataclass

import msgspec

from bareboat.kube import client as clients
from bareboat.kube import errors, patches, resources
from bareboat.provision import found, manifests, refusals

_TRIES = 8


@dataclass
class _Ticket:
    line: str
    written: bool = False


class Keyring:
    """The Secret of one namespace."""

    def __init__(self, client: clients.Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
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
                await self._client.patch(self._path, manifests.secret_patch(lines), clients.Patch.MERGE)
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

    async def _made(self, lines: dict[str, str], doing: str) -> bool:
        """False when somebody else has made it meanwhile."""
        try:
            await self._client.create(resources.SECRETS.path(self._namespace), manifests.secret(lines))
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
        left = await self._client.patch(self._path, {"data": {name: None}}, clients.Patch.MERGE, type=found.Secret)
        if not left.data and manifests.MANAGED_BY.items() <= (left.metadata.labels or {}).items():
            await self._delete(left)
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

    async def _delete(self, empty: found.Secret) -> None:
        metadata = empty.metadata
        try:
            await self._client.delete(self._path, uid=metadata.uid, resource_version=metadata.resource_version)
        except (errors.Conflict, errors.NotFound):
            # A client has come meanwhile, or somebody was quicker.
            return


def _busy(doing: str) -> refusals.Refused:
    return refusals.refused(409, "ssh_public_key", f"could not {doing}: others write it all the time; repeat", 1.0)
