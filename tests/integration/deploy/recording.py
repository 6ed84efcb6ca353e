"""Stands between the node and the API server and notes each request with its answer, as an audit log would.

Passes on everything as it is, watches included. The token in the request is what the API server judges.
"""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from bareboat.sandbox import controlplane

# Belong to one connection, not to the message.
_NOT_PASSED_ON = frozenset({"host", "connection", "transfer-encoding", "content-length", "keep-alive"})
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class Request:
    """In the words of RBAC. `resource` with its subresource, as in rules: `pods/status`."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    status: int = 200

    def __str__(self) -> str:
        place = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.verb} {self.resource} {place} ({self.group or 'core'}) -> {self.status}"


@contextlib.contextmanager
def recorded(sandbox: controlplane.ControlPlane) -> Iterator[tuple[str, list[Request]]]:
    """The URL to use instead of the API server's, and the requests so far (it grows)."""
    requests: list[Request] = []
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="recording", daemon=True)
    thread.start()
    recorder = _Recorder(sandbox, requests)
    try:
        url = asyncio.run_coroutine_threadsafe(recorder.start(), loop).result(20)
        try:
            yield url, requests
        finally:
            asyncio.run_coroutine_threadsafe(recorder.stop(), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


class _Recorder:
    def __init__(self, sandbox: controlplane.ControlPlane, requests: list[Request]) -> None:
        self._sandbox = sandbox
        self._requests = requests

    async def start(self) -> str:
        tls = ssl.create_default_context(cafile=self._sandbox.authority_path)
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON}
        url = f"{self._sandbox.url}{request.raw_path}"
        body = await request.read()
        async with self._client.request(request.method, url, headers=headers, data=body or None) as answer:
            self._requests.append(_told(request, answer.status))
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _NOT_PASSED_ON}
            passed = web.StreamResponse(status=answer.status, headers=kept)
            await passed.prepare(request)
            async for piece in answer.content.iter_any():
                await passed.write(piece)
            await passed.write_eof()
            return passed


def _told(request: web.Request, status: int) -> Request:
    parts = request.path.strip("/").split("/")
    group = "" if parts[0] == "api" else parts[1]
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    name = rest[1] if len(rest) > 1 else ""
    resource = f"{rest[0]}/{rest[2]}" if len(rest) > 2 else rest[0]
    if request.method == "GET":
        verb = "get" if name else "watch" if request.query.get("watch") in ("1", "true") else "list"
    else:
        verb = _VERBS[request.method]
    if not name and verb in ("list", "watch"):
        # As RBAC does: one object chosen by its name is a list of that name.
        fields = dict(each.split("=", 1) for each in request.query.get("fieldSelector", "").split(",") if "=" in each)
        name = fields.get("metadata.name", "")
    return Request(verb, group, resource, namespace, name, status)
