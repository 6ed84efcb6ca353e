"""The HTTP side: routes, limits, errors as JSON, and the socket. What a request does is the provisioner's."""

import asyncio
import importlib.resources
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
import structlog
from aiohttp import web

from bareboat.plumbing import clock as clocks
from bareboat.plumbing import supervise
from bareboat.provision import access, description, figures, order, provisioner, refusals

log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LONGEST_WAIT_S = 600
STOP_S = 20.0
_GUARDED = "/provision"
# The page talks to its own origin and loads nothing from anywhere.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"


@dataclass(frozen=True)
class Settings:
    """`token` empty: everybody may ask. `images`: patterns of what may be run, none: everything."""

    host: str = "0.0.0.0"
    port: int = 8088
    token: str = field(default="", repr=False)
    images: tuple[str, ...] = ()
    max_body_bytes: int = 65_536
    requests_per_minute: int | None = None


class Server:
    """Listens inside `async with`; `port` then is the real one."""

    def __init__(
        self,
        settings: Settings,
        clients: provisioner.Provisioner,
        counted: figures.Figures,
        clock: clocks.Clock,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._counted = counted
        self._clock = clock
        self._rates = access.Rates(clock, settings.requests_per_minute)
        # What is compressed is refused: a small body of that kind could be a large one.
        self._runner = web.AppRunner(
            self.application(), access_log=None, shutdown_timeout=STOP_S, auto_decompress=False
        )
        self.port = settings.port
        self._recovery: asyncio.Task[None] | None = None

    def application(self) -> web.Application:
        """The aiohttp application without a socket."""
        app = web.Application(middlewares=[self._answers], client_max_size=self._settings.max_body_bytes)
        app.router.add_post("/provision", self._provision)
        app.router.add_get("/provision", self._all)
        app.router.add_get("/provision/{name}", self._one)
        app.router.add_delete("/provision/{name}", self._remove)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/openapi.json", self._openapi)
        app.router.add_get("/", self._page)
        app.router.add_get("/docs", self._page)
        return app

    async def __aenter__(self) -> Self:
        listening = _listen(self._settings.host, self._settings.port)
        self.port = listening.getsockname()[1]
        await self._runner.setup()
        await web.SockSite(self._runner, listening).start()
        self._recovery = asyncio.create_task(
            supervise.supervise("provision.recovery", self._clients.run, clock=self._clock), name="provision.recovery"
        )
        log.info("provision.listening", host=self._settings.host, port=self.port, namespace=self._clients.namespace)
        warning = access.exposure(self._settings.host, self._settings.token)
        if warning:
            log.warning("provision.exposed", why=warning)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.wait({self._recovery})
        self._clients.stop_waiting()
        await self._runner.cleanup()

    async def tell_readiness(self) -> None:
        """Logs why requests would fail, if they would: people look there first."""
        try:
            await self._clients.check()
        except refusals.Refused as no:
            log.warning("provision.not_ready", why=str(no))

    @web.middleware
    async def _answers(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every answer is counted, and every refusal is JSON."""
        started_s = self._clock.monotonic_s()
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "none"
        # Method names are the client's to invent; those that no route knows are one series.
        method = request.method if route != "none" and request.method in ("GET", "HEAD", "POST", "DELETE") else "other"
        status = 500
        try:
            answer = await self._answer(request, handler)
            status = answer.status
            return answer
        finally:
            self._counted.answered(method, route, status, self._clock.monotonic_s() - started_s)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.path == _GUARDED or request.path.startswith(f"{_GUARDED}/"):
                self._rates.take(request.remote or "")
                access.check_token(self._settings.token, request.headers.get("Authorization"))
            return await handler(request)
        except refusals.Refused as no:
            return _refusal(no)
        except web.HTTPRequestEntityTooLarge:
            return _refusal(self._too_large())
        except web.HTTPNotFound:
            return _refusal(
                refusals.refused(404, "path", f"is {request.path[:80]!r}; see /openapi.json for what is here")
            )
        except web.HTTPMethodNotAllowed as wrong:
            allowed = ", ".join(sorted(wrong.allowed_methods))
            answer = _refusal(refusals.refused(405, "method", f"is {request.method}; allowed here: {allowed}"))
            answer.headers["Allow"] = allowed
            return answer

    async def _provision(self, request: web.Request) -> web.StreamResponse:
        wait_s = _wait_s(request)
        asked = order.read(await self._body(request), self._settings.images)
        return _json(await self._clients.provision(asked, wait_s))

    async def _all(self, _request: web.Request) -> web.StreamResponse:
        return _json({"clients": await self._clients.all()})

    async def _one(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._clients.one(_name(request), _wait_s(request)))

    async def _remove(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._clients.remove(_name(request)))

    async def _healthz(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.StreamResponse:
        try:
            await self._clients.check()
        except refusals.Refused as no:
            return web.Response(text=f"{no}\n", status=503)
        return web.Response(text="ok\n")

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._counted.page(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _openapi(self, _request: web.Request) -> web.StreamResponse:
        return _json(description.document(with_token=bool(self._settings.token)))

    async def _page(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text=PAGE, content_type="text/html", headers={"Content-Security-Policy": _POLICY})

    async def _body(self, request: web.Request) -> bytes:
        # A browser sends JSON across origins only after asking, and is refused then: no page can post here by stealth.
        if request.content_type != "application/json":
            told = f"is {request.content_type!r}; send the body as application/json"
            raise refusals.refused(415, "Content-Type", told)
        encoding = request.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise refusals.refused(415, "Content-Encoding", f"is {encoding[:80]!r}; send the body as it is")
        if (request.content_length or 0) > self._settings.max_body_bytes:
            raise self._too_large()
        try:
            return await request.read()
        except (aiohttp.ClientError, aiohttp.web.RequestPayloadError) as broken:
            raise refusals.refused(400, "body", "can't be read; is it cut off, or not encoded as it says?") from broken

    def _too_large(self) -> refusals.Refused:
        limit = self._settings.max_body_bytes
        return refusals.refused(413, "body", f"is larger than {limit} bytes (PROVISION_MAX_BODY_BYTES)")


def _refusal(no: refusals.Refused) -> web.Response:
    answer = _json(no.document(), no.status)
    if no.after_s is not None:
        answer.headers["Retry-After"] = str(max(1, round(no.after_s)))
    if no.status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value) + b"\n", status=status, content_type="application/json")


def _name(request: web.Request) -> str:
    name = request.match_info["name"]
    if not description.NAME.fullmatch(name):
        raise refusals.refused(404, "name", f"is {name[:80]!r}, which is no name of a client, its Pod or its Service")
    return name


def _wait_s(request: web.Request) -> float:
    given = request.query.getall("wait", ["0"])
    text = given[0]
    if len(given) > 1 or not (text.isascii() and text.isdigit()) or int(text[:9]) > LONGEST_WAIT_S or len(text) > 9:
        told = f"is {','.join(given)[:80]!r}; allowed are whole seconds from 0 to {LONGEST_WAIT_S}"
        raise refusals.refused(422, "wait", told)
    return float(text)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512, dualstack_ipv6=host == "::")
    except OSError as error:
        raise supervise.Fatal(
            f"HOST {host}, PORT {port}: can't listen there: {error.strerror or error}; choose others", exit_code=2
        ) from error


PAGE = importlib.resources.files("bareboat.provision").joinpath("page.html").read_text("utf-8")
