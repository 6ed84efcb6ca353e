"""The account: keys, credit, the current user, ssh keys, secrets and charges."""

import dataclasses
import datetime
import secrets
from typing import TYPE_CHECKING, Any

from aiohttp import web

from bareboat.clouds.vast.sim import replies
from bareboat.simulation import ledger, rentals

if TYPE_CHECKING:
    from bareboat.clouds.vast.sim import simulator

USER_ID = 100_042
DAY_S = 86_400.0


@dataclasses.dataclass(slots=True)
class Caller:
    """Who asks: the account, or one instance by its own key."""

    key: str
    instance_id: int | None = None


class Account:
    """One account with its keys. `instance_keys` may only start, stop and destroy their own instance."""

    def __init__(self, sim: "simulator.Simulator", api_key: str) -> None:
        self._sim = sim
        self.api_keys = {api_key}
        self.instance_keys: dict[str, int] = {}
        self.ssh_keys: list[dict[str, Any]] = []
        self.secrets: dict[str, str] = {}
        self.template_ids: dict[int, int] = {}
        self._next_key_id = 1

    def caller(self, key: str) -> Caller | None:
        if key in self.api_keys:
            return Caller(key)
        return Caller(key, self.instance_keys[key]) if key in self.instance_keys else None

    def close_costs(self, rental: rentals.Rental) -> None:
        """The instance's own key ends with it."""
        self.instance_keys.pop(rental.terms.instance_key, None)

    # -- routes

    async def current(self, request: web.Request) -> web.Response:
        self._sim.estate.now()
        credit = self._sim.estate.credit_usd()
        return replies.as_json(
            {
                "id": USER_ID,
                "key_id": 7001,
                "email": "captain@example.com",
                "username": "captain",
                "fullname": "Simulated Captain",
                "credit": round(credit, 6),
                "balance": round(min(0.0, credit), 6),
                "balance_threshold": 0.0,
                "balance_threshold_enabled": False,
                "ssh_key": self.ssh_keys[0]["public_key"] if self.ssh_keys else "",
                "sid": "simulated",
                "can_pay": True,
                "has_billing": True,
                "has_payout": False,
                "billed_expected": 0.0,
                "billed_verified": 0.0,
                "last4": None,
                "got_signup_credit": 1.0,
            }
        )

    async def list_ssh(self, request: web.Request) -> web.Response:
        if not self.ssh_keys:
            raise replies.Refused(404, "no_ssh_key", "No ssh keys found.")
        return replies.as_json(self.ssh_keys)

    async def add_ssh(self, request: web.Request) -> web.Response:
        body = await replies.json_body(request)
        key = {
            "id": self._take_id(),
            "user_id": USER_ID,
            "public_key": _public_key(body),
            "created_at": _date(self._sim.estate.clock.now_s()),
            "deleted_at": None,
        }
        self.ssh_keys.append(key)
        return replies.as_json({"success": True, "key": key})

    async def change_ssh(self, request: web.Request) -> web.Response:
        key = self._ssh_key(request)
        key["public_key"] = _public_key(await replies.json_body(request))
        return replies.as_json({"success": True})

    async def delete_ssh(self, request: web.Request) -> web.Response:
        self.ssh_keys.remove(self._ssh_key(request))
        return replies.as_json({"success": True})

    async def instance_ssh(self, request: web.Request) -> web.Response:
        rental = self._instance(request)
        if request.method == "GET":
            return replies.as_json({"success": True, "ssh_keys": rental.terms.ssh_keys})
        line = _public_key(await replies.json_body(request))
        rental.terms.ssh_keys.append({"id": self._take_id(), "public_key": line})
        self._sim.ssh.spread(rental, line)
        return replies.as_json({"success": True, "msg": "SSH key added to instance."})

    async def delete_instance_ssh(self, request: web.Request) -> web.Response:
        rental = self._instance(request)
        kept = [key for key in rental.terms.ssh_keys if str(key["id"]) != request.match_info["key"]]
        if len(kept) == len(rental.terms.ssh_keys):
            raise replies.Refused(404, "no_ssh_key", "No such ssh key.")
        rental.terms.ssh_keys = kept
        return replies.as_json({"success": True, "msg": "SSH key removed from instance."})

    async def list_secrets(self, request: web.Request) -> web.Response:
        return replies.as_json({"success": True, "secrets": dict.fromkeys(self.secrets, "*****")})

    async def set_secret(self, request: web.Request) -> web.Response:
        body = await replies.json_body(request)
        name = body.get("key")
        if not isinstance(name, str) or not name:
            raise replies.Refused(400, "missing_input", "key is required")
        if request.method == "DELETE":
            if self.secrets.pop(name, None) is None:
                raise replies.Refused(404, "not_found", "No such secret.")
        else:
            self.secrets[name] = str(body.get("value", ""))
        return replies.as_json({"success": True, "msg": "ok"})

    async def charges(self, request: web.Request) -> web.Response:
        wanted = replies.json_argument(request, "select_filters", {})
        day = wanted.get("day") if isinstance(wanted, dict) else None
        if not isinstance(day, dict) or not {"gte", "lte"} <= set(day):
            raise replies.Refused(400, "invalid_args", "select_filters.day needs gte and lte")
        entries = [
            entry
            for entry in self._sim.ledger.ever_rented()
            if entry.created_s < float(day["lte"]) + DAY_S and (entry.gone_s or 1e18) >= float(day["gte"])
        ]
        if request.query.get("latest_first", "").lower() in ("true", "1"):
            entries.reverse()
        limit = int(request.query["limit"]) if request.query.get("limit", "").isdigit() else 100
        rows = [self._charge(entry) for entry in entries[: min(500, limit)]]
        answer = {"success": True, "count": len(rows), "total": len(entries), "next_token": None, "results": rows}
        return replies.as_json(answer)

    async def invoices(self, request: web.Request) -> web.Response:
        wanted = replies.json_argument(request, "select_filters", {})
        if not isinstance(wanted, dict) or not isinstance(wanted.get("when"), dict):
            return replies.as_json(
                {"success": False, "error": "invalid_args", "msg": "select_filters.when is required"}
            )
        return replies.as_json({"success": True, "count": 0, "total": 0, "next_token": None, "results": []})

    # -- how

    def _charge(self, entry: ledger.Entry) -> dict[str, Any]:
        end_s = entry.gone_s or self._sim.estate.clock.now_s()
        hours = (end_s - entry.created_s) / 3600
        kinds = (("gpu", entry.usd.gpu), ("disk", entry.usd.disk), ("bwd", entry.usd.bandwidth))
        known = {"label": entry.label, "template_id": self.template_ids.get(entry.id)}
        return {
            "start": entry.created_s,
            "end": end_s,
            "type": "instance",
            "source": f"instance-{entry.id}",
            "description": f"Instance {entry.id}",
            "amount": round(entry.usd.total, 6),
            "metadata": {key: value for key, value in known.items() if value is not None},
            "items": [
                {
                    "type": kind,
                    "amount": round(usd, 6),
                    "description": f"{hours:.3f} hours at ${entry.usd_per_hour:g}/hour",
                }
                for kind, usd in kinds
                if usd > 0
            ],
        }

    def _take_id(self) -> int:
        self._next_key_id += 1
        return self._next_key_id

    def _ssh_key(self, request: web.Request) -> dict[str, Any]:
        for key in self.ssh_keys:
            if str(key["id"]) == request.match_info["id"]:
                return key
        raise replies.Refused(404, "no_ssh_key", "No such ssh key.")

    def _instance(self, request: web.Request) -> rentals.Rental:
        rental = self._sim.instances.find(request.match_info["id"])
        if rental is None:
            raise replies.Refused(404, "no_such_instance", f"No such instance {request.match_info['id']}.")
        return rental


def new_api_key() -> str:
    return secrets.token_hex(32)


def _public_key(body: dict[str, Any]) -> str:
    key = body.get("ssh_key")
    if not isinstance(key, str) or not key.startswith(("ssh-", "ecdsa-", "sk-")):
        raise replies.Refused(400, "invalid_args", "ssh_key is not a public key")
    return key


def _date(at_s: float) -> str:
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
