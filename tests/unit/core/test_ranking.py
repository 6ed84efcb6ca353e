"""The order of what fits, and what is said of what does not."""

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core import offering

from bareboat.core import blacklist, criteria, machines, matching, needs, offers, ranking

WANTED = st.builds(
    needs.Needs,
    gpu_count=st.sampled_from([0, 1, 2]),
    gpu_names=st.sampled_from([(), ("RTX 4090",), ("L40S", "RTX_3090")]),
    gpu_memory_gib=st.none() | st.floats(1, 100),
    cpu_cores=st.none() | st.floats(1, 32),
    disk_gib=st.floats(0, 500),
    ports=st.integers(0, 5),
    max_usd_per_hour=st.none() | st.floats(0, 10),
    regions=st.sampled_from([(), ("US",), ("CA", "SE"), ("EU",)]),
    min_reliability=st.none() | st.floats(0, 1),
    verified_only=st.booleans(),
    pricing=st.sampled_from(needs.Pricing),
)
RULES = st.sampled_from(
    [
        criteria.Criteria(),
        criteria.Criteria(min_reliability=None, min_inet_down_mbps=None, min_duration_s=None),
        criteria.Criteria(blocked_regions=("JP",), blocked_hosts=frozenset({"h2"}), datacenter_only=True),
    ]
)


@given(offering.some_offers, WANTED, RULES)
def test_what_is_ranked_is_exactly_what_breaks_no_limit(
    several: list[offers.Offer], wanted: needs.Needs, rules: criteria.Criteria
) -> None:
    made = ranking.rank(several, wanted, rules)
    reasons = {offer.id: matching.check(offer, wanted, rules) for offer in several}
    assert {found.offer.id for found in made.ranked} == {id for id, broken in reasons.items() if not broken}
    counts: dict[str, int] = {}
    for broken in reasons.values():
        for reason in broken:
            counts[reason.limit] = counts.get(reason.limit, 0) + 1
    assert made.rejected == counts
    assert made.seen == len(several)
    for found in made.ranked:
        assert found.usd_per_hour == pytest.approx(found.offer.price(wanted.disk_gib, wanted.pricing))


@given(offering.some_offers, st.integers(1, 30), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_order_of_the_answer_and_top_is_its_beginning(
    several: list[offers.Offer], top: int, shuffle: random.Random
) -> None:
    wanted = needs.Needs(gpu_count=0, disk_gib=0, verified_only=False)
    lax = criteria.Criteria(min_reliability=None, min_inet_down_mbps=None, min_duration_s=None)
    whole = [found.offer.id for found in ranking.rank(several, wanted, lax).ranked]
    shuffled = list(several)
    shuffle.shuffle(shuffled)
    assert [found.offer.id for found in ranking.rank(shuffled, wanted, lax).ranked] == whole
    assert [found.offer.id for found in ranking.rank(several, wanted, lax, top=top).ranked] == whole[:top]


def test_equal_offers_are_ordered_by_id() -> None:
    several = [offering.an_offer(id=name) for name in ("c", "a", "b")]
    assert [found.offer.id for found in ranking.rank(several, needs.Needs()).ranked] == ["a", "b", "c"]


@given(offering.some_offers, WANTED, RULES)
def test_a_price_that_is_suggested_lets_in_as_many_as_it_says(
    several: list[offers.Offer], wanted: needs.Needs, rules: criteria.Criteria
) -> None:
    made = ranking.rank(several, wanted, rules)
    for miss in made.misses:
        (name, phrase), *more = miss.changes
        if name != "max price" or more:
            continue
        price = float(phrase.removeprefix("max price were ").removesuffix(" $/h"))
        raised = ranking.rank(several, dataclasses.replace(wanted, max_usd_per_hour=price), rules)
        assert len(raised.ranked) == len(made.ranked) + miss.count


def test_a_near_miss_by_price_is_told_in_cents_that_suffice() -> None:
    several = [
        offering.an_offer(id=str(number), usd_per_hour=usd, usd_per_gib_month=0.0)
        for number, usd in enumerate((0.30, 0.403, 0.405, 0.4071, 0.9))
    ]
    made = ranking.rank(several, needs.Needs(max_usd_per_hour=0.35))
    assert made.sentence == "1 of 5 offers fits; left out: 4 for max price. 3 more if max price were 0.41 $/h."


def test_nothing_that_fits_is_told_apart_from_nothing_on_offer() -> None:
    assert ranking.rank([], needs.Needs()).sentence == "The cloud has no offer at all for this."
    none = ranking.rank([offering.an_offer(), offering.an_offer(id="2")], needs.Needs(gpu_count=4))
    assert none.sentence == "None of 2 offers fits; left out: 2 for GPU count. 2 more if GPU count were 1."


def test_when_no_single_change_helps_the_closest_offer_is_described() -> None:
    several = [
        offering.an_offer(id="1", usd_per_hour=0.5, usd_per_gib_month=0.0, reliability=0.85),
        offering.an_offer(id="2", usd_per_hour=5.0, usd_per_gib_month=0.0, reliability=0.2),
    ]
    made = ranking.rank(several, needs.Needs(max_usd_per_hour=0.4))
    assert [str(miss) for miss in made.misses] == ["1 more if max price were 0.50 $/h and reliability were 0.85"]


def test_a_misspelt_gpu_is_met_with_the_name_that_was_meant() -> None:
    made = ranking.rank([offering.an_offer()], needs.Needs(gpu_names=("RTX 4O90",)))
    assert made.sentence.endswith("Nobody offers RTX 4O90; did you mean RTX 4090?")
    assert made.misses == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"verified": False}, "unverified machines were allowed"),
        ({"region": "SE"}, "region were SE"),
        ({"gpu_name": "RTX 3090"}, "GPU were RTX 3090"),
        ({"reliability": 0.934}, "reliability were 0.934"),
        ({"reliability": None}, "an unknown reliability were allowed"),
        ({"ports": 1}, "ports were 1"),
    ],
)
def test_each_kind_of_near_miss_says_what_would_have_to_change(change: dict[str, object], said: str) -> None:
    wanted = needs.Needs(gpu_names=("RTX 4090",), regions=("US",), ports=2, min_reliability=0.95)
    made = ranking.rank([offering.an_offer(), offering.an_offer(id="2", **change)], wanted)
    assert [str(miss) for miss in made.misses] == [f"1 more if {said}"]


def test_a_sentence_stays_fit_for_an_event() -> None:
    draw = random.Random(3)
    several = [
        offering.an_offer(
            id=str(n), usd_per_hour=draw.uniform(0.1, 9), region=draw.choice(["SE", "US", None]),
            reliability=draw.random(), verified=draw.random() < 0.5, gpu_name=draw.choice(["A", "B", "RTX 4090"]),
        )
        for n in range(500)
    ]  # fmt: skip
    wanted = needs.Needs(gpu_names=("RTX 4090",), max_usd_per_hour=0.2, regions=("US",), min_cuda=12, ports=3)
    assert len(ranking.rank(several, wanted).sentence) < 500


def test_overlapping_offers_of_one_machine_count_as_one_machine() -> None:
    several = [offering.an_offer(id=str(number), machine_id="m1") for number in range(3)]
    made = ranking.rank([*several, offering.an_offer(id="9")], needs.Needs())
    assert made.machine_count == 2
    assert made.sentence == "4 of 4 offers fit, on 2 machines."
    assert made.best(without={("vast", "m1")}) == next(found for found in made.ranked if found.offer.id == "9")
    assert made.best(without={("vast", "m1"), ("vast", "m9")}) is None


def test_a_cloud_that_hides_its_machines_has_one_for_each_offer() -> None:
    first, second = offering.an_offer(id="1", machine_id=None), offering.an_offer(id="2", machine_id=None)
    assert machines.key(first) != machines.key(second)


def test_banned_machines_are_out_and_the_ban_is_the_near_miss() -> None:
    bans = blacklist.Blacklist()
    bans.ban(offering.GOOD, "never started", 0.0)
    made = ranking.rank([offering.GOOD], needs.Needs(), situation=matching.Situation(1.0, bans))
    assert [str(miss) for miss in made.misses] == ["1 more if no machine were banned"]
    assert len(ranking.rank([offering.GOOD], needs.Needs(), situation=matching.Situation(4000.0, bans)).ranked) == 1


def test_latency_over_the_limit_is_a_near_miss_with_its_figure() -> None:
    measured = matching.Situation(latencies_ms={"198.51.100.7": 83.2})
    made = ranking.rank([offering.GOOD], needs.Needs(), situation=measured)
    assert [str(miss) for miss in made.misses] == ["1 more if latency were 83.2 ms"]


def test_a_workload_without_a_gpu_pays_nothing_for_the_speed_of_one() -> None:
    small = offering.an_offer(id="1", usd_per_hour=0.06, performance=8.0)
    mighty = offering.an_offer(id="2", usd_per_hour=0.12, performance=200.0)
    order = {
        count: [found.offer.id for found in ranking.rank([mighty, small], needs.Needs(gpu_count=count)).ranked]
        for count in (0, 1)
    }
    assert order == {0: ["1", "2"], 1: ["2", "1"]}
