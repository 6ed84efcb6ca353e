"""Settings from the environment, and the quotas that answers tell."""

import pydantic
import pytest

from bareboat.clouds import discovery
from bareboat.clouds.runpod import api, cloud, pace, settings
from bareboat.core import cloud as seam
from bareboat.core import errors
from bareboat.plumbing import clock as clocks

NAMES = ("API_KEY", "KEY", "URL", "API_BASE_URL", "V1_URL", "API_URL", "GRAPHQL_URL", "CLOUDS")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(f"RUNPOD_{name}", raising=False)


def test_the_cloud_is_found_and_opened_with_its_powers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_KEY", " word ")
    driver = discovery.driver("runpod")
    opened = driver.open(driver.settings(), clocks.ManualClock())
    assert isinstance(opened, cloud.RunpodCloud) and opened.name == "runpod"
    assert (
        isinstance(opened, seam.HasLogs) and isinstance(opened, seam.HasCensus) and isinstance(opened, seam.HasBilling)
    )
    assert "word" not in repr(opened)


def test_both_names_of_the_key_work_and_the_usual_one_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_KEY", "old")
    assert settings.Settings().api_key.get_secret_value() == "old"
    monkeypatch.setenv("RUNPOD_API_KEY", "new")
    assert settings.Settings().api_key.get_secret_value() == "new"


def test_one_other_address_is_that_of_all_three_apis(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.Settings().bases() == api.Bases(
        "https://api.runpod.io/v2", "https://rest.runpod.io/v1", "https://api.runpod.io/graphql"
    )
    monkeypatch.setenv("RUNPOD_URL", "http://127.0.0.1:8/")
    assert settings.Settings().bases() == api.Bases(
        "http://127.0.0.1:8/v2", "http://127.0.0.1:8/v1", "http://127.0.0.1:8/graphql"
    )
    monkeypatch.setenv("RUNPOD_GRAPHQL_URL", "http://127.0.0.1:9/graphql")
    monkeypatch.setenv("RUNPOD_API_URL", "http://127.0.0.1:10/v1")
    assert settings.Settings().bases() == api.Bases(
        "http://127.0.0.1:8/v2", "http://127.0.0.1:10/v1", "http://127.0.0.1:9/graphql"
    )


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("URL", "api.runpod.io", "https://HOST"),
        ("API_KEY", "two words", "one word"),
        ("CLOUDS", "BOTH", "SECURE, COMMUNITY or"),
        ("CLOUDS", "", "SECURE, COMMUNITY or"),
    ],
)
def test_bad_values_are_told_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(f"RUNPOD_{name}", value)
    with pytest.raises(pydantic.ValidationError, match=sentence):
        settings.Settings()


def test_a_missing_key_and_an_address_that_holds_too_much_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="RUNPOD_API_KEY is not set"):
        settings.open(settings.Settings(), clocks.ManualClock())
    monkeypatch.setenv("RUNPOD_API_KEY", "k")
    monkeypatch.setenv("RUNPOD_URL", "https://me:secret@api.runpod.io")
    with pytest.raises(ValueError, match="RUNPOD_URL holds a user") as caught:
        settings.open(settings.Settings(), clocks.ManualClock())
    assert "secret" not in str(caught.value)


HEADER = {"RateLimit": '"minute";r=7;t=30, "hour";r=2990;t=3000, "day";r=49000;t=80000'}


async def test_calls_go_on_until_what_is_kept_for_ends() -> None:
    keeper = pace.Pace(clocks.ManualClock())
    keeper.told(HEADER)
    for _ in range(7 - pace.RESERVE):
        await keeper.turn(0.0)
    with pytest.raises(errors.Throttled) as caught:
        await keeper.turn(10.0)
    assert caught.value.after_s == pytest.approx(30)
    for _ in range(pace.RESERVE):
        await keeper.turn(0.0, urgent=True)
    assert keeper.wait_s(urgent=True) == pytest.approx(30)


async def test_a_refusal_closes_for_what_it_says_and_no_header_holds_nothing_back() -> None:
    clock = clocks.ManualClock()
    keeper = pace.Pace(clock)
    keeper.told({"RateLimit": "nonsense;;r=x"})
    assert keeper.wait_s() == 0
    keeper.refused(12)
    assert keeper.wait_s(urgent=True) == pytest.approx(12)
    await clock.advance(12)
    await keeper.turn(0.0)


def test_quotas_can_be_left_alone() -> None:
    keeper = pace.Pace(clocks.ManualClock(), limited=False)
    keeper.told({"RateLimit": '"minute";r=0;t=60'})
    assert keeper.wait_s() == 0
