"""Vast's rate limits: a least interval between calls for each route and caller, for some routes a number per minute.
Buckets belong to the route, not to the instance id in it."""

import collections
from typing import NamedTuple


class Limit(NamedTuple):
    """`every_s` between calls, or `per_minute` calls in any minute; `penalty_s` is the wait after a violation."""

    every_s: float
    per_minute: int = 0
    penalty_s: float = 0.0


LIMITS = {
    "POST /api/v0/bundles": Limit(6.0, per_minute=10),
    "GET /api/v0/bundles": Limit(6.0, per_minute=10),
    "PUT /api/v0/search/asks": Limit(6.0, per_minute=10),
    "PUT /api/v0/asks/{id}": Limit(4.5, penalty_s=12.0),
    "POST /api/v0/asks/bulk": Limit(4.5, penalty_s=12.0),
    "PUT /api/v0/launch_instance": Limit(5.0),
    "GET /api/v1/instances": Limit(1.0),
    "GET /api/v0/instances": Limit(1.0),
    "GET /api/v0/instances/{id}": Limit(2.0),
    "PUT /api/v0/instances/{id}": Limit(1.0),
    "PUT /api/v0/instances": Limit(1.0),
    "DELETE /api/v0/instances/{id}": Limit(3.0),
    "DELETE /api/v0/instances": Limit(3.0),
    "PUT /api/v0/instances/reboot/{id}": Limit(1.0),
    "PUT /api/v0/instances/recycle/{id}": Limit(1.0),
    "PUT /api/v0/instances/bid_price/{id}": Limit(5.5),
    "PUT /api/v0/instances/command/{id}": Limit(1.5),
    "PUT /api/v0/instances/prepay/{id}": Limit(2.0),
    "GET /api/v0/instances/balance/{id}": Limit(3.0),
    "POST /api/v0/instances/start": Limit(2.0),
    "GET /api/v0/template": Limit(3.0),
    "POST /api/v0/template": Limit(3.0),
    "PUT /api/v0/template": Limit(3.0),
    "DELETE /api/v0/template": Limit(3.0),
    "GET /api/v0/ssh": Limit(1.0),
    "POST /api/v0/ssh": Limit(1.0),
    "PUT /api/v0/ssh/{id}": Limit(1.0),
    "DELETE /api/v0/instances/{id}/ssh/{key}": Limit(2.0),
    "PUT /api/v0/commands/copy_direct": Limit(3.5),
    "GET /api/v0/secrets": Limit(5.0),
    "POST /api/v0/secrets": Limit(3.0),
    "PUT /api/v0/secrets": Limit(3.0),
    "DELETE /api/v0/secrets": Limit(3.0),
    "GET /api/v0/volumes": Limit(5.5),
    "PUT /api/v0/volumes": Limit(5.5),
    "GET /api/v0/charges": Limit(1.0),
    "GET /api/v1/invoices": Limit(3.0),
}

_TOLERANCE_S = 0.002
"""A caller that waits exactly the interval must not fail on the rounding of a clock."""


class Limiter:
    """Remembers the last calls of each (route, caller). `allows` is False for a call that came too early."""

    def __init__(self) -> None:
        self._next_s: dict[tuple[str, str], float] = {}
        self._calls: dict[tuple[str, str], collections.deque[float]] = {}

    def allows(self, route: str, caller: str, now_s: float, *, penalty: bool) -> bool:
        limit = LIMITS.get(route)
        if limit is None:
            return True
        bucket = (route, caller)
        if limit.per_minute:
            return self._within_minute(bucket, limit.per_minute, now_s)
        if now_s + _TOLERANCE_S < self._next_s.get(bucket, 0.0):
            if penalty and limit.penalty_s:
                self._next_s[bucket] = now_s + limit.penalty_s
            return False
        self._next_s[bucket] = now_s + limit.every_s
        return True

    def _within_minute(self, bucket: tuple[str, str], most: int, now_s: float) -> bool:
        calls = self._calls.setdefault(bucket, collections.deque())
        while calls and calls[0] <= now_s - 60.0 + _TOLERANCE_S:
            calls.popleft()
        if len(calls) >= most:
            return False
        calls.append(now_s)
        return True
