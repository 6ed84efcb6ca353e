"""Reads of many instances: complete, or an error. A list that lost a row would lose sight of a machine that bills.

Each page tells how many instances match (`total_instances`: with the filter applied, says Vast's description of 2026).
Rows are counted against it by id, so that a page that slipped while others were read shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bareboat.clouds.vast import api as apis
from bareboat.clouds.vast import failures, routes, translate, wire
from bareboat.core import errors, instances
from bareboat.plumbing import clock as clocks

PAGE = 25
_PASSES = 3
_MOST_PAGES = 2000
# By id upwards: what is rented while we read comes last, and is seen.
_ORDER = [{"col": "id", "dir": "asc"}]

Filters = Mapping[str, Mapping[str, Any]]


@dataclass(slots=True)
class _Pass:
    """One walk over the pages: rows by id, and the smallest and largest count that a page told."""

    rows: dict[str, instances.Instance] = field(default_factory=dict)
    fewest: int | None = None
    most: int = 0

    def add(self, page: wire.Page, rows: list[instances.Instance]) -> None:
        self.rows.update((row.id, row) for row in rows)
        if page.total_instances is not None:
            self.fewest = min(page.total_instances, self.most or page.total_instances)
            self.most = max(page.total_instances, self.most)

    @property
    def complete(self) -> bool:
        # An account that shrinks while it is read can fall short of the largest count without a row being lost;
        # that can't be told from a loss, so it is read again.
        return self.fewest is not None and len(self.rows) >= self.most


class Lists:
    """The v1 list of one account. Holds what was learned of how the server compares null."""

    def __init__(self, api: apis.Api, clock: clocks.Clock) -> None:
        self._api = api
        self._clock = clock

    async def everything(self) -> instances.Listing:
        """All instances. Raises `CloudDown` when pages and counts never agree."""
        rows = await self.where({})
        return instances.Listing(tuple(rows), self._clock.now_s())

    async def where(self, filters: Filters) -> list[instances.Instance]:
        """All instances that match."""
        told = ""
        for _ in range(_PASSES):
            walk = await self._walk(filters)
            if walk.complete:
                return list(walk.rows.values())
            told = f"{len(walk.rows)} of {walk.most} instances"
        raise errors.CloudDown(failures.CLOUD, f"the list stays incomplete ({told}) after {_PASSES} readings")

    async def census(self) -> instances.Census:
        """Three calls when nothing boots."""
        listed = await self.everything()
        unsettled = tuple(each for each in listed.instances if each.state is not instances.State.RUNNING)
        return instances.Census(len(listed.instances), unsettled, listed.taken_s)

    async def _walk(self, filters: Filters) -> _Pass:
        walk = _Pass()
        token: str | None = None
        for _ in range(_MOST_PAGES):
            page, rows = await self._page(filters, token, PAGE)
            walk.add(page, rows)
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
