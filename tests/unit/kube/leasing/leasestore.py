"""Leases with resourceVersions, behind the fake API server's HTTP."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from tests.unit.kube import fakeapi

from bareboat.kube import client as clients


class LeaseApi(fakeapi.FakeApi):
    """While `down`, every request is hung up on."""

    def __init__(self) -> None:
        super().__init__()
        self.leases: dict[str, dict[str, Any]] = {}
        self.writes: list[dict[str, Any]] = []
        self.down = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        if self.down:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.script:
            return await self.script.pop(0)(request)
        name = request.path.rsplit("/", 1)[-1]
        if request.method == "GET":
            return web.json_response(self.leases[name]) if name in self.leases else fakeapi.refusal(404, "NotFound")
        if request.method == "DELETE":
            return web.json_response(self.leases.pop(name)) if name in self.leases else fakeapi.refusal(404)
        return self.write(request.method, json.loads(await request.read()))

    def write(self, method: str, body: dict[str, Any]) -> web.Response:
        name = body["metadata"]["name"]
        current = self.leases.get(name)
        if method == "POST" and current is not None:
            return fakeapi.refusal(409, "AlreadyExists")
        if method == "PUT" and current is None:
            return fakeapi.refusal(404, "NotFound")
        if current is not None and body["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"]:
            return fakeapi.refusal(409, "Conflict", "the object has been modified")
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.leases[name] = body
        self.writes.append(body)
        return web.json_response(body)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[LeaseApi, clients.Client]]:
    """A client that tries once: its own pauses are real time, and the tests' clock stands still."""
    api = LeaseApi()
    async with fakeapi.served(api), clients.Client(api.config(), timeout_s=5.0, read_tries=1) as client:
        yield api, client
