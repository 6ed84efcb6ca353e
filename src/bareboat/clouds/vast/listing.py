"""Reads of many instances: complete, or an error. A list that lost a row would lose sight of a machine that bills.

Each page tells how many instances match (`total_instances`: with the filter applied, says Vast's description of 2026).
Rows are counted against it by id, so that a page that slipped while others were read shows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
        self._null_is_not_running = False
        self._counts_matches: bool | None = None

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
        if filters and not await self._count_can_be_relied_on():
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

        1. what is not `running` (filtered list), 2. how many there are in all (a page of one row), 3. how many are
        `running` (likewise). Status is null while an instance is being made, and whether null differs from `running`
        is the server's secret. So 1 and 3 have to add up to 2; if they don't, null is asked for by name; if they still
        don't, everything is read. Once a null row came with 1 the question is settled, and 3 is left out. (The first
        census of all makes a fourth call, to learn what the counts count.)
        The counts by label that come with each page would not do: they tell nothing of status.
        """
        taken_s = self._clock.now_s()
        for _ in range(2):  # an instance that starts to run between two calls spoils the sum: once more, then
            unsettled = {row.id: row for row in await self.where({"actual_status": {"neq": _RUNNING}})}
            if any(_told(row) == _RUNNING for row in unsettled.values()):
                break  # the filter was ignored: nothing that it said can be relied on
            total = await self._count({})
            if self._learned(unsettled.values()) or await self._adds_up(unsettled, total):
                rows = tuple(row for row in unsettled.values() if row.state is not instances.State.RUNNING)
                return instances.Census(total, rows, taken_s)
        listed = await self.everything()
        rows = tuple(row for row in listed.instances if row.state is not instances.State.RUNNING)
        return instances.Census(len(listed.instances), rows, listed.taken_s)

    def _learned(self, unsettled: Iterable[instances.Instance]) -> bool:
        self._null_is_not_running = self._null_is_not_running or any(_told(row) is None for row in unsettled)
        return self._null_is_not_running

    async def _adds_up(self, unsettled: dict[str, instances.Instance], total: int) -> bool:
        if not total:
            return True
        if not await self._count_can_be_relied_on():
            return False
        running = await self._count({"actual_status": {"eq": _RUNNING}})
        if running + len(unsettled) < total:
            nulls = await self.where({"actual_status": {"eq": None}})
            unsettled.update((row.id, row) for row in nulls if _told(row) is None)
        return running + len(unsettled) == total

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

    async def _count_can_be_relied_on(self) -> bool:
        """Whether the count of a filtered list is of what matches, as described, and not of the whole account.

        Asked once, of an account that isn't empty: for an id that no instance has.
        """
        if self._counts_matches is None:
            none_such, _ = await self._page({"id": {"eq": 0}}, None, 1)
            if none_such.total_instances is not None:
                self._counts_matches = none_such.total_instances == 0
        return self._counts_matches is not False

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


def _told(row: instances.Instance) -> str | None:
    """The status as the server compares it."""
    rental: wire.Rental = row.raw
    return rental.actual_status
