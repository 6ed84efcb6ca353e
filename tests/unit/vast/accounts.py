"""A list of instances as small as it can be, with the ways in which a server may compare null and slip."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Row = dict[str, Any]


def a_row(number: int, status: str | None = "running", **told: Any) -> Row:
    return {"id": number, "actual_status": status, "intended_status": "running", "label": None} | told


@dataclass
class Account:
    """`null_passes_neq` is how the server compares null; `before_page` may change rows while pages are read."""

    rows: list[Row] = field(default_factory=list)
    null_passes_neq: bool = True
    null_equals_null: bool = True
    ignores_filters: bool = False
    tells_count: bool = True
    counts_account: bool = False
    before_page: Callable[[int], None] = lambda page: None
    hidden: Callable[[int, Row], bool] = lambda page, row: False
    calls: int = 0

    async def reply(self, request: web.Request) -> web.StreamResponse:
        self.calls += 1
        self.before_page(self.calls)
        filters = json.loads(request.query.get("select_filters", "{}"))
        limit = min(25, int(request.query["limit"]))
        after = int(request.query.get("after_token", "0"))
        matching = sorted((row for row in self.rows if self._passes(row, filters)), key=lambda row: int(row["id"]))
        rest = [row for row in matching if row["id"] > after]
        page = rest[:limit]
        told: dict[str, Any] = {
            "success": True,
            "instances": [row for row in page if not self.hidden(self.calls, row)],
            "next_token": str(page[-1]["id"]) if len(rest) > limit else None,
        }
        if self.tells_count:
            told["total_instances"] = len(self.rows if self.counts_account else matching)
        return web.json_response(told)

    def _passes(self, row: Row, filters: dict[str, dict[str, Any]]) -> bool:
        if self.ignores_filters:
            return True
        return all(
            self._compares(row.get(column), operator, value)
            for column, tests in filters.items()
            for operator, value in tests.items()
        )

    def _compares(self, found: Any, operator: str, value: Any) -> bool:
        if operator == "in":
            return found in value
        if value is None:
            return found is None and self.null_equals_null
        if found is None:
            return operator == "neq" and self.null_passes_neq
        return bool(found == value) if operator == "eq" else bool(found != value)
