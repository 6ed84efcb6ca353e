"""REST v1: the same pods under older names, with what has been seen to differ between its description and its wire."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from bareboat.clouds.runpod.sim import account, pods, replies, times
from bareboat.simulation import rentals

if TYPE_CHECKING:
    from bareboat.clouds.runpod.sim import simulator

CREATE_KEYS = frozenset(
    [
        *("allowedCudaVersions", "cloudType", "computeType", "containerDiskInGb", "containerRegistryAuthId"),
        *("countryCodes", "cpuFlavorIds", "cpuFlavorPriority", "dataCenterIds", "dataCenterPriority"),
        *("dockerEntrypoint", "dockerStartCmd", "env", "globalNetworking", "gpuCount", "gpuTypeIds"),
        *("gpuTypePriority", "imageName", "interruptible", "locked", "minDiskBandwidthMBps", "minDownloadMbps"),
        *("minRAMPerGPU", "minUploadMbps", "minVCPUPerGPU", "name", "networkVolumeId", "ports", "supportPublicIp"),
        *("templateId", "vcpuCount", "volumeInGb", "volumeMountPath"),
    ]
)


class V1:
    def __init__(self, sim: "simulator.Simulator") -> None:
        self._sim = sim

    async def listing(self, request: web.Request) -> web.Response:
        """A bare array."""
        shown = [self.record(rental, request.query) for rental in self._sim.pods.listed()]
        for key in ("name", "desiredStatus", "id"):
            if key in request.query:
                shown = [each for each in shown if each.get(key) == request.query[key]]
        return replies.as_json(shown)

    async def create(self, request: web.Request) -> web.Response:
        wish = self._wish(await replies.json_body(request))
        try:
            rental = await self._sim.pods.create(wish)
        except replies.Refused as refused:
            refused.detail = f"create pod: {refused.detail}" if refused.v1_status == 500 else refused.detail
            raise
        lost = await self._sim.lose_answer(rental)
        return lost or replies.as_json(self.record(rental, {"includeMachine": "true"}), 201)

    async def get(self, request: web.Request) -> web.Response:
        return replies.as_json(self.record(self._found(request), request.query))

    async def delete(self, request: web.Request) -> web.Response:
        try:
            rental = self._found(request)
        except replies.Refused as refused:
            raise replies.Refused(404, "pod not found to terminate") from refused
        self._sim.pods.destroy(rental)
        return web.Response(status=204)

    async def update(self, request: web.Request) -> web.Response:
        rental = self._found(request)
        body = await replies.json_body(request)
        if isinstance(body.get("name"), str):
            self._sim.pods.rename(rental, body["name"])
        return replies.as_json(self.record(rental, {}))

    async def start(self, request: web.Request) -> web.Response:
        rental = self._found(request)
        try:
            self._sim.pods.start(rental)
        except replies.Refused as refused:
            refused.detail = f"start pod: {refused.detail}"
            raise
        return replies.as_json(self.record(rental, {}))

    async def stop(self, request: web.Request) -> web.Response:
        rental = self._found(request)
        self._sim.pods.stop(rental)
        return replies.as_json(self.record(rental, {}))

    async def restart(self, request: web.Request) -> web.Response:
        rental = self._found(request)
        self._sim.pods.restart(rental)
        return replies.as_json(self.record(rental, {}))

    async def registries(self, request: web.Request) -> web.Response:
        return replies.as_json([{"id": r.id, "name": r.name} for r in self._sim.account.registries.values()])

    async def add_registry(self, request: web.Request) -> web.Response:
        body = await replies.json_body(request)
        words = [pods.text_or(body.get(key)) for key in ("name", "username", "password")]
        return replies.as_json(self._registry(self._sim.account.add_registry(*words)))

    async def registry(self, request: web.Request) -> web.Response:
        return replies.as_json(self._registry(self._sim.account.registry(request.match_info["id"])))

    async def remove_registry(self, request: web.Request) -> web.Response:
        self._sim.account.remove_registry(request.match_info["id"])
        return web.Response(status=204)

    def record(self, rental: rentals.Rental, query: Mapping[str, str]) -> dict[str, Any]:
        """The pod as v1 shows it now: as described, or with what has been seen instead."""
        store, about = self._sim.pods, pods.terms(rental)
        wish, ports = about.wish, store.ports(rental)
        cost = round(store.cost(rental), 4)
        record: dict[str, Any] = {
            "id": about.pod_id,
            "name": rental.label,
            "image": rental.image,
            "desiredStatus": store.desired(rental),
            "lastStatusChange": store.text(rental),
            "lastStartedAt": times.iso_ms(rental.created_s),
            "costPerHr": str(cost),
            "adjustedCostPerHr": cost,
            "publicIp": store.address(rental) if ports else None,
            "portMappings": {str(inside): public for inside, public in ports.items()} or None,
            "ports": wish.ports,
            "env": wish.env,
            "gpu": {"id": about.kind.id, "count": wish.gpus, "displayName": about.kind.name},
            "memoryInGb": 94 * wish.gpus,
            "vcpuCount": 16 * wish.gpus,
            "containerDiskInGb": wish.disk_gb,
            "volumeInGb": wish.volume_gb,
            "volumeMountPath": wish.volume_path,
            "volumeEncrypted": False,
            "dockerEntrypoint": list(wish.entrypoint or ()),
            "dockerStartCmd": list(wish.command or ()),
            "templateId": wish.template,
            "containerRegistryAuthId": wish.registry,
            "consumerUserId": account.USER_ID,
            "interruptible": rental.bid_usd_per_hour is not None,
            "locked": wish.locked,
            "machineId": about.machine_name,
            "machine": self._machine(rental, about) if query.get("includeMachine") == "true" else {},
        }
        if about.drifts:
            record["imageName"] = record.pop("image")
            record["costPerHr"] = cost
            record["lastStartedAt"] = times.go(rental.created_s)
            record["createdAt"] = times.go(rental.created_s)
            record["publicIp"] = record["publicIp"] or ""
            record["gpuCount"] = wish.gpus
            record["portMappings"] = record["portMappings"] or {}
        return record

    def _machine(self, rental: rentals.Rental, about: pods.Terms) -> dict[str, Any]:
        return {
            "gpuTypeId": about.kind.id,
            "gpuDisplayName": about.kind.name,
            "cpuCount": rental.host.cpu.cores,
            "dataCenterId": rental.host.place if rental.host.datacenter else "",
            "secureCloud": rental.host.datacenter,
            "supportPublicIp": True,
            "costPerHr": rental.usd_per_hour,
            "currentPricePerGpu": rental.host.usd_per_gpu_hour,
            "note": "",
        }

    @staticmethod
    def _registry(found: account.Registry) -> dict[str, Any]:
        return {"id": found.id, "name": found.name}

    def _found(self, request: web.Request) -> rentals.Rental:
        return self._sim.pods.find(request.match_info["id"])

    def _wish(self, body: Mapping[str, Any]) -> pods.Wish:
        for key in body:
            if key not in CREATE_KEYS:
                raise replies.Refused(400, f"body must NOT have additional properties: {key}")
        if body.get("cloudType", "SECURE") not in ("SECURE", "COMMUNITY"):
            raise replies.Refused(400, "body/cloudType must be one of the allowed values")
        if body.get("computeType", "GPU") != "GPU":
            raise replies.Refused(400, "this simulation has no CPU pods")
        volume_gb = body.get("volumeInGb", 20)
        versions = [float(each) for each in body.get("allowedCudaVersions") or ()]
        wish = pods.Wish(
            name=str(body.get("name") or "my pod"),
            image=pods.text_or(body.get("imageName")),
            gpu_types=[str(each) for each in body.get("gpuTypeIds") or ()],
            gpus=int(body.get("gpuCount") or 1),
            cloud=body.get("cloudType", "SECURE"),
            data_centers=list(body.get("dataCenterIds") or ()),
            countries=list(body.get("countryCodes") or ()),
            cuda=min(versions, default=0.0),
            disk_gb=int(body.get("containerDiskInGb") or 50),
            volume_gb=int(volume_gb or 0),
            volume_path=str(body.get("volumeMountPath") or "/workspace"),
            network_volume=body.get("networkVolumeId"),
            ports=list(body.get("ports", ("8888/http", "22/tcp"))),
            env={str(key): str(value) for key, value in (body.get("env") or {}).items()},
            entrypoint=tuple(body.get("dockerEntrypoint") or ()) or None,
            command=tuple(body.get("dockerStartCmd") or ()) or None,
            registry=body.get("containerRegistryAuthId"),
            template=body.get("templateId"),
            spot=body.get("interruptible") is True,
            locked=body.get("locked") is True,
        )
        problem = pods.wish_problem(wish)
        if problem is not None:
            unknown = "gpu type" in problem
            raise replies.Refused(400, "body/gpuTypeIds/0 must be one of the allowed values" if unknown else problem)
        return wish
