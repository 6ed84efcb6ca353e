"""Worlds and what is for rent in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareboat.simulation import market, world

START_S = 1_790_000_000.0
QUIET = market.Churn.none()


def a_market(seed: int = 1, offers: int = 320, churn: market.Churn = QUIET) -> market.Market:
    return market.Market(seed=seed, start_s=START_S, offers=offers, churn=churn)


def shown(of: market.Market, at_s: float = START_S) -> list[tuple[int, int, int, float]]:
    return [(ask.id, ask.host.machine_id, ask.gpus, ask.usd_per_hour) for ask in of.asks(at_s)]


def test_a_world_has_at_least_the_offers_asked_for() -> None:
    for offers in (1, 300, 1000):
        assert len(shown(a_market(offers=offers))) >= offers


def test_the_same_seed_gives_the_same_market_at_the_same_time() -> None:
    lively = market.Churn()
    later_s = START_S + 7200
    assert shown(a_market(seed=7, churn=lively), later_s) == shown(a_market(seed=7, churn=lively), later_s)
    assert shown(a_market(seed=7)) != shown(a_market(seed=8))


@given(index=st.integers(0, 5000), seed=st.integers(0, 2**31))
def test_every_grown_host_is_plausible(index: int, seed: int) -> None:
    host = world.grow_host(index, seed, START_S)
    assert host.gpus >= 1
    assert 0.5 < host.reliability <= 1
    assert host.usd_per_gpu_hour > 0
    assert host.listed_s < START_S < host.ends_s
    assert host.public_ip.startswith("203.0.113.")


@given(gpus=st.integers(1, 16))
def test_a_machine_is_offered_in_powers_of_two_and_whole(gpus: int) -> None:
    sizes = market.slices(gpus)
    assert sizes == sorted(set(sizes))
    assert sizes[0] == 1
    assert sizes[-1] == gpus


def test_a_rented_ask_is_gone_for_good_and_slices_that_no_longer_fit_go_with_it() -> None:
    of = a_market()
    host = next(host for host in of.hosts.values() if host.gpus == 8)
    slices = {ask.gpus: ask for ask in of.asks(START_S) if ask.host is host}
    of.take(slices[4])
    left = {ask.gpus: ask for ask in of.asks(START_S) if ask.host is host}
    assert set(left) == {1, 2, 4}
    assert left[4].id != slices[4].id
    assert left[1].id == slices[1].id
    assert of.find(slices[4].id, START_S) is None
    assert of.find(slices[8].id, START_S) is None


@given(takes=st.lists(st.integers(0, 30), max_size=12))
def test_no_host_ever_lets_more_gpus_than_it_has(takes: list[int]) -> None:
    of = a_market(offers=1)
    for index in takes:
        asks = list(of.asks(START_S))
        if asks:
            of.take(asks[index % len(asks)])
    for host in of.hosts.values():
        assert 0 <= host.gpus_free <= host.gpus
    assert all(ask.gpus <= ask.host.gpus_free for ask in of.asks(START_S))


def test_gpus_that_come_back_are_offered_under_new_ids() -> None:
    of = a_market()
    ask = next(iter(of.asks(START_S)))
    of.take(ask)
    of.release(ask.host, ask.gpus)
    assert of.find(ask.id, START_S) is None
    assert any(other.host is ask.host and other.gpus == ask.gpus for other in of.asks(START_S))


def test_prices_move_and_offers_come_and_go_with_time() -> None:
    of = a_market(churn=market.Churn())
    before = {ask.id: ask.usd_per_hour for ask in of.asks(START_S)}
    after = {ask.id: ask.usd_per_hour for ask in of.asks(START_S + 4 * 3600)}
    stayed = before.keys() & after.keys()
    assert stayed
    assert any(before[ask_id] != after[ask_id] for ask_id in stayed)
    assert before.keys() - after.keys()
    assert after.keys() - before.keys()


def test_prices_stay_near_what_the_host_wants() -> None:
    of = a_market(churn=market.Churn(price=0.06))
    for hours in range(0, 48, 6):
        for ask in of.asks(START_S + hours * 3600):
            usual = ask.host.usd_per_gpu_hour * ask.gpus
            assert ask.usd_per_hour == pytest.approx(usual, rel=0.07, abs=1e-4)
            assert 0 < ask.min_bid_usd_per_hour < ask.usd_per_hour


def test_a_quiet_market_stands_still() -> None:
    of = a_market()
    assert shown(of) == shown(of, START_S + 86_400)


def test_a_host_that_is_down_offers_nothing() -> None:
    of = a_market()
    host = next(iter(of.hosts.values()))
    host.go_down(START_S, START_S + 60)
    assert all(ask.host is not host for ask in of.asks(START_S + 30))
    assert any(ask.host is host for ask in of.asks(START_S + 60))


def test_others_that_take_a_host_leave_nothing_of_it() -> None:
    of = a_market()
    host = next(host for host in of.hosts.values() if host.gpus == 8)
    of.occupy(host)
    assert all(ask.host is not host for ask in of.asks(START_S))
    assert not of.claim(host, 1)
