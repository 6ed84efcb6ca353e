"""GraphQL: HTTP 200 whatever happens, pods with their runtime and last status change, spot, the balance."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from bareboat.clouds.runpod.sim import account, hosts, pods, query, replies, times, v2
from bareboat.clouds.runpod.sim import stock as stocks
from bareboat.simulation import rentals

if TYPE_CHECKING:
    from bareboat.clouds.runpod.sim import simulator

Arguments = Mapping[str, Any]
Resolver = Callable[[Arguments], Awaitable[Any]]
ANONYMOUS = frozenset({"gpuTypes", "cpuTypes", "dataCenters", "countryCodes", "__typename"})
VOID = frozenset({"podTerminate", "deleteRegistryAuth"})
_STOCK = {"NONE": None, "LOW": "Low", "MEDIUM": "Medium", "HIGH": "High"}


class GraphQL:
    def __init__(self, sim: "simulator.Simulator") -> None:
        self._sim = sim
        self._queries: Mapping[str, Resolver] = {
            "gpuTypes": self._gpu_types,
            "dataCenters": self._data_centers,
            "pod": self._pod,
            "myself": self._myself,
        }
        self._mutations: Mapping[str, Resolver] = {
            "podFindAndDeployOnDemand": self._deploy,
            "podRentInterruptable": self._rent_spot,
            "podTerminate": self._terminate,
            "podStop": self._stop,
            "podResume": self._resume,
            "podBidResume": self._resume,
            "saveRegistryAuth": self._save_registry,
            "deleteRegistryAuth": self._delete_registry,
            "updateUserSettings": self._update_user,
        }

    async def post(self, request: web.Request) -> web.Response:
        path: list[str] = []
        try:
            body = await replies.json_body(request)
            document = query.parse(str(body.get("query") or ""), body.get("variables"))
            known = self._mutations if document.kind == "mutation" else self._queries
            if not account.key_of(request) and not all(field.name in ANONYMOUS for field in document.fields):
                raise replies.Refused(401, "Unauthorized request, please check your API key.")
            data: dict[str, Any] = {}
            for field in document.fields:
                path = [field.key]
                resolver = known.get(field.name)
                if resolver is None:
                    raise query.invalid(f'Cannot query field "{field.name}".')
                if field.name in VOID and field.fields:
                    raise query.invalid(f'Field "{field.name}" must not have a selection since it has no subfields.')
                data[field.key] = query.selected(await resolver(field.arguments), field.fields)
        except replies.Refused as refused:
            return refused.as_graphql(path)
        return replies.as_json({"data": data})

    # -- queries

    async def _gpu_types(self, arguments: Arguments) -> list[dict[str, Any]]:
        wanted = (arguments.get("input") or {}).get("id")
        unknown: dict[str, Any] = dict.fromkeys(self._gpu_type(hosts.TYPES[0]))
        unknown |= {"id": "unknown", "displayName": "unknown"}
        unknown["lowestPrice"] = lambda given: None
        rows = [self._gpu_type(kind) for kind in hosts.TYPES if wanted in (None, kind.id)]
        return rows if wanted else [unknown, *rows]

    def _gpu_type(self, kind: hosts.GpuType) -> dict[str, Any]:
        return {
            "id": kind.id,
            "displayName": kind.name,
            "manufacturer": kind.manufacturer,
            "memoryInGb": kind.memory_gb,
            "cudaCores": 0,
            "maxGpuCount": 8,
            "maxGpuCountSecureCloud": 8 if kind.secure else 0,
            "maxGpuCountCommunityCloud": 4 if kind.community else 0,
            "minPodGpuCount": 1,
            "secureCloud": kind.secure is not None,
            "communityCloud": kind.community is not None,
            "securePrice": kind.secure,
            "communityPrice": kind.community,
            "secureSpotPrice": kind.secure_spot,
            "communitySpotPrice": kind.community_spot,
            "oneWeekPrice": None,
            "oneMonthPrice": None,
            "threeMonthPrice": None,
            "sixMonthPrice": None,
            "lowestPrice": lambda given: self._lowest(kind, given.get("input") or {}),
        }

    def _lowest(self, kind: hosts.GpuType, given: Arguments) -> dict[str, Any]:
        count = int(given.get("gpuCount") or 1)
        secure = given.get("secureCloud")
        cloud = "ALL" if secure is None else "SECURE" if secure else "COMMUNITY"
        place = given.get("dataCenterId")
        machines = list(self._sim.stock.machines(kind, cloud, [place] if place else ()))
        level = _STOCK[self._sim.stock.level(machines, count)]
        clouds = ("secure", "community") if secure is None else ("secure",) if secure else ("community",)
        prices = [price for name in clouds if (price := getattr(kind, name)) is not None]
        bids = [price for name in clouds if (price := getattr(kind, f"{name}_spot")) is not None]
        free = [host for host in machines if host.gpus_free >= count]
        return {
            "gpuTypeId": kind.id,
            "stockStatus": level,
            "uninterruptablePrice": min(prices, default=None) if level else None,
            "minimumBidPrice": min(bids, default=None) if level else None,
            "minVcpu": min((host.cpu.cores * count // host.gpus for host in free), default=None),
            "minMemory": min((host.cpu.ram_mb * count // host.gpus // 1024 for host in free), default=None),
            "availableGpuCounts": [size for size in (1, 2, 4, 8) if any(host.gpus_free >= size for host in machines)],
            "countryCode": None,
            "compliance": None,
        }

    async def _data_centers(self, arguments: Arguments) -> list[dict[str, Any]]:
        return [{"id": place, "name": place, "listed": True} for place in hosts.DATA_CENTERS]

    async def _pod(self, arguments: Arguments) -> dict[str, Any] | None:
        try:
            return self.record(self._sim.pods.find(str((arguments.get("input") or {}).get("podId"))))
        except replies.Refused:
            return None

    async def _myself(self, arguments: Arguments) -> dict[str, Any]:
        sim = self._sim
        logins = [{"id": each.id, "name": each.name} for each in sim.account.registries.values()]
        return {
            "id": account.USER_ID,
            "email": "somebody@example.com",
            "clientBalance": round(sim.estate.credit_usd(), 6),
            "currentSpendPerHr": round(sum(sim.pods.cost(rental) for rental in sim.estate.live()), 4),
            "spendLimit": 80,
            "pubKey": "\n".join(sim.account.ssh_keys),
            "networkVolumes": [],
            "containerRegistryCreds": logins,
            "pods": [self.record(rental) for rental in sim.pods.listed()],
        }

    def record(self, rental: rentals.Rental) -> dict[str, Any]:
        """The pod as GraphQL shows it now."""
        store, about = self._sim.pods, pods.terms(rental)
        wish = about.wish
        uptime_s = store.uptime_s(rental)
        runtime = None
        if uptime_s is not None:
            runtime = {
                "uptimeInSeconds": uptime_s,
                "ports": self._port_rows(rental),
                "gpus": [{"id": "GPU-0", "gpuUtilPercent": 0, "memoryUtilPercent": 0}] * wish.gpus,
                "container": {"cpuPercent": 1, "memoryPercent": 1},
            }
        return {
            "id": about.pod_id,
            "name": rental.label,
            "desiredStatus": store.desired(rental),
            "lastStatusChange": store.text(rental),
            "lastStartedAt": times.go(rental.created_s),
            "createdAt": times.go(rental.created_s),
            "imageName": rental.image,
            "env": [f"{key}={value}" for key, value in wish.env.items()],
            "ports": ",".join(wish.ports),
            "port": None,
            "costPerHr": round(store.cost(rental), 4),
            "adjustedCostPerHr": round(store.cost(rental), 4),
            "gpuCount": wish.gpus if about.gpus_shown is None else about.gpus_shown,
            "podType": "INTERRUPTABLE" if rental.bid_usd_per_hour is not None else "RESERVED",
            "uptimeSeconds": 0,
            "dockerArgs": wish.args,
            "dockerId": None,
            "containerDiskInGb": wish.disk_gb,
            "volumeInGb": wish.volume_gb,
            "volumeMountPath": wish.volume_path,
            "memoryInGb": 94 * wish.gpus,
            "vcpuCount": 16 * wish.gpus,
            "templateId": wish.template,
            "containerRegistryAuthId": wish.registry,
            "machineId": about.machine_name,
            "machine": {
                "podHostId": f"{about.pod_id}-64410065",
                "gpuDisplayName": about.kind.name,
                "location": stocks.country(rental.host),
                "dataCenterId": rental.host.place if rental.host.datacenter else None,
                "secureCloud": rental.host.datacenter,
            },
            "latestTelemetry": None,
            "runtime": runtime,
        }

    def _port_rows(self, rental: rentals.Rental) -> list[dict[str, Any]] | None:
        ports, address = self._sim.pods.ports(rental), self._sim.pods.address(rental)
        rows: list[dict[str, Any]] = []
        for number, protocol in pods.ports_of(pods.terms(rental).wish):
            if protocol == "http":
                row = {"ip": "100.65.16.20", "isIpPublic": False, "publicPort": 60_000 + number % 5000}
                rows.append({**row, "privatePort": number, "type": "http"})
            elif number in ports:
                row = {"ip": address, "isIpPublic": True, "publicPort": ports[number]}
                rows.append({**row, "privatePort": number, "type": "tcp"})
        return rows or None

    # -- mutations

    async def _deploy(self, arguments: Arguments) -> dict[str, Any] | None:
        return await self._create(arguments, spot=False)

    async def _rent_spot(self, arguments: Arguments) -> dict[str, Any] | None:
        return await self._create(arguments, spot=True)

    async def _create(self, arguments: Arguments, *, spot: bool) -> dict[str, Any] | None:
        given: Arguments = arguments.get("input") or {}
        env = {str(pair["key"]): str(pair["value"]) for pair in given.get("env") or []}
        kinds = given.get("gpuTypeIdList") or ([given["gpuTypeId"]] if given.get("gpuTypeId") else [])
        entrypoint, command = v2.parsed_args(str(given.get("dockerArgs") or ""))
        bid = given.get("bidPerGpu")
        wish = pods.Wish(
            name=str(given.get("name") or "my pod"),
            image=str(given.get("imageName") or ""),
            gpu_types=[str(kind) for kind in kinds],
            gpus=int(given.get("gpuCount") or 1),
            cloud=str(given.get("cloudType") or "ALL"),
            data_centers=[given["dataCenterId"]] if given.get("dataCenterId") else [],
            countries=[given["countryCode"]] if given.get("countryCode") else [],
            cuda=float(given.get("minCudaVersion") or 0.0),
            disk_gb=int(given.get("containerDiskInGb") or 20),
            volume_gb=int(given.get("volumeInGb") or 0),
            volume_path=str(given.get("volumeMountPath") or "/workspace"),
            ports=[port.strip() for port in str(given.get("ports") or "").split(",") if port.strip()],
            env=env,
            args=str(given.get("dockerArgs") or ""),
            entrypoint=entrypoint,
            command=command,
            registry=given.get("containerRegistryAuthId"),
            template=given.get("templateId"),
            start_ssh=bool(given.get("startSsh")),
            spot=spot,
            bid_usd_per_gpu_hour=None if bid is None else float(bid),
        )
        problem = pods.wish_problem(wish)
        if problem is not None:
            raise replies.Refused(400, problem)
        rental = await self._sim.pods.create(wish)
        lost = await self._sim.lose_answer(rental)
        if lost is not None:
            raise replies.Refused(500, "Something went wrong. Please try again later or contact support.")
        return self.record(rental)

    async def _terminate(self, arguments: Arguments) -> None:
        try:
            self._sim.pods.destroy(self._found(arguments))
        except replies.Refused as refused:
            raise replies.Refused(404, "pod not found to terminate", code="POD_NOT_FOUND") from refused

    async def _stop(self, arguments: Arguments) -> dict[str, Any]:
        rental = self._found(arguments)
        self._sim.pods.stop(rental)
        return self.record(rental)

    async def _resume(self, arguments: Arguments) -> dict[str, Any]:
        rental = self._found(arguments)
        self._sim.pods.start(rental)
        return self.record(rental)

    async def _save_registry(self, arguments: Arguments) -> dict[str, Any]:
        given: Arguments = arguments.get("input") or {}
        words = [pods.text_or(given.get(key)) for key in ("name", "username", "password")]
        made = self._sim.account.add_registry(*words)
        return {"id": made.id, "name": made.name}

    async def _delete_registry(self, arguments: Arguments) -> bool:
        self._sim.account.remove_registry(str(arguments.get("registryAuthId")))
        return True

    async def _update_user(self, arguments: Arguments) -> dict[str, Any]:
        given: Arguments = arguments.get("input") or {}
        self._sim.account.ssh_keys = [key for key in str(given.get("pubKey") or "").splitlines() if key]
        return {"id": account.USER_ID, "pubKey": given.get("pubKey")}

    def _found(self, arguments: Arguments) -> rentals.Rental:
        return self._sim.pods.find(str((arguments.get("input") or {}).get("podId")))
