"""What happened, for `kubectl describe`: calls only note it down, one background writer tells the API server.

Repeats become a count, each object has a budget, the whole has a rate and a bounded queue (Normal events are dropped
before Warnings). An event is never worth failing for: what can't be written is counted and left.
"""

import asyncio
import itertools
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Literal

import structlog

from bareboat.kube import client as clients
from bareboat.kube import errors, resources, times
from bareboat.plumbing import backoff
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()

Level = Literal["Normal", "Warning"]

LONGEST_MESSAGE = 1024
REMEMBERED = 4096
TRIES = 5


@dataclass(frozen=True)
class Reference:
    """The object that an event is about; `field_path` such as `spec.containers{main}` for one of its containers."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    field_path: str = ""

    def body(self) -> dict[str, str]:
        pairs = {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
            "resourceVersion": self.resource_version,
            "fieldPath": self.field_path,
        }
        return {key: value for key, value in pairs.items() if value}


@dataclass(frozen=True)
class _Key:
    about: Reference
    level: Level
    reason: str
    message: str


@dataclass
class _Known:
    """An event that was noted; `name` once the API server has it."""

    name: str
    count: int
    first_s: float
    last_s: float
    written: bool = False


class _Bucket:
    """Tokens that come back at a rate, up to a burst."""

    def __init__(self, burst: float, per_s: float, now_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._tokens = burst
        self._at_s = now_s

    def take(self, now_s: float) -> float:
        """0 when a token was taken, else the seconds until one is there."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._tokens > 0.999:  # clocks round; a hair less than a token is not worth a wait
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._per_s


class Recorder:
    """Notes events and writes them as `component`, from `host`. `dropped` counts what was given up, by why."""

    def __init__(
        self,
        client: clients.Client,
        *,
        component: str = "bareboat",
        host: str = "",
        clock: clocks.Clock | None = None,
        per_s: float = 50.0,
        burst: int = 100,
        longest_queue: int = 1000,
        object_burst: int = 25,
        object_every_s: float = 300.0,
    ) -> None:
        self.dropped: dict[str, int] = {"queue": 0, "object": 0, "refused": 0}
        self.written = 0
        self._client = client
        self._component = component
        self._host = host
        self._clock = clocks.SystemClock() if clock is None else clock
        self._all = _Bucket(burst, per_s, self._clock.monotonic_s())
        self._longest_queue = longest_queue
        self._object_burst = object_burst
        self._object_per_s = 1 / object_every_s
        self._objects: OrderedDict[Reference, _Bucket] = OrderedDict()
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._queues: dict[Level, OrderedDict[_Key, int]] = {"Normal": OrderedDict(), "Warning": OrderedDict()}
        self._order = itertools.count()
        self._noted = asyncio.Event()

    def normal(self, about: Reference, reason: str, message: str) -> None:
        self.note(about, "Normal", reason, message)

    def warning(self, about: Reference, reason: str, message: str) -> None:
        self.note(about, "Warning", reason, message)

    @property
    def depth(self) -> int:
        """Events that wait to be written."""
        return sum(len(queue) for queue in self._queues.values())

    def note(self, about: Reference, level: Level, reason: str, message: str) -> None:
        """Never blocks, never fails. A repeat of an event that still waits costs no further write."""
        # The resourceVersion says which state was seen; with it in the key no event would ever be a repeat.
        key = _Key(replace(about, resource_version=""), level, reason, errors.clip(message, LONGEST_MESSAGE - 40))
        now_s = self._clock.now_s()
        known = self._known.get(key)
        waits = key in self._queues[level]
        if not waits and not self._allowed(key.about):
            self.dropped["object"] += 1
            return
        if known is None:
            self._known[key] = _Known(self._name(about), 1, now_s, now_s)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        else:
            known.count += 1
            known.last_s = now_s
            self._known.move_to_end(key)
        if not waits:
            self._queues[level][key] = next(self._order)
            self._make_room()
            self._noted.set()

    async def run(self) -> None:
        """Writes what was noted until cancelled."""
        while True:
            key = self._next()
            if key is None:
                self._noted.clear()
                await self._noted.wait()
                continue
            wait_s = self._all.take(self._clock.monotonic_s())
            if wait_s:
                await self._clock.sleep(wait_s)
                continue  # what was first may have been dropped meanwhile
            await self._write(key, TRIES)

    async def flush(self, timeout_s: float = 2.0) -> int:
        """Writes what still waits, as far as `timeout_s` reaches; returns how many events were left behind."""
        try:
            async with asyncio.timeout(timeout_s):
                while (key := self._next()) is not None:
                    await self._write(key, 1)
        except TimeoutError:
            log.warning("events.left_behind", count=self.depth)
        return self.depth

    def _name(self, about: Reference) -> str:
        return f"{about.name[:230]}.{int(self._clock.now_s() * 1e9) + next(self._order):x}"

    def _allowed(self, about: Reference) -> bool:
        about = replace(about, field_path="")  # all containers of a pod share its budget
        now_s = self._clock.monotonic_s()
        bucket = self._objects.get(about)
        if bucket is None:
            bucket = self._objects[about] = _Bucket(self._object_burst, self._object_per_s, now_s)
            while len(self._objects) > REMEMBERED:
                self._objects.popitem(last=False)
        self._objects.move_to_end(about)
        return bucket.take(now_s) == 0.0

    def _make_room(self) -> None:
        while self.depth > self._longest_queue:
            queue = self._queues["Normal"] or self._queues["Warning"]
            key, _ = queue.popitem(last=False)
            if key in self._known and not self._known[key].written:
                del self._known[key]
            self.dropped["queue"] += 1

    def _next(self) -> _Key | None:
        heads = [next(iter(queue.items())) for queue in self._queues.values() if queue]
        return min(heads, key=lambda head: head[1])[0] if heads else None

    async def _write(self, key: _Key, tries: int) -> None:
        order = self._queues[key.level].pop(key)  # a repeat from here on is a write of its own
        try:
            await self._write_known(key, tries)
        except asyncio.CancelledError:
            self._queues[key.level].setdefault(key, order)  # for `flush`
            raise

    async def _write_known(self, key: _Key, tries: int) -> None:
        pause = backoff.Backoff(0.2, 5.0)
        known = self._known.get(key)
        if known is None:
            return
        for attempt in range(1, tries + 1):
            try:
                await self._send(key, known)
                self.written += 1
                return
            except (errors.Unreachable, errors.ServerError, errors.TooManyRequests) as failure:
                if attempt < tries:
                    await self._clock.sleep(max(pause.next_s(), failure.after_s or 0.0))
            except errors.KubeError as failure:
                log.debug("event.refused", reason=key.reason, about=key.about.name, error=str(failure))
                break
        self.dropped["refused"] += 1

    async def _send(self, key: _Key, known: _Known) -> None:
        # Events of cluster-wide objects live in `default`, those of others must live where the object does.
        namespace = key.about.namespace or "default"
        if known.written:
            change = {"count": known.count, "lastTimestamp": times.seconds(known.last_s)}
            try:
                await self._client.patch(resources.EVENTS.path(namespace, known.name), change)
                return
            except errors.NotFound:  # events expire, by default after an hour
                known.written = False
                known.name = self._name(key.about)
        try:
            await self._client.create(resources.EVENTS.path(namespace), self._body(key, known, namespace))
        except errors.Conflict as conflict:
            if not conflict.already_exists:  # an earlier try had arrived after all
                raise
        known.written = True

    def _body(self, key: _Key, known: _Known, namespace: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": known.name, "namespace": namespace},
            "involvedObject": key.about.body(),
            "type": key.level,
            "reason": key.reason,
            "message": key.message,
            "count": known.count,
            "firstTimestamp": times.seconds(known.first_s),
            "lastTimestamp": times.seconds(known.last_s),
            "source": {"component": self._component} | ({"host": self._host} if self._host else {}),
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }
