"""Which offer a workload gets when many want one, some are gone and clouds fail."""

import asyncio
from typing import Any

import pytest
from tests.fakes import clouds, nodes

from bareboat.core import budget, errors, labels, launches, needs, offers, scoring
from bareboat.fleet import broker
from bareboat.plumbing import clock as clocks

WANTED = needs.Needs(gpu_count=0, verified_only=False)
DOWN = errors.CloudDown("vast", "HTTP 502")


def launch(_: offers.Offer) -> launches.Launch:
    return launches.Launch(image="busybox")


class Rig:
    def __init__(self, *several: offers.Offer, limits: budget.Limits | None = None, second: Any = None) -> None:
        self.clock = clocks.ManualClock()
        self.cloud = clouds.FakeCloud(self.clock, offers_=several)
        self.clouds = {"vast": self.cloud}
        if second is not None:
            self.clouds["runpod"] = clouds.FakeCloud(self.clock, "runpod", offers_=second)
        chosen = broker.Selection(nodes.RULES, scoring.Weights())
        ledger = budget.Ledger(limits or budget.Limits(least_run_s=0.0))
        self.broker = broker.Broker(self.clouds, self.clock, ledger, selection=lambda: chosen)

    async def rent(self, owner: str, wanted: needs.Needs = WANTED) -> broker.Choice:
        choice = await self.broker.choose(wanted)
        self.broker.reserve(owner, "t", choice, wanted)
        _, choice = await self.broker.rent(choice, wanted, launch, labels.Mark("c", owner, "1"), namespace="t")
        return choice


def many(count: int, **changes: Any) -> list[offers.Offer]:
    return [nodes.an_offer(number, **changes) for number in range(1, count + 1)]


async def test_no_two_workloads_get_one_offer_and_one_search_serves_them_all() -> None:
    rig = Rig(*many(30))
    chosen = await asyncio.gather(*(rig.broker.choose(WANTED) for _ in range(30)))
    assert len({choice.offer.id for choice in chosen}) == 30
    assert rig.cloud.calls["search"] == 1
    assert [each.offer.id for each in chosen][:3] == ["1", "2", "3"]


async def test_workloads_of_different_needs_do_not_get_one_offer_either() -> None:
    rig = Rig(*many(4))
    asked = [needs.Needs(gpu_count=0, verified_only=False, disk_gib=disk) for disk in (10.0, 11.0, 12.0, 13.0)]
    chosen = [await rig.broker.choose(each) for each in asked]
    assert len({choice.offer.id for choice in chosen}) == 4


async def test_a_search_is_good_for_ten_seconds() -> None:
    rig = Rig(*many(5))
    await rig.broker.choose(WANTED)
    await rig.clock.advance(9)
    await rig.broker.choose(WANTED)
    assert rig.cloud.calls["search"] == 1
    await rig.clock.advance(2)
    await rig.broker.choose(WANTED)
    assert rig.cloud.calls["search"] == 2


async def test_gone_offers_are_passed_over_under_one_mark() -> None:
    rig = Rig(*many(5))
    rig.cloud.fail("rent", *[errors.OfferGone("vast", "taken")] * 2)
    choice = await rig.rent("u")
    assert choice.offer.id == "3"
    assert [each.label for each in rig.cloud.alive] == ["bareboat/c/u/1"]
    assert rig.broker.ledger.spend(rig.clock.now_s()).usd_per_hour == pytest.approx(choice.usd_per_hour)


async def test_after_eight_gone_offers_the_workload_waits() -> None:
    rig = Rig(*many(20))
    rig.cloud.fail("rent", *[errors.OfferGone("vast", "taken")] * 20)
    with pytest.raises(broker.NoOffers, match="8 offers in a row"):
        await rig.rent("u")
    assert rig.cloud.calls["rent"] == 8 and not rig.broker.ledger.entries()


@pytest.mark.parametrize(
    "refusal",
    [
        errors.NoCapacity("vast", "none"),
        errors.LaunchRefused("vast", "bad image"),
        errors.CredentialsRefused("vast", "HTTP 401"),
        errors.CreditExhausted("vast", "empty"),
        errors.Throttled("vast", "slow down", 9.0),
        DOWN,
    ],
    ids=lambda each: type(each).__name__,
)
async def test_a_certain_refusal_frees_the_reservation(refusal: errors.CloudError) -> None:
    rig = Rig(*many(3))
    rig.cloud.fail("rent", refusal)
    with pytest.raises(type(refusal)):
        await rig.rent("u")
    assert not rig.broker.ledger.entries() and rig.cloud.calls["rent"] == 1


async def test_an_unknown_outcome_keeps_the_reservation_and_tries_no_other_offer() -> None:
    rig = Rig(*many(3))
    rig.cloud.fail("rent", errors.OutcomeUnknown("vast", "lost"))
    with pytest.raises(errors.OutcomeUnknown):
        await rig.rent("u")
    assert "u" in rig.broker.ledger and rig.cloud.calls["rent"] == 1


async def test_a_cancelled_rent_keeps_the_reservation() -> None:
    rig = Rig(*many(3))
    rig.cloud.crash.at = 3  # search, rent: before, rent: bought
    renting = asyncio.create_task(rig.rent("u"))
    await rig.cloud.crash.happened.wait()
    renting.cancel()
    await asyncio.gather(renting, return_exceptions=True)
    assert "u" in rig.broker.ledger and len(rig.cloud.alive) == 1


async def test_a_search_that_fails_in_the_fall_through_frees_the_reservation() -> None:
    rig = Rig(*many(1))
    rig.cloud.fail("rent", errors.OfferGone("vast", "taken"))
    choice = await rig.broker.choose(WANTED)
    rig.broker.reserve("u", "t", choice, WANTED)
    await rig.clock.advance(20)
    rig.cloud.fail("search", DOWN)
    with pytest.raises(errors.CloudDown):
        await rig.broker.rent(choice, WANTED, launch, labels.Mark("c", "u", "1"), namespace="t")
    assert not rig.broker.ledger.entries()


async def test_machines_that_failed_for_this_workload_are_left_out_but_not_for_others() -> None:
    rig = Rig(*many(3))
    assert (await rig.broker.choose(WANTED, avoid={"m1", "m2"})).offer.id == "3"
    assert (await rig.broker.choose(WANTED)).offer.id == "1"


async def test_a_banned_machine_is_left_out_even_from_a_ranking_made_before_the_ban() -> None:
    rig = Rig(*many(3))
    await rig.broker.choose(WANTED)
    rig.broker.bans.ban_machine("vast", "m2", "no start", rig.clock.now_s())
    assert (await rig.broker.choose(WANTED)).offer.id == "3"


async def test_the_second_offer_of_a_machine_comes_after_other_machines() -> None:
    """A box let whole or in parts: renting one offer mostly takes the others."""
    same = [nodes.an_offer(number, id=str(number), machine_id="box") for number in (1, 2)]
    rig = Rig(*same, nodes.an_offer(3))
    assert [(await rig.broker.choose(WANTED)).offer.id for _ in range(3)] == ["1", "3", "2"]


async def test_an_offer_that_was_not_rented_after_all_is_free_for_the_next() -> None:
    rig = Rig(*many(1), limits=budget.Limits(each_usd_per_hour=0.05, least_run_s=0.0))
    choice = await rig.broker.choose(WANTED)
    with pytest.raises(budget.OverBudget):
        rig.broker.reserve("u", "t", choice, WANTED)
    assert (await rig.broker.choose(WANTED)).offer.id == "1"


async def test_a_workload_takes_the_dearest_that_the_caps_leave_room_for() -> None:
    limits = budget.Limits(namespace=budget.Caps(usd_per_hour=0.25), least_run_s=0.0)
    rig = Rig(
        nodes.an_offer(1, usd_per_hour=0.2, performance=100.0), nodes.an_offer(2, usd_per_hour=0.05, performance=1.0),
        nodes.an_offer(3, usd_per_hour=0.2, performance=99.0), limits=limits,
    )  # fmt: skip
    for owner in ("u1", "u2"):
        choice = await rig.broker.choose(WANTED, namespace="t")
        rig.broker.reserve(owner, "t", choice, WANTED)
    assert rig.broker.ledger.spend(rig.clock.now_s()).usd_per_hour <= 0.25 + 1e-9


async def test_racing_workloads_never_pass_a_cap_together() -> None:
    limits = budget.Limits(installation=budget.Caps(usd_per_hour=0.55), least_run_s=0.0)
    rig = Rig(*many(20), limits=limits)
    rig.cloud.fail("rent", *[errors.OfferGone("vast", "taken")] * 3)
    outcomes = await asyncio.gather(*(rig.rent(f"u{number}") for number in range(12)), return_exceptions=True)
    bought = [each for each in outcomes if isinstance(each, broker.Choice)]
    assert len(bought) == len(rig.cloud.alive) >= 4
    assert sum(each.usd_per_hour for each in bought) <= 0.55


async def test_when_all_is_handed_out_one_new_search_is_made_not_one_for_each_who_waits() -> None:
    rig = Rig(*many(3))
    await asyncio.gather(*(rig.broker.choose(WANTED) for _ in range(3)))
    await rig.clock.advance(2)
    waiting = await asyncio.gather(*(rig.broker.choose(WANTED) for _ in range(50)), return_exceptions=True)
    assert all(isinstance(each, broker.NoOffers) for each in waiting)
    assert rig.cloud.calls["search"] == 2


async def test_an_exhausted_market_is_told_apart_from_one_that_does_not_fit() -> None:
    rig = Rig(*many(2))
    for _ in range(2):
        await rig.broker.choose(WANTED)
    with pytest.raises(broker.NoOffers, match="All 2 offers that fit are being rented by other pods"):
        await rig.broker.choose(WANTED)
    with pytest.raises(broker.NoOffers, match=r"None of 2 offers fits.*max price"):
        await rig.broker.choose(needs.Needs(gpu_count=0, verified_only=False, max_usd_per_hour=0.01))


async def test_an_empty_market_is_said_to_be_empty() -> None:
    with pytest.raises(broker.NoOffers, match="no offer at all"):
        await Rig().broker.choose(WANTED)


async def test_a_cloud_that_is_not_configured_is_named() -> None:
    with pytest.raises(broker.NoOffers, match="no cloud named lambda; there is vast"):
        await Rig(*many(1)).broker.choose(needs.Needs(clouds=("lambda",)))


async def test_with_every_cloud_down_the_error_says_so() -> None:
    rig = Rig(*many(1), second=many(1, cloud="runpod"))
    for each in rig.clouds.values():
        each.fail("search", errors.CloudDown(each.name, "HTTP 502"))
    with pytest.raises(errors.CloudDown):
        await rig.broker.choose(WANTED)


async def test_with_one_of_two_clouds_down_the_other_is_rented_from() -> None:
    rig = Rig(*many(1), second=many(1, cloud="runpod"))
    rig.cloud.fail("search", DOWN)
    assert (await rig.rent("u")).offer.cloud == "runpod"


async def test_who_finds_nothing_is_told_which_cloud_could_not_be_asked() -> None:
    rig = Rig(*many(1), second=[])
    rig.cloud.fail("search", DOWN)
    with pytest.raises(broker.NoOffers, match="vast could not be asked: HTTP 502"):
        await rig.broker.choose(WANTED)


async def test_the_next_best_on_another_cloud_takes_a_mark_of_its_own() -> None:
    rig = Rig(*many(1), second=[nodes.an_offer(2, cloud="runpod")])
    rig.cloud.fail("rent", errors.OfferGone("vast", "taken"))
    with pytest.raises(broker.Elsewhere) as elsewhere:
        await rig.rent("u")
    assert elsewhere.value.choice.offer.cloud == "runpod"
    assert rig.clouds["runpod"].calls["rent"] == 0
    assert rig.broker.ledger.entries()[0].usd_per_hour == pytest.approx(elsewhere.value.choice.usd_per_hour)
