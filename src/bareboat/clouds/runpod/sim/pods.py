"""The one store behind the three APIs: pods by id, how one is made, stopped, started, ended, and what state it is in.

No API's field names here. A pod is a rental of the engine; `Terms` is what RunPod remembers of it beside that.
"""

import dataclasses
import email.utils
import hashlib
import random
import secrets
import string
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from bareboat.clouds.runpod.sim import hosts, replies
from bareboat.clouds.runpod.sim import stock as stocks
from bareboat.simulation import estate, hosting, images, rentals
from bareboat.simulation.machines import machine as machines

if TYPE_CHECKING:
    from bareboat.clouds.runpod.sim import simulator

Stage = rentals.Stage
ALPHABET = string.ascii_lowercase + string.digits
NOT_FOUND = "pod not found"
NEVER_S = 1e12


@dataclasses.dataclass(slots=True, kw_only=True)
class Wish:
    """What a create asks for, in no API's words. `gpu_types` are tried in their order."""

    name: str
    image: str
    gpu_types: list[str]
    gpus: int = 1
    cloud: str = "SECURE"
    data_centers: list[str] = dataclasses.field(default_factory=list)
    countries: list[str] = dataclasses.field(default_factory=list)
    cuda: float = 0.0
    disk_gb: int = 20
    volume_gb: int = 0
    volume_path: str = "/workspace"
    network_volume: str | None = None
    ports: list[str] = dataclasses.field(default_factory=list)
    env: dict[str, str] = dataclasses.field(default_factory=dict)
    args: str = ""
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    registry: str | None = None
    template: str | None = None
    start_ssh: bool = False
    bid_usd_per_gpu_hour: float | None = None
    spot: bool = False
    locked: bool = False


@dataclasses.dataclass(slots=True, kw_only=True)
class Terms:
    """`hidden` pods are in no read; `silent` ones never start; `text` is the last word on the status."""

    pod_id: str
    machine_name: str
    wish: Wish
    kind: hosts.GpuType
    key: str
    foreign: bool = False
    silent: bool = False
    listed_from_s: float = 0.0
    ports_from: dict[float, float] = dataclasses.field(default_factory=dict)
    text: str = ""
    text_s: float = 0.0
    stale_until_s: float = 0.0
    gpus_shown: int | None = None
    host_key: str = dataclasses.field(default="", repr=False)
    drifts: bool = False


class Pods:
    def __init__(self, sim: "simulator.Simulator") -> None:
        self._sim = sim
        self._ids: dict[str, int] = {}
        self._foreign: set[str] = set()
        self._ghosts: dict[str, tuple[float, rentals.Rental]] = {}

    # -- reading

    def find(self, pod_id: str) -> rentals.Rental:
        """The pod of an id, as a single read sees it. Raises Refused 404."""
        now_s = self._sim.estate.now()
        rental = self._rental(pod_id)
        if rental is None or terms(rental).listed_from_s > now_s:
            raise replies.Refused(404, NOT_FOUND, code="POD_NOT_FOUND")
        return rental

    def listed(self) -> list[rentals.Rental]:
        """What the list shows, newest first."""
        now_s = self._sim.estate.now()
        live = [rental for rental in self._sim.estate.live() if terms(rental).listed_from_s <= now_s]
        self._ghosts = {key: ghost for key, ghost in self._ghosts.items() if ghost[0] > now_s}
        shown = {terms(rental).pod_id for rental in live}
        live += [rental for pod_id, (_, rental) in self._ghosts.items() if pod_id not in shown]
        return sorted(live, key=lambda rental: (rental.created_s, rental.id), reverse=True)

    def known(self, pod_id: str) -> rentals.Rental | None:
        """Whether it shows in reads or not; None once it is gone."""
        self._sim.estate.now()
        return self._rental(pod_id)

    def pod_id(self, rental_id: int) -> str:
        return next((each for each, known in self._ids.items() if known == rental_id), "")

    def ever_made(self) -> list[str]:
        """Ids of the pods made through an API, oldest first."""
        return [pod_id for pod_id in self._ids if pod_id not in self._foreign]

    def by_key(self, key: str) -> rentals.Rental | None:
        """The pod whose own key it is."""
        return next((rental for rental in self._sim.estate.live() if terms(rental).key == key), None)

    def status(self, rental: rentals.Rental) -> str:
        """In the words of v2."""
        now_s, about = self._sim.estate.clock.now_s(), terms(rental)
        moment = rental.at(now_s)
        if rental.is_gone(now_s):
            return "TERMINATED"
        if rental.destroy_asked_s is not None:
            return "EXITED"
        if rental.outbid and self._sim.switches.outbid == "TERMINATED":
            return "TERMINATED"
        if moment.stage is Stage.PULLING and moment.message:
            return "EXITED"
        if moment.stage is Stage.CREATED and moment.message:
            return "ERROR"
        if about.silent and moment.stage in (Stage.RUNNING, Stage.RESTARTING):
            return "RUNNING"
        return {
            Stage.PLACING: "PROVISIONING",
            Stage.PULLING: "STARTING",
            Stage.CREATED: "STARTING",
            Stage.STARTING: "STARTING",
            Stage.RUNNING: "RUNNING",
            Stage.RESTARTING: "RUNNING",
        }.get(moment.stage, "EXITED")

    def desired(self, rental: rentals.Rental) -> str:
        """In the words of v1 and GraphQL: what is wanted of it, not what it does."""
        status = self.status(rental)
        return status if status in ("EXITED", "TERMINATED") else "EXITED" if status == "ERROR" else "RUNNING"

    def text(self, rental: rentals.Rental) -> str:
        """`lastStatusChange`."""
        now_s, about = self._sim.estate.clock.now_s(), terms(rental)
        moment = rental.at(now_s)
        if rental.destroy_asked_s is not None:
            return about.text
        if rental.outbid:
            return f"Outbid: {js_date(moment.at_s)}"
        if moment.message and moment.stage in (Stage.PULLING, Stage.CREATED):
            return f"Exited by RunPod: {js_date(moment.at_s)}"
        if moment.stage in (Stage.STOPPED, Stage.STOPPING):
            who = "Runpod" if rental.end_reason == "credit exhausted" else "user"
            return f"Exited by {who}: {js_date(moment.at_s)}"
        return about.text or f"Rented by User: {js_date(rental.created_s)}"

    def uptime_s(self, rental: rentals.Rental) -> int | None:
        """Of the container, from the telemetry; None where that shows nothing. Negative just after a restart."""
        sim, about = self._sim, terms(rental)
        now_s = sim.estate.clock.now_s()
        stage = rental.at(now_s).stage
        if stage in (Stage.STOPPED, Stage.STOPPING) and now_s < about.stale_until_s:
            return int(now_s - (rental.running_since_s or now_s))
        if about.silent or stage not in (Stage.RUNNING, Stage.RESTARTING) or rental.host.is_down(now_s):
            return None
        if stage is Stage.RESTARTING:
            return -1
        if sim.estate.faults.strikes("runtime_blip", now_s, rental.subject()):
            return None
        return int(now_s - (rental.running_since_s or now_s))

    def ports(self, rental: rentals.Rental) -> dict[int, int]:
        """TCP ports of the container → public ports; empty until they are known. HTTP ports have none."""
        now_s, about = self._sim.estate.clock.now_s(), terms(rental)
        if self.status(rental) != "RUNNING" or about.silent or now_s < self._ports_open_s(rental):
            return {}
        wanted = {number for number, protocol in ports_of(about.wish) if protocol == "tcp"}
        moved = 1 if self._has_moved(rental) else 0
        shown = self._sim.estate.ports(rental)
        return {number: public + moved for (number, _), public in shown.items() if number in wanted}

    def http_target(self, rental: rentals.Rental, number: int) -> int | None:
        """Where the proxy finds an HTTP port."""
        wanted = {port for port, protocol in ports_of(terms(rental).wish) if protocol == "http"}
        return self._sim.estate.ports(rental).get((number, "tcp")) if number in wanted else None

    def address(self, rental: rentals.Rental) -> str:
        if self._has_moved(rental):
            return f"203.0.113.{200 + rental.id % 54}"
        return "127.0.0.1" if self._sim.switches.public_ip == "loopback" else rental.host.public_ip

    def cost(self, rental: rentals.Rental) -> float:
        """$/h of the GPUs, 0 once it no longer runs."""
        if self.status(rental) in ("EXITED", "TERMINATED"):
            return 0.0
        return rental.usd_per_hour if rental.bid_usd_per_hour is None else rental.bid_usd_per_hour

    # -- making

    async def create(self, wish: Wish) -> rentals.Rental:
        """Rents, with the faults of a create but for lost answers, which are the API's. Raises Refused."""
        sim = self._sim
        login = sim.account.login(wish.registry)
        await sim.estate.look_up(wish.image, login)
        now_s = sim.estate.now()
        script, subject = sim.estate.faults, {"label": wish.name, "image": wish.image}
        error = script.strikes("create_error", now_s, subject)
        if error is not None:
            text = "Something went wrong. Please try again later or contact support."
            raise replies.Refused(int(error.number("status")), text, code="INTERNAL_SERVER_ERROR")
        if not sim.estate.has_credit:
            text = "Your balance is too low to deploy this pod. Please add funds and try again."
            raise replies.Refused(402, text, v1_status=400)
        capacity = script.strikes("capacity", now_s, subject)
        if capacity is not None:
            raise sim.stock.refusal(capacity.text("text") or stocks.CAPACITY[0])
        if script.strikes("over_constrained", now_s, subject):
            raise sim.stock.refusal(stocks.OVER_CONSTRAINED)
        if script.strikes("offer_gone", now_s, subject):
            for kind in wish.gpu_types:
                sim.stock.take_all(kind)
        return self._rent(wish, login)

    def _rent(self, wish: Wish, login: images.Login | None) -> rentals.Rental:
        refusal: replies.Refused | None = None
        for gpu_type in wish.gpu_types:
            try:
                return self._rent_one(wish, hosts.BY_ID[gpu_type], login)
            except replies.Refused as refused:
                refusal = refused
        assert refusal is not None, "a wish names at least one GPU type"
        raise refusal

    def _rent_one(self, wish: Wish, kind: hosts.GpuType, login: images.Login | None) -> rentals.Rental:
        sim = self._sim
        ask = sim.stock.find(
            kind,
            wish.cloud,
            wish.gpus,
            wish.data_centers,
            countries=wish.countries,
            cuda=wish.cuda,
            spot=wish.spot,
        )
        bid = None
        if wish.spot:
            floor = ask.min_bid_usd_per_hour
            bid = (wish.bid_usd_per_gpu_hour or floor / wish.gpus) * wish.gpus
            if bid < floor - 1e-9:
                text = f"Your bid is below the minimum bid of ${floor / wish.gpus:.3f} per GPU. Please raise it."
                raise replies.Refused(400, text)
        about = Terms(
            pod_id="",
            machine_name=_word(f"machine:{ask.host.machine_id}", 12),
            wish=wish,
            kind=kind,
            key=f"rpa_pod_{secrets.token_hex(16)}",
            host_key=_host_key() if (22, "tcp") in ports_of(wish) else "",
        )
        order = hosting.Order(
            image=wish.image,
            label=wish.name,
            login=login,
            entrypoint=wish.entrypoint,
            args=wish.command,
            env=lambda rental_id: self._environment(rental_id, about, ask.host.place),
            env_of_ports=_port_variables,
            ports=tuple(dict.fromkeys((number, "tcp") for number, _ in ports_of(wish))),
            disk_gb=float(wish.disk_gb + wish.volume_gb),
            bid_usd_per_hour=bid,
            restarts=sim.switches.on_exit == "restart",
            ssh=(lambda rental: self._ssh(rental)) if (22, "tcp") in ports_of(wish) else None,
            terms=about,
        )
        try:
            rental = sim.estate.rent(ask.id, order)
        except estate.AskGone as gone:
            raise sim.stock.refusal(stocks.CAPACITY[0]) from gone
        self._remember(rental, about)
        return rental

    def _ssh(self, rental: rentals.Rental) -> machines.Ssh:
        """What stands for the sshd that a pod's command starts. Whom it lets in is written by that command."""
        late = self._sim.estate.faults.strikes("ssh_late", self._sim.estate.present_s, rental.subject())
        opens_after_s = self._sim.switches.ssh_delay_s
        if late is not None:
            opens_after_s += NEVER_S if late.chance("never") else late.number("for_s")
        about = terms(rental)
        keys = self._sim.account.ssh_keys if about.wish.start_ssh else []
        return machines.Ssh(host_key=about.host_key, authorized_keys=keys, opens_after_s=opens_after_s)

    def adopt(self, wish: Wish) -> rentals.Rental:
        """A pod of somebody else on the same account."""
        rental = self._rent(wish, None)
        terms(rental).foreign = True
        self._foreign.add(terms(rental).pod_id)
        terms(rental).listed_from_s = 0.0
        return rental

    def _remember(self, rental: rentals.Rental, about: Terms) -> None:
        sim, now_s, subject = self._sim, rental.created_s, rental.subject()
        script = sim.estate.faults
        about.pod_id = _word(f"{sim.estate.plan.seed}:pod:{rental.id}", 14)
        self._ids[about.pod_id] = rental.id
        differs = script.strikes("price_differs", now_s, subject)
        if differs is not None:
            rental.usd_per_hour = round(rental.usd_per_hour * (1 + differs.number("by")), 4)
        lag = script.strikes("list_lag", now_s, subject)
        about.listed_from_s = now_s + max(sim.switches.lag_s, lag.number("for_s") if lag else 0.0)
        about.silent = script.strikes("host_silent", now_s, subject) is not None
        about.drifts = script.strikes("drift", now_s, subject) is not None
        vanishes = script.hazard_s("pod_vanishes", now_s, subject)
        if vanishes is not None:
            sim.estate.later(now_s + vanishes[0], lambda at_s: self.vanish(rental, "host failed"))

    def _environment(self, rental_id: int, about: Terms, place: str | None) -> dict[str, str]:
        sim = self._sim
        injected = {
            "RUNPOD_POD_ID": about.pod_id,
            "RUNPOD_DC_ID": place or "",
            "RUNPOD_POD_HOSTNAME": f"{about.pod_id}-64410065",
            "RUNPOD_GPU_COUNT": str(about.wish.gpus),
            "RUNPOD_CPU_COUNT": str(16 * about.wish.gpus),
            "RUNPOD_PUBLIC_IP": "127.0.0.1",
            "RUNPOD_API_KEY": about.key,
        }
        if about.wish.start_ssh and sim.account.ssh_keys:
            injected = {"PUBLIC_KEY": "\n".join(sim.account.ssh_keys), **injected}
        return {**about.wish.env, **injected} if "PUBLIC_KEY" not in about.wish.env else {**injected, **about.wish.env}

    # -- changing

    def destroy(self, rental: rentals.Rental) -> None:
        """As DELETE does it. Raises Refused where the fault says so."""
        sim, now_s, about = self._sim, self._sim.estate.now(), terms(rental)
        strike = sim.estate.faults.strikes("destroy_fails", now_s, rental.subject())
        linger_s = None
        if strike is not None:
            how = strike.choose("how", ("404", "500", "lingers", "alive"))
            if how in ("404", "500"):
                raise replies.Refused(int(how), "pod not found to terminate", code="POD_NOT_FOUND")
            if how == "alive":
                return
            linger_s = strike.number("for_s")
        ghost = sim.estate.faults.strikes("list_ghost", now_s, rental.subject())
        if ghost is not None:
            self._ghosts[about.pod_id] = (now_s + ghost.number("for_s"), rental)
        about.text = f"Terminated by user: {js_date(now_s)}"
        sim.estate.destroy(rental, linger_s=linger_s)

    def vanish(self, rental: rentals.Rental, reason: str) -> None:
        """Gone without anybody of the account having asked."""
        if not rental.is_gone(self._sim.estate.now()):
            self._sim.estate.destroy(rental, reason=reason, linger_s=0.0)

    def stop(self, rental: rentals.Rental) -> None:
        """Keeps the volume, which then costs double."""
        sim, now_s, about = self._sim, self._sim.estate.now(), terms(rental)
        stale = sim.estate.faults.strikes("stale_runtime", now_s, rental.subject())
        if stale is not None:
            about.stale_until_s = now_s + stale.number("for_s")
        sim.estate.stop(rental)
        self._price_disk(rental, running=False)

    def start(self, rental: rentals.Rental) -> None:
        """Raises Refused where the GPUs are taken."""
        sim, now_s = self._sim, self._sim.estate.now()
        if not sim.estate.has_credit:
            text = "Insufficient balance to resume this on-demand pod."
            raise replies.Refused(402, text, v1_status=400)
        strike = sim.estate.faults.strikes("start_refused", now_s, rental.subject())
        if strike is not None and strike.chance("zero_gpus"):
            terms(rental).gpus_shown = 0
        elif strike is not None or rental.host.gpus_free < rental.gpus:
            text = "There are not enough free GPUs on the host machine to start this pod."
            raise replies.Refused(400, text, v1_status=500)
        sim.estate.start(rental)
        self._price_disk(rental, running=True)

    def restart(self, rental: rentals.Rental) -> None:
        if not self._sim.estate.faults.strikes("restart_ignored", self._sim.estate.now(), rental.subject()):
            self._sim.estate.reboot(rental)

    def rename(self, rental: rentals.Rental, name: str) -> None:
        rental.relabel(self._sim.estate.now(), name)

    def _price_disk(self, rental: rentals.Rental, *, running: bool) -> None:
        wish = terms(rental).wish
        rental.bank(self._sim.estate.now())
        monthly = (wish.disk_gb + wish.volume_gb) * hosts.DISK_USD_PER_GB_MONTH
        if not running:
            monthly = wish.volume_gb * hosts.STOPPED_VOLUME_USD_PER_GB_MONTH
        rental.disk_usd_per_hour = monthly / rentals.HOURS_PER_MONTH

    # -- how

    def _rental(self, pod_id: str) -> rentals.Rental | None:
        rental_id = self._ids.get(pod_id)
        return None if rental_id is None else self._sim.estate.rental(rental_id)

    def _has_moved(self, rental: rentals.Rental) -> bool:
        return rental.moves_s is not None and rental.moves_s <= self._sim.estate.clock.now_s()

    def _ports_open_s(self, rental: rentals.Rental) -> float:
        since_s, about = rental.running_since_s or 0.0, terms(rental)
        if since_s not in about.ports_from:
            late = self._sim.estate.faults.strikes("ports_late", since_s, rental.subject())
            wait_s = self._sim.switches.port_delay_s
            if late is not None:
                wait_s += NEVER_S if late.chance("never") else late.number("for_s")
            about.ports_from = {since_s: since_s + wait_s}
        return about.ports_from[since_s]

    def foreign(self) -> Iterator[rentals.Rental]:
        return (rental for rental in self._sim.estate.live() if terms(rental).foreign)


def terms(rental: rentals.Rental) -> Terms:
    about = rental.terms
    assert isinstance(about, Terms)
    return about


def ports_of(wish: Wish) -> list[tuple[int, str]]:
    """`8888/http`, `22/tcp` as pairs."""
    pairs = [text.partition("/")[::2] for text in wish.ports]
    return [(int(number), protocol or "tcp") for number, protocol in pairs]


def js_date(at_s: float) -> str:
    """As JavaScript prints one: `Thu Jan 01 2026 00:00:00 GMT+0000 (Coordinated Universal Time)`."""
    parts = email.utils.formatdate(at_s).replace(",", "").split()
    return f"{parts[0]} {parts[2]} {parts[1]} {parts[3]} {parts[4]} GMT+0000 (Coordinated Universal Time)"


def _host_key() -> str:
    key = ed25519.Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.OpenSSH
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _word(seed: str, length: int) -> str:
    dice = random.Random(hashlib.sha256(seed.encode()).digest())
    return "".join(dice.choices(ALPHABET, k=length))


def _port_variables(ports: Mapping[machines.Port, int]) -> dict[str, str]:
    return {f"RUNPOD_TCP_PORT_{number}": str(public) for (number, _), public in ports.items()}


def wish_problem(wish: Wish) -> str | None:
    """What no API takes; None when all is well."""
    if not wish.image:
        return "image is required unless templateId is set"
    if not wish.gpu_types:
        return "exactly one of gpu or cpu must be set"
    unknown = [kind for kind in wish.gpu_types if kind not in hosts.BY_ID]
    if unknown:
        return f"gpu type {unknown[0]!r} does not exist"
    return None


def text_or(value: Any, default: str = "") -> str:
    return value if isinstance(value, str) else default
