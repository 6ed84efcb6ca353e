"""The hand behind the world: what tests and people do to the simulated cloud. The methods work in process; the routes
under /control/ give the same over HTTP, without a key, for they are no part of RunPod's API."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from bareboat.clouds.runpod.sim import faults as catalogue
from bareboat.clouds.runpod.sim import pods, replies, switches
from bareboat.simulation import faults, hand, rentals

if TYPE_CHECKING:
    from bareboat.clouds.runpod.sim import simulator


class Control(hand.Hand):
    """Every method takes effect at once, at the simulation's present. Pods are named by RunPod's ids."""

    def __init__(self, sim: "simulator.Simulator") -> None:
        super().__init__(sim, catalogue.CATALOGUE)
        self._sim = sim

    # -- stock

    def take_all(self, gpu: str | None = None, place: str | None = None, cloud: str | None = None) -> None:
        """Other customers take every free GPU: of a type (by its id), in a place, in a cloud, or all."""
        self._sim.stock.take_all(gpu, place, cloud)

    def free_all(self, gpu: str | None = None, place: str | None = None, cloud: str | None = None) -> None:
        """Other customers leave."""
        self._sim.stock.free_all(gpu, place, cloud)

    # -- pods

    def exit(self, pod_id: str, code: int = 0) -> None:
        """The workload of a pod ends by itself; its host starts it again."""
        self._sim.estate.exits(self._rental(pod_id), code)

    def vanish(self, pod_id: str) -> None:
        """A person deletes the pod elsewhere."""
        self._sim.pods.vanish(self._rental(pod_id), "deleted by a person")

    def rename(self, pod_id: str, name: str) -> None:
        """A person edits the name."""
        self._sim.pods.rename(self._rental(pod_id), name)

    def stop(self, pod_id: str) -> None:
        """A person stops the pod."""
        self._sim.pods.stop(self._rental(pod_id))

    def outbid(self, pod_id: str) -> None:
        """A spot pod loses its GPUs to a higher bid."""
        self._sim.estate.outbid(self._rental(pod_id), self._sim.estate.now())

    def host_down(self, pod_id: str, for_s: float = hand.FOREVER_S) -> None:
        """The machine of a pod loses touch."""
        self._sim.estate.host_down(self._rental(pod_id).host.machine_id, for_s)

    # -- reading

    def world(self) -> dict[str, Any]:
        """Pods, foreign ones, registries, switches and fault rules as JSON-able data."""
        sim = self._sim
        return {
            "now_s": sim.estate.now(),
            "pods": [sim.v2.record(rental) for rental in sim.estate.live()],
            "foreign": [pods.terms(rental).pod_id for rental in sim.pods.foreign()],
            "registries": [each.name for each in sim.account.registries.values()],
            "switches": {name: getattr(sim.switches, name) for name in switches.Switches.__dataclass_fields__},
            "faults": [rule.kind.name for rule in sim.estate.faults.rules()],
            "struck": sim.estate.faults.struck,
            "credit_usd": sim.estate.credit_usd(),
        }

    def rented(self) -> list[str]:
        """Ids of all pods ever made through the API, oldest first."""
        return self._sim.pods.ever_made()

    def _rental(self, pod_id: str) -> rentals.Rental:
        rental = self._sim.pods.known(pod_id)
        if rental is None:
            raise hand.NotThere(f"there is no pod {pod_id}")
        return rental


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
            "stock/take": control.take_all,
            "stock/free": control.free_all,
            "exit": control.exit,
            "vanish": control.vanish,
            "name": control.rename,
            "stop": control.stop,
            "outbid": control.outbid,
            "host/down": control.host_down,
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
        except replies.Refused as error:
            return _bad(error.detail)
        except (faults.BadScript, switches.BadSwitch, hand.NotThere, ValueError) as error:
            return _bad(str(error))
        return replies.as_json({"ok": True, "now_s": self._sim.estate.clock.now_s()})

    async def ledger(self, request: web.Request) -> web.Response:
        """The engine's ledger, with RunPod's ids, and which of the instances are other people's."""
        report = self._sim.ledger.report()
        for entry in report["instances"]:
            entry["pod_id"] = self._sim.pods.pod_id(entry["id"])
            entry["foreign"] = entry["pod_id"] not in self._control.rented()
        return replies.as_json(report)

    async def requests(self, request: web.Request) -> web.Response:
        """How many requests came in, by route."""
        return replies.as_json(self._sim.requests)

    async def world(self, request: web.Request) -> web.Response:
        return replies.as_json(self._control.world())


def _bad(message: str, status: int = 400) -> web.Response:
    return replies.as_json({"ok": False, "message": message}, status)
