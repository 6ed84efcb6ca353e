"""What a rental costs, by kind, over its life."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareboat.simulation import rentals, world

START_S = 1_790_000_000.0
HOUR_S = 3600.0
Stage = rentals.Stage


def a_rental(**changed: object) -> rentals.Rental:
    given: dict[str, object] = {
        "id": 1,
        "ask_id": 2,
        "host": world.seed_hosts(START_S)[0],
        "gpus": 1,
        "usd_per_hour": 0.36,
        "bid_usd_per_hour": None,
        "disk_gb": 10.0,
        "disk_usd_per_hour": 0.01,
        "label": None,
        "image": "busybox",
        "created_s": START_S,
        "ends_s": START_S + 30 * 24 * HOUR_S,
    }
    rental = rentals.Rental(**{**given, **changed})  # type: ignore[arg-type]
    rental.life = [rentals.Moment(START_S, Stage.PLACING)]
    return rental


def test_the_disk_is_billed_from_creation_and_the_gpu_only_while_it_runs() -> None:
    rental = a_rental()
    rental.plan([rentals.Moment(START_S + HOUR_S, Stage.RUNNING)])
    assert dataclasses.astuple(rental.spent(START_S + HOUR_S)) == pytest.approx((0.0, 0.01, 0.0))
    assert dataclasses.astuple(rental.spent(START_S + 3 * HOUR_S)) == pytest.approx((0.72, 0.03, 0.0))


def test_a_stopped_rental_goes_on_paying_for_its_disk() -> None:
    rental = a_rental()
    rental.become(START_S + HOUR_S, Stage.STOPPED)
    assert rental.spent(START_S + 11 * HOUR_S).disk == pytest.approx(0.11)
    assert rental.spent(START_S + 11 * HOUR_S).gpu == 0


def test_nothing_is_billed_while_the_host_is_offline() -> None:
    rental = a_rental()
    rental.become(START_S, Stage.RUNNING)
    rental.host.go_down(START_S + HOUR_S, START_S + 3 * HOUR_S)
    spent = rental.spent(START_S + 4 * HOUR_S)
    assert spent.gpu == pytest.approx(2 * 0.36)
    assert spent.disk == pytest.approx(2 * 0.01)


def test_a_bid_replaces_the_price_and_a_new_bid_counts_from_then_on() -> None:
    rental = a_rental(bid_usd_per_hour=0.2)
    rental.become(START_S, Stage.RUNNING)
    rental.bank(START_S + HOUR_S)
    rental.bid_usd_per_hour = 0.3
    assert rental.spent(START_S + 2 * HOUR_S).gpu == pytest.approx(0.5)


def test_the_meter_stops_when_it_is_gone() -> None:
    rental = a_rental()
    rental.become(START_S, Stage.RUNNING)
    rental.become(START_S + HOUR_S, Stage.GONE)
    assert rental.spent(START_S + 100 * HOUR_S).total == pytest.approx(0.37)


def test_a_phantom_costs_nothing() -> None:
    rental = a_rental()
    rental.life = [rentals.Moment(START_S, Stage.PHANTOM)]
    assert rental.spent(START_S + HOUR_S).total == 0


def test_a_new_stage_cancels_what_was_planned_for_later() -> None:
    rental = a_rental()
    rental.plan([rentals.Moment(START_S + 60, Stage.PULLING), rentals.Moment(START_S + 90, Stage.RUNNING)])
    rental.become(START_S + 70, Stage.STOPPED)
    assert [moment.stage for moment in rental.life] == [Stage.PLACING, Stage.PULLING, Stage.STOPPED]


STAGES = st.sampled_from([Stage.PULLING, Stage.RUNNING, Stage.EXITED, Stage.STOPPED])


@given(
    steps=st.lists(st.tuples(st.floats(1, 5000), STAGES), max_size=8),
    outage=st.tuples(st.floats(0, 20_000), st.floats(0, 20_000)),
    banks=st.lists(st.floats(0, 40_000), max_size=4),
)
def test_spending_never_falls_and_does_not_depend_on_when_it_is_read(
    steps: list[tuple[float, rentals.Stage]], outage: tuple[float, float], banks: list[float]
) -> None:
    plain, banked = a_rental(), a_rental()
    for rental in (plain, banked):
        at_s = START_S
        for wait_s, stage in steps:
            at_s += wait_s
            rental.plan([rentals.Moment(at_s, stage)])
        rental.host.go_down(START_S + outage[0], START_S + sum(outage))
    for moment_s in sorted(banks):
        banked.bank(START_S + moment_s)
    readings = [banked.spent(START_S + at_s).total for at_s in range(40_000, 90_000, 10_000)]
    assert readings == sorted(readings)
    assert readings[-1] == pytest.approx(plain.spent(START_S + 80_000).total)
