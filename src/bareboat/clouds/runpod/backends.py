"""The calls on pods in REST v2, and in v1 for as long as v2 isn't there: lists, reads, creates, ends.

Which one is spoken to is found out by what answers. A 404 without a problem document, 405, 410 and 501 say that an API
is shut, and nothing of any pod; it is tried again after a while.
"""

import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from bareboat.clouds.runpod import api as apis
from bareboat.clouds.runpod import create, failures, wire
from bareboat.core import errors, labels, launches
from bareboat.plumbing import clock as clocks

T = TypeVar("T")
TRY_AGAIN_S = 600.0
_MOST_PAGES = 1000


class Shut(Exception):
    """This API isn't there (any more)."""


class Backend(Protocol):
    """One API. Reads raise the seam's errors, and `Shut`."""

    name: str

    async def pods(self) -> list[wire.Pod]:
        """All pods of the account, complete."""
        ...

    async def pod(self, pod_id: str) -> wire.Pod | None:
        """By a fresh read; None when it says that there is no such pod."""
        ...

    async def end(self, pod_id: str) -> None:
        """DELETE; no error for a pod that is gone."""
        ...

    def buying(
        self, launch: launches.Launch, mark: labels.Mark, row: create.Row, registry: str | None
    ) -> apis.Call: ...

    def bought(self, body: bytes) -> wire.Pod:
        """The pod in the answer to that call. Raises `wire.Nonsense`."""
        ...


class V2:
    """REST v2."""

    name = "v2"

    def __init__(self, api: apis.Api) -> None:
        self._api = api

    async def pods(self) -> list[wire.Pod]:
        """One call, or one for each page should the list have come to have pages. A next page that brings nothing new
        says that its parameter isn't known: the list is then incomplete, not finished."""
        found: dict[str, wire.Pod] = {}
        query: dict[str, str] = {"includeClusterPods": "true"}
        for _ in range(_MOST_PAGES):
            body = await _read(self._api, apis.Call("v2", "GET", "/pods", query))
            fresh = _understood(lambda: list(map(wire.v2_pod, wire.rows(body, "pods", "data", "items"))))  # noqa: B023
            if len(query) > 1 and fresh and all(pod.id in found for pod in fresh):
                raise errors.CloudDown(failures.CLOUD, "the list of pods has pages that can't be turned")
            found.update((pod.id, pod) for pod in fresh)
            cursor = _understood(lambda: wire.next_page(body))  # noqa: B023
            if cursor is None:
                return list(found.values())
            query["cursor"] = cursor
        raise errors.CloudDown(failures.CLOUD, f"the list of pods has no end after {_MOST_PAGES} pages")

    async def pod(self, pod_id: str) -> wire.Pod | None:
        try:
            body = await _read(self._api, apis.Call("v2", "GET", f"/pods/{_quoted(pod_id)}"))
        except errors.InstanceGone:
            return None
        return _single(body, pod_id, wire.v2_pod)

    async def end(self, pod_id: str) -> None:
        try:
            await _read(self._api, apis.Call("v2", "DELETE", f"/pods/{_quoted(pod_id)}", urgent=True))
        except errors.InstanceGone:
            return

    def buying(self, launch: launches.Launch, mark: labels.Mark, row: create.Row, registry: str | None) -> apis.Call:
        return apis.Call("v2", "POST", "/pods", body=create.v2(launch, mark, row, registry))

    def bought(self, body: bytes) -> wire.Pod:
        return wire.v2_pod(wire.mapping(wire.document(body)))


class V1:
    """REST v1, which is to be retired. `spot` makes its creates interruptible."""

    name = "v1"

    def __init__(self, api: apis.Api, *, spot: bool = False) -> None:
        self._api = api
        self._spot = spot

    async def pods(self) -> list[wire.Pod]:
        """One call."""
        body = await _read(self._api, apis.Call("v1", "GET", "/pods", {"includeMachine": "true"}))
        return _understood(lambda: list(map(wire.v1_pod, wire.rows(body, "pods"))))

    async def pod(self, pod_id: str) -> wire.Pod | None:
        try:
            call = apis.Call("v1", "GET", f"/pods/{_quoted(pod_id)}", {"includeMachine": "true"})
            body = await _read(self._api, call)
        except errors.InstanceGone:
            return None
        return _single(body, pod_id, wire.v1_pod)

    async def end(self, pod_id: str) -> None:
        try:
            await _read(self._api, apis.Call("v1", "DELETE", f"/pods/{_quoted(pod_id)}", urgent=True))
        except errors.InstanceGone:
            return

    def buying(self, launch: launches.Launch, mark: labels.Mark, row: create.Row, registry: str | None) -> apis.Call:
        return apis.Call("v1", "POST", "/pods", body=create.v1(launch, mark, row, registry, spot=self._spot))

    def bought(self, body: bytes) -> wire.Pod:
        return wire.v1_pod(wire.mapping(wire.document(body)))


class Backends:
    """Which API to speak now."""

    def __init__(self, api: apis.Api, clock: clocks.Clock) -> None:
        self._clock = clock
        self._several: tuple[Backend, ...] = (V2(api), V1(api))
        self._shut_until_s: dict[str, float] = {}

    @property
    def present(self) -> Backend:
        """The first that isn't known to be shut; v2 where all are."""
        return next((each for each in self._several if not self.is_shut(each.name)), self._several[0])

    def is_shut(self, name: str) -> bool:
        return self._shut_until_s.get(name, float("-inf")) > self._clock.monotonic_s()

    def shut(self, name: str) -> None:
        """It isn't there."""
        self._shut_until_s[name] = self._clock.monotonic_s() + TRY_AGAIN_S

    async def ask(self, work: Callable[[Backend], Awaitable[T]]) -> T:
        """Something that may be asked twice, of the first API that is there."""
        for _ in self._several:
            backend = self.present
            try:
                return await work(backend)
            except Shut:
                self.shut(backend.name)
        names = " and ".join(each.name for each in self._several)
        raise errors.CloudDown(failures.CLOUD, f"neither {names} is there")


async def _read(api: apis.Api, call: apis.Call) -> bytes:
    answer = await api.answer(call)
    failure = api.judge(answer)
    if failure is None:
        return answer.body
    if failures.is_shut(failure):
        raise Shut(call.api)
    raise failures.of_read(failure)


def _single(body: bytes, pod_id: str, read: Callable[[Any], wire.Pod]) -> wire.Pod | None:
    pod = _understood(lambda: read(wire.mapping(wire.document(body))))
    if pod.id != pod_id:
        raise errors.CloudDown(failures.CLOUD, f"asked for pod {pod_id}, told of {pod.id}")
    return pod


def _understood(read: Callable[[], T]) -> T:
    try:
        return read()
    except wire.Nonsense as error:
        raise errors.CloudDown(failures.CLOUD, f"answered what makes no sense: {error}") from None


def _quoted(pod_id: str) -> str:
    return urllib.parse.quote(pod_id, safe="")
