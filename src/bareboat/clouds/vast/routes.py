"""The calls of Vast's API that the client makes, and how often each may be made.

The intervals are those that Vast publishes as `x-rate-limit` (August 2026), which its staff call no promise; the two
that it doesn't publish are marked. One bucket per route, whatever the id in the path.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Route:
    """`path` holds `{id}` where the subject goes. At most `calls` in `per_s` seconds; `penalty_s` without any after one
    that came too early."""

    name: str
    method: str
    path: str
    calls: int
    per_s: float
    penalty_s: float = 2.0


# Slashes at the end are not decoration: without one the server may redirect, and a redirected PUT loses its body.
SEARCH = Route("search", "POST", "/api/v0/bundles/", 10, 60.0)
RENT = Route("rent", "PUT", "/api/v0/asks/{id}/", 1, 4.5, penalty_s=12.0)
LIST = Route("list", "GET", "/api/v1/instances/", 1, 1.0)
READ = Route("read", "GET", "/api/v0/instances/{id}/", 1, 2.0)
DESTROY = Route("destroy", "DELETE", "/api/v0/instances/{id}/", 1, 3.0)
LOGS = Route("logs", "PUT", "/api/v0/instances/request_logs/{id}/", 1, 1.0)  # unpublished: that of other PUTs
USER = Route("user", "GET", "/api/v0/users/current/", 1, 1.0)  # unpublished: that of other GETs
ADMIT = Route("admit", "POST", "/api/v0/instances/{id}/ssh/", 1, 1.0)  # unpublished: that of the account's keys
TEMPLATES = Route("templates", "GET", "/api/v0/template/", 1, 3.0)

ALL = (SEARCH, RENT, LIST, READ, DESTROY, LOGS, USER, ADMIT, TEMPLATES)
