"""Who is banned, how long a pod has waited and how often it was started: in Redis, shared by all pods.

Redis is asked, never needed: while it is away the pod goes on with what it knows, says so once, and writes what it
missed when Redis is back. Keys: `bareboat:ban:<cloud>:<host>` (JSON, gone by itself after the ban),
`bareboat:waiting:<pod>:<instance>` (since when, unix seconds), `bareboat:starts:<pod>` (a counter).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from bareboat.core import blacklist, instances
from bareboat.plumbing import clock as clocks
from bareboat.proxy import about as abouts

if TYPE_CHECKING:
    import redis.asyncio

log = structlog.get_logger()
T = TypeVar("T")

TIMEOUT_S = 2.0
_BAN = "bareboat:ban"
_WAITING_TTL_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Record:
    """One banned host as it is kept: whose machine failed which pod, when, and why."""

    cloud: str
    host_id: str
    machine_id: str | None
    reason: str
    who: str
    at_s: float
    until_s: float


class Store:
    """The words of Redis. Every method raises `OSError` when it does not answer."""

    def __init__(self, url: str) -> None:
        # Here, so that a pod without the blacklist does not carry the client. Bad URLs are ValueErrors.
        import redis.asyncio as client

        self._errors = (client.RedisError, TimeoutError)
        self._redis: redis.asyncio.Redis = client.Redis.from_url(
            url, decode_responses=True, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )

    async def bans(self) -> list[Record]:
        """All in force. Entries that make no sense are left out."""
        keys = await self._ask(self._keys)
        values = await self._ask(lambda: self._redis.mget(keys)) if keys else []
        found = []
        for value in values:
            try:
                found.append(Record(**json.loads(value)))
            except (TypeError, ValueError):
                continue
        return found

    async def ban(self, record: Record, ttl_s: float) -> None:
        """Keeps it for so long."""
        key, text = f"{_BAN}:{record.cloud}:{record.host_id}", json.dumps(asdict(record))
        await self._ask(lambda: self._redis.set(key, text, ex=max(1, round(ttl_s))))

    async def lift(self, cloud: str, host_id: str) -> bool:
        """Ends a ban before its time; whether there was one."""
        return bool(await self._ask(lambda: self._redis.delete(f"{_BAN}:{cloud}:{host_id}")))

    async def waiting_since_s(self, pod: str, instance_id: str, since_s: float) -> float:
        """Since when the pod waits for the instance: what is kept, or `since_s`, which then is kept."""
        key = f"bareboat:waiting:{pod}:{instance_id}"
        await self._ask(lambda: self._redis.set(key, repr(since_s), nx=True, ex=_WAITING_TTL_S))
        kept = await self._ask(lambda: self._redis.get(key))
        try:
            return float(kept)
        except (TypeError, ValueError):
            return since_s

    async def waits_no_more(self, pod: str, instance_id: str) -> None:
        await self._ask(lambda: self._redis.delete(f"bareboat:waiting:{pod}:{instance_id}"))

    async def count_start(self, pod: str, ttl_s: float) -> int:
        """How many starts there were, this one included, without a pause of `ttl_s` between two."""
        key = f"bareboat:starts:{pod}"
        count: int = await self._ask(lambda: self._redis.incr(key))
        await self._ask(lambda: self._redis.expire(key, max(1, round(ttl_s))))
        return count

    async def forget_starts(self, pod: str) -> None:
        await self._ask(lambda: self._redis.delete(f"bareboat:starts:{pod}"))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _keys(self) -> list[str]:
        return [key async for key in self._redis.scan_iter(match=f"{_BAN}:*", count=1000)]

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):
                return await call()
        except self._errors as error:
            raise OSError(str(error) or type(error).__name__) from None


class Bans:
    """What one pod knows of bans, with a store or (the blacklist being off) without.

    `blacklist` holds what offers are checked against: the shared bans, and for an hour machines that failed this pod.
    """

    def __init__(
        self, pod: str, cloud: str, rules: abouts.Banning | None, store: Store | None, clock: clocks.Clock
    ) -> None:
        self.blacklist = blacklist.Blacklist(machines_per_host=1_000_000)
        self._pod = pod
        self._cloud = cloud
        self._rules = rules
        self._store = store
        self._clock = clock
        self._records: dict[str, Record] = {}
        self._unsaved: list[Record] = []
        self._waiting: dict[str, float] = {}
        self._away = False

    @property
    def ban_after_s(self) -> float | None:
        return None if self._rules is None else self._rules.ban_after_s

    async def refresh(self) -> None:
        """Takes over what other pods have banned and what was lifted; writes what could not be written before."""
        if self._store is None:
            return
        while self._unsaved:
            record = self._unsaved[0]
            ttl_s = record.until_s - self._clock.now_s()
            if ttl_s > 0:
                await self._tried(self._store.ban(record, ttl_s))
                if self._away:
                    return
            self._unsaved.pop(0)
        found = await self._tried(self._store.bans())
        if found is None:
            return
        now_s = self._clock.now_s()
        fresh = {each.host_id: each for each in found if each.cloud == self._cloud and each.until_s > now_s}
        for host_id in self._records.keys() - fresh.keys():
            self.blacklist.lift(self._cloud, host_id=host_id)
        for host_id, record in fresh.items():
            self.blacklist.ban_host(self._cloud, host_id, record.reason, now_s, ttl_s=record.until_s - now_s)
        self._records = fresh

    def hosts(self) -> dict[str, str]:
        """Banned hosts, with the reason."""
        now_s = self._clock.now_s()
        return {host_id: each.reason for host_id, each in self._records.items() if each.until_s > now_s}

    async def ban(self, instance: instances.Instance, why: str) -> None:
        """Bans the instance's host for all pods, when the blacklist is on; its machine for this pod in any case."""
        now_s = self._clock.now_s()
        if instance.machine_id is not None:
            self.blacklist.ban_machine(self._cloud, instance.machine_id, why, now_s)
        if self._rules is None or instance.host_id is None:
            return
        ttl_s = self._rules.ban_ttl_s
        record = Record(self._cloud, instance.host_id, instance.machine_id, why, self._pod, now_s, now_s + ttl_s)
        self._records[record.host_id] = record
        self.blacklist.ban_host(self._cloud, record.host_id, why, now_s, ttl_s=ttl_s)
        log.warning("host.banned", host=record.host_id, machine=record.machine_id, for_s=ttl_s, why=why)
        if self._store is not None:
            await self._tried(self._store.ban(record, ttl_s))
            if self._away:
                self._unsaved.append(record)

    async def waiting_since_s(self, instance_id: str, since_s: float) -> float:
        """Since when this pod waits for the instance to be up, in earlier containers too."""
        if instance_id in self._waiting:
            return self._waiting[instance_id]
        kept = None
        if self._store is not None:
            kept = await self._tried(self._store.waiting_since_s(self._pod, instance_id, since_s))
        self._waiting[instance_id] = since_s if kept is None else kept
        return self._waiting[instance_id]

    async def waits_no_more(self, instance_id: str) -> None:
        """It is up, or gone."""
        self._waiting.pop(instance_id, None)
        if self._store is not None:
            await self._tried(self._store.waits_no_more(self._pod, instance_id))

    async def started_too_often(self) -> str:
        """Counts this start; why the host is to be banned for it, if it is. The count then begins anew."""
        if self._store is None or self._rules is None:
            return ""
        starts = await self._tried(self._store.count_start(self._pod, self._rules.restart_ttl_s))
        restarts = (starts or 1) - 1
        if restarts < self._rules.restart_threshold:
            return ""
        await self._tried(self._store.forget_starts(self._pod))
        return f"pod {self._pod} was restarted {restarts} times within {self._rules.restart_ttl_s:g} s"

    async def close(self) -> None:
        if self._store is not None:
            await self._store.close()

    async def _tried(self, call: Awaitable[T]) -> T | None:
        """None when Redis is away: said once, until it is back."""
        try:
            answer = await call
        except OSError as error:
            if not self._away:
                log.warning("redis.away", why=str(error), meanwhile="bans of other pods are not seen")
            self._away = True
            return None
        if self._away:
            log.info("redis.back")
        self._away = False
        return answer
