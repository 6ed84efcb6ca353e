"""The listening side of the kubelet API: TLS, who calls, may they, and an end that leaves no client hanging.

Owns the socket and the order of checks (authentication, authorization, then the route: an unknown path is 404 only to
those who may ask). What is served comes in as functions (`routes.Handlers`).
"""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from bareboat.kube import errors
from bareboat.kubelet import authn, authz, routes, tls
from bareboat.kubelet.streams import front, requests, service, watch
from bareboat.plumbing import clock as clocks
from bareboat.plumbing import supervise

log = structlog.get_logger()

PORT = 10250
GOODBYE_S = 1.0


@dataclass(frozen=True)
class Settings:
    """`port` 0 takes any free one. `stop_s`: how long open answers have to end once the server stops."""

    host: str = "0.0.0.0"
    port: int = PORT
    stop_s: float = 5.0
    endpoints: routes.Settings = field(default_factory=routes.Settings)
    streams: watch.Limits = field(default_factory=watch.Limits)


class CannotListen(supervise.Fatal):
    """The address is taken, not of this machine, or forbidden. The text says which and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=2)


class Server:
    """An async context manager: listens inside, and on leaving ends log streams cleanly and closes the rest."""

    def __init__(
        self,
        handlers: routes.Handlers,
        *,
        tls: tls.Tls,
        authenticator: authn.Authenticator,
        authorizer: authz.Authorizer,
        settings: Settings | None = None,
        clock: clocks.Clock | None = None,
    ) -> None:
        self._settings = settings or Settings()
        self._tls = tls
        self._stopping = asyncio.Event()
        clock = clock or clocks.SystemClock()
        streams = service.Streams(handlers.containers, handlers.has_pod, clock, self._stopping, self._settings.streams)
        endpoints = self._settings.endpoints
        served = routes.Routes(authorizer.node_name, handlers, endpoints, clock, self._stopping, streams)
        guard = _guard(authenticator, authorizer)
        self._laxness = _laxness(authenticator, authorizer)
        # Without cancellation a `logs -f` without new lines would outlive its client for ever.
        self._runner = web.AppRunner(
            application(served, guard),
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=self._settings.stop_s,
            max_line_size=front.HEAD_BYTES,
            max_field_size=front.HEAD_BYTES,
        )
        on = endpoints.enable_debugging_handlers
        self._fronts = front.Fronts(self._plain, streams if on else None, guard)
        self._listener: asyncio.Server | None = None
        self.port = self._settings.port

    async def __aenter__(self) -> Self:
        settings = self._settings
        listening = _listen(settings.host, settings.port)
        await self._runner.setup()
        self.port = listening.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            self._fronts, sock=listening, ssl=self._tls.listening, ssl_shutdown_timeout=GOODBYE_S
        )
        log.info("kubelet.listening", host=settings.host, port=self.port)
        if self._laxness:
            log.warning("kubelet.lax", host=settings.host, port=self.port, why=self._laxness)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._listener is not None:
            self._listener.close()
        sockets = [
            connection.transport.get_extra_info("socket")
            for connection in self._connections()
            # One that is closing already may have lost its socket, and Python's TLS transport then trips over it.
            if connection.transport is not None and not connection.transport.is_closing()
        ]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fronts.close(self._settings.stop_s), name="kubelet.streams.stop")
            group.create_task(self._runner.cleanup(), name="kubelet.http.stop")
        await _closed(sockets)

    @property
    def streaming_connections(self) -> int:
        """How many clients stream over SPDY at the moment."""
        return self._fronts.running

    def _plain(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        return server()

    def _connections(self) -> list[web.RequestHandler]:
        return [] if self._runner.server is None else self._runner.server.connections


async def _closed(sockets: Sequence[socket.socket]) -> None:
    """Waits until peers have taken what was written and said goodbye, as TLS wants it; asyncio cuts off the others."""
    for _ in range(round(2 * GOODBYE_S / 0.01)):
        if all(each.fileno() == -1 for each in sockets):
            return
        await asyncio.sleep(0.01)


def application(served: routes.Routes, guard: front.Guard) -> web.Application:
    """The aiohttp application without a socket."""
    app = web.Application(middlewares=[_guarding(guard), _plain_errors])
    served.add_to(app.router)
    return app


@web.middleware
async def _plain_errors(request: web.Request, handler: routes.Handler) -> web.StreamResponse:
    """Errors of the router as one line of text. A 405 of the router is a 404 here: the kubelet knows no such route."""
    try:
        return await handler(request)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        return web.Response(text="404 page not found", status=404)


def _guard(authenticator: authn.Authenticator, authorizer: authz.Authorizer) -> front.Guard:
    async def guard(
        certificate: Mapping[str, Any] | None, authorization: str | None, method: str, path: str
    ) -> requests.Refusal | None:
        user = await authenticator.authenticate(certificate, authorization)
        if user is None:
            return requests.Refusal(401, "Unauthorized")
        try:
            refusal = await authorizer.refusal(user, authz.Action.of(method, path))
        except errors.KubeError as failure:
            log.warning("kubelet.access_review_failed", user=user.name, path=path, why=str(failure))
            text = f"Authorization error (user={user.name}): the API server gave no verdict"
            return requests.Refusal(500, text)
        return None if refusal is None else requests.Refusal(403, refusal)

    return guard


def _guarding(guard: front.Guard) -> Middleware:
    @web.middleware
    async def guarding(request: web.Request, handler: routes.Handler) -> web.StreamResponse:
        certificate = request.get_extra_info("peercert")
        refusal = await guard(certificate, request.headers.get("Authorization"), request.method, request.path)
        if refusal is not None:
            return web.Response(text=refusal.text, status=refusal.status)
        return await handler(request)

    return guarding


def _laxness(authenticator: authn.Authenticator, authorizer: authz.Authorizer) -> str:
    """What the settings leave open, in words; empty with the defaults."""
    everybody = "whoever reaches this port" if authenticator.takes_anybody else "every caller that is known"
    if authorizer.allows_everything:
        return f"authorization mode AlwaysAllow: {everybody} may run commands in every pod; Webhook asks the API server"
    if authenticator.takes_anybody:
        return "anonymous auth: whoever reaches this port may do what the API server allows to system:anonymous"
    return ""


def _listen(host: str, port: int) -> socket.socket:
    ipv6 = ":" in host
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512, dualstack_ipv6=host == "::")
    except OSError as error:
        raise CannotListen(
            f"the kubelet API can't listen on {host} port {port}: {error.strerror or error}; end what listens there"
            " (a kubelet of this machine?) or choose another port"
        ) from error
