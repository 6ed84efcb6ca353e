"""A kubelet API on loopback with throw-away certificates, a reviewer that the test fills in, and clients for it."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
import msgspec
import trustme

from bareboat.kube import errors
from bareboat.kubelet import authn, authz, logs, routes, server, tls
from bareboat.kubelet.streams import watch
from bareboat.plumbing import clock as clocks

T = TypeVar("T")
NODE = "virt-1"


@dataclass
class Reviewer:
    """Plays the API server: tokens it knows, (user, verb, subresource) it allows, or `failure` for everything."""

    tokens: dict[str, str] = field(default_factory=dict)
    allowed: set[tuple[str, str, str]] = field(default_factory=set)
    failure: errors.KubeError | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def create(self, path: str, body: Mapping[str, Any], *, type: type[T]) -> T:
        if self.failure is not None:
            raise self.failure
        self.asked.append({"path": path, **body})
        spec = body["spec"]
        if body["kind"] == "TokenReview":
            name = self.tokens.get(spec["token"])
            user = {"username": name, "uid": "u-1", "groups": ["g"], "extra": {"k": ["v"]}}
            return msgspec.convert({"status": {"authenticated": True, "user": user} if name else {}}, type)
        asked = spec["resourceAttributes"]
        allowed = (spec["user"], asked["verb"], asked["subresource"]) in self.allowed
        return msgspec.convert({"status": {"allowed": allowed}}, type)


@dataclass
class Api:
    """A running server and how to talk to it."""

    server: server.Server
    tls: tls.Tls
    reviewer: Reviewer
    clock: clocks.ManualClock
    serving_ca: trustme.CA
    client_ca: trustme.CA

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.server.port}{path}"

    def client_tls(
        self, user: str | None = "admin", *, groups: str | None = None, ca: trustme.CA | None = None
    ) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.serving_ca.configure_trust(context)
        if user is not None:
            issued = (ca or self.client_ca).issue_cert("c@example.com", common_name=user, organization_name=groups)
            issued.configure_cert(context)
        return context

    @asynccontextmanager
    async def client(
        self, user: str | None = "admin", *, groups: str | None = None, ca: trustme.CA | None = None
    ) -> AsyncIterator[aiohttp.ClientSession]:
        """With a client certificate of `ca` (default: the trusted one) for `user`; None has no certificate."""
        context = self.client_tls(user, groups=groups, ca=ca)
        connector = aiohttp.TCPConnector(ssl=context, force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as session:
            yield session

    async def get(self, path: str, user: str | None = "admin", **headers: str) -> tuple[int, str]:
        async with self.client(user) as session, session.get(self.url(path), headers=headers) as answer:
            return answer.status, await answer.text()

    async def send(self, method: str, path: str) -> tuple[int, str]:
        async with self.client() as session, session.request(method, self.url(path)) as answer:
            return answer.status, await answer.text()


def chain(ca: trustme.CA, *names: str) -> tls.KeyChain:
    issued = ca.issue_cert(*names)
    return tls.KeyChain(issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes())


async def no_logs(namespace: str, pod: str, container: str, options: logs.LogOptions) -> logs.Lines:
    raise logs.NotFound(f'pod "{pod}" not found')


def handlers(**changed: Any) -> routes.Handlers:
    given: dict[str, Any] = {
        "container_logs": no_logs,
        "has_pod": lambda namespace, pod, uid: (namespace, pod) == ("default", "p") and uid in (None, "uid-1"),
    }
    return routes.Handlers(**{**given, **changed})


@asynccontextmanager
async def served(
    served_handlers: routes.Handlers | None = None,
    *,
    reviewer: Reviewer | None = None,
    authentication: authn.Settings | None = None,
    authorization: authz.Settings | None = None,
    endpoints: routes.Settings | None = None,
    client_ca: bool = True,
    limits: watch.Limits | None = None,
) -> AsyncIterator[Api]:
    """By default everything is allowed to whoever is known."""
    clock = clocks.ManualClock()
    reviews = reviewer or Reviewer()
    serving, clients = trustme.CA(), trustme.CA()
    secured = tls.Tls(chain(serving, "127.0.0.1"), clients.cert_pem.bytes().decode() if client_ca else None)
    listening = server.Server(
        served_handlers or handlers(),
        tls=secured,
        authenticator=authn.Authenticator(reviews, authentication or authn.Settings(), clock),
        authorizer=authz.Authorizer(reviews, NODE, authorization or authz.Settings("AlwaysAllow"), clock),
        settings=server.Settings(
            host="127.0.0.1",
            port=0,
            stop_s=1.0,
            endpoints=endpoints or routes.Settings(),
            streams=limits or watch.Limits(),
        ),
        clock=clock,
    )
    async with listening:
        yield Api(listening, secured, reviews, clock, serving, clients)
