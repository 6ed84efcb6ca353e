"""What pods cost, as v2's billing has it: one record for each pod, in the bucket of the day it was made."""

from typing import TYPE_CHECKING, Any

from aiohttp import web

from bareboat.clouds.runpod.sim import pods, replies, times

if TYPE_CHECKING:
    from bareboat.clouds.runpod.sim import simulator

DAY_S = 86_400.0
AMOUNTS = ("totalAmount", "gpuAmount", "cpuAmount", "diskAmount")


class Money:
    def __init__(self, sim: "simulator.Simulator") -> None:
        self._sim = sim

    async def v2(self, request: web.Request) -> web.Response:
        wanted = request.query.get("podId")
        now_s = self._sim.estate.now()
        records: list[dict[str, Any]] = []
        for rental in self._sim.estate.live():
            usd, about = rental.spent(now_s), pods.terms(rental)
            if wanted in (None, about.pod_id):
                start_s = rental.created_s - rental.created_s % DAY_S
                records.append(
                    {
                        "startTime": times.iso(start_s),
                        "endTime": times.iso(start_s + DAY_S),
                        "podId": about.pod_id,
                        "totalAmount": round(usd.total, 6),
                        "gpuAmount": round(usd.gpu, 6),
                        "cpuAmount": 0,
                        "diskAmount": round(usd.disk, 6),
                    }
                )
        asked = {
            "startTime": times.iso(now_s - now_s % DAY_S - 30 * DAY_S),
            "endTime": times.iso(now_s - now_s % DAY_S + DAY_S),
            "bucketSize": "day",
            "podId": wanted,
        }
        metadata = {
            "query": asked,
            "recordCount": len(records),
            "uniquePodCount": len(records),
            "totals": {key: round(sum(record[key] for record in records), 6) for key in AMOUNTS},
        }
        return replies.as_json({"records": records, "metadata": metadata})

    async def v1(self, request: web.Request) -> web.Response:
        now_s = self._sim.estate.now()
        rows = [
            {
                "amount": round(rental.spent(now_s).total, 6),
                "diskSpaceBilledGb": int(rental.disk_gb),
                "time": times.iso(rental.created_s),
                "timeBilledMs": int((now_s - rental.created_s) * 1000),
                "podId": pods.terms(rental).pod_id,
            }
            for rental in self._sim.estate.live()
        ]
        return replies.as_json(rows)
