"""Rents: PUT /asks/{id}/ and its kin. Checks what is asked, merges the template, and turns it into an order."""

import dataclasses
import hashlib
import itertools
import re
import secrets
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from bareboat.clouds.vast.sim import filters, records, replies, ssh
from bareboat.simulation import estate, faults, hosting, images, market, rentals
from bareboat.simulation.machines import machine as machines

if TYPE_CHECKING:
    from bareboat.clouds.vast.sim import simulator

MOST_PORTS = 64
LEAST_DISK_GB = 8.0
IDENTITY_PORT = machines.IDENTITY_PORT
_PORT_KEY = re.compile(r"-p\s+(?:(\d+):)?(\d+)(?:/(tcp|udp))?")
# Whatever the script does, the container stays.
SSH_LOOP = "trap 'exit 0' TERM; /bin/sh -c \"$0\"; while :; do sleep 3600 & wait $!; done"


@dataclasses.dataclass(slots=True)
class Terms:
    """What Vast itself remembers of a create and shows in the instance's record."""

    offer: dict[str, Any]
    extra_env: list[list[str]]
    onstart: str
    args: list[str]
    runtype: str
    instance_key: str
    jupyter_token: str
    template_id: int | None = None
    template_hash_id: str | None = None
    template_name: str | None = None
    login: str | None = None
    listed_from_s: float = 0.0
    ports_from: dict[int, float] = dataclasses.field(default_factory=dict)
    refusing_port: int | None = None
    kept_ports: int | None = None
    public_ip: str | None = None
    host_key: str = dataclasses.field(default="", repr=False)
    ssh_keys: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    log_secret: str = dataclasses.field(default_factory=lambda: secrets.token_hex(16))


class Create:
    def __init__(self, sim: "simulator.Simulator") -> None:
        self._sim = sim

    async def put(self, request: web.Request) -> web.Response:
        body = await replies.json_body(request)
        try:
            ask_id = int(request.match_info["id"])
        except ValueError as error:
            msg = "error 400/3467: Invalid args: 'id' is required and must be a valid offer ID"
            raise replies.Refused(400, "invalid_args", msg) from error
        return await self.answer(ask_id, body)

    async def bulk(self, request: web.Request) -> web.Response:
        body = await replies.json_body(request)
        ids = body.pop("ids", [])
        made = [self.rent(int(ask_id), body) for ask_id in ids]
        return replies.as_json({"success": True, "new_contracts": [rental.id for rental in made]})

    async def launch(self, request: web.Request) -> web.Response:
        """Search and create of the first match."""
        body = await replies.json_body(request)
        query = body.get("q") or {}
        if not isinstance(query, dict):
            raise replies.Refused(400, "invalid_args", "error 400/3467: Invalid args: q")
        if body.get("num_gpus") is not None:
            query = {**query, "num_gpus": {"eq": body["num_gpus"]}}
        found = self._sim.offers.search({**query, "limit": 1})
        if not found:
            raise replies.Refused(404, "no_such_ask", "no_such_ask  No matching offers.")
        return await self.answer(found[0]["id"], body)

    async def answer(self, ask_id: int, body: Mapping[str, Any]) -> web.Response:
        """Rents, with the faults of a create: lost answers, errors, phantoms, strays."""
        if isinstance(body.get("image"), str):
            await self._sim.estate.look_up(body["image"].strip(), _login(body.get("image_login")))
        script, now_s = self._sim.estate.faults, self._sim.estate.now()
        subject = {"label": body.get("label"), "image": body.get("image")}
        error = script.strikes("create_error", now_s, subject)
        if error is not None:
            raise replies.Refused(int(error.number("status")), "server_error", "Something went wrong on the server")
        if script.strikes("offer_gone", now_s, subject):
            ask = self._sim.estate.market.find(ask_id, now_s)
            if ask is not None:
                self._sim.estate.market.retire(ask)
        if script.strikes("create_phantom", now_s, subject):
            return self._created(self._sim.estate.sell_phantom(ask_id, self._order(self._ask(ask_id), body)))
        failed = script.strikes("create_unsuccessful", now_s, subject)
        if failed is not None:
            return self._unsuccessful(ask_id, body, failed)
        rental = self.rent(ask_id, body)
        lost = script.strikes("create_lost_answer", now_s, subject)
        if lost is not None:
            self._terms(rental).listed_from_s = now_s + lost.number("lag_s")
            return await self._lose_answer(lost)
        return self._created(rental)

    def rent(self, ask_id: int, body: Mapping[str, Any]) -> rentals.Rental:
        """Rents one ask; raises Refused with Vast's answer for each reason not to."""
        sim = self._sim
        ask = self._ask(ask_id)
        order = self._order(ask, body)
        if not sim.estate.has_credit:
            raise replies.Refused(400, "insufficient_credit", "Your account lacks credit; see the billing page.")
        self._check_ports(ask, order)
        low = order.bid_usd_per_hour is not None and order.bid_usd_per_hour < ask.min_bid_usd_per_hour
        if low and body.get("cancel_unavail") is True:
            msg = f"error 410/3907: no_such_ask Instance type {ask_id} is no longer available."
            raise replies.Refused(410, "no_such_ask", msg, ask_id=ask_id)
        try:
            rental = sim.estate.rent(ask_id, order)
        except estate.BidTooLow as low:
            self._remember(low.rental)
            msg = "error 400/3711: bid is below the current minimum bid; instance created in stopped state"
            raise replies.Refused(400, "invalid_price", msg, new_contract=low.rental.id) from low
        except estate.AskGone as gone:
            raise self.no_such_ask(ask_id) from gone
        self._remember(rental)
        return rental

    def no_such_ask(self, ask_id: int) -> replies.Refused:
        status = int(self._sim.switches.no_such_ask)
        if status == 410:
            msg = f"error 410/3907: no_such_ask Instance type {ask_id} is no longer available."
            return replies.Refused(410, "no_such_ask", msg, ask_id=ask_id)
        msg = f"error 404/3603: no_such_ask  Instance type by id {ask_id} is not available."
        return replies.Refused(status, "invalid_args", msg, ask_id=ask_id)

    # -- answers

    def _created(self, rental: rentals.Rental) -> web.Response:
        terms = self._terms(rental)
        body = {"success": True, "new_contract": rental.id, "instance_api_key": terms.instance_key}
        return replies.as_json(body)

    def _unsuccessful(self, ask_id: int, body: Mapping[str, Any], strike: faults.Strike) -> web.Response:
        msg = "Required resources are currently unavailable."
        answer: dict[str, Any] = {"success": False, "error": "invalid_args", "msg": msg}
        if strike.chance("stray"):
            order = dataclasses.replace(self._order(self._ask(ask_id), body), wants_running=False)
            rental = self._sim.estate.rent(ask_id, order)
            self._remember(rental)
            answer["new_contract"] = rental.id
        return replies.as_json(answer)

    async def _lose_answer(self, strike: faults.Strike) -> web.Response:
        how = strike.text("how")
        if how == "hang":
            await self._sim.estate.clock.sleep(600)
        if how in ("hang", "drop"):
            raise ConnectionAbortedError
        if how == "empty":
            return web.Response(status=200)
        if how == "400":
            raise replies.Refused(400, "invalid_args", "error 400/3467: Invalid args: could not create instance")
        return replies.html(int(how))

    # -- from a body to an order

    def _ask(self, ask_id: int) -> market.Ask:
        ask = self._sim.estate.market.find(ask_id, self._sim.estate.now())
        if ask is None:
            raise self.no_such_ask(ask_id)
        return ask

    def _order(self, ask: market.Ask, given: Mapping[str, Any]) -> hosting.Order:
        body, template = self._sim.templates.merged(given)
        image = body.get("image")
        if not isinstance(image, str) or not image.strip():
            raise _invalid("'image' is required")
        if len(image) > 1024:
            raise _invalid("'image' is too long, at most 1024 characters")
        if image.endswith(":") or (self._sim.switches.untagged_image == "error" and not _tagged(image)):
            raise replies.Refused(500, "server_error", "Something went wrong on the server")
        env = body.get("env")
        pairs = [[str(key), str(value)] for key, value in env.items()] if isinstance(env, Mapping) else []
        args = _args(body)
        runtype = _runtype(body, args)
        onstart = body.get("onstart") or ""
        _check_texts(body, pairs, args, onstart, runtype)
        ports = self._ports(pairs)
        if "jupyter" in runtype:
            ports = (*ports, (8080, "tcp"))
        if ssh.is_direct(runtype):
            ports = (*ports, ssh.PORT)
        terms = Terms(
            offer={**self._sim.offers.record(ask)},
            extra_env=pairs,
            onstart=onstart,
            args=args,
            runtype=runtype,
            instance_key=secrets.token_hex(32),
            jupyter_token=secrets.token_hex(32),
            login=body.get("image_login") or None,
            host_key=ssh.new_host_key() if ssh.has_ssh(runtype) else "",
            **template,
        )
        entrypoint, command = _command(runtype, onstart, args)
        return hosting.Order(
            image=image.strip(),
            label=body.get("label"),
            login=_login(body.get("image_login")),
            entrypoint=entrypoint,
            args=command,
            env=lambda rental_id: self._environment(rental_id, terms, ask),
            env_of_ports=_port_variables,
            ports=tuple(dict.fromkeys(ports)),
            ssh=self._sim.ssh.server if ssh.has_ssh(runtype) else None,
            disk_gb=_disk_gb(body.get("disk")),
            bid_usd_per_hour=_bid(body.get("price"), ask.gpus),
            user=body.get("user") or None,
            hostname=next((value for key, value in pairs if key == "-h"), None),
            wants_running=body.get("target_state") != "stopped",
            restarts=self._sim.switches.on_exit == "restart",
            terms=terms,
        )

    def _ports(self, pairs: list[list[str]]) -> tuple[machines.Port, ...]:
        found: dict[machines.Port, None] = {}
        for key, _ in pairs:
            match = _PORT_KEY.fullmatch(key.strip())
            if match is not None:
                left, right, protocol = match.groups()
                number = int(left if self._sim.switches.port_number == "left" and left else right)
                found[(number, protocol or "tcp")] = None
        return tuple(found)

    def _check_ports(self, ask: market.Ask, order: hosting.Order) -> None:
        if len(order.ports) > MOST_PORTS:
            raise _invalid(f"too many open ports: {len(order.ports)}, at most {MOST_PORTS}")
        if len(order.ports) > ask.host.direct_ports and self._sim.switches.too_few_ports == "error":
            raise _invalid(f"machine has {ask.host.direct_ports} direct ports, {len(order.ports)} requested")

    def _environment(self, rental_id: int, terms: Terms, ask: market.Ask) -> dict[str, str]:
        sim = self._sim
        injected = {
            **sim.account.secrets,
            "CONTAINER_ID": str(rental_id),
            "CONTAINER_API_KEY": terms.instance_key,
            "VAST_CONTAINERLABEL": f"C.{rental_id}",
            "PUBLIC_IPADDR": sim.public_address(ask.host),
            "GPU_COUNT": str(ask.gpus),
            "DATA_DIRECTORY": "/workspace/",
            "SSH_PUBLIC_KEY": sim.account.ssh_keys[0]["public_key"] if sim.account.ssh_keys else "",
            "JUPYTER_TOKEN": terms.jupyter_token,
            "OPEN_BUTTON_TOKEN": hashlib.sha256(terms.jupyter_token.encode()).hexdigest(),
        }
        asked = {key: value for key, value in terms.extra_env if not key.startswith("-")}
        return {**injected, **asked}

    def _remember(self, rental: rentals.Rental) -> None:
        """What the front fixes once the rental has its id: list lag and broken ports."""
        sim, terms = self._sim, self._terms(rental)
        script, subject, now_s = sim.estate.faults, rental.subject(), rental.created_s
        lag = script.strikes("list_lag", now_s, subject)
        terms.listed_from_s = now_s + max(sim.switches.lag_s, lag.number("for_s") if lag else 0.0)
        if script.strikes("port_refuses", now_s, subject):
            terms.refusing_port = sim.closed_port()
        missing = script.strikes("ports_missing", now_s, subject)
        if missing is not None:
            terms.kept_ports = int(missing.number("keep"))
        elif len(sim.estate.order(rental).ports) > rental.host.direct_ports:
            terms.kept_ports = rental.host.direct_ports
        sim.account.instance_keys[terms.instance_key] = rental.id
        sim.ssh.open_proxy(rental)
        if terms.template_id is not None:
            sim.account.template_ids[rental.id] = terms.template_id

    @staticmethod
    def _terms(rental: rentals.Rental) -> Terms:
        terms = rental.terms
        assert isinstance(terms, Terms)
        return terms


def _tagged(image: str) -> bool:
    return any(mark in image.rsplit("/", 1)[-1] for mark in ":@")


def _invalid(what: str) -> replies.Refused:
    return replies.Refused(400, "invalid_args", f"error 400/3467: Invalid args: {what}")


def _args(body: Mapping[str, Any]) -> list[str]:
    args = body.get("args")
    if isinstance(args, str):
        args = shlex.split(args)
    if args is not None and not isinstance(args, list):
        raise _invalid("'args' has to be a list of strings")
    words = [str(word) for word in args or ()]
    if isinstance(body.get("args_str"), str):
        try:
            words += shlex.split(body["args_str"])
        except ValueError as error:
            raise _invalid(f"'args_str': {error}") from error
    return words


def _runtype(body: Mapping[str, Any], args: list[str]) -> str:
    """Vast's own legacy words, in which the record shows it."""
    asked = body.get("runtype")
    if asked is None:
        return "args" if args else "ssh ssh_proxy"
    legacy = {
        "args": "args",
        "ssh": "ssh ssh_proxy",
        "ssh_proxy": "ssh ssh_proxy",
        "ssh_direct": "ssh ssh_direc ssh_proxy",
        "jupyter": "jupyter_proxy ssh_proxy",
        "jupyter_proxy": "jupyter_proxy ssh_proxy",
        "jupyter_direct": "jupyter_direc ssh_direc ssh_proxy",
    }
    if asked in legacy:
        return legacy[asked]
    words = str(asked).split()
    if words and all(re.fullmatch(r"(ssh|jupyter)(_direc|_direct|_proxy)?", word) for word in words):
        return str(asked)
    raise _invalid(f"'runtype' is {asked!r}")


def _check_texts(body: Mapping[str, Any], pairs: list[list[str]], args: list[str], onstart: str, runtype: str) -> None:
    label = body.get("label")
    if label is not None and len(str(label)) > 256:
        raise replies.Refused(400, "label_too_long", "label is too long, at most 256 characters")
    if sum(len(key) + len(value) for key, value in pairs) > 32768:
        raise _invalid("'env' is too long, at most 32768 characters in all")
    if len(onstart) + (sum(map(len, args)) if runtype == "args" else 0) > 4096:
        raise _invalid("'args' and 'onstart' are too long, at most 4096 characters together")


def _command(runtype: str, onstart: str, args: list[str]) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Entrypoint and command. With args, `onstart` is the entrypoint as one word, as docker takes it; with ssh and
    jupyter the image's own entrypoint is replaced and the container stays up whatever the script does."""
    if runtype == "args":
        return ((onstart,) if onstart else None), (tuple(args) if args or onstart else None)
    return ("/bin/sh", "-c"), (SSH_LOOP, onstart)


def _login(text: Any) -> images.Login | None:
    """`-u USER -p PASS HOST`, as for docker login."""
    if not isinstance(text, str) or not text.strip():
        return None
    words = text.split()
    flags = dict(itertools.pairwise(words))
    return images.Login(flags.get("-u", ""), flags.get("-p", ""))


def _disk_gb(value: Any) -> float:
    if value is None:
        return records.DEFAULT_STORAGE_GB
    disk = filters.as_number(value)
    if disk is None or disk < LEAST_DISK_GB:
        raise _invalid(f"'disk' is {value}, at least {LEAST_DISK_GB:g} GB")
    return disk


def _bid(value: Any, gpus: int) -> float | None:
    if value is None:
        return None
    bid = filters.as_number(value)
    if bid is None or not 0.001 <= bid <= max(128.0, 32.0 * gpus):
        raise replies.Refused(400, "invalid_price", "Please set a bid price >= 0.001.")
    return bid


def _port_variables(ports: Mapping[machines.Port, int]) -> dict[str, str]:
    return {f"VAST_{protocol.upper()}_PORT_{number}": str(host) for (number, protocol), host in ports.items()}
