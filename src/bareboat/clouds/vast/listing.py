"""Reads of many instances: complete, or an error. A list that lost a row would lose sight of a machine that bills.

Each page tells how many instances match (`total_instances`: with the filter applied, says Vast's description of 2026).
Rows are counted against it by id, so that a page that slipped while others were read shows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bareboat.clouds.vast import api as apis
from bareboat.clouds.vast import failures, routes, translate, wire
from bareboat.core import errors, instances
from bareboat.plumbing import clock as clocks

PAGE = 25
"""The most that Vast puts on a page."""

_MOST_PAGES = 2000
# By id upwards: what is rented while we read comes last, and is seen.
_ORDER = [{"col": "id", "dir": "asc"}]
_RUNNING = "running"

Filters = Mapping[str, Mapping[str, Any]]


@dataclass(slots=True)
class _Walk:
    """One walk over the pages: rows by id, and the smallest and largest count that a page told."""

    rows: dict[str, instances.Instance] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)
    pages: int = 0

    @property
    def complete(self) -> bool:
        # An account that shrinks while it is read falls short of the largest count without a row being lost. That
        # can't be told from a loss, so it counts as one.
        return bool(self.counts) and len(self.rows) >= max(self.counts)


class Lists:
    """The v1 list of one account. Remembers what was learned of how the server compares null and counts."""

    def __init__(self, api: apis.Api, clock: clocks.Clock) -> None:
        self._api = api
        self._clock = clock
        self._nulls: Literal["among", "apart"] | None = None
        self._counts_match: bool | None = None

    async def everything(self) -> instances.Listing:
        """All instances. Raises `CloudDown` when pages and counts don't agree."""
        taken_s = self._clock.now_s()
        return instances.Listing(tuple(await self.where({})), taken_s)

    async def where(self, filters: Filters) -> list[instances.Instance]:
        """All instances that match.

        One walk when its rows are as many as were promised, else a second. When that falls short too (the account
        shrinks, or pages slip), rows that only the first walk saw are asked for by id, and the sum has to reach the
        smallest count of the second.
        """
        first = await self._walk(filters)
        if first.complete:
            return list(first.rows.values())
        if filters:
            await self._learn_counts()
            if not self._counts_match:
                return await self._uncounted(first, filters)
        second = await self._walk(filters)
        if second.complete:
            return list(second.rows.values())
        if not second.counts:
            if second.rows and first.rows.keys() == second.rows.keys():
                return list(second.rows.values())
            # Nothing listed and nothing counted is no proof of an empty account.
            raise errors.CloudDown(failures.CLOUD, "answered a list without the count of instances")
        rows = dict(second.rows)
        for row in await self._still_there(first.rows.keys() - second.rows.keys()):
            rows[row.id] = row
        if len(rows) < min(second.counts):
            told = f"{len(rows)} of {min(second.counts)} instances"
            raise errors.CloudDown(failures.CLOUD, f"the list stays incomplete after two readings: {told}")
        return list(rows.values())

    async def census(self) -> instances.Census:
        """All that isn't running, and a count of all, without reading what runs.

        1. how many are `running`, 2. how many there are in all (a page of one row each). When these are equal, that is
        it. Else 3. what is not `running`. Status is null while an instance is being made, and whether null differs from
        `running` is the server's secret: 3 has to make up the difference; if it doesn't, 4. null is asked for by name;
        if it still doesn't, everything is read. Once a null row came with 3 or 4 the secret is out, and no sum is
        needed any more, which an instance that starts to run between two calls would spoil.
        The counts by label that come with each page would not do: they tell nothing of status.
        """
        taken_s = self._clock.now_s()
        if self._counts_match is None:
            if not await self._count({}):
                return instances.Census(0, (), taken_s)
            await self._learn_counts()
        for _ in range(2 if self._counts_match else 0):
            running = await self._count({"actual_status": {"eq": _RUNNING}})
            total = await self._count({})
            unsettled = await self._unsettled(total - running) if running != total else []
            if unsettled is not None:
                return _census(total, unsettled, taken_s)
        listed = await self.everything()
        return _census(len(listed.instances), listed.instances, listed.taken_s)

    async def _unsettled(self, expected: int) -> list[instances.Instance] | None:
        """All whose status is not `running`; None when that can't be made sure of."""
        rows = {row.id: row for row in await self.where({"actual_status": {"neq": _RUNNING}})}
        if any(_told(row) is None for row in rows.values()):
            self._nulls = "among"
        if self._nulls == "apart" or (self._nulls is None and len(rows) < expected):
            try:
                found = await self.where({"actual_status": {"eq": None}})
            except errors.CloudDown:  # a server that takes no null for a value: nothing else is lost by it
                return None
            apart = {row.id: row for row in found if _told(row) is None}
            self._nulls = "apart" if apart else self._nulls
            rows.update(apart)
        return list(rows.values()) if self._nulls is not None or len(rows) == expected else None

    async def _count(self, filters: Filters) -> int:
        page, _ = await self._page(filters, None, 1)
        if page.total_instances is None:
            raise errors.CloudDown(failures.CLOUD, "answered a list without the count of instances")
        return page.total_instances

    async def _still_there(self, ids: Iterable[str]) -> list[instances.Instance]:
        numbers = sorted(map(int, ids))
        rows: list[instances.Instance] = []
        for start in range(0, len(numbers), PAGE):
            chunk = numbers[start : start + PAGE]
            _, found = await self._page({"id": {"in": chunk}}, None, PAGE)
            rows += [row for row in found if int(row.id) in chunk]
        return rows

    async def _learn_counts(self) -> None:
        """Whether a filter on status works, and the count that comes with it is of what matches, as described, not of
        the whole account. Asked once, of an account that isn't empty: for a status that no instance has."""
        if self._counts_match is None:
            self._counts_match = await self._count({"actual_status": {"eq": "no such status"}}) == 0

    async def _uncounted(self, walk: _Walk, filters: Filters) -> list[instances.Instance]:
        """A filtered list without a count to hold it to: one page can't slip, several have to come twice the same."""
        if walk.pages > 1 and (await self._walk(filters)).rows.keys() != walk.rows.keys():
            raise errors.CloudDown(failures.CLOUD, "the list changed while it was read, and tells no count")
        return list(walk.rows.values())

    async def _walk(self, filters: Filters) -> _Walk:
        walk = _Walk()
        token: str | None = None
        for _ in range(_MOST_PAGES):
            page, rows = await self._page(filters, token, PAGE)
            walk.pages += 1
            walk.rows.update((row.id, row) for row in rows)
            if page.total_instances is not None:
                walk.counts.append(page.total_instances)
            if not page.next_token or page.next_token == token:
                return walk
            token = page.next_token
        raise errors.CloudDown(failures.CLOUD, f"the list has no end after {_MOST_PAGES} pages")

    async def _page(
        self, filters: Filters, token: str | None, limit: int
    ) -> tuple[wire.Page, list[instances.Instance]]:
        query: dict[str, Any] = {"limit": limit, "order_by": _ORDER}
        if filters:
            query["select_filters"] = filters
        if token is not None:
            query["after_token"] = token
        body = await self._api.read(routes.LIST, query=query)
        try:
            page = wire.decode(body, wire.Page)
            return page, [translate.instance(each) for each in wire.records(page.instances, wire.Rental)]
        except wire.Nonsense as error:
            raise errors.CloudDown(failures.CLOUD, f"answered a list that makes no sense: {error}") from None


def _census(total: int, rows: Iterable[instances.Instance], taken_s: float) -> instances.Census:
    return instances.Census(total, tuple(row for row in rows if row.state is not instances.State.RUNNING), taken_s)


def _told(row: instances.Instance) -> str | None:
    """The status as the server compares it."""
    rental: wire.Rental = row.raw
    return rental.actual_status
