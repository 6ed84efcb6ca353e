"""Speaks HTTP with Vast: one request, its pace, its time limits, and the repetition of what may be repeated.

Knows routes and bytes, not what they mean. The key travels in one header, to the configured host alone: redirects are
not followed, and the host that keeps logs is asked without it.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec
import yarl

import bareboat
from bareboat.clouds.vast import failures, routes
from bareboat.core import errors
from bareboat.plumbing import backoff, ratelimit, sent_once
from bareboat.plumbing import clock as clocks

# What was decided on offers of a minute ago is decided again rather than done.
_LONGEST_QUEUE_S = 30.0
_MAX_TEXT_BYTES = 8 * 1024 * 1024


class NotSent(Exception):
    """The request never left: no connection came about. Nothing was done."""


class Lost(Exception):
    """The request may have arrived; no whole answer came back."""


class Api:
    """One account at one base URL. Safe for any number of tasks of one event loop."""

    def __init__(
        self,
        url: str,
        key: str,
        clock: clocks.Clock,
        *,
        limited: bool = True,
        timeout_s: float = 30.0,
        patience_s: float = 90.0,
        tries: int = 4,
        connections: int = 32,
    ) -> None:
        self._base = url.rstrip("/")
        self._key = key
        self._clock = clock
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._tries = tries
        self._places = asyncio.Semaphore(connections)
        self._headers = {
            "Authorization": f"Bearer {key}",
            "User-Agent": f"bareboat/{bareboat.__version__}",
            "Accept": "application/json",
        }
        self._limiters = {
            route.name: ratelimit.Limiter(clock, route.calls, route.per_s, penalty_s=route.penalty_s)
            for route in routes.ALL
            if limited
        }
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"Api({self._base!r})"

    async def read(
        self, route: routes.Route, subject: str = "", *, query: Mapping[str, Any] | None = None, body: Any = None
    ) -> bytes:
        """The body of a good answer to something that may be asked twice.

        Repeated after 429, 5xx and lost connections, a few times and never past the patience; then the errors of
        `failures.of_read`, of which `CloudDown` stands for time-outs too.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._read(route, subject, query, body)
        except TimeoutError:
            raise errors.CloudDown(failures.CLOUD, f"no answer to {route.name} within {self._patience_s:g} s") from None

    async def once(self, route: routes.Route, subject: str = "", *, body: Any = None) -> failures.Answer:
        """One request, whatever comes of it. Raises `NotSent`, `Lost`, or `Throttled` if its turn is too far off."""
        await self._turn(route, min(_LONGEST_QUEUE_S, self._patience_s))
        return await self._send(route, subject, None, body)

    def judge(self, route: routes.Route, answer: failures.Answer) -> failures.Failure | None:
        """What the answer refuses, None if it doesn't. Tells the pace of the route about it."""
        failure = failures.of(answer, self._key)
        limiter = self._limiters.get(route.name)
        if limiter is None:
            return failure
        if failure is not None and failures.throttled(failure):
            limiter.refused(failure.threshold_s, failure.after_s)
        else:
            limiter.granted()
        return failure

    def wait_s(self, route: routes.Route) -> float:
        """About how long a call on this route would wait for its turn."""
        limiter = self._limiters.get(route.name)
        return limiter.wait_s() if limiter is not None else 1.0

    async def fetch_text(self, url: str) -> str | None:
        """A text from another host, asked for without the key; None while it isn't there (403 or 404) or that host is
        in trouble."""
        target = self._other_host(url)
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._open().request("GET", target, allow_redirects=False) as response,
            ):
                if response.status in (403, 404) or response.status >= 500:
                    return None
                if response.status != 200:
                    raise errors.CloudDown(failures.CLOUD, f"the host of the logs answered HTTP {response.status}")
                text = bytearray()
                async for chunk in response.content.iter_chunked(65536):
                    text += chunk
                    if len(text) > _MAX_TEXT_BYTES:
                        del text[: len(text) - _MAX_TEXT_BYTES]
                return text.decode(errors="replace")
        except (aiohttp.ClientError, sent_once.Broken, TimeoutError, OSError) as error:
            why = f"the host of the logs could not be read: {self._redacted(error)}"
            raise errors.CloudDown(failures.CLOUD, why) from None

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _read(self, route: routes.Route, subject: str, query: Mapping[str, Any] | None, body: Any) -> bytes:
        pauses = backoff.Backoff(0.5, 5.0)
        for attempt in range(1, self._tries + 1):
            await self._turn(route, self._patience_s)
            try:
                answer = await self._send(route, subject, query, body)
            except (NotSent, Lost) as error:
                problem: errors.CloudError = errors.CloudDown(failures.CLOUD, str(error))
                again = True
            else:
                failure = self.judge(route, answer)
                if failure is None:
                    return answer.body
                problem = failures.of_read(failure)
                again = isinstance(problem, errors.Throttled) or (
                    isinstance(problem, errors.CloudDown) and (failure.status >= 500 or not failure.is_json)
                )
                if isinstance(problem, errors.Throttled):
                    problem.after_s = max(problem.after_s, self.wait_s(route))
            if not again or attempt == self._tries:
                break
            await self._clock.sleep(pauses.next_s())
        raise problem

    async def _turn(self, route: routes.Route, longest_s: float) -> None:
        limiter = self._limiters.get(route.name)
        if limiter is None:
            return
        wait_s = limiter.wait_s()
        if wait_s > longest_s:
            why = f"{route.name} calls are made at most every {route.per_s / route.calls:g} s, and others wait"
            raise errors.Throttled(failures.CLOUD, why, wait_s - longest_s)
        await limiter.turn()

    async def _send(
        self, route: routes.Route, subject: str, query: Mapping[str, Any] | None, body: Any
    ) -> failures.Answer:
        headers = self._headers
        data = None
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
            data = msgspec.json.encode(body)
        started_s = time.monotonic()
        try:
            async with (
                self._places,  # outside of the time limit: that is for the cloud, not for our own queue
                self._open().request(
                    route.method, self._url(route, subject, query), data=data, headers=headers, allow_redirects=False
                ) as response,
            ):
                return failures.Answer(response.status, await response.read())
        except sent_once.NEVER_SENT as error:
            raise NotSent(f"can't reach {self._base}: {self._redacted(error)}") from None
        except TimeoutError:
            took_s = time.monotonic() - started_s
            raise Lost(f"no answer to {route.name} from {self._base} within {took_s:.0f} s") from None
        except (aiohttp.ClientError, sent_once.Broken, OSError) as error:
            raise Lost(f"the connection to {self._base} broke during {route.name}: {self._redacted(error)}") from None

    def _url(self, route: routes.Route, subject: str, query: Mapping[str, Any] | None) -> yarl.URL:
        url = yarl.URL(self._base + route.path.replace("{id}", subject), encoded=True)
        if query:
            # Whatever is no string goes as JSON: that is how Vast reads select_filters and its kin.
            url = url.with_query(
                {
                    key: value if isinstance(value, str) else msgspec.json.encode(value).decode()
                    for key, value in query.items()
                }
            )
        return url

    def _other_host(self, url: str) -> yarl.URL:
        try:
            target = yarl.URL(url)
        except ValueError:
            raise errors.CloudDown(failures.CLOUD, "named a place of the logs that is no URL") from None
        allowed = ("https",) if self._base.startswith("https:") else ("https", "http")
        if target.scheme not in allowed or not target.host:
            raise errors.CloudDown(failures.CLOUD, f"named a place of the logs that is no {' or '.join(allowed)} URL")
        return target

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=min(10.0, self._timeout_s)),
                cookie_jar=aiohttp.DummyCookieJar(),
                middlewares=(sent_once.never_twice,),
            )
        return self._session

    def _redacted(self, error: BaseException) -> str:
        return (str(error) or type(error).__name__).replace(self._key, "***")
