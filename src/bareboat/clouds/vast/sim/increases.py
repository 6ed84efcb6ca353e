"""Price increases: a host asks for more when it extends a contract, the customer accepts or rejects."""

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

from aiohttp import web

from bareboat.clouds.vast.sim import replies
from bareboat.simulation import rentals

if TYPE_CHECKING:
    from bareboat.clouds.vast.sim import simulator

SECONDS_PER_HOUR = 3600.0
SECONDS_PER_MONTH = rentals.HOURS_PER_MONTH * SECONDS_PER_HOUR


@dataclasses.dataclass(frozen=True, slots=True)
class Increase:
    rental: rentals.Rental
    usd_per_hour: float
    until_s: float


class Increases:
    def __init__(self, sim: "simulator.Simulator") -> None:
        self._sim = sim
        self._ids = itertools.count(5001)
        self._pending: dict[int, Increase] = {}

    def ask(self, rental: rentals.Rental, usd_per_hour: float, until_s: float) -> int:
        """The host asks; returns the id under which it waits."""
        pending_id = next(self._ids)
        self._pending[pending_id] = Increase(rental, usd_per_hour, until_s)
        return pending_id

    async def list(self, request: web.Request) -> web.Response:
        now_s = self._sim.estate.now()
        self._pending = {key: one for key, one in self._pending.items() if not one.rental.is_gone(now_s)}
        rows = [_row(pending_id, increase) for pending_id, increase in self._pending.items()]
        return replies.as_json({"success": True, "pending_price_increases": rows})

    async def accept(self, request: web.Request) -> web.Response:
        pending_id, increase = await self._take(request)
        self._sim.estate.extend(increase.rental, increase.usd_per_hour, increase.until_s)
        return _answer(pending_id, increase)

    async def reject(self, request: web.Request) -> web.Response:
        return _answer(*await self._take(request))

    async def _take(self, request: web.Request) -> tuple[int, Increase]:
        body = await replies.json_body(request)
        if set(body) != {"pending_price_increase_id"}:
            raise replies.Refused(400, "invalid_args", "exactly pending_price_increase_id is wanted")
        increase = self._pending.pop(body["pending_price_increase_id"], None)
        if increase is None or increase.rental.is_gone(self._sim.estate.now()):
            raise replies.Refused(404, "no_pending_price_increase", "No pending price increase.")
        return body["pending_price_increase_id"], increase


def _row(pending_id: int, increase: Increase) -> dict[str, Any]:
    rental = increase.rental
    storage = rental.host.storage_usd_per_gb_month / SECONDS_PER_MONTH
    return {
        "pending_price_increase_id": pending_id,
        "contract_id": rental.id,
        "host_id": rental.host.owner_id,
        "contract_end_date": rental.ends_s,
        "ask_end_date": increase.until_s,
        "old_gpu_costpersec": rental.usd_per_hour / rental.gpus / SECONDS_PER_HOUR,
        "new_gpu_costpersec": increase.usd_per_hour / rental.gpus / SECONDS_PER_HOUR,
        "old_disk_ram_costpersec": storage,
        "new_disk_ram_costpersec": storage,
        "old_bwu_cost": rental.host.up_usd_per_gb,
        "new_bwu_cost": rental.host.up_usd_per_gb,
        "old_bwd_cost": rental.host.down_usd_per_gb,
        "new_bwd_cost": rental.host.down_usd_per_gb,
    }


def _answer(pending_id: int, increase: Increase) -> web.Response:
    body = {"success": True, "pending_price_increase_id": pending_id, "contract_id": increase.rental.id}
    return replies.as_json(body)
