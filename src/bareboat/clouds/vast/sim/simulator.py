"""The simulator as a whole: builds the world and the API over it, checks callers and rates at the door, and serves."""

import asyncio
import collections
import contextlib
import dataclasses
import functools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final

from aiohttp import web

from bareboat.clouds.vast.sim import (
    account,
    changes,
    control,
    create,
    increases,
    instances,
    limits,
    logs,
    offers,
    replies,
    ssh,
    templates,
)
from bareboat.clouds.vast.sim import switches as switchboard
from bareboat.plumbing import clock as clocks
from bareboat.simulation import clock as simulated
from bareboat.simulation import estate, faults, faultscript, images, ledger, registry, rentals, world
from bareboat.simulation.machines import machine as machines

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ANONYMOUS_SEARCH: Final = ("/api/v0/bundles", "/api/v0/search/asks")
MOST_TOLD = 5000
ANONYMOUS: Final = ("/api/v0/gpu_names/unique", "/api/v0/gpu_types")
INSTANCE_KEY_MAY: Final = ("PUT /api/v0/instances/{id}", "DELETE /api/v0/instances/{id}", "GET /api/v0/instances/{id}")


class Simulator:
    """One simulated Vast.ai. `url`, `result_url` and `registry_url` are known once it is served. `told` is what the
    newest requests said: route, path with query, body."""

    def __init__(
        self,
        clock: clocks.Clock,
        *,
        plan: estate.Plan | None = None,
        rules: Iterable[faults.Rule] | None = None,
        switches: switchboard.Switches | None = None,
        catalog: images.Catalog | None = None,
        api_key: str | None = None,
    ) -> None:
        plan = plan or estate.Plan()
        chosen = faultscript.profile("quirks") if rules is None else rules
        script = faults.Faults(chosen, seed=plan.seed, start_s=clock.now_s())
        self._catalog = catalog or images.Catalog()
        self.estate = estate.Estate(clock, plan, script, self._catalog)
        self.switches = switches or switchboard.Switches()
        self.api_key = api_key or account.new_api_key()
        self.account = account.Account(self, self.api_key)
        self.templates = templates.Templates(self)
        self.offers = offers.Offers(self)
        self.ssh = ssh.Ssh(self)
        self.instances = instances.Instances(self)
        self.create = create.Create(self)
        self.changes = changes.Changes(self)
        self.logs = logs.Logs(self)
        self.increases = increases.Increases(self)
        self.control = control.Control(self)
        self.url = ""
        self.result_url = ""
        self.registry_url = ""
        self.requests: dict[str, int] = {}
        self.told: collections.deque[tuple[str, str, str]] = collections.deque(maxlen=MOST_TOLD)
        self._limiter = limits.Limiter()
        self._burst: tuple[float, faults.Strike] | None = None
        self._closed_sockets: list[socket.socket] = []
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
            self.url = await _serve(stack, self._app(), port)
            self.result_url = await _serve(stack, self._result_app(), 0)
            self.registry_url = await stack.enter_async_context(registry.serve(self._catalog))
            stack.callback(self._close_sockets)
            await stack.enter_async_context(self.ssh.running(really=park is not None))
            await stack.enter_async_context(self.estate.running(park))
            yield self

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=4 * 2**20)
        for method, path, handler in self._routes():
            guarded = self._guarded(f"{method} {path}", path, handler)
            for spelled in (path, f"{path}/"):
                app.router.add_route(method, spelled, guarded)
        routes = control.Routes(self, self.control)
        app.router.add_get("/control/ledger", routes.ledger)
        app.router.add_get("/control/world", routes.world)
        app.router.add_get("/control/requests", routes.requests)
        app.router.add_post("/control/{action:.*}", routes.act)
        return app

    def _result_app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/vast.ai/instance_logs/{name}", self.logs.result)
        return app

    def _routes(self) -> list[tuple[str, str, Handler]]:
        v0, one = "/api/v0", "/api/v0/instances/{id}"
        return [
            ("POST", f"{v0}/bundles", self.offers.post),
            ("GET", f"{v0}/bundles", self.offers.get),
            ("PUT", f"{v0}/search/asks", self.offers.asks),
            ("GET", f"{v0}/gpu_names/unique", self.offers.gpu_names),
            ("GET", f"{v0}/gpu_types", self.offers.gpu_types),
            ("PUT", f"{v0}/launch_instance", self.create.launch),
            ("POST", f"{v0}/asks/bulk", self.create.bulk),
            ("PUT", f"{v0}/asks/{{id}}", self.create.put),
            ("GET", "/api/v1/instances", self.instances.v1),
            ("GET", f"{v0}/instances", self.instances.v0),
            ("GET", f"{v0}/instances/filters", self.instances.distinct),
            ("GET", f"{v0}/instances/pending-price-increases", self.increases.list),
            ("PUT", f"{v0}/instances/accept-price-increase", self.increases.accept),
            ("PUT", f"{v0}/instances/reject-price-increase", self.increases.reject),
            ("PUT", f"{v0}/instances", self.changes.put_many),
            ("DELETE", f"{v0}/instances", self.changes.delete_many),
            ("POST", f"{v0}/instances/start", self.changes.start_many),
            ("PUT", f"{v0}/instances/reboot/{{id}}", self.changes.reboot),
            ("PUT", f"{v0}/instances/recycle/{{id}}", self.changes.recycle),
            ("PUT", f"{v0}/instances/bid_price/{{id}}", self.changes.bid_price),
            ("PUT", f"{v0}/instances/update_template/{{id}}", self.changes.update_template),
            ("PUT", f"{v0}/instances/prepay/{{id}}", self.changes.prepay),
            ("GET", f"{v0}/instances/balance/{{id}}", self.changes.balance),
            ("POST", f"{v0}/instances/take_snapshot/{{id}}", self.changes.snapshot),
            ("PUT", f"{v0}/instances/request_logs/{{id}}", self.logs.request),
            ("PUT", f"{v0}/instances/command/{{id}}", self.logs.command),
            ("GET", one, self.instances.single),
            ("PUT", one, self.changes.put),
            ("DELETE", one, self.changes.delete),
            ("GET", f"{one}/ssh", self.account.instance_ssh),
            ("POST", f"{one}/ssh", self.account.instance_ssh),
            ("DELETE", f"{one}/ssh/{{key}}", self.account.delete_instance_ssh),
            ("GET", f"{v0}/users/current", self.account.current),
            ("GET", f"{v0}/ssh", self.account.list_ssh),
            ("POST", f"{v0}/ssh", self.account.add_ssh),
            ("PUT", f"{v0}/ssh/{{id}}", self.account.change_ssh),
            ("DELETE", f"{v0}/ssh/{{id}}", self.account.delete_ssh),
            ("GET", f"{v0}/secrets", self.account.list_secrets),
            ("POST", f"{v0}/secrets", self.account.set_secret),
            ("PUT", f"{v0}/secrets", self.account.set_secret),
            ("DELETE", f"{v0}/secrets", self.account.set_secret),
            ("GET", f"{v0}/charges", self.account.charges),
            ("GET", "/api/v1/invoices", self.account.invoices),
            ("GET", f"{v0}/template", self.templates.list),
            ("POST", f"{v0}/template", self.templates.create),
            ("PUT", f"{v0}/template", self.templates.edit),
            ("DELETE", f"{v0}/template", self.templates.delete),
        ]

    # -- the door

    def _guarded(self, route: str, path: str, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            key = _key_of(request)
            self.requests[route] = self.requests.get(route, 0) + 1
            self.told.append((route, request.path_qs, (await request.read()).decode(errors="replace")))
            try:
                self._admit(route, path, key, request)
                fault = await self._weather(route)
                return fault if fault is not None else await handler(request)
            except replies.Refused as refused:
                self.ledger.refused(
                    f"…{key[-4:]}" if key else "anonymous",
                    f"{request.method} {request.path}",
                    refused.status,
                    refused.error,
                    refused.msg,
                )
                return refused.response()
            except ConnectionAbortedError:
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=500)

        return guarded

    def _admit(self, route: str, path: str, key: str, request: web.Request) -> None:
        anonymous = path in ANONYMOUS or (path in ANONYMOUS_SEARCH and self.switches.anonymous_search)
        if key:
            caller = self.account.caller(key)
            if caller is None:
                raise replies.Refused(int(self.switches.wrong_key), "auth_error", "Invalid user key")
            own = str(caller.instance_id) == request.match_info.get("id")
            if caller.instance_id is not None and not (own and route in INSTANCE_KEY_MAY):
                raise replies.Refused(401, "not_authorized", "This key may not do that.")
        elif not anonymous:
            raise replies.Refused(403, "auth_error", "This action requires login.")
        if self.switches.rate_limits:
            now_s = self.estate.clock.now_s()
            if not self._limiter.allows(route, key or str(request.remote), now_s, penalty=self.switches.penalty):
                raise self.too_frequent(limits.LIMITS[route].every_s)

    async def _weather(self, route: str) -> web.StreamResponse | None:
        """Faults that any request can meet."""
        script, now_s = self.estate.faults, self.estate.clock.now_s()
        subject = {"route": route}
        if script.strikes("rate_limited", now_s, subject):
            limit = limits.LIMITS.get(route)
            raise self.too_frequent(limit.every_s if limit else 1.0)
        slow = script.strikes("slow_answer", now_s, subject)
        if slow is not None:
            await self.estate.clock.sleep(slow.number("for_s"))
        if self._burst is None or self._burst[0] <= now_s:
            strike = script.strikes("server_errors", now_s, subject)
            self._burst = (now_s + strike.number("for_s"), strike) if strike is not None else None
        if self._burst is None:
            return None
        strike = self._burst[1]
        status = int(strike.number("status"))
        if strike.chance("html"):
            return replies.html(status)
        raise replies.Refused(status, "server_error", "Something went wrong on the server")

    def too_frequent(self, threshold_s: float, body: str | None = None) -> replies.Refused:
        """The 429 in the shape that is switched on."""
        shape, text = body or self.switches.rate_limit_body, "API requests too frequent"
        code = "rate_limit_exceeded"
        if shape == "json":
            detail = {"detail": f"{text} endpoint threshold={threshold_s:.1f}"}
            return replies.Refused(429, code, text, body=detail)
        if shape == "json_error":
            return replies.Refused(429, code, f"{text} endpoint threshold={threshold_s:.1f}")
        plain = text if shape == "text" else f"{text}: endpoint threshold={threshold_s:.1f}"
        return replies.Refused(429, code, text, text=plain)

    # -- what areas share

    def public_address(self, host: world.Host) -> str:
        return "127.0.0.1" if self.switches.public_ip == "loopback" else host.public_ip

    def closed_port(self) -> int:
        """A port of this computer that refuses connections for as long as the simulator lives."""
        held = socket.socket()
        held.bind(("127.0.0.1", 0))
        self._closed_sockets.append(held)
        return int(held.getsockname()[1])

    def schedule(self, rule: faults.Rule) -> None:
        """Puts a fault with a moment of its own on the agenda."""
        at_s = self.estate.start_s + (rule.at_s or 0.0)
        self.estate.later(at_s, lambda due_s: self._befall(rule))

    def _befall(self, rule: faults.Rule) -> None:
        script, name = self.estate.faults, rule.kind.name
        if rule not in script.rules():
            return
        strike = script.scheduled_strike(rule)
        if name == "credit_exhausted":
            self.control.set_credit(0.0)
        elif name == "key_revoked":
            self.control.revoke_key()
        else:
            for rental in self._struck_by(rule):
                self._befall_rental(name, rental, strike)

    def _struck_by(self, rule: faults.Rule) -> list[rentals.Rental]:
        fitting = [rental for rental in self.estate.live() if rule.fits(rental.subject())]
        return fitting if rule.match else fitting[:1]

    def _befall_rental(self, name: str, rental: rentals.Rental, strike: faults.Strike) -> None:
        if name == "instance_vanishes":
            self.control.vanish(rental.id)
        elif name == "label_edited":
            self.control.relabel(rental.id, strike.text("label") or None)
        elif name == "contract_ends":
            self.estate.end_contract(rental)
        elif name == "outbid" and rental.bid_usd_per_hour is not None:
            self.control.outbid(rental.id)
        elif name == "host_offline":
            self.control.host_down(rental.host.machine_id, strike.number("for_s"))
        elif name == "heartbeat_lost":
            self.control.silence(rental.id, strike.number("for_s"))
        elif name == "ssh_drops":
            self.ssh.drop(rental)
        elif name == "host_key_changes":
            self.ssh.change_host_key(rental)
        elif name == "ip_changes" and not rental.host.static_ip:
            rental.moves_s = self.estate.present_s

    def _close_sockets(self) -> None:
        for held in self._closed_sockets:
            held.close()
        self._closed_sockets.clear()


@functools.cache
def _read_image_files() -> None:
    """Images read their scripts when they are first resolved: once per process, and not in the event loop."""
    catalog = images.Catalog()
    for name in catalog.names:
        catalog.resolve(name.replace("*", "any"))


def _key_of(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme == "Bearer" else request.query.get("api_key", "")


async def _serve(stack: contextlib.AsyncExitStack, app: web.Application, port: int) -> str:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    address = runner.addresses[0]
    return f"http://127.0.0.1:{address[1]}"


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
) -> AsyncIterator[Simulator]:
    """A simulator of this seed on 127.0.0.1, gone when left. `script` is a fault script (see the README); without a
    `park` of machines nothing really runs. Raises faults.BadScript and switches.BadSwitch."""
    chosen = switches or switchboard.Switches()
    chosen.change((script or {}).get("switches") or {})
    simulator = Simulator(
        clock or simulated.SimulatedClock(),
        plan=dataclasses.replace(plan or estate.Plan(), seed=seed),
        rules=faultscript.parse(script),
        switches=chosen,
        catalog=catalog,
        api_key=api_key,
    )
    async with simulator.served(port, park) as running:
        yield running
