"""A thin client of the Kubernetes API on aiohttp: JSON bytes in, structs or bytes out, errors by what to do next.

Owns connections, time limits and one renewal of refused credentials; leaves paths to `resources`, shapes to the caller
and the retrying of writes to work queues (only reads are tried again here). Watches have connections of their own.
"""

import asyncio
import enum
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, overload
from urllib.parse import urlencode

import aiohttp
import msgspec
import yarl

from bareboat.kube import config as configs
from bareboat.kube import errors, objects, resources, watching
from bareboat.plumbing import backoff
from bareboat.plumbing import clock as clocks

T = TypeVar("T")
Body = bytes | msgspec.Struct | Mapping[str, Any]
Query = Mapping[str, str]

READ_TRIES = 3
# Above the API server's bookmark interval (about 60 s): a watch silent for longer is half-open.
WATCH_SILENCE_S = 100.0
_READ_CHUNK = 2**18


class Patch(enum.Enum):
    """Kinds of patch, by content type."""

    STRATEGIC = "application/strategic-merge-patch+json"
    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"
    APPLY = "application/apply-patch+yaml"  # JSON is YAML


class Token(objects.Partial, frozen=True):
    """A token that was asked for; `expiration` is RFC 3339 and may differ from what was wished."""

    token: str
    expiration_timestamp: str


class _TokenRequest(objects.Partial, frozen=True):
    status: Token


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


_encode = msgspec.json.Encoder().encode


class Client:
    """One API server, one identity, one pool of connections; an async context manager.

    `connections` bounds requests in flight (watches are not counted). Parts that must not wait for others, like the
    node's lease, make a Client of their own. Counters: `sent` by verb, all attempts.
    """

    def __init__(
        self,
        config: configs.Config,
        *,
        connections: int = 32,
        timeout_s: float = 30.0,
        read_tries: int = READ_TRIES,
        user_agent: str = "bareboat",
        clock: clocks.Clock | None = None,
    ) -> None:
        self.config = config
        self.sent: dict[str, int] = {}
        self._connections = connections
        self._limits = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(10.0, timeout_s))
        self._timeout_s = timeout_s
        self._read_tries = read_tries
        self._user_agent = user_agent
        self._clock = clocks.SystemClock() if clock is None else clock
        self._requests: aiohttp.ClientSession | None = None
        self._watches: aiohttp.ClientSession | None = None
        self._retired: list[aiohttp.ClientSession] = []
        self._renewals = 0
        self._renewing_now = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sessions = [*self._retired, self._requests, self._watches]
        self._requests = self._watches = None
        self._retired.clear()
        for session in sessions:
            if session is not None:
                await session.close()

    def _open(self) -> None:
        self._requests = self._session(self._connections)
        self._watches = self._session(0)

    def _session(self, connections: int) -> aiohttp.ClientSession:
        tls = self.config.ssl
        return aiohttp.ClientSession(
            # The API server closes idle connections after minutes only, so ours may live between two heartbeats.
            connector=aiohttp.TCPConnector(
                limit=connections, ssl=tls if tls is not None else False, keepalive_timeout=45.0
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._user_agent, "Accept": "application/json"},
            # Left to itself the server would compress large lists; inside a cluster that only costs CPU on both sides.
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
            auto_decompress=False,
            timeout=self._limits,
        )

    @overload
    async def get(self, path: str, *, query: Query | None = ..., timeout_s: float | None = ...) -> bytes: ...
    @overload
    async def get(self, path: str, *, type: type[T], query: Query | None = ..., timeout_s: float | None = ...) -> T: ...
    async def get(
        self, path: str, *, type: Any = None, query: Query | None = None, timeout_s: float | None = None
    ) -> Any:
        return _decode(path, await self.request("GET", path, query=query, timeout_s=timeout_s), type)

    async def list(
        self,
        path: str,
        *,
        item: type[T],
        limit: int | None = None,
        continue_: str | None = None,
        field_selector: str | None = None,
        label_selector: str | None = None,
        timeout_s: float | None = None,
    ) -> objects.Page[T]:
        """One page (everything, without a limit); `metadata.continue_` asks for the next."""
        query = selectors(field_selector, label_selector)
        if limit is not None:
            query["limit"] = str(limit)
        if continue_:
            query["continue"] = continue_
        page: objects.Page[T] = await self.get(path, type=objects.Page[item], query=query, timeout_s=timeout_s)  # type: ignore[valid-type]
        return page

    @overload
    async def create(self, path: str, body: Body) -> bytes: ...
    @overload
    async def create(self, path: str, body: Body, *, type: type[T]) -> T: ...
    async def create(self, path: str, body: Body, *, type: Any = None) -> Any:
        """POST to a collection or a subresource. Conflict with `already_exists` when the name is taken."""
        return _decode(path, await self.request("POST", path, body, content_type="application/json"), type)

    @overload
    async def replace(self, path: str, body: Body) -> bytes: ...
    @overload
    async def replace(self, path: str, body: Body, *, type: type[T]) -> T: ...
    async def replace(self, path: str, body: Body, *, type: Any = None) -> Any:
        """PUT; with a resourceVersion in the body a stale one is a Conflict."""
        return _decode(path, await self.request("PUT", path, body, content_type="application/json"), type)

    @overload
    async def patch(
        self, path: str, body: Body, kind: Patch = ..., *, field_manager: str | None = ..., force: bool = ...
    ) -> bytes: ...
    @overload
    async def patch(
        self,
        path: str,
        body: Body,
        kind: Patch = ...,
        *,
        type: type[T],
        field_manager: str | None = ...,
        force: bool = ...,
    ) -> T: ...
    async def patch(
        self,
        path: str,
        body: Body,
        kind: Patch = Patch.STRATEGIC,
        *,
        type: Any = None,
        field_manager: str | None = None,
        force: bool = False,
    ) -> Any:
        """A `metadata.uid` in the body is a precondition: OtherObject when it is not the live one's.

        A patch that changes nothing is no write (same resourceVersion). APPLY needs a field manager.
        """
        query = {}
        if field_manager is not None:
            query["fieldManager"] = field_manager
        if force:
            query["force"] = "true"
        return _decode(path, await self.request("PATCH", path, body, query=query, content_type=kind.value), type)

    async def delete(
        self,
        path: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_s: int | None = None,
        propagation: str | None = None,
    ) -> bytes:
        """NotFound when it is gone already, OtherObject when `uid` is not the live one's."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        if uid is not None or resource_version is not None:
            options["preconditions"] = {key: value for key, value in preconditions.items() if value is not None}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        if propagation is not None:
            options["propagationPolicy"] = propagation
        return await self.request("DELETE", path, options, content_type="application/json")

    async def bind(
        self,
        namespace: str,
        pod: str,
        node: str,
        *,
        uid: str,
        resource_version: str | None = None,
        annotations: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Binds a pod to a node, merging annotations and labels into the pod in the same write. Conflict: somebody else
        has it.

        The API server checks neither that the node exists nor that it has room (seen on 1.36).
        """
        metadata: dict[str, Any] = {"name": pod, "namespace": namespace, "uid": uid}
        if resource_version is not None:
            metadata["resourceVersion"] = resource_version
        if annotations:
            metadata["annotations"] = annotations
        if labels:
            metadata["labels"] = labels
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
        await self.request(  # answers a Status, not a Binding
            "POST", resources.PODS.path(namespace, pod, "binding"), body, content_type="application/json"
        )

    async def token(
        self,
        namespace: str,
        service_account: str,
        *,
        expiration_s: int,
        audiences: Sequence[str] = (),
        pod: str | None = None,
        pod_uid: str | None = None,
    ) -> Token:
        """A service account's token, bound to a pod if one is named; `expiration_s` is at least 600.

        3607 is refused here: with the default audience the API server answers it with a token for a year.
        """
        if expiration_s == 3607:
            raise ValueError("expiration_s is 3607, which asks for a one-year token; use 3600")
        spec: dict[str, Any] = {"expirationSeconds": expiration_s, "audiences": list(audiences)}
        if pod is not None:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": pod_uid}
        path = resources.SERVICE_ACCOUNTS.path(namespace, service_account, "token")
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return (await self.create(path, body, type=_TokenRequest)).status

    async def request(
        self,
        verb: str,
        path: str,
        body: Body | None = None,
        *,
        query: Query | None = None,
        content_type: str | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """Any call. Reads are tried up to `read_tries` times, writes once: the outcome of a failed one may be unknown.

        Below us aiohttp sends a PUT or DELETE (not a POST or PATCH) once more when a kept connection turns out to be
        closed; a first one that did arrive then shows as Conflict or NotFound.
        """
        data = body if body is None or isinstance(body, bytes) else _encode(body)
        if verb != "GET":
            return await self._renewing(verb, path, data, query, content_type, timeout_s)
        pause = backoff.Backoff(0.1, 2.0)
        for _ in range(self._read_tries - 1):
            try:
                return await self._renewing(verb, path, data, query, content_type, timeout_s)
            except errors.Timeout:
                raise
            except (errors.Unreachable, errors.ServerError, errors.TooManyRequests) as failure:
                await self._clock.sleep(max(pause.next_s(), min(failure.after_s or 0.0, 5.0)))
        return await self._renewing(verb, path, data, query, content_type, timeout_s)

    async def _renewing(
        self,
        verb: str,
        path: str,
        data: bytes | None,
        query: Query | None,
        content_type: str | None,
        timeout_s: float | None,
    ) -> bytes:
        url = self._url(path, query)
        limits = self._limits if timeout_s is None else aiohttp.ClientTimeout(total=timeout_s)
        renewals = self._renewals
        try:
            return await self._send(verb, path, url, data, content_type, limits)
        except errors.Unauthorized:
            if not await self._renewed(renewals):
                raise
        return await self._send(verb, path, url, data, content_type, limits)

    async def _send(
        self,
        verb: str,
        path: str,
        url: yarl.URL,
        data: bytes | None,
        content_type: str | None,
        limits: aiohttp.ClientTimeout,
    ) -> bytes:
        headers = await self._headers()
        if content_type is not None:
            headers["Content-Type"] = content_type
        self.sent[verb] = self.sent.get(verb, 0) + 1
        session = self._requests
        if session is None:
            raise RuntimeError("this client is closed")
        try:
            async with session.request(
                verb,
                url,
                data=data,
                headers=headers,
                timeout=limits,
                allow_redirects=False,
                server_hostname=self.config.tls_server_name,
            ) as response:
                answer = await response.read()
        except TimeoutError as late:
            raise errors.Timeout(f"{verb} {path}: no answer within {limits.total} s") from late
        except (aiohttp.ClientError, OSError) as problem:
            raise errors.unreachable(verb, path, self.config.server, problem) from problem
        if response.status >= 300:
            raise errors.from_answer(verb, path, response.status, response.headers.get("Retry-After"), answer)
        return answer

    @asynccontextmanager
    async def watch(
        self, path: str, query: Query, *, silence_s: float = WATCH_SILENCE_S
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Opens a watch: yields an iterator over its lines, each one undecoded event without the newline.

        The iterator ends when the server closes and raises Unreachable when the connection breaks or nothing at all
        came for `silence_s`. An ERROR event is a line like any other.
        """
        renewals = self._renewals
        try:
            response = await self._open_watch(path, query)
        except errors.Unauthorized:
            if not await self._renewed(renewals):
                raise
            response = await self._open_watch(path, query)
        lines = watching.lines(path, self.config.server, response, silence_s)
        try:
            yield lines
        finally:
            await lines.aclose()
            response.close()  # a watch's connection is of no further use

    async def _open_watch(self, path: str, query: Query) -> aiohttp.ClientResponse:
        session = self._watches
        if session is None:
            raise RuntimeError("this client is closed")
        url = self._url(path, {**query, "watch": "true"})
        self.sent["WATCH"] = self.sent.get("WATCH", 0) + 1
        headers = await self._headers()
        try:
            async with asyncio.timeout(self._timeout_s):  # headers come at once, events when they come
                response = await session.get(
                    url,
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0),
                    allow_redirects=False,
                    server_hostname=self.config.tls_server_name,
                    read_bufsize=_READ_CHUNK,
                )
                if response.status >= 300:
                    async with response:
                        answer = await response.read()
                    raise errors.from_answer(
                        "WATCH", path, response.status, response.headers.get("Retry-After"), answer
                    )
                return response
        except TimeoutError as late:
            raise errors.Timeout(f"WATCH {path}: no answer within {self._timeout_s} s") from late
        except (aiohttp.ClientError, OSError) as problem:
            raise errors.unreachable("WATCH", path, self.config.server, problem) from problem

    async def _headers(self) -> dict[str, str]:
        authorization = await self.config.credentials.authorization()
        return {"Authorization": authorization} if authorization is not None else {}

    async def _renewed(self, renewals: int) -> bool:
        """After a 401: whether to try again. Of many requests that were refused together, one renews for all."""
        async with self._renewing_now:
            if self._renewals != renewals:
                return True
            identity = self.config.credentials
            if not await identity.renew():
                return False
            await identity.authorization()  # an exec plugin runs now, so that its certificate is in place below
            self._renewals += 1
            if identity.by_certificate and self._requests is not None and self._watches is not None:
                # Open connections go on with the certificate they began with; requests in flight finish on them.
                self._retired += [self._requests, self._watches]
                self._open()
                while len(self._retired) > 4:
                    await self._retired.pop(0).close()
            return True

    def _url(self, path: str, query: Query | None) -> yarl.URL:
        text = f"{self.config.server}{path}?{urlencode(query)}" if query else self.config.server + path
        return yarl.URL(text, encoded=True)


def selectors(field_selector: str | None, label_selector: str | None) -> dict[str, str]:
    query = {}
    if field_selector:
        query["fieldSelector"] = field_selector
    if label_selector:
        query["labelSelector"] = label_selector
    return query


def _decode(path: str, answer: bytes, kind: Any) -> Any:
    if kind is None:
        return answer
    try:
        return _decoder(kind).decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise errors.Malformed(f"{path}: the answer is not what was asked for: {problem}") from problem
