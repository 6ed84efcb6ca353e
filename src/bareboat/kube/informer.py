"""A cache of one kind, kept true by list and watch: reads cost nothing, changes come as callbacks.

Owns resuming, relisting (410), back-off and the detection of dead connections. Invariant: what handlers were told adds
up to the cache, also across lost connections: a deletion that was missed is delivered by the next list, and an object
that was replaced by another of its name (other uid) comes as a deletion and an addition.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import msgspec
import structlog

from bareboat.kube import client as clients
from bareboat.kube import errors, objects, resources
from bareboat.plumbing import backoff
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()

T = TypeVar("T", bound=objects.HasMetadata)
Key = tuple[str, str]
Handler = Callable[[Key, T | None, T | None], None]

PAGE = 500
HEALTHY_S = 5.0
AT_ONCE_S = 0.02
# Spelt as the API server encodes it; any other spelling only takes the slower road.
_SIMPLE = (b'{"type":"ADDED",', b'{"type":"MODIFIED",', b'{"type":"DELETED",')


class Informer(Generic[T]):
    """Holds every object of `resource` that the selectors choose, keyed by (namespace, name).

    Handlers are called as `handler(key, old, new)`: old is None for an addition, new is None for a deletion (old is
    then the last known state). They run in the event loop, must only enqueue the key and never
    raise. Objects handed out are shared:
    never change them. `run()` never returns; a second `run()` after a crash goes on with the cache it finds.
    """

    def __init__(
        self,
        client: clients.Client,
        resource: resources.Resource,
        kind: type[T],
        *,
        namespace: str | None = None,
        field_selector: str | None = None,
        label_selector: str | None = None,
        clock: clocks.Clock | None = None,
        silence_s: float = clients.WATCH_SILENCE_S,
        watch_s: float = 420.0,
        longest_pause_s: float = 30.0,
    ) -> None:
        self.synced = asyncio.Event()
        self.relists = 0
        self.reconnects = 0
        self.changes = 0
        self.bookmarks = 0
        self.name = f"{resource.plural}{f' in {namespace}' if namespace else ''}"
        self._client = client
        self._path = resource.path(namespace)
        self._selectors = clients.selectors(field_selector, label_selector)
        self._clock = clocks.SystemClock() if clock is None else clock
        self._silence_s = silence_s
        self._watch_s = watch_s
        self._longest_pause_s = longest_pause_s
        self._handlers: list[Handler[T]] = []
        self._cache: dict[Key, T] = {}
        self._resource_version = ""
        self._page = msgspec.json.Decoder(objects.Page[kind])  # type: ignore[valid-type]
        self._raw_page = msgspec.json.Decoder(objects.Page[msgspec.Raw])
        self._event = msgspec.json.Decoder(objects.Event[kind])  # type: ignore[valid-type]
        self._raw_event = msgspec.json.Decoder(objects.Event[msgspec.Raw])
        self._object = msgspec.json.Decoder(kind)
        self._metadata = msgspec.json.Decoder(objects.Metadata)

    def add_handler(self, handler: Handler[T]) -> None:
        """Objects already in the cache are delivered at once, as additions."""
        self._handlers.append(handler)
        for key, value in list(self._cache.items()):
            handler(key, None, value)

    def get(self, namespace: str, name: str) -> T | None:
        return self._cache.get((namespace, name))

    def keys(self) -> list[Key]:
        return list(self._cache)

    def values(self) -> list[T]:
        return list(self._cache.values())

    def __len__(self) -> int:
        return len(self._cache)

    def __contains__(self, key: object) -> bool:
        return key in self._cache

    def __iter__(self) -> Iterator[T]:
        return iter(self.values())

    async def wait_synced(self, timeout_s: float) -> None:
        """Raises errors.Timeout if the first list is not complete by then."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.synced.wait()
        except TimeoutError as late:
            raise errors.Timeout(f"LIST {self._path}: not complete within {timeout_s} s") from late

    async def run(self) -> None:
        pause = backoff.Backoff(0.2, self._longest_pause_s, jitter=0.3)
        while True:
            started_s = self._clock.monotonic_s()
            changes = self.changes
            failure: errors.KubeError | None = None
            try:
                if not self._resource_version:
                    await self._list()
                    started_s = self._clock.monotonic_s()
                changes = self.changes
                await self._watch()
            except (errors.Gone, errors.Malformed) as stale:
                self._resource_version = ""  # list again
                failure = stale
            except errors.KubeError as other:
                failure = other
            brought_news = self.changes > changes
            if brought_news or self._clock.monotonic_s() - started_s >= HEALTHY_S:
                pause.reset()
            await self._pause(pause, failure, at_once=brought_news and failure is None)

    async def _pause(self, pause: backoff.Backoff, failure: errors.KubeError | None, *, at_once: bool) -> None:
        self.reconnects += 1
        if at_once:
            # In a burst an API server closes the watches it can't feed fast enough; what it brought bounds the pace.
            await self._clock.sleep(AT_ONCE_S)
            return
        wait_s = max(pause.next_s(), (failure.after_s or 0.0) if failure is not None else 0.0)
        if failure is None or isinstance(failure, errors.Gone):
            log.debug("watch.ended", of=self.name, again_in_s=round(wait_s, 2), error=str(failure or "closed"))
        else:
            log.warning("watch.failed", of=self.name, again_in_s=round(wait_s, 2), error=str(failure))
        await self._clock.sleep(wait_s)

    async def _list(self) -> None:
        self.relists += 1
        seen: set[Key] = set()
        query = {**self._selectors, "limit": str(PAGE)}
        while True:
            answer = await self._client.get(self._path, query=query)
            metadata = self._take_page(answer, seen)
            del answer
            if not metadata.continue_:
                break
            query["continue"] = metadata.continue_
            await asyncio.sleep(0)  # thousands of objects must not hold up heartbeats
        for key in [key for key in self._cache if key not in seen]:
            self._remove(key, None)
        self._resource_version = metadata.resource_version
        self.synced.set()

    def _take_page(self, answer: bytes, seen: set[Key]) -> objects.ListMeta:
        try:
            page = self._page.decode(answer)
            items: list[T] = page.items or []
            metadata: objects.ListMeta = page.metadata
        except (msgspec.DecodeError, UnicodeDecodeError):
            items, metadata = self._one_by_one(answer, seen)
        for item in items:
            key = (item.metadata.namespace, item.metadata.name)
            seen.add(key)
            self._put(key, item)
        return metadata

    def _one_by_one(self, answer: bytes, seen: set[Key]) -> tuple[list[T], objects.ListMeta]:
        """One object that can't be read must not hide all others, nor count as deleted."""
        try:
            page = self._raw_page.decode(answer)
            items: list[T] = []
            for raw in page.items or []:
                readable, key = self._read(raw)
                seen.add(key)
                items += [readable] if readable is not None else []
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise errors.Malformed(f"LIST {self._path}: the answer is no list: {problem}") from problem
        return items, page.metadata

    def _read(self, raw: msgspec.Raw) -> tuple[T | None, Key]:
        metadata = self._metadata.decode(raw).metadata
        key = (metadata.namespace, metadata.name)
        try:
            return self._object.decode(raw), key
        except msgspec.DecodeError as problem:
            log.error("object.unreadable", of=self.name, key=key, error=str(problem))
            return None, key

    async def _watch(self) -> None:
        query = {
            **self._selectors,
            "resourceVersion": self._resource_version,
            "allowWatchBookmarks": "true",
            # Spread, so that many watches don't all come back in the same second.
            "timeoutSeconds": str(int(self._watch_s * random.uniform(1.0, 1.5))),
        }
        async with self._client.watch(self._path, query, silence_s=self._silence_s) as lines:
            async for line in lines:
                if line.startswith(_SIMPLE):
                    self._take_simple(line)
                else:
                    self._take_other(line)

    def _take_simple(self, line: bytes) -> None:
        try:
            event = self._event.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._take_other(line)
            return
        self._apply(event.type, event.object)

    def _take_other(self, line: bytes) -> None:
        try:
            event: objects.Event[Any] = self._raw_event.decode(line)
            if event.type == "ERROR":
                raise errors.from_watch(self._path, bytes(event.object))
            if event.type == "BOOKMARK":
                self._resource_version = self._metadata.decode(event.object).metadata.resource_version
                self.bookmarks += 1
                return
            value, key = self._read(event.object)
            if value is not None:
                self._apply(event.type, value)
            elif event.type == "DELETED":
                self._remove(key, None)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise errors.Malformed(f"WATCH {self._path}: not an event: {problem}") from problem

    def _apply(self, change: str, value: T) -> None:
        self.changes += 1
        metadata = value.metadata
        key = (metadata.namespace, metadata.name)
        if change == "DELETED":
            self._remove(key, value)
        else:
            self._put(key, value)
        self._resource_version = metadata.resource_version

    def _put(self, key: Key, new: T) -> None:
        old = self._cache.get(key)
        if old is not None:
            if old.metadata.resource_version == new.metadata.resource_version:
                return
            if old.metadata.uid != new.metadata.uid:
                self._remove(key, None)
                old = None
        self._cache[key] = new
        for handler in self._handlers:
            handler(key, old, new)

    def _remove(self, key: Key, last: T | None) -> None:
        old = self._cache.pop(key, None)
        if old is None:
            return
        for handler in self._handlers:
            handler(key, last if last is not None else old, None)
