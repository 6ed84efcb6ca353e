"""Search: POST and GET /bundles/, PUT /search/asks/, and the anonymous lists of GPU names."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from aiohttp import web

from bareboat.clouds.vast.sim import filters, records, replies
from bareboat.simulation import market

if TYPE_CHECKING:
    from bareboat.clouds.vast.sim import simulator

ALIASES = {
    "reliability": "reliability",
    "reliability2": "reliability",
    "dphtotal": "dph_total",
    "gpu_totalram": "gpu_total_ram",
    "ubuntu_version": "os_version",
    "driver_version": "driver_vers",
    "cuda_vers": "cuda_max_good",
    "dph": "dph_total",
    "flops_usd": "flops_per_dphtotal",
    "dlperf_usd": "dlperf_per_dphtotal",
}
GIGABYTES = {"gpu_totalram_GB": "gpu_total_ram", "cpu_ram_GB": "cpu_ram", "gpu_ram_GB": "gpu_ram"}
VIRTUAL = ("verified", "datacenter", "duration", "geolocation", "allocated_storage", "target_reliability")
IGNORED = (
    "disable_bundling",
    "extra_ids",
    "template_id",
    "show_incompatible",
    "sort_option",
    "gpu_option",
    "resource_type",
)
TYPES = {"on-demand": False, "ondemand": False, "reserved": False, "bid": True, "interruptible": True}
UNPRICED_FIRST = frozenset(
    ("dph_total", "dph_base", "score", "dlperf_per_dphtotal", "flops_per_dphtotal", "vram_costperhour", "duration")
)
DEFAULTS = {"verified": {"eq": True}, "rentable": {"eq": True}, "rented": {"eq": False}}


class Clause(NamedTuple):
    """A column and the tests it has to pass; `numeric` ones may be ignored by the fault `offer_nulls`."""

    column: str
    tests: list[filters.Test]


class Query(NamedTuple):
    clauses: list[Clause]
    bid: bool
    storage_gb: float
    order: list[tuple[str, bool]]
    limit: int


class Offers:
    """Answers searches from records that are kept for as long as their ask doesn't change."""

    def __init__(self, sim: "simulator.Simulator") -> None:
        self._sim = sim
        self._records: dict[int, tuple[int, dict[str, Any]]] = {}

    async def post(self, request: web.Request) -> web.Response:
        return replies.as_json({"offers": self.search(await replies.json_body(request))})

    async def get(self, request: web.Request) -> web.Response:
        query = replies.json_argument(request, "q", {})
        if not isinstance(query, dict):
            raise replies.Refused(400, "invalid_request", "Invalid json body")
        return replies.as_json({"offers": self.search(query)})

    async def asks(self, request: web.Request) -> web.Response:
        body = await replies.json_body(request)
        query = body.get("q", {})
        offers = self.search(query if isinstance(query, dict) else {})
        columns = body.get("select_cols", ["*"])
        if columns and "*" not in columns:
            offers = [{column: offer.get(column) for column in columns} for offer in offers]
        return replies.as_json({"offers": offers})

    async def gpu_names(self, request: web.Request) -> web.Response:
        names = sorted({host.gpu.name for host in self._sim.estate.market.hosts.values()})
        return replies.as_json({"gpu_names": names})

    async def gpu_types(self, request: web.Request) -> web.Response:
        models = {host.gpu.name: host.gpu for host in self._sim.estate.market.hosts.values()}
        rows = [{"gpu_name": gpu.name, "gpu_arch": gpu.arch, "gpu_ram": gpu.ram_mb} for gpu in models.values()]
        return replies.as_json({"gpu_types": rows})

    def search(self, raw: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Offers as records, best first, capped."""
        query = self._parse(raw)
        now_s = self._sim.estate.now()
        found = list(self._matching(query, now_s))
        for column, descending in reversed(query.order):
            found.sort(key=lambda record: _sort_key(record.get(column)), reverse=descending)
        cap = self._sim.switches.hard_cap
        limit = min(query.limit, cap) if cap else query.limit
        return found[:limit]

    def record(self, ask: market.Ask) -> dict[str, Any]:
        """The unpriced record of an ask; not to be changed."""
        known = self._records.get(ask.id)
        if known is None or known[0] != ask.stamp:
            known = (ask.stamp, records.offer(ask))
            self._records[ask.id] = known
        return known[1]

    def _matching(self, query: Query, now_s: float) -> Iterator[dict[str, Any]]:
        early = [clause for clause in query.clauses if clause.column not in UNPRICED_FIRST]
        late = [clause for clause in query.clauses if clause.column in UNPRICED_FIRST]
        script = self._sim.estate.faults
        flawed = script.has("offer_nulls")
        for ask in self._sim.estate.market.asks(now_s):
            base = self.record(ask)
            strike = script.strikes("offer_nulls", now_s, {"machine_id": ask.host.machine_id}) if flawed else None
            slips = strike is not None and strike.chance("ignore_filter")
            if not slips and not _passes(early, base):
                continue
            prices = records.priced(base, ask.usd_per_hour, query.storage_gb, now_s, bid=query.bid)
            if not slips and not _passes(late, prices):
                continue
            record = {**base, **prices}
            if strike is not None and not slips:
                record.update(cpu_cores=None, cpu_cores_effective=None, geolocation=None)
            yield record

    def _parse(self, raw: Mapping[str, Any]) -> Query:
        query = {**DEFAULTS, **raw} if self._sim.switches.server_defaults else dict(raw)
        kind = query.pop("type", "on-demand")
        if kind not in TYPES:
            raise replies.Refused(400, "invalid_request", f"Error in query parameters: {kind} is not a valid type")
        order = [_order(entry) for entry in query.pop("order", None) or [["score", "desc"]]]
        limit = filters.as_number(query.pop("limit", None))
        storage_gb, clauses = records.DEFAULT_STORAGE_GB, []
        for key, conditions in query.items():
            if key in IGNORED or conditions is None:
                continue
            if key == "allocated_storage" and not isinstance(conditions, Mapping):
                storage_gb = filters.as_number(conditions) or storage_gb
                clauses.append(Clause("disk_space", [filters.test("gte", storage_gb)]))
                continue
            clauses.append(self._clause(key, conditions))
        return Query(
            clauses, TYPES[kind], storage_gb, order, self._sim.switches.default_limit if limit is None else int(limit)
        )

    def _clause(self, key: str, conditions: Any) -> Clause:
        if key == "target_reliability":
            if not isinstance(conditions, Mapping):
                conditions = {"gte": conditions}
            return Clause("expected_reliability", filters.tests(key, conditions))
        if key == "allocated_storage":
            return Clause("disk_space", filters.tests(key, conditions))
        if key == "id" and not self._sim.switches.id_filter:
            return Clause("id", [lambda found: False])
        if key == "geolocation":
            return Clause(key, [_by_country(test) for test in filters.tests(key, conditions)])
        if key == "verified":
            return Clause("vericode", [_by_flag(test) for test in filters.tests(key, conditions)])
        if key == "datacenter":
            return Clause("hosting_type", [_by_flag(test) for test in filters.tests(key, conditions)])
        if key in GIGABYTES:
            return Clause(GIGABYTES[key], [_in_thousands(test) for test in filters.tests(key, conditions)])
        return Clause(self._column(key), filters.tests(key, conditions))

    def _column(self, key: str) -> str:
        column = ALIASES.get(key, key)
        if column not in self._columns():
            raise replies.Refused(400, "invalid_request", f"Error in query parameters: {key} is not a valid search key")
        return column

    def _columns(self) -> frozenset[str]:
        if not hasattr(self, "_known_columns"):
            host = next(iter(self._sim.estate.market.hosts.values()))
            base = records.offer(market.Ask(0, host, 1, 1.0, 0.5))
            prices = records.priced(base, 1.0, 8.0, 0.0, bid=False)
            self._known_columns = frozenset({**base, **prices})
        return self._known_columns


def _passes(clauses: list[Clause], record: Mapping[str, Any]) -> bool:
    return all(test(record.get(clause.column)) for clause in clauses for test in clause.tests)


def _order(entry: Any) -> tuple[str, bool]:
    if not isinstance(entry, list) or len(entry) != 2:
        raise replies.Refused(400, "invalid_request", f"Error in query parameters: {entry} is not a valid order")
    column = ALIASES.get(str(entry[0]), str(entry[0]))
    return column, str(entry[1]).lower() == "desc"


def _sort_key(value: Any) -> tuple[int, Any]:
    """Orders nulls below everything and never compares a text with a number."""
    if value is None:
        return (0, 0)
    if isinstance(value, bool | int | float):
        return (1, value)
    return (2, str(value)) if isinstance(value, str) else (3, msgspec.json.encode(value))


def _by_country(test: filters.Test) -> filters.Test:
    return lambda found: test(found.rsplit(",", 1)[-1].strip() if isinstance(found, str) else found)


def _by_flag(test: filters.Test) -> filters.Test:
    return lambda found: test(found == 1)


def _in_thousands(test: filters.Test) -> filters.Test:
    return lambda found: test(None if found is None else found / 1000)
