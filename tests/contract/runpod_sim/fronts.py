"""A thin client of the three APIs for the tests: it shows the wire as it is, and leaves every judgement to them."""

import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from bareboat.clouds.runpod import sim as runpod_sim
from bareboat.plumbing import clock as clocks
from bareboat.simulation import estate, market, rentals


@dataclasses.dataclass(frozen=True)
class Reply:
    status: int
    kind: str
    text: str
    headers: Mapping[str, str]

    @property
    def body(self) -> Any:
        return json.loads(self.text)


@dataclasses.dataclass
class Runpod:
    """A served simulator, the clock it lives on, and a session with its key."""

    sim: runpod_sim.Simulator
    clock: clocks.ManualClock
    http: aiohttp.ClientSession

    @property
    def control(self) -> runpod_sim.Control:
        return self.sim.control

    async def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = "", agent: str = "test/1", **query: str
    ) -> Reply:
        """`key` None sends none."""
        headers = {"User-Agent": agent}
        if key is not None:
            headers["Authorization"] = f"Bearer {key or self.sim.api_key}"
        async with self.http.request(method, self.sim.url + path, json=body, params=query, headers=headers) as response:
            text = (await response.read()).decode()
            return Reply(response.status, response.content_type, text, response.headers)

    async def graphql(self, query: str, *, key: str | None = "", **variables: Any) -> Reply:
        return await self.call("POST", "/graphql", {"query": query, "variables": variables}, key=key)

    async def create(self, **more: Any) -> Reply:
        """v2's, of what there is plenty of."""
        body = {"name": "one", "image": "busybox:latest", "gpu": {"id": "NVIDIA L4"}, "ports": ["8080/tcp"], **more}
        return await self.call("POST", "/v2/pods", {key: value for key, value in body.items() if value is not None})

    async def rented(self, **more: Any) -> str:
        reply = await self.create(**more)
        assert reply.status == 201, reply
        pod_id: str = reply.body["id"]
        return pod_id

    async def running(self, **more: Any) -> str:
        pod_id = await self.rented(**more)
        for _ in range(400):
            await self.clock.advance(5)
            record = await self.show(pod_id)
            if record["status"] == "RUNNING" and record["runtime"]:
                return pod_id
        raise AssertionError(f"never running: {record}")

    async def show(self, pod_id: str) -> dict[str, Any]:
        reply = await self.call("GET", f"/v2/pods/{pod_id}")
        assert reply.status == 200, reply
        record: dict[str, Any] = reply.body
        return record


QUIET = runpod_sim.planned(churn=market.Churn.none())
INSTANT = dataclasses.replace(QUIET, boot=rentals.BootTimes.instant())


@contextlib.asynccontextmanager
async def served(
    script: dict[str, Any] | None = None, plan: estate.Plan = INSTANT, foreign: int = 0, **switches: Any
) -> AsyncIterator[Runpod]:
    """A simulator without faults, churn, rate limits and other people's pods unless they are asked for."""
    clock = clocks.ManualClock()
    chosen = runpod_sim.Switches()
    chosen.change({"rate_limits": False, **switches})
    document = {"profile": "none", **(script or {})}
    async with (
        runpod_sim.served(clock=clock, script=document, plan=plan, switches=chosen, foreign=foreign) as simulator,
        aiohttp.ClientSession() as http,
    ):
        yield Runpod(simulator, clock, http)
