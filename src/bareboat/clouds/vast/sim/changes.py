"""Everything that changes an instance: state, label, destroy, reboot, recycle, bid, re-template."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from bareboat.clouds.vast.sim import create, filters, replies
from bareboat.simulation import rentals

if TYPE_CHECKING:
    from bareboat.clouds.vast.sim import simulator

QUEUED = "Required resources are currently unavailable, state change queued."
MOST_LABEL = 1024
MOST_AT_ONCE = 64
OK = {"success": True}


class Changes:
    def __init__(self, sim: "simulator.Simulator") -> None:
        self._sim = sim

    async def put(self, request: web.Request) -> web.Response:
        rental = self._wanted(request)
        body = await replies.json_body(request)
        if "state" in body:
            return replies.as_json(self._set_state(rental, body["state"]))
        if "label" in body:
            return replies.as_json(self._set_label(rental, body["label"]))
        raise replies.Refused(400, "missing_input", "state or label is required")

    async def put_many(self, request: web.Request) -> web.Response:
        body = await replies.json_body(request)
        ids = body.get("ids") or []
        if not isinstance(ids, list) or len(ids) > MOST_AT_ONCE:
            raise replies.Refused(400, "invalid_args", f"ids has to be a list of at most {MOST_AT_ONCE} ids")
        answers = [self._set_state(self._by_id(str(one)), body.get("state")) for one in ids]
        return replies.as_json(next((answer for answer in answers if not answer["success"]), OK))

    async def start_many(self, request: web.Request) -> web.Response:
        body = await replies.json_body(request)
        answers = [self._set_state(self._by_id(str(one)), "running") for one in body.get("IDs") or []]
        return replies.as_json(next((answer for answer in answers if not answer["success"]), OK))

    async def delete(self, request: web.Request) -> web.Response:
        rental = self._wanted(request, gone=self._sim.switches.destroyed_again)
        return replies.as_json(self._destroy(rental))

    async def delete_many(self, request: web.Request) -> web.Response:
        body = await replies.json_body(request)
        for one in body.get("instance_ids") or []:
            rental = self._sim.instances.find(str(one))
            if rental is not None:
                self._destroy(rental)
        return replies.as_json({"success": True, "msg": "Instances destroyed."})

    async def reboot(self, request: web.Request) -> web.Response:
        self._sim.estate.reboot(self._startable(request))
        return replies.as_json(OK)

    async def recycle(self, request: web.Request) -> web.Response:
        self._sim.estate.reboot(self._startable(request), pull=True)
        return replies.as_json(OK)

    async def bid_price(self, request: web.Request) -> web.Response:
        rental = self._wanted(request)
        body = await replies.json_body(request)
        price = filters.as_number(body.get("price", rental.terms.offer["min_bid"]))
        if price is None or not 0.001 <= price <= 32 * rental.gpus:
            raise replies.Refused(400, "invalid_price", "Please set a bid price >= 0.001.")
        if rental.bid_usd_per_hour is None:
            raise replies.Refused(400, "invalid_args", "instance is not interruptible")
        self._sim.estate.change_bid(rental, price)
        if rental.outbid:
            self._sim.estate.start(rental)
        return replies.as_json(OK)

    async def update_template(self, request: web.Request) -> web.Response:
        rental = self._wanted(request)
        body = await replies.json_body(request)
        merged, template = self._sim.templates.merged(body)
        terms = rental.terms
        assert isinstance(terms, create.Terms)
        for key, value in template.items():
            setattr(terms, key, value)
        if isinstance(merged.get("env"), Mapping):
            terms.extra_env = [[str(key), str(value)] for key, value in merged["env"].items()]
        if isinstance(merged.get("onstart"), str):
            terms.onstart = merged["onstart"]
        if isinstance(merged.get("image"), str):
            rental.image = merged["image"]
        self._sim.estate.reboot(rental, pull=True)
        return replies.as_json({"success": True, "updated_instance": self._sim.instances.record(rental)})

    async def balance(self, request: web.Request) -> web.Response:
        self._wanted(request)
        return replies.as_json({"success": True, "deposit": 0.0})

    async def prepay(self, request: web.Request) -> web.Response:
        self._wanted(request)
        body = await replies.json_body(request)
        amount = filters.as_number(body.get("amount")) or 0.0
        if amount > self._sim.estate.credit_usd():
            raise replies.Refused(411, "insufficient_credit", "Insufficient credit")
        return replies.as_json({"success": True, "timescale": 1.0, "discount_rate": 0.0})

    async def snapshot(self, request: web.Request) -> web.Response:
        self._wanted(request)
        body = await replies.json_body(request)
        if "id" in body:
            raise replies.Refused(400, "invalid_args", "params duplicated in URL and body: ['id']")
        return replies.as_json({"success": True, "msg": "Snapshot request sent"})

    # -- how

    def _wanted(self, request: web.Request, gone: str = "no_such_instance") -> rentals.Rental:
        return self._by_id(request.match_info["id"], gone)

    def _by_id(self, text: str, gone: str = "no_such_instance") -> rentals.Rental:
        if not text.isdigit():
            raise replies.Refused(400, "invalid_args", "invalid instance_id")
        rental = self._sim.instances.find(text)
        if rental is None:
            msg = "Instance not found" if gone == "not_found" else f"No such instance {text}."
            raise replies.Refused(404, gone, msg)
        return rental

    def _startable(self, request: web.Request) -> rentals.Rental:
        rental = self._wanted(request)
        if not rental.wants_running or not rental.holds_gpus:
            raise replies.Refused(400, "invalid_args", "instance is not running")
        return rental

    def _set_state(self, rental: rentals.Rental, state: Any) -> dict[str, Any]:
        if state == "stopped":
            self._sim.estate.stop(rental)
            return OK
        if state != "running":
            raise replies.Refused(400, "invalid_args", f"state is {state!r}; it has to be running or stopped")
        if not self._sim.estate.has_credit:
            raise replies.Refused(400, "missing_billing", "Your account lacks credit; see the billing page.")
        if self._sim.estate.clock.now_s() >= rental.ends_s:
            raise replies.Refused(400, "invalid_args", "the contract of this instance has ended")
        return OK if self._sim.estate.start(rental) else {"success": False, "msg": QUEUED}

    def _set_label(self, rental: rentals.Rental, label: Any) -> dict[str, Any]:
        if label is not None and len(str(label)) > MOST_LABEL:
            raise replies.Refused(400, "label_too_long", f"label is too long, at most {MOST_LABEL} characters")
        rental.relabel(self._sim.estate.now(), None if label is None else str(label))
        return {"success": True, "msg": f"label for {rental.id} set to '{label}'"}

    def _destroy(self, rental: rentals.Rental) -> dict[str, Any]:
        sim, now_s = self._sim, self._sim.estate.now()
        subject = rental.subject()
        strike = sim.estate.faults.strikes("destroy_fails", now_s, subject)
        linger_s = None
        if strike is not None:
            how = strike.choose("how", ("429", "500", "lingers"))
            if how == "429":
                raise sim.too_frequent(3.0, "json_error")
            if how == "500":
                raise replies.Refused(500, "server_error", "Something went wrong on the server")
            linger_s = strike.number("for_s")
        ghost = sim.estate.faults.strikes("list_ghost", now_s, subject)
        if ghost is not None:
            sim.instances.haunt(rental, now_s + ghost.number("for_s"))
        sim.account.close_costs(rental)
        sim.estate.destroy(rental, linger_s=linger_s)
        return {"success": True, "msg": f"destroying instance {rental.id}."}
