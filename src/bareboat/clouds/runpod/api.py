"""Speaks HTTP with RunPod's three APIs: one request, its pace, its time limits, the repetition of what may be repeated.

Knows bases and bytes, not what they mean. The key travels in one header, to the configured hosts alone: redirects are
not followed. The User-Agent is our own, since a library's default one is turned away at the door.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
import yarl

import bareboat
from bareboat.clouds.runpod import failures, pace
from bareboat.core import errors
from bareboat.plumbing import backoff, sent_once
from bareboat.plumbing import clock as clocks

# What was decided on stock of a minute ago is decided again rather than done.
_LONGEST_QUEUE_S = 30.0


class NotSent(Exception):
    """The request never left: no connection came about. Nothing was done."""


class Lost(Exception):
    """The request may have arrived; no whole answer came back."""


@dataclass(frozen=True, slots=True)
class Bases:
    """Where the three APIs are."""

    v2: str
    v1: str
    graphql: str


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `api` is a field of `Bases`; `path` comes after that base, already quoted. `urgent` calls may use
    the part of the quota that is kept back."""

    api: str
    method: str
    path: str = ""
    query: Mapping[str, str] | None = None
    body: Any = None
    urgent: bool = False

    def __str__(self) -> str:
        return f"{self.api} {self.method} {self.path}".rstrip()


class Api:
    """One account. Safe for any number of tasks of one event loop."""

    def __init__(
        self,
        bases: Bases,
        key: str,
        clock: clocks.Clock,
        *,
        limited: bool = True,
        timeout_s: float = 30.0,
        create_timeout_s: float = 90.0,
        patience_s: float = 90.0,
        tries: int = 4,
        connections: int = 32,
    ) -> None:
        self._bases = bases
        self._key = key
        self._clock = clock
        self._timeout_s = timeout_s
        self._create_timeout_s = create_timeout_s
        self._patience_s = patience_s
        self._tries = tries
        self._places = asyncio.Semaphore(connections)
        self._headers = {
            "Authorization": f"Bearer {key}",
            "User-Agent": f"bareboat/{bareboat.__version__}",
            "Accept": "application/json, application/problem+json",
        }
        self._paces = {name: pace.Pace(clock, limited=limited) for name in ("v2", "v1", "graphql")}
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"Api({self._bases.v2!r})"

    async def read(self, call: Call) -> bytes:
        """The body of a good answer to something that may be asked twice; failures as `answer` has them, raised."""
        answer = await self.answer(call)
        failure = failures.of(answer, self._key)
        if failure is not None:
            raise failures.of_read(failure)
        return answer.body

    async def answer(self, call: Call) -> failures.Answer:
        """An answer to something that may be asked twice, good or bad.

        Repeated after 429, 5xx and lost connections, a few times and never past the patience. Raises `CloudDown` or
        `Throttled` when none came.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._repeated(call)
        except TimeoutError:
            raise errors.CloudDown(failures.CLOUD, f"no answer to {call} within {self._patience_s:g} s") from None

    async def once(self, call: Call) -> failures.Answer:
        """One request, whatever comes of it. Raises `NotSent`, `Lost`, or `Throttled` if its turn is too far off."""
        await self._paces[call.api].turn(min(_LONGEST_QUEUE_S, self._patience_s), urgent=call.urgent)
        return await self._send(call, self._create_timeout_s)

    def judge(self, answer: failures.Answer) -> failures.Failure | None:
        """What the answer refuses, None if it doesn't."""
        return failures.of(answer, self._key)

    @contextlib.asynccontextmanager
    async def stream(self, call: Call, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response that goes on; whoever reads it sets the time limits. Raises as `read`."""
        await self._paces[call.api].turn(self._patience_s)
        response = await self._opened(call, {**self._headers, "Accept": "text/event-stream", **headers})
        try:
            yield response
        finally:
            response.close()

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _opened(self, call: Call, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._open().request(
                    call.method,
                    self._url(call),
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0),
                )
                self._paces[call.api].told(response.headers)
                if response.status == 200:
                    return response
                async with response:
                    answer = failures.Answer(response.status, await response.read(), _after_s(response))
        except (aiohttp.ClientError, sent_once.Broken, TimeoutError, OSError) as error:
            raise errors.CloudDown(failures.CLOUD, f"{call} could not be opened: {self._redacted(error)}") from None
        failure = failures.of(answer, self._key)
        if failure is None:
            raise errors.CloudDown(failures.CLOUD, f"{call} was answered HTTP {answer.status}")
        if failure.status == 429:
            self._paces[call.api].refused(failure.after_s)
        raise failures.of_read(failure)

    async def _repeated(self, call: Call) -> failures.Answer:
        pauses = backoff.Backoff(0.5, 5.0)
        for attempt in range(1, self._tries + 1):
            await self._paces[call.api].turn(self._patience_s, urgent=call.urgent)
            try:
                answer = await self._send(call, self._timeout_s)
            except (NotSent, Lost) as error:
                if attempt == self._tries:
                    raise errors.CloudDown(failures.CLOUD, str(error)) from None
            else:
                if not self._worth_again(answer) or attempt == self._tries:
                    return answer
            await self._clock.sleep(pauses.next_s())
        raise AssertionError("the last try returns or raises")

    def _worth_again(self, answer: failures.Answer) -> bool:
        failure = failures.of(answer, self._key)
        if failure is None or failures.is_absent(failure):
            return False
        if failure.status in (200, 403, 429):
            return failure.status == 429 or not failure.is_json
        return failure.status >= 500 and failure.status != 501

    async def _send(self, call: Call, timeout_s: float) -> failures.Answer:
        headers = self._headers
        data = None
        if call.body is not None:
            headers = {**headers, "Content-Type": "application/json"}
            data = msgspec.json.encode(call.body)
        started_s = time.monotonic()
        try:
            async with (
                self._places,  # outside of the time limit: that is for the cloud, not for our own queue
                self._open().request(
                    call.method,
                    self._url(call),
                    data=data,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(10.0, timeout_s)),
                ) as response,
            ):
                answer = failures.Answer(response.status, await response.read(), _after_s(response))
                self._paces[call.api].told(response.headers)
        except sent_once.NEVER_SENT as error:
            raise NotSent(f"can't reach {call.api} of RunPod: {self._redacted(error)}") from None
        except TimeoutError:
            raise Lost(f"no answer to {call} within {time.monotonic() - started_s:.0f} s") from None
        except (aiohttp.ClientError, sent_once.Broken, OSError) as error:
            raise Lost(f"the connection broke during {call}: {self._redacted(error)}") from None
        if answer.status == 429:
            self._paces[call.api].refused(answer.after_s)
        return answer

    def _url(self, call: Call) -> yarl.URL:
        base: str = getattr(self._bases, call.api)
        url = yarl.URL(base.rstrip("/") + call.path, encoded=True)
        return url.with_query(dict(call.query)) if call.query else url

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
                cookie_jar=aiohttp.DummyCookieJar(),
                middlewares=(sent_once.never_twice,),
            )
        return self._session

    def _redacted(self, error: BaseException) -> str:
        return (str(error) or type(error).__name__).replace(self._key, "***")


def _after_s(response: aiohttp.ClientResponse) -> float:
    """Retry-After in seconds; a date there counts as unknown."""
    text = response.headers.get("Retry-After", "").strip()
    return min(float(text), 3600.0) if text.isdigit() else 0.0
