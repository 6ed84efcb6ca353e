"""An API server's pods in memory, an informer over them, and an ear for events: what the node's reconcile talks to."""

import asyncio
import collections
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from tests.fakes import crashes

from bareboat.kube import errors, events, objects
from bareboat.plumbing import clock as clocks
from bareboat.workload import pod as pods

Json = dict[str, Any]
PATH = "/api/v1/namespaces/"


def manifest(name: str, *, namespace: str = "t", annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    container = {"name": "main", "image": "busybox:1.36", "command": ["sleep", "9"], **spec.pop("container", {})}
    return {
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}},
        "spec": {"containers": [container], "nodeName": "node-1", "enableServiceLinks": False, **spec},
        "status": {"phase": "Pending"},
    }


class FakeApi:
    """Takes patches as an API server would, as far as the node uses it. `faults` are raised one a request, by verb;
    with `applied` the write happens all the same."""

    def __init__(self, clock: clocks.Clock) -> None:
        self.clock = clock
        self.pods: dict[tuple[str, str], Json] = {}
        self.crash = crashes.CrashPoint()
        self.faults: dict[str, collections.deque[tuple[Exception, bool]]] = collections.defaultdict(collections.deque)
        self.listeners: list[Callable[[tuple[str, str], Json | None, Json | None], None]] = []
        self.phases: dict[str, list[str]] = collections.defaultdict(list)
        self.version = 100
        self.writes = 0

    def fail(self, verb: str, *several: Exception, applied: bool = False) -> None:
        self.faults[verb].extend((each, applied) for each in several)

    # What users do

    def create(self, pod: Json) -> str:
        uid = f"uid-{pod['metadata']['name']}-{self.version}"
        created = datetime.fromtimestamp(self.clock.now_s(), UTC).isoformat()
        pod["metadata"] |= {"uid": uid, "generation": 1, "creationTimestamp": created}
        self._put(pod)
        return uid

    def edit(self, name: str, change: Callable[[Json], None], namespace: str = "t") -> None:
        pod = json.loads(json.dumps(self.pods[(namespace, name)]))
        change(pod)
        self._put(pod)

    def annotate(self, name: str, **annotations: str | None) -> None:
        """By name without prefix, `_` for `-`."""

        def change(pod: Json) -> None:
            for key, value in annotations.items():
                _merge(pod["metadata"]["annotations"], {"bareboat.dev/" + key.replace("_", "-"): value})

        self.edit(name, change)

    def delete_by_user(self, name: str, namespace: str = "t", *, force: bool = False) -> None:
        if force:
            self._remove((namespace, name))
            return
        now = datetime.fromtimestamp(self.clock.now_s(), UTC).isoformat()
        self.edit(name, lambda pod: pod["metadata"].update(deletionTimestamp=now), namespace)

    def pod(self, name: str, namespace: str = "t") -> pods.Pod:
        return msgspec.convert(self.pods[(namespace, name)], pods.Pod)

    # The client

    async def get(self, path: str, *, type: Any = None, **_: Any) -> Any:
        await self._enter("get")
        key = _key(path)
        if key not in self.pods:
            raise errors.NotFound("GET", path, 404, "NotFound", "no such pod")
        return msgspec.convert(self.pods[key], type)

    async def list(self, path: str, *, item: Any, limit: int, continue_: str | None = None, **_: Any) -> Any:
        await self._enter("list")
        start = int(continue_ or 0)
        rows = list(self.pods.values())[start : start + limit]
        metadata = {"continue": str(start + limit)} if start + limit < len(self.pods) else {}
        return msgspec.convert({"metadata": metadata, "items": rows}, objects.Page[item])

    async def patch(self, path: str, body: bytes, kind: Any = None, *, type: Any = None, **_: Any) -> Any:
        await self.crash.reached("patch: before")
        fault, applied = self.faults["patch"].popleft() if self.faults["patch"] else (None, True)
        if fault is not None and not applied:
            raise fault
        key = _key(path)
        if key not in self.pods:
            raise errors.NotFound("PATCH", path, 404, "NotFound", "no such pod")
        told = json.loads(body)
        if told["metadata"]["uid"] != self.pods[key]["metadata"]["uid"]:
            raise errors.OtherObject("PATCH", path, 422, "Invalid", "metadata.uid: field is immutable")
        pod = json.loads(json.dumps(self.pods[key]))
        _merge(pod["metadata"].setdefault("annotations", {}), told["metadata"].get("annotations", {}))
        conditions = merged_conditions(pod["status"].get("conditions", []), told["status"].pop("conditions", []))
        _merge(pod["status"], told["status"])
        pod["status"]["conditions"] = conditions
        self.writes += 1
        self._put(pod)
        await self.crash.reached("patch: done")
        if fault is not None:
            raise fault
        return msgspec.convert(self.pods[key], type)

    async def delete(self, path: str, *, uid: str, **_: Any) -> bytes:
        await self._enter("delete")
        key = _key(path)
        if key not in self.pods:
            raise errors.NotFound("DELETE", path, 404, "NotFound", "no such pod")
        if self.pods[key]["metadata"]["uid"] != uid:
            raise errors.OtherObject("DELETE", path, 409, "Conflict", "the UID in the precondition differs")
        self._remove(key)
        await self.crash.reached("delete: done")
        return b"{}"

    # Inside

    async def _enter(self, verb: str) -> None:
        await self.crash.reached(verb)
        if self.faults[verb]:
            raise self.faults[verb].popleft()[0]

    def _put(self, pod: Json) -> None:
        key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        old = self.pods.get(key)
        if old is not None and {**old, "metadata": {**old["metadata"]}} == pod:
            return
        self.version += 1
        pod["metadata"]["resourceVersion"] = str(self.version)
        self.pods[key] = pod
        seen = self.phases[pod["metadata"]["uid"]]
        if not seen or seen[-1] != pod["status"].get("phase"):
            seen.append(pod["status"].get("phase"))
        self._tell(key, old, pod)

    def _remove(self, key: tuple[str, str]) -> None:
        self._tell(key, self.pods.pop(key), None)

    def _tell(self, key: tuple[str, str], old: Json | None, new: Json | None) -> None:
        for listener in self.listeners:
            asyncio.get_running_loop().call_soon(listener, key, old, new)


class FakeInformer:
    """Hears of changes a turn of the loop later. Made anew, it starts from what is there."""

    def __init__(self, api: FakeApi) -> None:
        self.synced = asyncio.Event()
        self._api = api
        self._cache = {key: msgspec.convert(pod, pods.Pod) for key, pod in api.pods.items()}
        self._handlers: list[Callable[..., None]] = []
        api.listeners.append(self._heard)

    def add_handler(self, handler: Callable[..., None]) -> None:
        self._handlers.append(handler)
        for key, pod in self._cache.items():
            handler(key, None, pod)

    def get(self, namespace: str, name: str) -> pods.Pod | None:
        return self._cache.get((namespace, name))

    def stop(self) -> None:
        self._api.listeners.remove(self._heard)

    def _heard(self, key: tuple[str, str], _: Json | None, new: Json | None) -> None:
        old = self._cache.pop(key, None)
        made = None if new is None else msgspec.convert(new, pods.Pod)
        if made is not None:
            self._cache[key] = made
        if old is not None or made is not None:
            for handler in self._handlers:
                handler(key, old, made)


class FakeRecorder:
    """Keeps (reason, message)."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.written = 0

    def normal(self, _: events.Reference, reason: str, message: str) -> None:
        self.told.append((reason, message))

    def warning(self, _: events.Reference, reason: str, message: str) -> None:
        self.told.append((reason, message))

    def reasons(self) -> list[str]:
        return [reason for reason, _ in self.told]


def _key(path: str) -> tuple[str, str]:
    namespace, _, name = path.removeprefix(PATH).removesuffix("/status").split("/")
    return namespace, name


def _merge(into: Json, told: Json) -> None:
    for name, value in told.items():
        if value is None:
            into.pop(name, None)
        else:
            into[name] = value


def merged_conditions(standing: list[Json], told: list[Json]) -> list[Json]:
    merged = {each["type"]: dict(each) for each in standing}
    for each in told:
        _merge(merged.setdefault(each["type"], {}), each)
    return list(merged.values())
