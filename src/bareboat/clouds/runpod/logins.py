"""Registry logins: RunPod keeps them by name and shows no password again, so the name is made of what is in it.

One is made where it isn't there yet, used by all pods with the same login, and removed when no pod of the account has
used it for a while. Only those whose name carries a cluster that a login was asked for are ever removed.
"""

import asyncio
import contextlib
import hashlib
from typing import Any

from bareboat.clouds.runpod import api as apis
from bareboat.clouds.runpod import backends, failures, wire
from bareboat.core import errors, labels, launches
from bareboat.plumbing import clock as clocks

UNUSED_S = 900.0
"""New pods are in no list yet; RunPod itself refuses to remove what a pod uses."""


class Logins:
    """Of one account."""

    def __init__(self, api: apis.Api, clock: clocks.Clock, several: backends.Backends) -> None:
        self._api = api
        self._clock = clock
        self._backends = several
        self._ids: dict[str, str] = {}
        self._used_s: dict[str, float] = {}
        self._making = asyncio.Lock()

    async def id_of(self, login: launches.RegistryLogin | None, mark: labels.Mark) -> str | None:
        """The id of this login at RunPod, made if need be: no call for one that is known, else one or two."""
        if login is None:
            return None
        name = name_of(login, mark)
        async with self._making:
            known = self._ids.get(name) or (await self._list(mark.cluster_id)).get(name)
            if known is None:
                known = await self._make(name, login, mark)
            self._ids[name] = known
        self._used_s[known] = self._clock.monotonic_s()
        return known

    def forget(self, login_id: str) -> None:
        """RunPod says that there is no such login: it is to be made anew."""
        self._ids = {name: known for name, known in self._ids.items() if known != login_id}

    async def sweep(self, in_use: set[str]) -> None:
        """Removes what no pod has used for a while; `in_use` from a complete list. Calls only when there is something
        to remove. Never fails."""
        now_s = self._clock.monotonic_s()
        for login_id in in_use:
            if login_id in self._used_s:
                self._used_s[login_id] = now_s
        for login_id, used_s in list(self._used_s.items()):
            if now_s - used_s >= UNUSED_S:
                self._used_s[login_id] = now_s  # should it fail, it is tried again after a while
                with contextlib.suppress(errors.CloudError):
                    await self._remove(login_id)

    async def _list(self, cluster: str) -> dict[str, str]:
        """By name; those of the cluster are known from now on."""
        try:
            body = await self._api.read(self._call("GET"))
        except errors.InstanceGone as error:
            raise errors.CloudDown(failures.CLOUD, f"its registry logins can't be listed: {error.why}") from None
        try:
            rows = wire.rows(body, "registries")
        except wire.Nonsense as error:
            raise errors.CloudDown(
                failures.CLOUD, f"answered a list of registry logins that is none: {error}"
            ) from None
        prefix = f"{labels.PREFIX}/{cluster}/"
        found: dict[str, str] = {}
        for row in rows:
            name, login_id = wire.text(row.get("name")), wire.text(row.get("id"))
            if name and login_id and name.startswith(prefix):
                found[name] = login_id
                self._used_s.setdefault(login_id, self._clock.monotonic_s())
        self._ids.update(found)
        return found

    async def _make(self, name: str, login: launches.RegistryLogin, mark: labels.Mark) -> str:
        told = {"name": name, "username": login.username, "password": login.password}
        try:
            answer = await self._api.once(self._call("POST", body=told))
        except apis.NotSent as error:
            raise errors.CloudDown(failures.CLOUD, str(error)) from None
        except apis.Lost as error:
            return await self._made_after_all(name, mark, str(error))
        failure = self._api.judge(answer)
        if failure is None:
            made = wire.text(wire.mapping(wire.document(answer.body)).get("id"))
            return made or await self._made_after_all(name, mark, "the answer names no id")
        if failure.status == 422 or (failure.status == 400 and not failure.says("exist")):
            raise errors.LaunchRefused(failures.CLOUD, f"refused the registry login: {failure.text}")
        if failure.status in (400, 409) or failure.status >= 500:
            return await self._made_after_all(name, mark, failures.shown(failure))
        problem = failures.of_read(failure)
        if isinstance(problem, errors.InstanceGone):
            raise errors.CloudDown(failures.CLOUD, f"can't keep registry logins: {failures.shown(failure)}")
        raise problem

    def _call(self, method: str, more: str = "", body: Any = None) -> apis.Call:
        """To the API that pods are made by: ids are the same in both."""
        api = self._backends.present.name
        place = "/registries" if api == "v2" else "/containerregistryauth"
        return apis.Call(api, method, f"{place}{more}", body=body)

    async def _made_after_all(self, name: str, mark: labels.Mark, why: str) -> str:
        found = (await self._list(mark.cluster_id)).get(name)
        if found is None:
            raise errors.CloudDown(failures.CLOUD, f"the registry login could not be made: {why}")
        return found

    async def _remove(self, login_id: str) -> None:
        answer = await self._api.answer(self._call("DELETE", f"/{login_id}"))
        failure = self._api.judge(answer)
        if failure is None or failure.status == 404:
            self._used_s.pop(login_id, None)
            self.forget(login_id)


def name_of(login: launches.RegistryLogin, mark: labels.Mark) -> str:
    """`bareboat/<cluster>/<hash>`: another password is another login."""
    told = "\0".join((login.server, login.username, login.password))
    return f"{labels.PREFIX}/{mark.cluster_id}/{hashlib.sha256(told.encode()).hexdigest()[:24]}"
