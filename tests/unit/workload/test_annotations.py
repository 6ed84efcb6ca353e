"""How annotations are read: spellings, prefixes, and a sentence for what makes no sense."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareboat.workload import annotations as notes


def read(**several: str) -> notes.Annotations:
    return notes.Annotations({f"bareboat.dev/{name.replace('_', '-')}": text for name, text in several.items()})


def test_nothing_is_said_by_a_pod_without_annotations() -> None:
    nothing = notes.Annotations(None)
    assert nothing.find(notes.MAX_PRICE) is None and nothing.words(notes.REGIONS) == ()
    assert nothing.number(notes.MAX_PRICE, 0, 1, "") is None and nothing.flag(notes.RENT) is None


@pytest.mark.parametrize(
    ("name", "spelling"), [(name, each) for name, all_ in notes.SPELLINGS.items() for each in all_]
)
@pytest.mark.parametrize("prefix", notes.PREFIXES)
def test_every_spelling_is_read_under_both_prefixes(name: str, spelling: str, prefix: str) -> None:
    found = notes.Annotations({prefix + spelling: " x "}).find(name)
    assert found == notes.Found(prefix + spelling, "x")


def test_our_own_prefix_and_the_first_spelling_go_before_others() -> None:
    several = {"vast.ai/max-usd-per-hour": "3", "bareboat.dev/max-price": "2", "bareboat.dev/max-usd-per-hour": "1"}
    for expected in ("1", "2", "3"):
        found = notes.Annotations(several).find(notes.MAX_PRICE)
        assert found is not None and found.text == expected
        del several[found.name]


def test_an_empty_annotation_says_nothing() -> None:
    several = {"bareboat.dev/max-price": "  ", "vast.ai/max-price": "2"}
    assert notes.Annotations(several).number(notes.MAX_PRICE, 0, 9, "") == 2


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), ("0.5", 0.5), ("$0.5", 0.5), ("16Gi", 16), ("16GiB", 16), ("1e1", 10)]
)
def test_numbers_are_read_with_the_units_that_people_write(text: str, number: float) -> None:
    assert read(disk_gib=text).number(notes.DISK, 0, 100, "GiB") == number


@pytest.mark.parametrize("text", ["cheap", "-1", "101", "nan", "inf", "-inf", "1,5", "0x10", "1 2", "16GB"])
def test_a_number_that_makes_no_sense_names_field_value_and_what_is_allowed(text: str) -> None:
    with pytest.raises(notes.Invalid) as wrong:
        read(disk_gib=text).number(notes.DISK, 1, 100, "GiB")
    assert str(wrong.value) == f"annotation bareboat.dev/disk-gib is {text!r}; allowed: a number from 1 to 100 GiB"


@given(st.text(max_size=300))
def test_whatever_the_text_a_number_is_in_range_or_refused_in_one_line(text: str) -> None:
    try:
        number = notes.Annotations({"vast.ai/disk": text}).number(notes.DISK, 1, 100, "GiB")
    except notes.Invalid as wrong:
        assert "vast.ai/disk" in str(wrong) and "\n" not in str(wrong) and len(str(wrong)) < 700
    else:
        assert number is None or 1 <= number <= 100


@pytest.mark.parametrize(
    ("text", "flag"), [("true", True), ("YES", True), ("1", True), ("False", False), ("no", False), ("0", False)]
)
def test_flags(text: str, flag: bool) -> None:
    assert read(rent=text).flag(notes.RENT) is flag


def test_a_flag_that_is_neither_is_refused() -> None:
    with pytest.raises(notes.Invalid, match=r"bareboat.dev/rent is 'maybe'; allowed: true or false"):
        read(rent="maybe").flag(notes.RENT)


def test_words_are_cut_at_commas_and_trimmed() -> None:
    assert read(regions=" US-CA, ,SE,").words(notes.REGIONS) == ("US-CA", "SE")


def test_a_choice_is_read_without_case_and_refused_with_the_choices() -> None:
    choices = {"spot": "spot", "bid": "spot", "on-demand": "on-demand"}
    assert read(pricing="BID").choice(notes.PRICING, choices) == "spot"
    with pytest.raises(notes.Invalid, match="allowed: spot, bid, on-demand"):
        read(pricing="free").choice(notes.PRICING, choices)
