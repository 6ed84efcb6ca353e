"""Kubernetes quantities: exact, rounded up, and refused in words."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareboat.workload import quantities


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100m", Fraction(1, 10)),
        ("1Gi", Fraction(2**30)),
        ("1.5Gi", Fraction(3 * 2**29)),
        ("1e3", Fraction(1000)),
        ("1E3", Fraction(1000)),
        ("1E", Fraction(10**18)),
        ("12e-1", Fraction(6, 5)),
        ("0.5", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("2.", Fraction(2)),
        ("+3k", Fraction(3000)),
        ("-1", Fraction(-1)),
        ("250n", Fraction(1, 4_000_000)),
        (8, Fraction(8)),
        (0.25, Fraction(1, 4)),
    ],
)
def test_quantity_is_read_exactly(text: str | int | float, value: Fraction) -> None:
    assert quantities.parse(text) == value


@pytest.mark.parametrize("text", ["", "abc", "1 Gi", "1gi", "Gi", "1.2.3", "0x10", "1e", "1e99", "nan", "1Ki2", "--1"])
def test_nonsense_is_refused_and_the_message_names_field_value_and_what_is_allowed(text: str) -> None:
    with pytest.raises(quantities.Malformed) as refusal:
        quantities.parse(text, "limits.cpu")
    assert "limits.cpu" in str(refusal.value)
    assert repr(text) in str(refusal.value)
    assert "16Gi" in str(refusal.value)


def test_fractions_of_a_unit_round_up() -> None:
    assert quantities.whole("100m") == 1
    assert quantities.whole("1.1") == 2
    assert quantities.milli("1500u") == 2
    assert quantities.cores("1500m") == 1.5
    assert quantities.gib("512Mi") == 0.5


@given(st.integers(0, 10**15), st.sampled_from(["", "k", "M", "G", "Ki", "Mi", "Gi", "m", "u"]))
def test_rounding_never_gives_less_than_was_asked_nor_a_unit_more(number: int, suffix: str) -> None:
    exact = quantities.parse(f"{number}{suffix}")
    assert exact <= quantities.whole(f"{number}{suffix}") < exact + 1
    assert exact <= Fraction(quantities.milli(f"{number}{suffix}"), 1000) < exact + Fraction(1, 1000)


@given(st.text(max_size=30))
def test_any_text_gives_a_number_or_a_sentence(text: str) -> None:
    try:
        quantities.parse(text)
    except quantities.Malformed as refusal:
        assert "allowed is" in str(refusal)
