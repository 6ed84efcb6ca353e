"""Reads of instances: the v1 list with filters and keyset pages, the disputed v0 list, the single read."""

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from bareboat.clouds.vast.sim import create, filters, records, replies, ssh
from bareboat.simulation import rentals

if TYPE_CHECKING:
    from bareboat.clouds.vast.sim import simulator

Stage = rentals.Stage
Record = dict[str, Any]

CONTRACT_COLUMNS = frozenset(
    [
        "id",
        "label",
        "actual_status",
        "cur_state",
        "next_state",
        "intended_status",
        "image_uuid",
        "image_runtype",
        "machine_id",
        "host_id",
        "gpu_name",
        "gpu_arch",
        "verification",
        "template_id",
        "template_hash_id",
        "is_bid",
        "start_date",
        "end_date",
        "static_ip",
        "geolocation",
        "os_version",
        "cpu_name",
        "cpu_arch",
        "disk_name",
        "mobo_name",
        "status_msg",
    ]
)
"""What `select_filters` and `order_by` may name; everything else is computed and refused."""

ACTUAL: Mapping[Stage, str | None] = {
    Stage.PLACING: None,
    Stage.PULLING: "loading",
    Stage.CREATED: "created",
    Stage.STARTING: "exited",
    Stage.RUNNING: "running",
    Stage.RESTARTING: "rebooting",
    Stage.EXITED: "exited",
    Stage.STOPPING: "running",
    Stage.STOPPED: "exited",
    Stage.GONE: None,
    Stage.PHANTOM: None,
}


class Instances:
    def __init__(self, sim: "simulator.Simulator") -> None:
        self._sim = sim
        self._ghosts: dict[int, tuple[float, Record]] = {}

    # -- routes

    async def single(self, request: web.Request) -> web.Response:
        rental = self.find(request.match_info["id"])
        if rental is None:
            return replies.as_json({"instances": None})
        record = self.record(rental)
        del record["volume_info"]
        return replies.as_json({"instances": record})

    async def v1(self, request: web.Request) -> web.Response:
        conditions = replies.json_argument(request, "select_filters", {})
        order = self._order(replies.json_argument(request, "order_by", []))
        columns = replies.json_argument(request, "select_cols", ["*"])
        tests = self._tests(conditions)
        limit = self._limit(request.query.get("limit"))
        everything = self._listed(tests)
        chosen = [rental for rental in everything if self._passes(rental, tests)]
        chosen = self._sorted(chosen, order)
        page, token = self._page(chosen, request.query.get("after_token"), limit)
        shown = [self.record(rental) for rental in page]
        shown += self._ghost_records(tests) if token is None else []
        switches = self._sim.switches
        counted = everything if switches.label_counts == "account" else chosen
        return replies.as_json(
            {
                "success": True,
                "instances_found": len(shown),
                "total_instances": len(chosen if switches.total_instances == "filtered" else everything),
                "label_counts": _label_counts(counted),
                "next_token": token,
                "instances": shown if "*" in columns else [{c: record.get(c) for c in columns} for record in shown],
            }
        )

    async def v0(self, request: web.Request) -> web.Response:
        mode = self._sim.switches.v0_list
        if mode == "gone410":
            msg = "GET /api/v0/instances/ is deprecated; use GET /api/v1/instances/."
            raise replies.Refused(410, "deprecated_endpoint", msg)
        listed = self._listed({})
        if mode == "paginated25":
            listed = listed[: self._sim.switches.max_page]
        shown = [self.record(rental) for rental in listed]
        return replies.as_json({"instances_found": len(shown), "instances": shown})

    async def distinct(self, request: web.Request) -> web.Response:
        """GET /instances/filters/: the values that filters can take."""
        shown = [self.record(rental) for rental in self._listed({})]
        columns = ("actual_status", "gpu_name", "label", "verification")
        values = {column: sorted({record[column] for record in shown if record[column]}) for column in columns}
        return replies.as_json({"success": True, **values})

    # -- what others need

    def find(self, text: str) -> rentals.Rental | None:
        """The instance of an id in a path; None for one that is gone or not a number."""
        self._sim.estate.now()
        return self._sim.estate.rental(int(text)) if text.isdigit() else None

    def haunt(self, rental: rentals.Rental, until_s: float) -> None:
        """The list goes on showing a destroyed instance."""
        self._ghosts[rental.id] = (until_s, self.record(rental))

    def record(self, rental: rentals.Rental) -> Record:
        """The instance as Vast shows it now."""
        terms, now_s = rental.terms, self._sim.estate.clock.now_s()
        assert isinstance(terms, create.Terms)
        moment, base = rental.at(now_s), terms.offer
        ssh_host, ssh_port = self._sim.ssh.address(rental)
        record: Record = {key: base[key] for key in records.SHARED_BY_INSTANCES}
        status = self.actual_status(rental)
        runs = status == "running" and moment.stage is Stage.RUNNING
        placed = moment.stage is not Stage.PLACING
        gpu_usd = rental.usd_per_hour if rental.bid_usd_per_hour is None else rental.bid_usd_per_hour
        disk_usd = round(rental.disk_usd_per_hour, 8)
        total = round(gpu_usd + disk_usd, 8)
        state = "running" if rental.wants_running else "stopped"
        if moment.stage is Stage.STOPPING and rental.destroy_asked_s is not None:
            state = "unloaded"
        record.update(
            id=rental.id,
            actual_status=status,
            intended_status="running" if rental.wants_running else "stopped",
            cur_state="stopped" if rental.start_queued else state,
            next_state=state,
            status_msg=self.status_message(rental),
            label=rental.label,
            template_id=terms.template_id,
            template_hash_id=terms.template_hash_id,
            template_name=terms.template_name,
            image_uuid=rental.image,
            image_args=terms.args,
            image_runtype=terms.runtype,
            extra_env=terms.extra_env,
            onstart=terms.onstart,
            jupyter_token=terms.jupyter_token,
            ssh_host=ssh_host,
            ssh_idx=str(rental.host.machine_id % 9 + 1),
            ssh_port=ssh_port - 1 if "jupyter" in terms.runtype else ssh_port,
            machine_dir_ssh_port=20_000 + rental.host.machine_id % 30_000,
            public_ipaddr=self._address(rental) if placed else None,
            local_ipaddrs="172.17.0.2 \n" if placed else None,
            ports=self._ports(rental) if runs else None,
            direct_port_start=-1,
            direct_port_end=-1,
            disk_space=rental.disk_gb,
            gpu_totalram=base["gpu_total_ram"],
            start_date=rental.created_s,
            end_date=rental.ends_s,
            duration=max(0.0, rental.ends_s - now_s),
            uptime_mins=(now_s - (rental.running_since_s or now_s)) / 60 if runs else None,
            gpu_util=0.0 if runs else None,
            gpu_temp=41.0 if runs else None,
            cpu_util=0.01 if runs else -1.0,
            mem_usage=0.01 if runs else None,
            mem_limit=round(base["cpu_ram"] * base["gpu_frac"] / 1000, 3) if runs else None,
            vmem_usage=0.0 if runs else None,
            disk_usage=0.05 if runs else -1.0,
            disk_util=0.05 if runs else -1.0,
            is_bid=rental.bid_usd_per_hour is not None,
            rentable=True,
            external=False,
            min_bid=base["min_bid"],
            dph_base=gpu_usd,
            dph_total=total,
            storage_total_cost=disk_usd,
            dlperf_per_dphtotal=round(base["dlperf"] / total, 4) if total else None,
            flops_per_dphtotal=round(base["total_flops"] / total, 4) if total else 0.0,
            vram_costperhour=total / base["gpu_total_ram"],
            score=round(base["dlperf"] / total * base["reliability2"], 3) if total else 0.0,
            search=records.price_split(gpu_usd, disk_usd),
            instance=records.price_split(gpu_usd if runs else 0, disk_usd),
            credit_balance=None,
            credit_discount=None,
            client_run_time=1.0,
            host_run_time=1.0,
            time_remaining="",
            time_remaining_isbid="",
            inet_up_billed=None,
            inet_down_billed=None,
            country_code=(base["geolocation"] or "").rsplit(",", 1)[-1].strip() or None,
            volume_info=[],
        )
        return record

    def actual_status(self, rental: rentals.Rental) -> str | None:
        now_s = self._sim.estate.clock.now_s()
        moment = rental.at(now_s)
        if moment.stage is not Stage.PLACING and rental.host.is_down(now_s):
            return "offline"
        if moment.stage is Stage.RUNNING and rental.is_silent(now_s):
            return "unknown"
        if moment.stage is Stage.STOPPED and rental.running_since_s is None:
            return "stopped"
        return ACTUAL[moment.stage]

    def status_message(self, rental: rentals.Rental) -> str | None:
        now_s = self._sim.estate.clock.now_s()
        moment = rental.at(now_s)
        if moment.message:
            return moment.message + "\n"
        if moment.stage is Stage.PULLING:
            layer = f"{(rental.id * 2_654_435_761) % 2**48:012x}"
            return f"{layer}: {'Downloading' if now_s - moment.at_s < 20 else 'Download complete'}"
        if moment.stage is Stage.RUNNING:
            kind = rental.terms.runtype.split()[0]
            return f"success, running {rental.image.replace(':', '_')}/{kind}\n"
        return None

    def ports_open_s(self, rental: rentals.Rental) -> float:
        """When the ports of the present run appear in reads."""
        since_s, terms = rental.running_since_s or 0.0, rental.terms
        if since_s not in terms.ports_from:
            script = self._sim.estate.faults
            late = script.strikes("ports_late", since_s, rental.subject())
            wait_s = self._sim.switches.port_delay_s
            if late is not None:
                wait_s += 1e12 if late.chance("never") else late.number("for_s")
            terms.ports_from = {since_s: since_s + wait_s}
        return float(terms.ports_from[since_s])

    # -- how

    def _address(self, rental: rentals.Rental) -> str:
        address = rental.terms.public_ip or self._sim.public_address(rental.host)
        if rental.moves_s is not None and rental.moves_s <= self._sim.estate.clock.now_s():
            address = f"203.0.113.{200 + rental.id % 54}"
        return f"{address}\n" if self._sim.switches.address_newline else str(address)

    def _ports(self, rental: rentals.Rental) -> dict[str, list[dict[str, str]]] | None:
        if self._sim.estate.clock.now_s() < self.ports_open_s(rental):
            return None
        shown: dict[str, list[dict[str, str]]] = {}
        order = self._sim.estate.order(rental)
        unmapped = set() if ssh.PORT in order.ports else {ssh.PORT}
        ports = [pair for pair in self._sim.estate.ports(rental).items() if pair[0] not in unmapped]
        pairs = ports[: rental.terms.kept_ports]
        for (number, protocol), host_port in pairs:
            port = rental.terms.refusing_port or host_port
            identity = number >= create.IDENTITY_PORT and self._sim.switches.identity_port_key == "actual"
            bindings = [{"HostIp": "0.0.0.0", "HostPort": str(port)}]
            if self._sim.switches.ipv6_twin:
                bindings.append({"HostIp": "::", "HostPort": str(port)})
            shown[f"{host_port if identity else number}/{protocol}"] = bindings
        return shown or None

    def _listed(self, tests: Mapping[str, list[filters.Test]]) -> list[rentals.Rental]:
        now_s = self._sim.estate.now()
        live = [rental for rental in self._sim.estate.live() if rental.terms.listed_from_s <= now_s]
        return live if self._sim.switches.list_order == "asc" else live[::-1]

    def _tests(self, conditions: Any) -> dict[str, list[filters.Test]]:
        if not isinstance(conditions, Mapping):
            raise replies.Refused(400, "invalid_request", "Error in query parameters: select_filters is not an object")
        for column in conditions:
            _check_column(str(column))
        tests = {str(column): filters.tests(str(column), given) for column, given in conditions.items()}
        if not self._sim.switches.neq_finds_null:
            for column, given in conditions.items():
                if given.get("neq") is not None:
                    tests[str(column)].append(lambda found: found is not None)
        return tests

    def _passes(self, rental: rentals.Rental, tests: Mapping[str, list[filters.Test]]) -> bool:
        return all(test(self._value(rental, column)) for column, given in tests.items() for test in given)

    def _value(self, rental: rentals.Rental, column: str) -> Any:
        """One column without building the whole record for the usual ones."""
        if column == "id":
            return rental.id
        if column == "label":
            return rental.label
        if column == "actual_status":
            return self.actual_status(rental)
        return self.record(rental).get(column)

    def _order(self, given: Any) -> list[tuple[str, bool]]:
        order = []
        for entry in given if isinstance(given, list) else [given]:
            column = str(entry.get("col")) if isinstance(entry, Mapping) else str(entry)
            _check_column(column)
            order.append((column, isinstance(entry, Mapping) and entry.get("dir") == "desc"))
        return order

    def _sorted(self, chosen: list[rentals.Rental], order: list[tuple[str, bool]]) -> list[rentals.Rental]:
        for column, descending in reversed(order):
            chosen.sort(key=lambda rental: _comparable(self._value(rental, column)), reverse=descending)
        return chosen

    def _limit(self, text: str | None) -> int:
        most = self._sim.switches.max_page
        if text is None or not text.lstrip("-").isdigit():
            return most
        limit = int(text)
        return 5 if limit <= 0 else min(limit, most)

    def _page(
        self, chosen: list[rentals.Rental], token: str | None, limit: int
    ) -> tuple[list[rentals.Rental], str | None]:
        start = 0
        if token:
            after_id = _id_of(token)
            start = next((index + 1 for index, rental in enumerate(chosen) if rental.id == after_id), -1)
            if start < 0:
                start = next((index for index, rental in enumerate(chosen) if rental.id > after_id), len(chosen))
            start = self._shifted(start, len(chosen))
        page = chosen[start : start + limit]
        more = start + limit < len(chosen)
        return page, _token_of(page[-1].id) if more and page else None

    def _shifted(self, start: int, length: int) -> int:
        """Where a page really starts while instances come and go between two pages."""
        estate = self._sim.estate
        strike = estate.faults.strikes("list_page_shift", estate.clock.now_s(), {}) if start < length else None
        if strike is None:
            return start
        return start - 1 if strike.choose("how", ("repeat", "skip"), "either") == "repeat" else start + 1

    def _ghost_records(self, tests: Mapping[str, list[filters.Test]]) -> list[Record]:
        now_s = self._sim.estate.clock.now_s()
        self._ghosts = {key: ghost for key, ghost in self._ghosts.items() if ghost[0] > now_s}
        shown = [record for _, record in self._ghosts.values() if self._sim.estate.rental(record["id"]) is None]
        return [r for r in shown if all(test(r.get(column)) for column, given in tests.items() for test in given)]


def _check_column(column: str) -> None:
    if column not in CONTRACT_COLUMNS:
        raise replies.Refused(400, "invalid_request", f"Error in query parameters: {column} is not a valid search key")


def _comparable(value: Any) -> tuple[int, Any]:
    if value is None:
        return (0, 0)
    return (1, float(value)) if isinstance(value, bool | int | float) else (2, str(value))


def _label_counts(listed: list[rentals.Rental]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for rental in listed:
        counts[rental.label or ""] = counts.get(rental.label or "", 0) + 1
    return counts


def _token_of(instance_id: int) -> str:
    return base64.b64encode(msgspec.json.encode({"values": {"id": instance_id}})).decode()


def _id_of(token: str) -> int:
    try:
        return int(msgspec.json.decode(base64.b64decode(token, validate=True))["values"]["id"])
    except (binascii.Error, msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        body = {"error": "invalid_token", "msg": "Invalid pagination token"}
        raise replies.Refused(400, "invalid_token", "Invalid pagination token", body=body) from error
