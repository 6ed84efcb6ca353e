"""The simulator as a whole: builds the world and the three APIs over it, checks callers at the door, and serves."""

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from aiohttp import web

from bareboat.clouds.runpod.sim import (
    account,
    control,
    graphql,
    hosts,
    limits,
    logs,
    money,
    pods,
    proxy,
    replies,
    sshd,
    stock,
    v1,
    v2,
)
from bareboat.clouds.runpod.sim import faults as catalogue
from bareboat.clouds.runpod.sim import switches as switchboard
from bareboat.plumbing import clock as clocks
from bareboat.simulation import clock as simulated
from bareboat.simulation import estate, faults, faultscript, images, ledger, market, registry, rentals
from bareboat.simulation.machines import machine as machines

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
FOREIGN = (
    ("bareboat", "NVIDIA RTX A5000"),
    ("bareboat/another-cluster/5f0c8a52/1", "NVIDIA L4"),
    ("Bareboat/training", "NVIDIA A40"),
)
"""Pods of other people (or other clusters) on the same account, with names that look like ours."""


def planned(**values: Any) -> estate.Plan:
    """The plan of RunPod's world: its own hosts; stock comes and goes, prices don't."""
    chosen = {"churn": market.Churn(period_s=45.0, price=0.0, busy=0.25), "boot": BOOT, "first_rental_id": 1, **values}
    return estate.Plan(hosts=hosts.grow, **chosen)


BOOT = rentals.BootTimes(
    placing_s=(2.0, 20.0),
    unpack_s=(30.0, 120.0),
    cached_pull_s=(5.0, 12.0),
    created_s=(1.0, 4.0),
    stopping_s=(1.0, 5.0),
    starting_s=(3.0, 10.0),
    restart_s=(5.0, 15.0),
    destroy_s=(0.0, 3.0),
)


class Simulator:
    """One simulated RunPod. `url` and `registry_url` are known once it is served."""

    def __init__(
        self,
        clock: clocks.Clock,
        *,
        plan: estate.Plan,
        rules: Iterable[faults.Rule],
        switches: switchboard.Switches,
        catalog: images.Catalog | None = None,
        api_key: str | None = None,
        foreign: int = len(FOREIGN),
    ) -> None:
        script = faults.Faults(rules, seed=plan.seed, start_s=clock.now_s())
        self._catalog = catalog or images.Catalog()
        self.estate = estate.Estate(clock, plan, script, sshd.Catalog(self._catalog))
        self.switches = switches
        self.api_key = api_key or account.new_api_key()
        self.account = account.Account(self, self.api_key)
        self.stock = stock.Stock(self)
        self.pods = pods.Pods(self)
        self.v2 = v2.V2(self)
        self.v1 = v1.V1(self)
        self.graphql = graphql.GraphQL(self)
        self.logs = logs.Logs(self)
        self.money = money.Money(self)
        self.control = control.Control(self)
        self.closing = asyncio.Event()
        self.url = ""
        self.registry_url = ""
        self.requests: dict[str, int] = {}
        self._foreign = foreign
        self._limiter = limits.Limiter()
        for rule in script.rules():
            if rule.at_s is not None:
                self.schedule(rule)

    @property
    def ledger(self) -> ledger.Ledger:
        return self.estate.ledger

    # -- serving

    @contextlib.asynccontextmanager
    async def served(self, port: int = 0, park: machines.Machines | None = None) -> AsyncIterator["Simulator"]:
        """Serves on 127.0.0.1 until left; with a park, what is rented really runs."""
        await asyncio.to_thread(_read_image_files)
        async with contextlib.AsyncExitStack() as stack:
            self.registry_url = await stack.enter_async_context(registry.serve(self._catalog))
            await stack.enter_async_context(self.estate.running(park))
            for name, kind in FOREIGN[: self._foreign]:
                self.pods.adopt(
                    pods.Wish(name=name, image="busybox:latest", gpu_types=[kind], command=("sleep", "1e9"))
                )
            self.proxy = await stack.enter_async_context(proxy.opened(self))
            self.url = await _serve(stack, self._app(), port)
            stack.callback(self.closing.set)
            yield self

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=4 * 2**20)
        for method, path, handler in self._routes():
            app.router.add_route(method, path, self._guarded(f"{method} {path}", handler))
        routes = control.Routes(self, self.control)
        app.router.add_get("/control/ledger", routes.ledger)
        app.router.add_get("/control/world", routes.world)
        app.router.add_get("/control/requests", routes.requests)
        app.router.add_route("*", "/proxy/{pod}-{port}/{path:.*}", self.proxy.pass_on)
        app.router.add_post("/control/{action:.*}", routes.act)
        return app

    def _routes(self) -> list[tuple[str, str, Handler]]:
        one = "/v2/pods/{id}"
        return [
            ("GET", "/v2/pods", self.v2.listing),
            ("POST", "/v2/pods", self.v2.create),
            ("GET", one, self.v2.get),
            ("PATCH", one, self.v2.patch),
            ("DELETE", one, self.v2.delete),
            ("GET", f"{one}/logs", self.logs.stream),
            ("POST", f"{one}/action", self.v2.action),
            ("GET", "/v2/catalog/gpus", self.v2.gpus),
            ("GET", "/v2/catalog/gpus/{id}", self.v2.gpu),
            ("GET", "/v2/catalog/datacenters", self.v2.data_centers),
            ("GET", "/v2/registries", self.v2.registries),
            ("POST", "/v2/registries", self.v2.add_registry),
            ("GET", "/v2/registries/{id}", self.v2.registry),
            ("DELETE", "/v2/registries/{id}", self.v2.remove_registry),
            ("GET", "/v2/account/ssh-keys", self.v2.ssh_keys),
            ("PUT", "/v2/account/ssh-keys", self.v2.ssh_keys),
            ("GET", "/v2/billing/pods", self.money.v2),
            *self._v1_routes(),
            ("POST", "/graphql", self.graphql.post),
        ]

    def _v1_routes(self) -> list[tuple[str, str, Handler]]:
        one, logins = "/v1/pods/{id}", "/v1/containerregistryauth"
        return [
            ("GET", "/v1/pods", self.v1.listing),
            ("POST", "/v1/pods", self.v1.create),
            ("GET", one, self.v1.get),
            ("PATCH", one, self.v1.update),
            ("DELETE", one, self.v1.delete),
            ("POST", f"{one}/update", self.v1.update),
            ("POST", f"{one}/start", self.v1.start),
            ("POST", f"{one}/stop", self.v1.stop),
            ("POST", f"{one}/reset", self.v1.restart),
            ("POST", f"{one}/restart", self.v1.restart),
            ("GET", logins, self.v1.registries),
            ("POST", logins, self.v1.add_registry),
            ("GET", f"{logins}/{{id}}", self.v1.registry),
            ("DELETE", f"{logins}/{{id}}", self.v1.remove_registry),
            ("GET", "/v1/billing/pods", self.money.v1),
        ]

    # -- the door

    def _guarded(self, route: str, handler: Handler) -> Handler:
        front = "graphql" if "/graphql" in route else "v1" if "/v1/" in route else "v2"

        async def guarded(request: web.Request) -> web.StreamResponse:
            self.requests[route] = self.requests.get(route, 0) + 1
            key = account.key_of(request)
            try:
                headers = self._admit(front, key, request)
                shut = await self._weather(route)
                response = shut if shut is not None else await handler(request)
                if not response.prepared:
                    response.headers.update(headers)
                    return self._cut_off(route, response)
                return response
            except replies.Refused as refused:
                who = f"…{key[-4:]}" if key else "anonymous"
                self.ledger.refused(
                    who, f"{request.method} {request.path}", refused.status, refused.code, refused.detail
                )
                if front == "graphql":
                    return refused.as_graphql([])
                return refused.as_v1() if front == "v1" else refused.as_v2()
            except ConnectionAbortedError:
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=500)

        return guarded

    def _admit(self, front: str, key: str, request: web.Request) -> dict[str, str]:
        """The headers for the answer. Raises Refused."""
        mode = getattr(self.switches, front)
        if mode != "on":
            raise _Page(web.Response(status=int(mode), text=f"{mode} page not found\n"))
        agent = request.headers.get("User-Agent", "")
        if self.switches.refuse_default_agent and agent.startswith("Python-urllib"):
            raise _Page(replies.html(403, "Error 1010: Access denied"))
        if not self.account.knows(key) and (key or front != "graphql"):
            raise replies.Refused(401, "missing bearer token" if not key else "unauthorized")
        if front != "v2" or not self.switches.rate_limits:
            return {}
        now_s, windows = self.estate.clock.now_s(), self._windows()
        over = self._limiter.spend(key, windows, now_s)
        headers = {"RateLimit-Policy": limits.policy(windows)}
        if over is not None:
            state, window, rest_s = over
            headers |= {"RateLimit": state, "Retry-After": str(int(rest_s) + 1)}
            raise replies.Refused(429, f"rate limit exceeded for the {window.name} window", headers=headers)
        return headers | {"RateLimit": self._limiter.state(key, windows, now_s)}

    def _windows(self) -> list[limits.Window]:
        switches = self.switches
        return [
            limits.Window("minute", 60, switches.per_minute),
            limits.Window("hour", 3600, switches.per_hour),
            limits.Window("day", 86_400, switches.per_day),
        ]

    async def _weather(self, route: str) -> web.StreamResponse | None:
        """Faults that any request can meet."""
        script, now_s, subject = self.estate.faults, self.estate.clock.now_s(), {"route": route}
        limited = script.strikes("rate_limited", now_s, subject)
        if limited is not None:
            after = {"Retry-After": str(int(limited.number("after_s")))}
            raise replies.Refused(429, "rate limit exceeded for the minute window", headers=after)
        slow = script.strikes("slow_answer", now_s, subject)
        if slow is not None:
            await self.estate.clock.sleep(slow.number("for_s"))
        gateway = script.strikes("bad_gateway", now_s, subject)
        if gateway is not None:
            return replies.html(int(gateway.number("status")))
        return None

    def _cut_off(self, route: str, response: web.StreamResponse) -> web.StreamResponse:
        """The answer, or the first half of it."""
        cut = self.estate.faults.strikes("answer_cut", self.estate.clock.now_s(), {"route": route})
        if cut is None or not isinstance(response, web.Response) or not isinstance(response.body, bytes):
            return response
        half = response.body[: len(response.body) // 2]
        return web.Response(status=response.status, body=half, content_type=response.content_type)

    async def lose_answer(self, rental: rentals.Rental) -> web.Response | None:
        """What comes instead of the answer to a create that was carried out; None where nothing is lost."""
        now_s = self.estate.clock.now_s()
        lost = self.estate.faults.strikes("create_lost_answer", now_s, rental.subject())
        if lost is None:
            return None
        about = pods.terms(rental)
        about.listed_from_s = max(about.listed_from_s, now_s + lost.number("lag_s"))
        how = lost.text("how")
        if how == "hang":
            await self.estate.clock.sleep(600)
        if how in ("hang", "drop"):
            raise ConnectionAbortedError
        if how == "empty":
            return web.Response(status=200)
        if how == "500":
            raise replies.Refused(500, "create pod: failed to read back the new pod: column does not exist")
        return replies.html(int(how))

    # -- faults with a moment of their own

    def schedule(self, rule: faults.Rule) -> None:
        """Puts a fault with a moment of its own on the agenda."""
        self.estate.later(self.estate.start_s + (rule.at_s or 0.0), lambda due_s: self._befall(rule))

    def _befall(self, rule: faults.Rule) -> None:
        script, name = self.estate.faults, rule.kind.name
        if rule not in script.rules():
            return
        strike = script.scheduled_strike(rule)
        if name == "credit_exhausted":
            self.control.set_credit(0.0)
        elif name == "key_revoked":
            self.control.revoke_key()
        elif name == "v1_retired":
            self.switches.change({"v1": str(int(strike.number("status")))})
        else:
            fitting = [each for each in self.estate.live() if rule.fits(each.subject())]
            for rental in fitting if rule.match else fitting[:1]:
                self._befall_pod(name, rental)

    def _befall_pod(self, name: str, rental: rentals.Rental) -> None:
        if name in ("pod_ends", "pod_vanishes"):
            self.pods.vanish(rental, name)
        elif name == "outbid" and rental.bid_usd_per_hour is not None:
            self.estate.outbid(rental, self.estate.present_s)
        elif name == "ip_changes" and not rental.host.static_ip:
            rental.moves_s = self.estate.present_s


class _Page(replies.Refused):
    """An answer of whoever stands in front of the API: the same in all three."""

    def __init__(self, page: web.Response) -> None:
        super().__init__(page.status, "refused at the door")
        self._page = page

    def as_v2(self) -> web.Response:
        return self._page

    def as_v1(self) -> web.Response:
        return self._page

    def as_graphql(self, path: list[str]) -> web.Response:
        return self._page


@functools.cache
def _read_image_files() -> None:
    """Images read their scripts when they are first resolved: once per process, and not in the event loop."""
    catalog = images.Catalog()
    for name in catalog.names:
        catalog.resolve(name.replace("*", "any"))


async def _serve(stack: contextlib.AsyncExitStack, app: web.Application, port: int) -> str:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"


@contextlib.asynccontextmanager
async def served(
    *,
    port: int = 0,
    clock: clocks.Clock | None = None,
    seed: int = 1,
    script: dict[str, Any] | None = None,
    switches: switchboard.Switches | None = None,
    plan: estate.Plan | None = None,
    park: machines.Machines | None = None,
    catalog: images.Catalog | None = None,
    api_key: str | None = None,
    foreign: int = len(FOREIGN),
) -> AsyncIterator[Simulator]:
    """A simulator of this seed on 127.0.0.1, gone when left. `script` is a fault script (see the README); without a
    `park` of machines nothing really runs. Raises faults.BadScript and switches.BadSwitch."""
    chosen = switches or switchboard.Switches()
    chosen.change((script or {}).get("switches") or {})
    simulator = Simulator(
        clock or simulated.SimulatedClock(),
        plan=dataclasses.replace(plan or planned(), seed=seed),
        rules=faultscript.parse(script, catalogue=catalogue.CATALOGUE),
        switches=chosen,
        catalog=catalog,
        api_key=api_key,
        foreign=foreign,
    )
    async with simulator.served(port, park) as running:
        yield running
