"""REST v2: pods, catalogue, registries, ssh keys and billing in its shapes, checked as its description says."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from bareboat.clouds.runpod.sim import hosts, pods, replies, times
from bareboat.simulation import rentals

if TYPE_CHECKING:
    from bareboat.clouds.runpod.sim import simulator

CREATE_KEYS = frozenset(
    [
        "args",
        "disk",
        "env",
        "image",
        "ports",
        "registry",
        "name",
        "cloud",
        "cpu",
        "dataCenterIds",
        "globalNetworking",
        "gpu",
        "mounts",
        "startJupyter",
        "startSsh",
        "templateId",
    ]
)
ACTIONS = {
    "RUNNING": ["stop", "restart", "terminate"],
    "EXITED": ["start", "terminate"],
    "ERROR": ["start", "terminate"],
    "PROVISIONING": ["stop", "terminate"],
    "STARTING": ["stop", "terminate"],
    "TERMINATED": [],
}


class V2:
    def __init__(self, sim: "simulator.Simulator") -> None:
        self._sim = sim

    # -- pods

    async def listing(self, request: web.Request) -> web.Response:
        listed = self._sim.pods.listed()
        body: dict[str, Any] = {}
        size = self._sim.switches.page
        if size:
            start = int(request.query.get("cursor") or 0)
            if start + size < len(listed):
                body["nextCursor"] = str(start + size)
            listed = listed[start : start + size]
        body["pods"] = [self.record(rental) for rental in listed]
        return replies.as_json(body)

    async def create(self, request: web.Request) -> web.Response:
        body = await replies.json_body(request)
        wish = self._wish(body)
        rental = await self._sim.pods.create(wish)
        lost = await self._sim.lose_answer(rental)
        record = self.record(rental)
        if pods.terms(rental).drifts:
            record |= {"runtime": {}, "cost": str(record["cost"]), "unheardOf": {"a": 1}}
        return lost or replies.as_json(record, 201)

    async def get(self, request: web.Request) -> web.Response:
        return replies.as_json(self.record(self._sim.pods.find(request.match_info["id"])))

    async def delete(self, request: web.Request) -> web.Response:
        self._sim.pods.destroy(self._sim.pods.find(request.match_info["id"]))
        return web.Response(status=204)

    async def patch(self, request: web.Request) -> web.Response:
        rental = self._sim.pods.find(request.match_info["id"])
        body = await replies.json_body(request)
        unknown = set(body) - CREATE_KEYS - {"locked"}
        if unknown:
            raise invalid(f"$: additional properties '{sorted(unknown)[0]}' not allowed")
        if isinstance(body.get("name"), str):
            self._sim.pods.rename(rental, body["name"])
        return replies.as_json(self.record(rental))

    async def action(self, request: web.Request) -> web.Response:
        rental = self._sim.pods.find(request.match_info["id"])
        action = (await replies.json_body(request)).get("action")
        if action not in ("start", "stop", "restart", "terminate"):
            raise invalid("$.action: value must be one of 'start', 'stop', 'restart', 'terminate'")
        if action not in ACTIONS[self._sim.pods.status(rental)]:
            raise replies.Refused(409, f"action {action} is not valid in status {self._sim.pods.status(rental)}")
        if action == "terminate":
            self._sim.pods.destroy(rental)
            return web.Response(status=204)
        {"start": self._sim.pods.start, "stop": self._sim.pods.stop, "restart": self._sim.pods.restart}[action](rental)
        return replies.as_json(self.record(rental))

    def record(self, rental: rentals.Rental) -> dict[str, Any]:
        """The pod as v2 shows it now."""
        store, about = self._sim.pods, pods.terms(rental)
        wish, status = about.wish, store.status(rental)
        uptime_s = store.uptime_s(rental)
        ports = store.ports(rental)
        address = store.address(rental)
        mounts: dict[str, Any] = {}
        if wish.network_volume:
            mounts = {"network": [{"volumeId": wish.network_volume, "path": wish.volume_path}]}
        elif wish.volume_gb:
            mounts = {"persistent": {"size": wish.volume_gb, "path": wish.volume_path}}
        started = rental.running_since_s if self._first_start_s(rental) is None else self._first_start_s(rental)
        runtime = None
        if uptime_s is not None:
            runtime = {"uptime": uptime_s, "gpus": [{"util": 0, "memoryUtil": 0}] * wish.gpus}
            runtime |= {"cpu": {"util": 1}, "memory": {"util": 1}, "ports": self._port_rows(rental, ports, address)}
        return {
            "id": about.pod_id,
            "name": rental.label,
            "status": status,
            "actions": ACTIONS[status],
            "image": rental.image,
            "args": wish.args,
            "disk": wish.disk_gb,
            "mounts": mounts,
            "ports": wish.ports,
            "env": wish.env,
            "registry": wish.registry,
            "gpu": {"id": about.kind.id, "count": wish.gpus if about.gpus_shown is None else about.gpus_shown},
            "cloud": "SECURE" if rental.host.datacenter else "COMMUNITY",
            "dataCenterId": rental.host.place if rental.host.datacenter else None,
            "cudaVersion": str(rental.host.cuda),
            "ssh": self._ssh(about, ports, address),
            "template": wish.template,
            "cost": round(store.cost(rental), 4),
            "locked": wish.locked,
            "globalNetworking": {"enabled": False},
            "runtime": runtime,
            "createdAt": times.iso(rental.created_s),
            "startedAt": None if started is None else times.iso(started),
        }

    def _first_start_s(self, rental: rentals.Rental) -> float | None:
        """A restart by itself moves nothing."""
        return next((each.at_s for each in rental.life if each.stage is rentals.Stage.RUNNING), None)

    def _port_rows(self, rental: rentals.Rental, ports: Mapping[int, int], address: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for number, protocol in pods.ports_of(pods.terms(rental).wish):
            if protocol == "http":
                rows.append({"private": number, "public": 60_000 + number % 5000, "type": "http", "ip": "100.65.16.20"})
            elif number in ports:
                rows.append({"private": number, "public": ports[number], "type": "tcp", "ip": address})
        return rows

    @staticmethod
    def _ssh(about: pods.Terms, ports: Mapping[int, int], address: str) -> dict[str, Any]:
        user = f"{about.pod_id}-64410065"
        proxy = {"host": "ssh.runpod.io", "port": 22, "username": user, "command": f"ssh {user}@ssh.runpod.io"}
        direct = None
        if 22 in ports:
            command = f"ssh root@{address} -p {ports[22]}"
            direct = {"host": address, "port": ports[22], "username": "root", "command": command}
        return {"proxy": proxy, "direct": direct}

    def _wish(self, given: Mapping[str, Any]) -> pods.Wish:
        _check(given)
        template = given.get("templateId")
        body = {**self._template(template), **given} if template else dict(given)
        gpu, cpu = body.get("gpu"), body.get("cpu")
        if (gpu is None) == (cpu is None):
            raise replies.Refused(400, "exactly one of gpu or cpu must be set")
        if gpu is None:
            raise replies.Refused(400, "this simulation has no CPU pods")
        entrypoint, command = parsed_args(body.get("args") or "")
        mounts = body.get("mounts") or {}
        persistent, network = mounts.get("persistent") or {}, mounts.get("network") or []
        if persistent and network:
            raise replies.Refused(400, "mounts.persistent and mounts.network are mutually exclusive")
        wish = pods.Wish(
            name=body["name"],
            image=body.get("image") or "",
            gpu_types=[gpu["id"]],
            gpus=gpu.get("count", 1),
            cloud=body.get("cloud", "SECURE"),
            data_centers=body.get("dataCenterIds") or [],
            cuda=float(gpu.get("minCudaVersion") or 0.0),
            disk_gb=body.get("disk", 20),
            volume_gb=persistent.get("size", 0),
            volume_path=persistent.get("path") or (network[0]["path"] if network else "/workspace"),
            network_volume=network[0]["volumeId"] if network else None,
            ports=body.get("ports") or [],
            env=body.get("env") or {},
            args=body.get("args") or "",
            entrypoint=entrypoint,
            command=command,
            registry=body.get("registry"),
            template=template,
            start_ssh=bool(body.get("startSsh")),
        )
        problem = pods.wish_problem(wish)
        if problem is not None:
            raise replies.Refused(400, problem)
        return wish

    def _template(self, template_id: Any) -> dict[str, Any]:
        found = self._sim.account.templates.get(str(template_id))
        if found is None:
            raise replies.Refused(404, "template not found")
        return found.body

    # -- catalogue

    async def gpus(self, request: web.Request) -> web.Response:
        return replies.as_json({"gpus": [row for kind in hosts.TYPES if (row := self._gpu(kind, request.query))]})

    async def gpu(self, request: web.Request) -> web.Response:
        kind = hosts.BY_ID.get(request.match_info["id"])
        if kind is None:
            raise replies.Refused(404, "gpu type not found")
        return replies.as_json(self._gpu(kind, request.query))

    def _gpu(self, kind: hosts.GpuType, query: Mapping[str, str]) -> dict[str, Any]:
        most = {"secure": 8 if kind.secure else 0, "community": 4 if kind.community else 0}
        row: dict[str, Any] = {
            "id": kind.id,
            "name": kind.name,
            "pool": kind.pool,
            "manufacturer": kind.manufacturer,
            "memory": kind.memory_gb,
            "secure": kind.secure is not None,
            "community": kind.community is not None,
            "price": {"secure": kind.secure or 0, "community": kind.community or 0},
            "maxCount": most,
        }
        if "AVAILABILITY" not in query.get("include", ""):
            return row
        if "product" not in query:
            raise replies.Refused(400, "product is required with include=AVAILABILITY")
        cloud, count = query.get("cloud", "SECURE"), int(query.get("count") or 1)
        countries = [code for code in query.get("countryCodes", "").split(",") if code]
        stock = self._sim.stock
        everywhere = list(stock.machines(kind, cloud, (), countries))
        cuda = float(query.get("minCudaVersion") or 0.0)
        fitting = [host for host in everywhere if host.cuda >= cuda]
        row["availability"] = stock.level(fitting, count)
        if cloud == "SECURE":
            places = sorted({host.place or "" for host in everywhere})
            row["dataCenters"] = [
                {
                    "id": place,
                    "name": place.replace("-", " "),
                    "availability": stock.level([host for host in fitting if host.place == place], count),
                }
                for place in places
            ]
        versions = sorted({host.cuda for host in fitting})
        row["cudaVersions"] = [
            {"version": str(each), "available": any(h.cuda == each and h.gpus_free >= count for h in fitting)}
            for each in versions
        ]
        return row

    async def data_centers(self, request: web.Request) -> web.Response:
        return replies.as_json(
            {"dataCenters": [{"id": place, "name": place.replace("-", " ")} for place in hosts.DATA_CENTERS]}
        )

    # -- registries and keys

    async def registries(self, request: web.Request) -> web.Response:
        shown = [{"id": each.id, "name": each.name} for each in self._sim.account.registries.values()]
        return replies.as_json({"registries": shown})

    async def add_registry(self, request: web.Request) -> web.Response:
        body = await replies.json_body(request)
        unknown = set(body) - {"name", "username", "password"}
        if unknown:
            raise invalid(f"$: additional properties '{sorted(unknown)[0]}' not allowed")
        words = [pods.text_or(body.get(key)) for key in ("name", "username", "password")]
        made = self._sim.account.add_registry(*words)
        return replies.as_json({"id": made.id, "name": made.name}, 201)

    async def registry(self, request: web.Request) -> web.Response:
        found = self._sim.account.registry(request.match_info["id"])
        return replies.as_json({"id": found.id, "name": found.name})

    async def remove_registry(self, request: web.Request) -> web.Response:
        self._sim.account.remove_registry(request.match_info["id"])
        return web.Response(status=204)

    async def ssh_keys(self, request: web.Request) -> web.Response:
        if request.method == "PUT":
            keys = (await replies.json_body(request)).get("keys")
            if not isinstance(keys, list):
                raise invalid("$: missing properties 'keys'")
            self._sim.account.ssh_keys = [str(key) for key in keys]
        return replies.as_json({"keys": self._sim.account.ssh_keys})


def invalid(*errors: str) -> replies.Refused:
    return replies.Refused(422, "Request validation failed.", errors=list(errors))


def parsed_args(args: str) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """(entrypoint, command): JSON `{"entrypoint": […], "cmd": […]}`, or a bare line as a shell would split it."""
    if not args.strip():
        return None, None
    if args.lstrip().startswith("{"):
        try:
            words = msgspec.json.decode(args)
            entrypoint, command = words.get("entrypoint"), words.get("cmd")
            return (
                tuple(map(str, entrypoint)) if entrypoint else None,
                tuple(map(str, command)) if command is not None else (() if entrypoint else None),
            )
        except msgspec.DecodeError:
            pass
    try:
        return None, tuple(shlex.split(args))
    except ValueError as error:
        raise replies.Refused(400, f"args: {error}") from error


def _check(body: Mapping[str, Any]) -> None:
    """The description's types, as far as a client can get them wrong."""
    errors = [f"$: additional properties '{key}' not allowed" for key in sorted(set(body) - CREATE_KEYS)]
    if not isinstance(body.get("name"), str) or not body["name"]:
        errors.append("$: missing properties 'name'")
    for key, kind, word in (
        ("image", str, "string"),
        ("args", str, "string"),
        ("disk", int, "integer"),
        ("env", dict, "object"),
        ("ports", list, "array"),
        ("gpu", dict, "object"),
        ("dataCenterIds", list, "array"),
        ("mounts", dict, "object"),
    ):
        if body.get(key) is not None and not isinstance(body[key], kind):
            errors.append(f"$.{key}: expected {word}")
    if isinstance(body.get("disk"), int) and body["disk"] < 1:
        errors.append("$.disk: must be >= 1")
    if body.get("cloud", "SECURE") not in ("SECURE", "COMMUNITY"):
        errors.append("$.cloud: value must be one of 'SECURE', 'COMMUNITY'")
    if isinstance(body.get("env"), dict) and not all(isinstance(value, str) for value in body["env"].values()):
        errors.append("$.env: expected string")
    errors += _check_gpu(body.get("gpu"))
    if isinstance(body.get("ports"), list) and not all(_is_port(port) for port in body["ports"]):
        errors.append("$.ports: does not match pattern")
    if errors:
        raise invalid(*errors)


def _check_gpu(gpu: Any) -> list[str]:
    if not isinstance(gpu, dict):
        return []
    errors = []
    if not isinstance(gpu.get("id"), str):
        errors.append("$.gpu: missing properties 'id'")
    if not isinstance(gpu.get("count", 1), int) or gpu.get("count", 1) < 1:
        errors.append("$.gpu.count: must be >= 1")
    unknown = set(gpu) - {"id", "count", "allowedCudaVersions", "minCudaVersion"}
    return errors + [f"$.gpu: additional properties '{key}' not allowed" for key in sorted(unknown)]


def _is_port(port: Any) -> bool:
    number, slash, protocol = str(port).partition("/")
    return number.isdigit() and bool(slash) and protocol in ("http", "tcp")
