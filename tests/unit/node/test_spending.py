"""What ended pods have cost survives the node, where a cap on totals needs it."""

import asyncio
import json
from typing import Any

import pytest

from bareboat.core import budget
from bareboat.kube import errors, objects
from bareboat.node import spending
from bareboat.plumbing import clock as clocks


class Api:
    """One ConfigMap, kept as the API server would."""

    def __init__(self, data: dict[str, str] | None = None) -> None:
        self.data = data
        self.writes = 0
        self.down = False

    async def get(self, path: str, *, type: Any) -> Any:
        if self.down:
            raise errors.Unreachable("GET: no answer")
        if self.data is None:
            raise errors.NotFound("GET", path, 404, "NotFound", "no such ConfigMap")
        return type(metadata=objects.ObjectMeta(), data=self.data)

    async def patch(self, path: str, body: Any, kind: Any) -> bytes:
        if self.data is None:
            raise errors.NotFound("PATCH", path, 404, "NotFound", "no such ConfigMap")
        self.writes += 1
        self.data = body["data"]
        return b""

    async def create(self, path: str, body: Any) -> bytes:
        self.writes += 1
        self.data = body["data"]
        return b""


def a_ledger(usd: float | None) -> budget.Ledger:
    return budget.Ledger(budget.Limits(namespace=budget.Caps(usd=usd)))


def a_spending(api: Api, ledger: budget.Ledger, clock: clocks.ManualClock) -> spending.Spending:
    return spending.Spending(api, ledger, clock, namespace="kube-system", name="bareboat-spend-n")  # type: ignore[arg-type]


async def running(kept: spending.Spending, clock: clocks.ManualClock, seconds: float) -> None:
    task = asyncio.create_task(kept.run())
    await clock.advance(seconds)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_spent_dollars_survive_the_process() -> None:
    clock, api = clocks.ManualClock(), Api()
    ledger = a_ledger(5.0)
    ledger.reserve("pod", "team", 1.0, clock.now_s())
    ledger.release("pod", clock.now_s() + 3600)
    await running(a_spending(api, ledger, clock), clock, 1)
    assert json.loads((api.data or {})[spending.KEY]) == {"team": pytest.approx(1.0)}

    later = a_ledger(5.0)
    kept = a_spending(api, later, clock)
    assert not kept.restored.is_set()
    await running(kept, clock, 1)
    assert kept.restored.is_set()
    assert later.spend(clock.now_s(), "team").usd == pytest.approx(1.0)


async def test_nothing_is_rented_while_the_sums_cannot_be_read() -> None:
    clock, api = clocks.ManualClock(), Api({spending.KEY: '{"team": 2.5}'})
    api.down = True
    ledger = a_ledger(5.0)
    kept = a_spending(api, ledger, clock)
    await running(kept, clock, 60)
    assert not kept.restored.is_set()
    api.down = False
    await running(kept, clock, 1)
    assert kept.restored.is_set()
    assert ledger.spend(clock.now_s(), "team").usd == pytest.approx(2.5)


async def test_nonsense_in_the_config_map_holds_renting_back() -> None:
    clock, api = clocks.ManualClock(), Api({spending.KEY: "a lot"})
    kept = a_spending(api, a_ledger(5.0), clock)
    await running(kept, clock, 60)
    assert not kept.restored.is_set()
    assert api.writes == 0


async def test_without_a_cap_on_totals_nothing_is_read_or_written() -> None:
    clock, api = clocks.ManualClock(), Api()
    ledger = a_ledger(None)
    kept = a_spending(api, ledger, clock)
    assert kept.restored.is_set()
    ledger.reserve("pod", "team", 1.0, clock.now_s())
    ledger.release("pod", clock.now_s() + 3600)
    await running(kept, clock, 60)
    assert api.writes == 0


async def test_unchanged_sums_cost_no_write() -> None:
    clock, api = clocks.ManualClock(), Api()
    ledger = a_ledger(5.0)
    ledger.reserve("pod", "team", 1.0, clock.now_s())
    ledger.release("pod", clock.now_s() + 3600)
    await running(a_spending(api, ledger, clock), clock, 120)
    assert api.writes == 1
