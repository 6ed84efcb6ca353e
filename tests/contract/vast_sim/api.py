"""A thin client for the tests: it shows the wire as it is, and leaves every judgement to them."""

import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from bareboat.clouds.vast import sim as vast_sim
from bareboat.plumbing import clock as clocks
from bareboat.simulation import estate, market, rentals


@dataclasses.dataclass(frozen=True)
class Reply:
    status: int
    kind: str
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


@dataclasses.dataclass
class Vast:
    """A served simulator, the clock it lives on, and a session with its key."""

    sim: vast_sim.Simulator
    clock: clocks.ManualClock
    http: aiohttp.ClientSession

    @property
    def control(self) -> vast_sim.Control:
        return self.sim.control

    async def call(self, method: str, path: str, body: Any = None, *, key: str | None = "", **query: Any) -> Reply:
        """Query values that are no text are sent as JSON, as Vast's clients do. `key` None sends none."""
        params = {name: value if isinstance(value, str) else json.dumps(value) for name, value in query.items()}
        headers = {} if key is None else {"Authorization": f"Bearer {key or self.sim.api_key}"}
        url = path if path.startswith("http") else self.sim.url + path
        async with self.http.request(method, url, json=body, params=params, headers=headers) as response:
            text = (await response.read()).decode()
            return Reply(response.status, response.headers.get("Content-Type", ""), text)

    async def search(self, **query: Any) -> list[dict[str, Any]]:
        reply = await self.call("POST", "/api/v0/bundles/", query)
        assert reply.status == 200, reply
        offers: list[dict[str, Any]] = reply.body["offers"]
        return offers

    async def an_offer(self, **query: Any) -> dict[str, Any]:
        defaults = {"num_gpus": {"eq": 1}, "direct_port_count": {"gte": 20}, "reliability": {"gte": 0.98}}
        return (await self.search(**{**defaults, **query}))[0]

    async def create(self, offer_id: int | None = None, **body: Any) -> Reply:
        if offer_id is None:
            offer_id = (await self.an_offer())["id"]
        launch = {"client_id": "me", "image": "busybox:latest", "disk": 10, "runtype": "args", **body}
        return await self.call("PUT", f"/api/v0/asks/{offer_id}/", launch)

    async def rented(self, offer_id: int | None = None, **body: Any) -> int:
        """The id of a new instance."""
        reply = await self.create(offer_id, **body)
        assert reply.status == 200, reply
        new_contract: int = reply.body["new_contract"]
        return new_contract

    async def running(self, **body: Any) -> int:
        """The id of an instance that runs and shows its ports."""
        instance_id = await self.rented(**body)
        for _ in range(200):
            await self.clock.advance(5)
            record = await self.show(instance_id)
            assert record is not None
            if record["actual_status"] == "running" and (record["ports"] or not record["extra_env"]):
                return instance_id
        raise AssertionError(f"never running: {record}")

    async def show(self, instance_id: int) -> dict[str, Any] | None:
        reply = await self.call("GET", f"/api/v0/instances/{instance_id}/")
        assert reply.status == 200, reply
        record: dict[str, Any] | None = reply.body["instances"]
        return record

    async def status(self, instance_id: int) -> Any:
        record = await self.show(instance_id)
        return "gone" if record is None else record["actual_status"]

    async def page(self, **query: Any) -> dict[str, Any]:
        reply = await self.call("GET", "/api/v1/instances/", **query)
        assert reply.status == 200, reply
        page: dict[str, Any] = reply.body
        return page

    async def listed(self, **query: Any) -> list[int]:
        return [record["id"] for record in (await self.page(**query))["instances"]]

    async def logs(self, instance_id: int, **body: str) -> Reply:
        """The result of one log request, read once."""
        reply = await self.call("PUT", f"/api/v0/instances/request_logs/{instance_id}/", body)
        assert reply.status == 200, reply
        return await self.call("GET", reply.body["result_url"], key=None)


QUIET = estate.Plan(churn=market.Churn.none())
INSTANT = dataclasses.replace(QUIET, boot=rentals.BootTimes.instant())


@contextlib.asynccontextmanager
async def served(
    script: dict[str, Any] | None = None, plan: estate.Plan = INSTANT, **switches: Any
) -> AsyncIterator[Vast]:
    """A simulator without faults, churn and rate limits unless they are asked for."""
    clock = clocks.ManualClock()
    chosen = vast_sim.Switches()
    chosen.change({"rate_limits": False, **switches})
    document = {"profile": "none", **(script or {})}
    async with (
        vast_sim.served(clock=clock, script=document, plan=plan, switches=chosen) as simulator,
        aiohttp.ClientSession() as http,
    ):
        yield Vast(simulator, clock, http)
