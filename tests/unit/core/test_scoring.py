"""Terms, weights and the laws that hold for every offer."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core import offering

from bareboat.core import history, needs, offers, ranking, scoring

ANYTHING = needs.Needs(gpu_count=0, disk_gib=20, verified_only=False, min_reliability=0, min_inet_down_mbps=0)
weights = st.builds(scoring.Weights, price=st.floats(0.1, 100), performance=st.floats(0, 100))


def scored(
    several: list[offers.Offer], view: scoring.View, weighed: scoring.Weights
) -> tuple[scoring.Columns, list[float]]:
    prices = [offer.price(20) or 0.0 for offer in several]
    terms = scoring.columns(several, prices, view)
    return terms, scoring.totals(terms, weighed)


VIEWS = st.sampled_from(
    [
        scoring.View(),
        scoring.View(gpu_names=("rtx4090", "l40s"), regions=("US-CA", "US", "EU")),
        scoring.View(regions=("SE",), latencies_ms={"198.51.100.1": 20.0}),
    ]
)


@given(offering.some_offers, VIEWS, weights)
def test_terms_are_from_0_to_1_and_totals_from_0_to_100(
    several: list[offers.Offer], view: scoring.View, weighed: scoring.Weights
) -> None:
    terms, totals = scored(several, view, weighed)
    assert all(0.0 <= value <= 1.0 for column in terms for value in column)
    assert all(-1e-9 <= total <= 100 + 1e-9 for total in totals)


@given(offering.some_offers.filter(bool), VIEWS, weights, st.floats(0, 1), st.data())
def test_a_lower_price_never_lowers_an_offers_score_nor_its_place(
    several: list[offers.Offer], view: scoring.View, weighed: scoring.Weights, share: float, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(several) - 1))
    cheaper = list(several)
    cheaper[place] = dataclasses.replace(several[place], usd_per_hour=several[place].usd_per_hour * share)
    _, before = scored(several, view, weighed)
    _, after = scored(cheaper, view, weighed)
    assert after[place] >= before[place] - 1e-9
    beaten_before = {i for i, total in enumerate(before) if total < before[place] - 1e-6}
    beaten_after = {i for i, total in enumerate(after) if total < after[place] + 1e-9}
    assert beaten_before <= beaten_after


@given(offering.some_offers, VIEWS, weights)
def test_an_explanation_adds_up_to_the_score(
    several: list[offers.Offer], view: scoring.View, weighed: scoring.Weights
) -> None:
    terms, totals = scored(several, view, weighed)
    for index, offer in enumerate(several):
        row = [column[index] for column in terms]
        parts = scoring.explain(offer, 0.5, row, weighed, view)
        assert sum(part.points for part in parts) == pytest.approx(totals[index])
        assert sum(part.of for part in parts) == pytest.approx(100)
        assert all(part.points <= part.of + 1e-9 for part in parts)


def test_twice_as_dear_is_half_as_good() -> None:
    assert scoring.price_terms([0.2, 0.4, 0.8]) == [1.0, 0.5, 0.25]


def test_free_offers_do_not_divide_by_nothing() -> None:
    assert scoring.price_terms([0.0, 0.0, 1.0])[:2] == [1.0, 1.0]


def test_performance_grows_with_the_root_and_unknown_is_in_the_middle() -> None:
    several = [offering.an_offer(performance=speed) for speed in (100.0, 25.0, None, 0.0)]
    assert scoring.performance_terms(several) == [1.0, 0.5, 0.5, 0.0]


def test_the_gpu_named_first_is_worth_most() -> None:
    several = [offering.an_offer(gpu_name=name) for name in ("RTX 4090", "RTX_3090", "L40S")]
    assert scoring.gpu_terms(several, ("rtx4090", "rtx3090")) == [1.0, 0.5, 0.0]


def test_earlier_regions_are_worth_more_and_other_places_little_but_something() -> None:
    ordered = ("US-CA", "US-TX", "US-NY", "US", "CA")
    values = [scoring.region_value(region, ordered) for region in ("US-CA", "US-TX", "US-UT", "CA-QC", None, "SE")]
    assert values == sorted(values, reverse=True)
    assert values[0] == 1.0
    assert values[-1] > 0


def test_a_measured_round_trip_counts_half_of_the_place() -> None:
    near, far, unmeasured = (offering.an_offer(address=address) for address in ("a", "b", "c"))
    view = scoring.View(regions=("US",), latencies_ms={"a": 0.0, "b": 50.0})
    assert scoring.location_terms([near, far, unmeasured], view) == [1.0, 0.75, 1.0]


def test_our_own_bad_experience_lowers_a_machine_below_an_untried_one() -> None:
    tried, untried = offering.an_offer(id="1"), offering.an_offer(id="2")
    past = history.History()
    past.note(tried, good=False, now_s=0.0)
    first, second = scoring.availability_terms([tried, untried], scoring.View(past=past, now_s=0.0))
    assert first < second


def test_every_sign_of_a_sound_machine_raises_its_availability() -> None:
    plain = offering.an_offer(reliability=0.95, inet_down_mbps=100.0, verified=False)
    better = [
        dataclasses.replace(plain, reliability=0.99),
        dataclasses.replace(plain, inet_down_mbps=1000.0),
        dataclasses.replace(plain, verified=True),
        dataclasses.replace(plain, datacenter=True),
    ]
    first, *others = scoring.availability_terms([plain, *better], scoring.View())
    assert all(other > first for other in others)


def test_weights_are_proportions() -> None:
    assert scoring.Weights(0.30, 0.25, 0.20, 0.15, 0.10).points() == pytest.approx((30, 25, 20, 15, 10))


@pytest.mark.parametrize("bad", [{"price": -1.0}, {"price": float("nan")}, {"location": float("inf")}])
def test_senseless_weights_are_refused_by_name(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"weight {next(iter(bad))} is"):
        scoring.Weights(**bad)


def test_all_weights_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="all weights are 0"):
        scoring.Weights(0, 0, 0, 0, 0)


def test_only_price_counting_ranks_by_price() -> None:
    several = [offering.an_offer(id=str(n), usd_per_hour=usd, performance=usd) for n, usd in enumerate((0.9, 0.1, 0.5))]
    made = ranking.rank(several, ANYTHING, weights=scoring.Weights(1, 0, 0, 0, 0))
    assert [found.offer.id for found in made.ranked] == ["1", "2", "0"]
