"""One session per machine in ssh access: reach it, bring what its pod needs, start the runner, hear it from then on.

A session never decides what becomes of a pod: it tells `on_news` that there is something new, and keeps trying.
Nothing here rents or ends a machine; a session that is lost leaves the pod running.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import structlog

from bareboat.access import binaries, connections, documents, failures, files, host_keys, machine
from bareboat.access import runner as runners
from bareboat.core import instances
from bareboat.kubelet import containers
from bareboat.node import deliveries, installation_key
from bareboat.plumbing import backoff, supervise
from bareboat.plumbing import clock as clocks
from bareboat.workload import volume_files

log = structlog.get_logger()

REFRESH_S = 30.0
"""Between two looks at what the volumes are made of: what changed is in the pod within a minute."""
USAGE_S = 15.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
MIND_S, AWAY_S = 2.0, 10.0

Deliver = Callable[[], Awaitable[deliveries.Delivery | deliveries.NotReady]]


class Session:
    """The way to one pod's containers. `told` is the runner's newest word, `trouble` why there is none just now."""

    def __init__(
        self, uid: str, to: machine.Machine, deliver: Deliver, news: Callable[[], None], clock: clocks.Clock
    ) -> None:
        self.uid = uid
        self.machine = to
        self.runner = runners.Runner(to, clock)
        self.told: documents.State | None = None
        self.trouble = ""
        self.image_id = ""
        self.usage: tuple[containers.Usage, ...] = ()
        self._deliver = deliver
        self._news = news
        self._clock = clock
        self._delivered: volume_files.Files = {}
        self._stop_asked = asyncio.Event()
        self._grace_s = 0.0

    def stop(self, grace_s: float) -> None:
        """Has the containers stopped, as soon as the runner can be told."""
        self._grace_s = grace_s
        self._stop_asked.set()

    async def run(self) -> None:
        """Until cancelled; also after the pod's end, since its logs are still asked for."""
        async with asyncio.TaskGroup() as group:
            for name, part in (
                ("states", self._hear),
                ("connection", self._mind),
                ("stop", self._stopping),
                ("volumes", self._refreshing),
                ("usage", self._measuring),
            ):
                group.create_task(part(), name=f"session.{self.uid}.{name}")

    @property
    def has_ended(self) -> bool:
        return self.told is not None and self.told.ended

    async def _hear(self) -> None:
        """States as they come. Where nothing was started yet, or no more, it is started."""
        pause = backoff.Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        while not self.has_ended:
            try:
                async for state in self.runner.states():
                    pause.reset()
                    self.told, self.trouble = state, ""
                    self._news()
            except runners.NothingHere:
                if await self._start():
                    continue
            except (failures.AccessError, binaries.NoRunner) as problem:
                self._in_trouble(_why(problem))
            if not self.has_ended:
                await self._clock.sleep(pause.next_s())

    async def _start(self) -> bool:
        """Brings what the pod needs; False when something lacks or fails, which `trouble` says."""
        delivery = await self._deliver()
        if isinstance(delivery, deliveries.NotReady):
            self._in_trouble(delivery.message)
            return False
        self.image_id = delivery.image.image_id
        try:
            volumes = {name: _uploads(content) for name, content in delivery.files.items()}
            await self.runner.start(delivery.launch, volumes)
        except (failures.AccessError, documents.Unreadable) as problem:
            self._in_trouble(_why(problem))
            return False
        self._delivered = delivery.files
        return True

    async def _mind(self) -> None:
        """Says when the machine is out of reach for a while: a drop that is mended at once is nobody's news."""
        away_s = 0.0
        while True:
            await self._clock.sleep(MIND_S)
            connection = self.machine.connection
            away_s = 0.0 if connection.is_up else away_s + MIND_S
            if away_s >= AWAY_S or (away_s and self.told is None):
                self._in_trouble(connection.problem.why if connection.problem is not None else "no answer yet")
            elif not away_s and self.told is not None and self.trouble:
                self.trouble = ""
                self._news()

    async def _stopping(self) -> None:
        await self._stop_asked.wait()
        while not self.has_ended:
            try:
                await self.runner.stop(self._grace_s)
                return
            except failures.AccessError as problem:
                log.info("runner.not_stopped", pod=self.uid, why=problem.why)
            await self._clock.sleep(FIRST_PAUSE_S)

    async def _refreshing(self) -> None:
        """Volumes follow their sources, tokens are replaced before they end."""
        while not self.has_ended:
            await self._clock.sleep(REFRESH_S)
            if self.told is None or not self.machine.connection.is_up:
                continue
            delivery = await self._deliver()
            if isinstance(delivery, deliveries.NotReady):
                continue  # what is there stays, as with a kubelet
            self.image_id = self.image_id or delivery.image.image_id
            for volume, content in delivery.files.items():
                if content and content != self._delivered.get(volume):
                    with contextlib.suppress(failures.AccessError):
                        await self.runner.update(volume, _uploads(content))
                        self._delivered = {**self._delivered, volume: content}

    async def _measuring(self) -> None:
        while not self.has_ended:
            await self._clock.sleep(USAGE_S)
            if self.told is None or not self.machine.connection.is_up:
                continue
            with contextlib.suppress(failures.AccessError):
                report = await self.runner.usage()
                self.usage = tuple(self._used(each) for each in report.containers)
        self.usage = ()

    def _used(self, used: documents.Usage) -> containers.Usage:
        told = self.told
        every = () if told is None else (*told.containers, *told.init)
        started_s = next((each.running.started_at for each in every if each.name == used.name and each.running), None)
        working_set_bytes = used.working_set_bytes or used.memory_bytes
        return containers.Usage(used.name, used.at, used.cpu_ns, used.memory_bytes, working_set_bytes, started_s)

    def _in_trouble(self, why: str) -> None:
        if why != self.trouble:
            self.trouble = why
            self._news()


class Sessions:
    """All sessions of a node: an async context manager, outside of which there is no connection. `on_news` is called
    with the pod's uid."""

    def __init__(self, key: installation_key.InstallationKey, clock: clocks.Clock) -> None:
        self.on_news: Callable[[str], None] = lambda uid: None
        self._clock = clock
        self._pins = host_keys.Pins()
        self._connections = connections.Connections(key.present, clock, pins=self._pins)
        self._open: dict[str, tuple[Session, asyncio.Task[None]]] = {}
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._connections.__aenter__()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, task in self._open.values():
            task.cancel()
        self._open.clear()
        try:
            await self._tasks.__aexit__(kind, error, trace)
        finally:
            await self._connections.__aexit__(kind, error, trace)

    def find(self, uid: str) -> Session | None:
        entry = self._open.get(uid)
        return None if entry is None else entry[0]

    @property
    def all(self) -> Mapping[str, Session]:
        return {uid: session for uid, (session, _) in self._open.items()}

    def keep(self, uid: str, instance: instances.Instance, host_key: str, deliver: Deliver) -> Session:
        """The pod's session with this instance, opened if there is none; follows the instance's addresses. A pin that
        makes no sense counts as none: whoever may edit a pod's annotations may also delete the pod."""
        name = f"{instance.cloud}/{instance.id}"
        addresses: Sequence[instances.SshAddress] = instance.ssh
        entry = self._open.get(uid)
        if entry is not None and entry[0].machine.instance_id == name:
            entry[0].machine.connection.follow(addresses)
            return entry[0]
        if entry is not None:
            self.drop(uid)
        if host_key:
            with contextlib.suppress(host_keys.BadPin):
                self._pins.pin(name, host_key)
        to = machine.Machine(self._connections.open(name, addresses))
        session = Session(uid, to, deliver, lambda: self.on_news(uid), self._clock)
        task = self._tasks.create_task(
            supervise.supervise(f"session.{uid}", session.run, clock=self._clock), name=f"session.{uid}"
        )
        self._open[uid] = (session, task)
        return session

    def host_key(self, session: Session) -> str:
        """The pin of the session's machine; empty before the first contact."""
        return self._pins.of(session.machine.instance_id) or ""

    def drop(self, uid: str) -> None:
        """The machine is given back, or the pod is gone."""
        entry = self._open.pop(uid, None)
        if entry is None:
            return
        session, task = entry
        task.cancel()
        connection = session.machine.connection
        self._tasks.create_task(connection.close(), name=f"session.{uid}.close")


def _uploads(content: Mapping[str, volume_files.Content]) -> list[files.File]:
    return [files.File(path, raw, mode) for path, (raw, mode) in content.items()]


def _why(problem: Exception) -> str:
    return problem.why if isinstance(problem, failures.AccessError) else str(problem)
