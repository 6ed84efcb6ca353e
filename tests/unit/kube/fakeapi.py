"""A small API server in this process that can be told to misbehave: answers by script, watches by hand.

It keeps pods in namespace `t`, numbers every change, pages lists, replays a watch from a resourceVersion and forgets
history on demand. What a real one does beyond that is for the integration tests.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from bareboat.kube import config as configs
from bareboat.kube import credentials

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PODS = "/api/v1/pods"


def refusal(status: int, reason: str = "", message: str = "no", **headers: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": status}
    return web.json_response(body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})


class FakeApi:
    """`script`: handlers that answer the next requests, one each, before the server behaves again."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.script: list[Handler] = []
        self.watch_script: list[Handler] = []
        self.objects: dict[tuple[str, str], Json] = {}
        self.history: list[tuple[int, Json]] = []
        self.oldest = 0
        self.version = 100
        self.uids = 0
        self.changed = asyncio.Condition()
        self.open_watches: set[web.StreamResponse] = set()
        self.cut = asyncio.Event()
        self.broken_pods: dict[str, Json] = {}

    # What happens in the cluster

    async def put(self, name: str, *, new_uid: bool = False, **labels: str) -> Json:
        key = ("t", name)
        old = self.objects.get(key)
        if old is not None and new_uid:
            await self.remove(name)
            old = None
        self.version += 1
        if old is None:
            self.uids += 1
        uid = old["metadata"]["uid"] if old is not None else f"uid-{self.uids}"
        value = {
            "metadata": {
                "name": name,
                "namespace": "t",
                "uid": uid,
                "resourceVersion": str(self.version),
                "labels": labels,
            }
        }
        self.objects[key] = value
        await self._record("MODIFIED" if old is not None else "ADDED", value)
        return value

    async def remove(self, name: str) -> None:
        value = self.objects.pop(("t", name))
        self.version += 1
        last = {"metadata": {**value["metadata"], "resourceVersion": str(self.version)}}
        await self._record("DELETED", last)

    async def bookmark(self) -> None:
        await self._record("BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})

    async def compact(self) -> None:
        """History before now is lost: older resourceVersions are answered with 410."""
        self.version += 1
        self.oldest = self.version
        self.history.clear()

    async def cut_watches(self) -> None:
        self.cut.set()
        self.cut = asyncio.Event()
        async with self.changed:
            self.changed.notify_all()

    async def _record(self, kind: str, value: Json) -> None:
        self.history.append((self.version, {"type": kind, "object": value}))
        async with self.changed:
            self.changed.notify_all()

    # HTTP

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        self.bodies.append(await request.read())
        self.headers.append(dict(request.headers))
        watch = request.query.get("watch") == "true"
        if watch and self.watch_script:
            return await self.watch_script.pop(0)(request)
        if not watch and self.script:
            return await self.script.pop(0)(request)
        if watch:
            return await self.watch(request)
        if request.path == PODS:
            return self.list(request)
        return web.json_response({"metadata": {"name": request.path.rsplit("/", 1)[-1]}})

    def list(self, request: web.Request) -> web.Response:
        start = int(request.query.get("continue", "0"))
        limit = int(request.query.get("limit", "100000"))
        everything = [*self.objects.values(), *self.broken_pods.values()]
        end = start + limit
        metadata: Json = {"resourceVersion": str(self.version)}
        if end < len(everything):
            metadata["continue"] = str(end)
        return web.json_response({"kind": "PodList", "metadata": metadata, "items": everything[start:end] or None})

    async def watch(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        if since < self.oldest:
            return refusal(410, "Expired", "too old resource version")
        response = await self.start_watch(request)
        self.open_watches.add(response)
        cut = self.cut
        try:
            while True:
                for version, event in [entry for entry in self.history if entry[0] > since]:
                    since = version
                    await response.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")
                if cut.is_set():
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                async with self.changed:
                    if not any(version > since for version, _ in self.history) and not cut.is_set():
                        await self.changed.wait()
        finally:
            self.open_watches.discard(response)

    async def start_watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        return response

    def count(self, verb: str, *, watch: bool | None = None) -> int:
        return sum(
            method == verb and (watch is None or ("watch=true" in path) == watch) for method, path in self.requests
        )

    def config(self, identity: credentials.Credentials | None = None) -> configs.Config:
        return configs.Config(
            server=self.url, ssl=None, credentials=identity or credentials.Fixed(), where="the fake API server"
        )


@asynccontextmanager
async def served(api: FakeApi, port: int = 0) -> AsyncIterator[FakeApi]:
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{tail:.*}", api.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.05, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    address: Any = runner.addresses[0]
    api.url = f"http://127.0.0.1:{address[1]}"
    try:
        yield api
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    """Waits for a condition on the state of this process; fails by name."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - the condition is on plain state that nobody announces
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s} s: {what}") from None
