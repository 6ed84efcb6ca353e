"""`bareboat proxy` under load while everything happens to it, shortened; a whole minute is `make bench ONLY=proxy`."""

import json
from pathlib import Path

import pytest
from tests.e2e import proxy_load

SECONDS = 20.0
RATE_PER_S = 230.0
pytestmark = pytest.mark.timeout(180)


async def test_no_request_fails_but_those_that_no_instance_could_answer(tmp_path: Path) -> None:
    figures = await proxy_load.measure(tmp_path, SECONDS, RATE_PER_S)
    told = json.dumps(figures.document(), indent=1)
    rate_per_s = figures.requests / figures.seconds
    assert rate_per_s >= 200, told
    assert min(figures.sent[kind] for kind in ("get", "stream", "upload", "websocket_message")) >= 5, told
    assert figures.in_quiet() == {}, told
    assert len(figures.reload_s) == 4 and max(figures.reload_s) <= proxy_load.POLL_S + 1.0, told
    assert set(figures.away_s) == {"template edited", "instance died"}
    assert figures.sent_again <= 10, told
    excused = {kind for _, kind in figures.failures}
    assert not {kind for kind in excused if "timeout" in kind or "no connection" in kind}, told
    assert all(kind == "get 502" for kind in excused if kind.startswith("get ")), told
    assert figures.proxy_mib <= 60, told
