"""Places and what covers them."""

import pytest

from bareboat.core import regions


@pytest.mark.parametrize(
    ("wanted", "found", "covered"),
    [
        ("US", "US-CA", True),
        ("US-CA", "US-CA", True),
        ("US-CA", "US", False),
        ("CA", "US-CA", False),
        ("CA", "CA-QC", True),
        ("EU", "SE", True),
        ("EU", "US", False),
        ("NA", "CA-QC", True),
        ("US", "USX", False),
    ],
)
def test_a_wider_place_covers_the_narrower(wanted: str, found: str, covered: bool) -> None:
    assert regions.covers(wanted, found) is covered


def test_the_first_place_in_order_that_covers_counts() -> None:
    ordered = ("US-CA", "US", "CA")
    assert [regions.place(found, ordered) for found in ("US-CA", "us_tx", "CA-QC", "SE", None, "")] == [
        0, 1, 2, None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["us_ca", " US-CA ", "us ca"])
def test_codes_are_read_however_they_are_written(text: str) -> None:
    assert regions.canonical(text) == "US-CA"


@pytest.mark.parametrize(
    ("code", "right"), [("US", True), ("EU", True), ("CA-QC", True), ("SWEDEN", False), ("", False)]
)
def test_codes_that_cannot_be_places_are_told(code: str, right: bool) -> None:
    assert regions.looks_right(code) is right


def test_a_code_gives_the_countries_that_a_filter_may_ask_for() -> None:
    assert regions.countries("US-CA") == {"US"}
    assert {"SE", "DE", "PL"} <= regions.countries("EU")
