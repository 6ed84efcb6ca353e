"""Caps hold, whatever the order of things."""

import dataclasses

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from bareboat.core import budget

HOUR_S = 3600.0


def ledger(**limits: object) -> budget.Ledger:
    return budget.Ledger(dataclasses.replace(budget.Limits(), **limits))  # type: ignore[arg-type]


def test_without_caps_everything_fits_and_is_counted() -> None:
    books = ledger()
    books.reserve("a", "ns", 2.0, 0.0)
    assert books.spend(HOUR_S) == budget.Spend(2.0, 2.0)
    assert books.room_usd_per_hour("ns", 0.0) is None


@pytest.mark.parametrize(
    ("limits", "own_cap", "sentence"),
    [
        ({"each_usd_per_hour": 0.5}, None, "0.600 $/h is over the cap of 0.500 $/h for one pod"),
        ({}, 0.4, "0.600 $/h is over the cap of 0.400 $/h for this pod"),
        (
            {"namespace": budget.Caps(usd_per_hour=1.0)},
            None,
            "0.600 $/h more would bring namespace ns to 1.100 $/h; the cap is 1.000 $/h",
        ),
        (
            {"installation": budget.Caps(usd_per_hour=1.05)},
            None,
            "0.600 $/h more would bring this installation to 1.100 $/h; the cap is 1.050 $/h",
        ),
        (
            {"installation": budget.Caps(usd=0.1)},
            None,
            "this installation has spent $0.00 of $0.10; what is left does not pay for the $0.18 "
            "that a start takes at the least",
        ),
    ],
)
def test_a_refusal_is_a_sentence_with_the_numbers(
    limits: dict[str, object], own_cap: float | None, sentence: str
) -> None:
    books = ledger(**limits)
    books.restore("there", "ns", 0.5, 0.0)
    with pytest.raises(budget.OverBudget) as refused:
        books.reserve("b", "ns", 0.6, 0.0, cap_usd_per_hour=own_cap)
    assert refused.value.sentence == sentence
    assert "b" not in books


def test_racing_workloads_cannot_pass_a_cap_together() -> None:
    books = ledger(namespace=budget.Caps(usd_per_hour=1.0))
    granted = 0
    for number in range(100):
        try:
            books.reserve(str(number), "ns", 0.3, 0.0)
            granted += 1
        except budget.OverBudget:
            pass
    assert granted == 3


def test_a_namespace_with_its_own_caps_does_not_have_the_common_ones() -> None:
    books = ledger(namespace=budget.Caps(usd_per_hour=0.1), by_namespace={"rich": budget.Caps(usd_per_hour=10)})
    books.reserve("a", "rich", 5.0, 0.0)
    with pytest.raises(budget.OverBudget):
        books.reserve("b", "poor", 5.0, 0.0)


def test_released_money_per_hour_is_free_again_and_spent_money_is_not() -> None:
    books = ledger(namespace=budget.Caps(usd_per_hour=1.0, usd=10.0))
    books.reserve("a", "ns", 1.0, 0.0)
    books.settle("a", 1.0, 0.0)
    assert books.release("a", 6 * HOUR_S) == pytest.approx(6.0)
    assert books.release("a", 7 * HOUR_S) == 0.0
    books.reserve("b", "ns", 1.0, 7 * HOUR_S)
    assert books.spend(8 * HOUR_S, "ns").usd == pytest.approx(7.0)
    assert books.ended_usd() == {"ns": pytest.approx(6.0)}


def test_what_was_certainly_not_bought_costs_nothing() -> None:
    books = ledger()
    books.reserve("a", "ns", 3600.0 / 1000, 0.0)
    books.release("a", 60.0, bought=False)
    assert books.spend(60.0) == budget.Spend(0.0, 0.0)


def test_what_was_bought_is_counted_even_if_the_caller_says_it_was_not() -> None:
    books = ledger()
    books.reserve("a", "ns", 1.0, 0.0)
    books.settle("a", 1.0, 0.0)
    assert books.release("a", HOUR_S, bought=False) == pytest.approx(1.0)
    assert books.spend(HOUR_S).usd == pytest.approx(1.0)


def test_the_next_offer_of_an_attempt_replaces_the_reservation_or_leaves_it() -> None:
    books = ledger(namespace=budget.Caps(usd_per_hour=1.0))
    books.reserve("a", "ns", 0.8, 0.0)
    books.reserve("a", "ns", 0.9, 1.0)
    assert books.spend(1.0).usd_per_hour == pytest.approx(0.9)
    with pytest.raises(budget.OverBudget):
        books.reserve("a", "ns", 1.1, 2.0)
    assert books.spend(2.0).usd_per_hour == pytest.approx(0.9)


def test_a_price_that_turns_out_higher_is_entered_and_the_broken_cap_returned() -> None:
    books = ledger(namespace=budget.Caps(usd_per_hour=1.0))
    books.reserve("a", "ns", 0.9, 0.0)
    over = books.settle("a", 1.2, HOUR_S)
    assert over is not None
    assert over.sentence == "1.200 $/h more would bring namespace ns to 1.200 $/h; the cap is 1.000 $/h"
    assert books.spend(2 * HOUR_S).usd == pytest.approx(0.9 + 1.2)


def test_a_price_that_did_not_rise_breaks_nothing_even_over_a_lowered_cap() -> None:
    books = ledger()
    books.reserve("a", "ns", 0.9, 0.0)
    books.limits = budget.Limits(namespace=budget.Caps(usd_per_hour=0.1))
    assert books.settle("a", 0.9, 0.0) is None
    assert books.settle("a", 0.05, 1.0) is None


def test_settling_what_was_never_reserved_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        ledger().settle("a", 1.0, 0.0)


def test_a_total_must_pay_for_ten_minutes_of_everything_that_runs() -> None:
    books = ledger(installation=budget.Caps(usd=1.0))
    books.reserve("a", "ns", 3.0, 0.0)  # 0.50 for its ten minutes
    books.reserve("b", "ns", 3.0, 0.0)  # 1.00 for both
    with pytest.raises(budget.OverBudget, match="has spent"):
        books.reserve("c", "ns", 0.1, 0.0)


def test_room_is_what_a_reservation_may_cost() -> None:
    books = ledger(each_usd_per_hour=2.0, namespace=budget.Caps(usd_per_hour=3.0), installation=budget.Caps(usd=1.0))
    assert books.room_usd_per_hour("ns", 0.0) == pytest.approx(2.0)
    books.reserve("a", "ns", 1.5, 0.0)
    assert books.room_usd_per_hour("ns", 0.0) == pytest.approx(1.5)
    assert books.room_usd_per_hour("ns", 0.5 * HOUR_S) == pytest.approx(0.0)
    with pytest.raises(budget.OverBudget):
        books.reserve("b", "ns", 0.01, 0.5 * HOUR_S)


def test_overrun_names_what_has_to_end_before_the_total_is_passed() -> None:
    books = ledger(by_namespace={"small": budget.Caps(usd=1.0)})
    books.restore("a", "small", 1.0, 0.0)
    books.restore("b", "other", 1.0, 0.0)
    assert books.overrun(0.9 * HOUR_S) == ()
    assert books.overrun(0.9 * HOUR_S, ahead_s=0.2 * HOUR_S) == ("a",)
    books.limits = budget.Limits(installation=budget.Caps(usd=1.0))
    assert set(books.overrun(0.9 * HOUR_S)) == {"a", "b"}


def test_a_restart_finds_the_books_as_they_were() -> None:
    first = ledger()
    first.reserve("a", "ns", 1.0, 0.0)
    first.settle("a", 1.0, 0.0)
    first.reserve("b", "ns", 2.0, 0.0)
    first.settle("b", 2.0, 0.0)
    first.release("b", HOUR_S)
    second = ledger()
    second.restore("a", "ns", 1.0, 0.0)
    second.restore("a", "ns", 99.0, 0.0)
    second.restore_spent(first.ended_usd())
    assert second.spend(2 * HOUR_S, "ns").usd == pytest.approx(first.spend(2 * HOUR_S, "ns").usd)
    assert second.spend(0.0) == first.spend(0.0)


@pytest.mark.parametrize("usd", [-1.0, float("nan"), float("inf")])
def test_senseless_prices_and_caps_are_refused(usd: float) -> None:
    with pytest.raises(ValueError, match="allowed is a number from 0 up"):
        ledger().reserve("a", "ns", usd, 0.0)
    with pytest.raises(ValueError, match="allowed is a number from 0 up"):
        budget.Caps(usd_per_hour=usd)


class Books(RuleBasedStateMachine):
    """Any sequence of calls: the caps hold for what was granted, and the running sums are the sums of the entries."""

    keys = Bundle("keys")
    caps = budget.Limits(
        each_usd_per_hour=3.0,
        namespace=budget.Caps(usd_per_hour=5.0, usd=20.0),
        installation=budget.Caps(usd_per_hour=8.0, usd=30.0),
    )

    def __init__(self) -> None:
        super().__init__()
        self.books = budget.Ledger(self.caps)
        self.now_s = 1_790_000_000.0
        self.number = 0

    @rule(target=keys, namespace=st.sampled_from("ab"), usd=st.floats(0, 4))
    def reserve(self, namespace: str, usd: float) -> str:
        self.number += 1
        key = f"{namespace}{self.number}"
        room = self.books.room_usd_per_hour(namespace, self.now_s)
        assert room is not None
        try:
            self.books.reserve(key, namespace, usd, self.now_s)
            assert usd <= room + 1e-4
        except budget.OverBudget:
            assert usd >= room - 1e-4
        return key

    @rule(key=keys, share=st.floats(0, 1))
    def settle_for_no_more(self, key: str, share: float) -> None:
        for entry in self.books.entries():
            if entry.key == key:
                assert self.books.settle(key, entry.usd_per_hour * share, self.now_s) is None

    @rule(key=consumes(keys), bought=st.booleans())
    def release(self, key: str, bought: bool) -> None:
        self.books.release(key, self.now_s, bought=bought)

    @rule(seconds=st.floats(0, 20_000))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def rates_stay_under_the_caps(self) -> None:
        assert self.books.spend(self.now_s).usd_per_hour <= 8.0 + 1e-3
        for namespace in "ab":
            assert self.books.spend(self.now_s, namespace).usd_per_hour <= 5.0 + 1e-3

    @invariant()
    def the_sums_are_the_sums_of_the_entries(self) -> None:
        for namespace in "ab":
            mine = [entry for entry in self.books.entries() if entry.namespace == namespace]
            spend = self.books.spend(self.now_s, namespace)
            ended_usd = self.books.ended_usd().get(namespace, 0.0)
            assert spend.usd_per_hour == pytest.approx(sum(entry.usd_per_hour for entry in mine), abs=1e-6)
            assert spend.usd == pytest.approx(sum(entry.usd(self.now_s) for entry in mine) + ended_usd, abs=1e-6)


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
