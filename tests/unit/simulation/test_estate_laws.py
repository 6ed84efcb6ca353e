"""Laws of the simulated cloud that hold whatever anybody does to it, in whatever order."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bareboat.plumbing import clock as clocks
from bareboat.simulation import estate, faults, faultscript, hosting, images, market, rentals


def do(of: estate.Estate, deed: str, number: int) -> None:
    """One deed to the instance or the ask of that number; what can't be done now isn't."""
    live, asks = of.live(), list(of.market.asks(of.now()))
    if deed in RENTS:
        if asks:
            rent(of, deed, asks[(number * 37) % len(asks)])
    elif live:
        TREATMENTS[deed](of, live[number % len(live)])


def rent(of: estate.Estate, deed: str, ask: market.Ask) -> None:
    price = {"bid": ask.min_bid_usd_per_hour * 1.5, "low bid": 0.001}.get(deed)
    order = hosting.Order(image="busybox:latest", bid_usd_per_hour=price)
    if deed == "phantom":
        of.sell_phantom(ask.id, order)
        return
    with contextlib.suppress(estate.BidTooLow):
        of.rent(ask.id, order)


def outbid(of: estate.Estate, rental: rentals.Rental) -> None:
    if rental.bid_usd_per_hour is not None and rental.holds_gpus:
        of.outbid(rental, of.now())


RENTS = ("rent", "bid", "low bid", "phantom")
TREATMENTS: dict[str, Callable[[estate.Estate, rentals.Rental], bool | None]] = {
    "stop": lambda of, rental: of.stop(rental),
    "start": lambda of, rental: of.start(rental),
    "destroy": lambda of, rental: of.destroy(rental),
    "linger": lambda of, rental: of.destroy(rental, linger_s=60),
    "reboot": lambda of, rental: of.reboot(rental) if rental.holds_gpus else None,
    "outbid": outbid,
    "down": lambda of, rental: of.host_down(rental.host.machine_id, 300),
    "up": lambda of, rental: of.host_up(rental.host.machine_id),
    "exit": lambda of, rental: of.exits(rental, 1),
    "extend": lambda of, rental: of.extend(rental, rental.usd_per_hour * 2, rental.ends_s + 60),
    "end": lambda of, rental: of.end_contract(rental),
}
DEEDS = st.sampled_from([*RENTS, *TREATMENTS])
STEPS = st.lists(st.tuples(DEEDS, st.integers(0, 7), st.floats(0.1, 2000)), min_size=1, max_size=25)
CATALOG = images.Catalog()


@example(steps=[("rent", 0, 50.0), ("down", 0, 100.0), ("down", 0, 100.0), ("up", 0, 100.0)], nasty=False)
@given(steps=STEPS, nasty=st.booleans())
@settings(max_examples=60, deadline=None)
def test_gpus_are_never_let_twice_and_every_dollar_is_accounted_for(
    steps: list[tuple[str, int, float]], nasty: bool
) -> None:
    async def story() -> None:
        clock = clocks.ManualClock()
        rules = faultscript.profile("nasty" if nasty else "none")
        plan = estate.Plan(offers=12, credit_usd=1e6)
        of = estate.Estate(clock, plan, faults.Faults(rules, start_s=clock.now_s()), CATALOG)
        spent = rentals.Usd()
        for deed, number, wait_s in steps:
            do(of, deed, number)
            await clock.advance(wait_s)
            held: dict[int, int] = {}
            for rental in of.live():
                assert rental.life == sorted(rental.life, key=lambda moment: moment.at_s)
                if rental.holds_gpus:
                    held[rental.host.machine_id] = held.get(rental.host.machine_id, 0) + rental.gpus
            for host in of.market.hosts.values():
                assert host.gpus_ours == held.get(host.machine_id, 0)
                assert host.gpus_taken >= 0
                assert host.gpus_free >= 0
            now = of.ledger.spend()
            before, after = dataclasses.astuple(spent), dataclasses.astuple(now)
            assert all(new >= old - 1e-9 for old, new in zip(before, after, strict=True))
            assert now.total == pytest.approx(sum(entry.usd.total for entry in of.ledger.entries()))
            spent = now

    asyncio.run(story())
