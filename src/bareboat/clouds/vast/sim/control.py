"""The hand behind the world: what tests and people do to the simulated cloud. The methods work in process; the routes
under /control/ give the same over HTTP, without a key, for they are no part of Vast's API."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from bareboat.clouds.vast.sim import replies, switches
from bareboat.simulation import faults, hand, rentals

if TYPE_CHECKING:
    from bareboat.clouds.vast.sim import simulator

DAY_S = 86_400.0


class Control(hand.Hand):
    """Every method takes effect at once, at the simulation's present."""

    def __init__(self, sim: "simulator.Simulator") -> None:
        super().__init__(sim, faults.VAST)
        self._sim = sim

    # -- hosts and the market

    def host_down(self, machine_id: int, for_s: float = hand.FOREVER_S) -> None:
        self._host(machine_id)
        self._sim.estate.host_down(machine_id, for_s)

    def host_up(self, machine_id: int) -> None:
        self._host(machine_id)
        self._sim.estate.host_up(machine_id)

    def take_offer(self, ask_id: int) -> None:
        """Somebody else rents exactly this offer."""
        ask = self._sim.estate.market.find(ask_id, self._sim.estate.now())
        if ask is None:
            raise hand.NotThere(f"there is no offer {ask_id}")
        self._sim.estate.market.retire(ask)

    def take_all_offers(self, machine_id: int | None = None) -> None:
        """Other customers take every free GPU, of one machine or of all."""
        market = self._sim.estate.market
        for host in market.hosts.values() if machine_id is None else [self._host(machine_id)]:
            market.occupy(host)

    def free_offers(self, machine_id: int | None = None) -> None:
        """Other customers leave, one machine or all."""
        market = self._sim.estate.market
        for host in market.hosts.values() if machine_id is None else [self._host(machine_id)]:
            host.gpus_taken = 0
            market.release(host, 0)

    def set_price(self, machine_id: int, factor: float) -> None:
        """Multiplies what the machine asks; rented instances keep their price."""
        self._sim.estate.market.set_price_factor(self._host(machine_id), factor)

    # -- instances

    def outbid(self, instance_id: int) -> None:
        rental = self._rental(instance_id)
        self._sim.estate.outbid(rental, self._sim.estate.now())

    def exit(self, instance_id: int, code: int = 0) -> None:
        """The workload of an instance ends by itself."""
        self._sim.estate.exits(self._rental(instance_id), code)

    def vanish(self, instance_id: int) -> None:
        """A person destroys the instance elsewhere."""
        self._sim.estate.destroy(self._rental(instance_id), reason="destroyed by a person", linger_s=0.0)

    def relabel(self, instance_id: int, label: str | None) -> None:
        """A person edits or clears the label."""
        self._rental(instance_id).relabel(self._sim.estate.now(), label)

    def stop(self, instance_id: int) -> None:
        """A person stops the instance."""
        self._sim.estate.stop(self._rental(instance_id))

    def end_contract(self, instance_id: int) -> None:
        self._sim.estate.end_contract(self._rental(instance_id))

    def ask_more(self, instance_id: int, usd_per_hour: float, days: float = 30.0) -> None:
        """The host asks to raise the price of an instance when it extends the contract."""
        rental = self._rental(instance_id)
        self._sim.increases.ask(rental, usd_per_hour, rental.ends_s + days * DAY_S)

    def change_address(self, instance_id: int, address: str) -> None:
        self._rental(instance_id).terms.public_ip = address

    def silence(self, instance_id: int, for_s: float) -> None:
        """The heartbeat is missing for a while: status reads unknown."""
        now_s = self._sim.estate.now()
        self._rental(instance_id).silences.append((now_s, now_s + for_s))

    def drop_ssh(self, instance_id: int) -> None:
        """Every ssh connection of the instance breaks."""
        self._sim.ssh.drop(self._rental(instance_id))

    def change_host_key(self, instance_id: int) -> None:
        """The instance's ssh server answers with another key, and its connections break."""
        self._sim.ssh.change_host_key(self._rental(instance_id))

    def traffic(self, instance_id: int, down_gb: float = 0.0, up_gb: float = 0.0) -> None:
        """Bytes that are billed as bandwidth."""
        self._rental(instance_id).add_traffic(down_gb, up_gb)

    # -- reading

    def world(self) -> dict[str, Any]:
        """Hosts, asks, instances, switches and fault rules as JSON-able data."""
        sim = self._sim
        now_s = sim.estate.now()
        market = sim.estate.market
        return {
            "now_s": now_s,
            "hosts": [_host_json(host, now_s) for host in market.hosts.values()],
            "offers": [
                {"id": a.id, "machine_id": a.host.machine_id, "gpus": a.gpus, "usd_per_hour": a.usd_per_hour}
                for a in market.asks(now_s)
            ],
            "instances": [sim.instances.record(rental) for rental in sim.estate.live()],
            "switches": {name: getattr(sim.switches, name) for name in switches.Switches.__dataclass_fields__},
            "faults": [rule.kind.name for rule in sim.estate.faults.rules()],
            "struck": sim.estate.faults.struck,
            "credit_usd": sim.estate.credit_usd(),
        }

    def _rental(self, instance_id: int) -> rentals.Rental:
        self._sim.estate.now()
        rental = self._sim.estate.rental(int(instance_id))
        if rental is None:
            raise hand.NotThere(f"there is no instance {instance_id}")
        return rental

    def _host(self, machine_id: int) -> Any:
        host = self._sim.estate.market.hosts.get(int(machine_id))
        if host is None:
            raise hand.NotThere(f"there is no machine {machine_id}")
        return host


def _host_json(host: Any, now_s: float) -> dict[str, Any]:
    return {
        "machine_id": host.machine_id,
        "host_id": host.owner_id,
        "gpu": host.gpu.name,
        "gpus": host.gpus,
        "gpus_ours": host.gpus_ours,
        "gpus_taken": host.gpus_taken,
        "place": host.place,
        "reliability": host.reliability,
        "down": host.is_down(now_s),
    }


class Routes:
    """`POST /control/<action>` with the method's arguments as a JSON object; `GET` of the ledger and the world."""

    def __init__(self, sim: "simulator.Simulator", control: Control) -> None:
        self._sim = sim
        self._actions: Mapping[str, Callable[..., Awaitable[None] | None]] = {
            "advance": control.advance,
            "speed": control.set_speed,
            "faults/add": control.add_fault,
            "faults/clear": control.clear_faults,
            "switch": control.switch,
            "host/down": control.host_down,
            "host/up": control.host_up,
            "offers/take": control.take_offer,
            "offers/take-all": control.take_all_offers,
            "offers/free": control.free_offers,
            "price": control.set_price,
            "outbid": control.outbid,
            "exit": control.exit,
            "vanish": control.vanish,
            "label": control.relabel,
            "stop": control.stop,
            "end-contract": control.end_contract,
            "ask-more": control.ask_more,
            "address": control.change_address,
            "silence": control.silence,
            "traffic": control.traffic,
            "ssh/drop": control.drop_ssh,
            "ssh/host-key": control.change_host_key,
            "credit": control.set_credit,
            "key/revoke": control.revoke_key,
            "key/add": control.add_key,
        }
        self._control = control

    async def act(self, request: web.Request) -> web.Response:
        name = request.match_info["action"].strip("/")
        action = self._actions.get(name)
        if action is None:
            return _bad(f"there is no control {name!r}; there are {', '.join(self._actions)}", 404)
        try:
            done = action(**(await replies.json_body(request)))
            if done is not None:
                await done
        except TypeError as error:
            return _bad(f"{name}: {error}")
        except (faults.BadScript, switches.BadSwitch, hand.NotThere, ValueError) as error:
            return _bad(str(error))
        return replies.as_json({"ok": True, "now_s": self._sim.estate.clock.now_s()})

    async def ledger(self, request: web.Request) -> web.Response:
        return replies.as_json(self._sim.ledger.report())

    async def requests(self, request: web.Request) -> web.Response:
        """How many requests came in, by route."""
        return replies.as_json(self._sim.requests)

    async def world(self, request: web.Request) -> web.Response:
        return replies.as_json(self._control.world())


def _bad(message: str, status: int = 400) -> web.Response:
    return replies.as_json({"ok": False, "message": message}, status)
