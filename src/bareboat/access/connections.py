"""One lasting ssh connection per instance: opened, watched, opened again, by a task of its own that never gives up.

Callers wait for `ready`, and open channels over what it returns. An OpenSSH server takes ten sessions (commands,
shells, SFTP) a connection; when they are used up, further connections of the same instance are opened, and closed with
their last session. Forwarded ports don't count. Closing leaves no task and no socket.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

import asyncssh
import structlog

from bareboat.access import failures, handshakes, host_keys, keys
from bareboat.plumbing import backoff, supervise
from bareboat.plumbing import clock as clocks

Address = handshakes.Address
T = TypeVar("T")
Work = Callable[[asyncssh.SSHClientConnection, Callable[[], None]], Awaitable[T]]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`logins_at_once` is over all instances. Pauses between tries are in seconds of the clock, and begin small again
    after a connection that held for `settled_s`. `sessions` is what one connection is taken to carry until a server
    says less: a little under its ten, for it hears of an end later than we do."""

    logins_at_once: int = 16
    first_pause_s: float = 0.5
    longest_pause_s: float = 15.0
    settled_s: float = 10.0
    sessions: int = 8
    login: handshakes.Settings = field(default_factory=handshakes.Settings)


class _Link:
    """One connection with its count of sessions."""

    def __init__(self, login: handshakes.Login, limit: int) -> None:
        self.login = login
        self.limit = limit
        self.sessions = 0

    @property
    def connection(self) -> asyncssh.SSHClientConnection:
        return self.login.connection


class Connection:
    """The way to one instance. Made by `Connections.open`."""

    def __init__(self, owner: "Connections", instance_id: str, addresses: Sequence[Address]) -> None:
        self.instance_id = instance_id
        self.problem: failures.AccessError | None = None
        """Why it is not up; None while it is, and before the first try has ended."""
        self._owner = owner
        self._addresses = tuple(addresses)
        self._best: Address | None = None
        self._main: _Link | None = None
        self._more: list[_Link] = []
        self._closed = False
        self._news = asyncio.Event()
        self._wake = asyncio.Event()
        self._each_time: list[Callable[[asyncssh.SSHClientConnection], Awaitable[None]]] = []

    @property
    def is_up(self) -> bool:
        return self._main is not None

    @property
    def address(self) -> Address | None:
        """Where it is connected to, or was last."""
        return self._best

    @property
    def links(self) -> int:
        """How many connections it holds now."""
        return (self._main is not None) + len(self._more)

    def follow(self, addresses: Sequence[Address]) -> None:
        """Takes the instance's present addresses, the best first. A connection that works stays; one that doesn't is
        tried at once when they have changed."""
        if tuple(addresses) != self._addresses:
            self._addresses = tuple(addresses)
            self._wake.set()

    def try_now(self) -> None:
        """Cuts a pause between two tries short, after something changed that bears on them."""
        self._wake.set()

    def each_time(self, work: Callable[[asyncssh.SSHClientConnection], Awaitable[None]]) -> Callable[[], None]:
        """Has `work` done at each new connection, before it counts as ready, and returns how to end that. Its
        AccessErrors, of which it should raise none, break the connection."""
        self._each_time.append(work)
        return lambda: self._each_time.remove(work)

    async def ready(self, timeout_s: float) -> asyncssh.SSHClientConnection:
        """The connection, as soon as it is up. Raises why it isn't: Gone and HostKeyChanged at once, Unreachable and
        KeyRefused after `timeout_s` of the clock, for both pass by themselves while an instance boots."""
        return (await self._ready(timeout_s)).connection

    async def _ready(self, timeout_s: float) -> _Link:
        clock = self._owner.clock
        until_s = clock.monotonic_s() + timeout_s
        while True:
            if self._closed:
                raise failures.Gone(self.instance_id, "its connection was closed")
            if self._main is not None:
                return self._main
            if isinstance(self.problem, failures.HostKeyChanged):
                raise self.problem
            left_s = until_s - clock.monotonic_s()
            if left_s <= 0:
                raise self.problem or failures.Unreachable(self.instance_id, f"not connected within {timeout_s:g} s")
            await clocks.within(clock, self._news, left_s)

    async def open_session(self, timeout_s: float, work: Work[T]) -> T:
        """Has `work` open one session on a connection that has room for it. `work` gets the connection and what to call
        once the session is over; when it raises, it is over already. Where the server refuses a further session, the
        work is begun again on another connection. Raises as `ready`, and RemoteFailed when no session opens at all."""
        while True:
            link = await self._room(timeout_s)
            leave = self._leaving(link)
            try:
                return await work(link.connection, leave)
            except asyncssh.ChannelOpenError as refusal:
                leave()
                if link.connection.is_closed():
                    raise failures.Dropped(
                        self.instance_id, "the connection broke while a session was opened"
                    ) from None
                if link.sessions == 0:
                    why = f"its ssh server opens no session: {refusal.reason}"
                    raise failures.RemoteFailed(self.instance_id, why) from None
                link.limit = link.sessions
            except BaseException:
                leave()
                raise

    async def close(self) -> None:
        """Hangs up for good; idempotent. Whoever waits gets Gone."""
        await self._owner.close(self)

    # -- the owner's side

    async def run(self) -> None:
        """Keeps it up until cancelled."""
        settings, clock = self._owner.settings, self._owner.clock
        pause = backoff.Backoff(settings.first_pause_s, settings.longest_pause_s, jitter=0.3)
        try:
            while True:
                self._wake.clear()
                link = await self._try_all()
                if link is not None:
                    began_s = clock.monotonic_s()
                    await link.login.client.lost.wait()
                    if clock.monotonic_s() - began_s >= settings.settled_s:
                        pause.reset()
                await clocks.within(clock, self._wake, pause.next_s())
        finally:
            self._closed = True
            links = [link for link in (self._main, *self._more) if link is not None]
            self._main, self._more = None, []
            self._told()
            for link in links:
                link.connection.abort()

    async def _try_all(self) -> _Link | None:
        """Every address in turn, the one that worked last first."""
        problems: list[failures.AccessError] = []
        for address in sorted(self._addresses, key=lambda each: each != self._best):
            try:
                link = await self._log_in(address)
                await self._greet(link)
            except failures.AccessError as problem:
                problems.append(problem)
                continue
            if link.login.client.lost.is_set():
                problems.append(failures.Unreachable(self.instance_id, "the connection broke as soon as it was up"))
                continue
            self._best, self._main, self.problem = address, link, None
            log.info("ssh.connected", instance=self.instance_id, host=address.host, port=address.port)
            self._told()
            return link
        self.problem = _worst(problems) or failures.Unreachable(self.instance_id, "no ssh address is known")
        self._told()
        return None

    async def _log_in(self, address: Address) -> _Link:
        owner = self._owner
        async with owner.gate:
            login = await handshakes.log_in(
                self.instance_id,
                address,
                owner.ring(),
                owner.pins.of(self.instance_id),
                self._on_lost,
                owner.settings.login,
            )
        if owner.pins.of(self.instance_id) is None:
            owner.pins.pin(self.instance_id, login.host_key)
        return _Link(login, owner.settings.sessions)

    async def _greet(self, link: _Link) -> None:
        try:
            for work in tuple(self._each_time):
                await work(link.connection)
        except BaseException:
            link.connection.abort()
            raise

    async def _room(self, timeout_s: float) -> _Link:
        main = await self._ready(timeout_s)
        free = (link for link in (main, *self._more) if link.sessions < link.limit)
        link = next(free, None)
        if link is None:
            link = await self._log_in(main.login.address)
            link.limit = min(link.limit, max(1, main.limit))
            self._more.append(link)
        link.sessions += 1
        return link

    def _leaving(self, link: _Link) -> Callable[[], None]:
        """What takes a session off the link's count, once."""
        left = False

        def leave() -> None:
            nonlocal left
            if left:
                return
            left = True
            link.sessions -= 1
            if link.sessions == 0 and link in self._more:
                self._more.remove(link)
                link.connection.abort()

        return leave

    def _on_lost(self, client: handshakes.Client) -> None:
        self._more = [link for link in self._more if link.login.client is not client]
        if self._main is not None and self._main.login.client is client:
            log.info("ssh.lost", instance=self.instance_id)
            self._main = None

    def _told(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Connections:
    """All connections of this process. An async context manager: outside of it no task and no connection is left.

    `ring` is asked at each login, so that a rotated key is used at once.
    """

    def __init__(
        self,
        ring: Callable[[], keys.Ring],
        clock: clocks.Clock,
        *,
        pins: host_keys.Pins | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.ring = ring
        self.clock = clock
        self.pins = pins or host_keys.Pins()
        self.settings = settings or Settings()
        self.gate = asyncio.Semaphore(self.settings.logins_at_once)
        self._open: dict[str, tuple[Connection, asyncio.Task[None]]] = {}
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, task in self._open.values():
            task.cancel()
        self._open.clear()
        await self._tasks.__aexit__(kind, error, trace)

    def open(self, instance_id: str, addresses: Sequence[Address]) -> Connection:
        """The instance's connection, made and kept up from now on; the one there is, if there is one."""
        if instance_id in self._open:
            known, _ = self._open[instance_id]
            known.follow(addresses)
            return known
        made = Connection(self, instance_id, addresses)
        name = f"ssh.{instance_id}"
        task = self._tasks.create_task(supervise.supervise(name, made.run, clock=self.clock), name=name)
        self._open[instance_id] = (made, task)
        return made

    def find(self, instance_id: str) -> Connection | None:
        entry = self._open.get(instance_id)
        return entry[0] if entry is not None else None

    async def close(self, connection: Connection) -> None:
        """Ends one connection and forgets its instance, pin and all."""
        known, task = self._open.get(connection.instance_id, (None, None))
        if known is not connection or task is None:
            return
        del self._open[connection.instance_id]
        self.pins.forget(connection.instance_id)
        task.cancel()
        await asyncio.wait([task])


def _worst(problems: Sequence[failures.AccessError]) -> failures.AccessError | None:
    """What to tell of several addresses: whoever answered says more than one that didn't. A changed host key counts
    only when nobody else answers, for ports are given to others in time."""
    for kind in (failures.HostKeyChanged, failures.KeyRefused):
        for problem in problems:
            if isinstance(problem, kind):
                return problem
    return problems[-1] if problems else None
