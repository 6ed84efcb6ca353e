"""The driver has the shape of the seam, and is found without being listed anywhere."""

import pytest
from tests.unit.vast import fakes

from bareboat.clouds import discovery
from bareboat.core import cloud as seam
from bareboat.plumbing import clock as clocks


async def test_vast_is_found_and_opened_by_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_API_KEY", fakes.KEY)
    assert "vast" in discovery.names()
    driver = discovery.driver("vast")
    cloud: seam.Cloud = driver.open(driver.settings(), clocks.SystemClock())
    assert cloud.name == driver.name == "vast"
    for power in (seam.HasLogs, seam.HasCensus, seam.HasBilling, seam.HasTemplates):
        assert isinstance(cloud, power)
    await cloud.close()


async def test_the_driver_has_the_types_of_the_seam() -> None:
    async with fakes.client("http://127.0.0.1:9") as driver:
        cloud: seam.Cloud = driver
        logs: seam.HasLogs = driver
        census: seam.HasCensus = driver
        billing: seam.HasBilling = driver
        templates: seam.HasTemplates = driver
    assert len({id(each) for each in (cloud, logs, census, billing, templates)}) == 1


def test_a_missing_key_is_named_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAST_API_KEY", raising=False)
    driver = discovery.driver("vast")
    with pytest.raises(ValueError, match=r"^VAST_API_KEY is not set"):
        driver.open(driver.settings(), clocks.SystemClock())


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("URL", "console.vast.ai", "it has to be https://HOST"),
        ("URL", "https://", "it has to be https://HOST"),
        ("URL", "https://a b", "it has to be https://HOST"),
        ("URL", "https://me:secret@host", "VAST_URL holds a user"),
        ("URL", "https://host/?api_key=secret", "VAST_URL holds a user, a query"),
        ("API_KEY", "two words", "it holds blanks"),
        ("API_KEY", "k\u00e9y", "it holds blanks"),
        ("RATE_LIMIT", "perhaps", "'on' or 'off'"),
        ("TIMEOUT_S", "0", "greater"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(f"VAST_{variable}", value)
    driver = discovery.driver("vast")
    with pytest.raises(ValueError, match=told) as caught:
        driver.open(driver.settings(), clocks.SystemClock())
    assert "two words" not in str(caught.value) and "secret" not in str(caught.value)


def test_an_unknown_cloud_is_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"there is no cloud 'nimbus'; there are: .*vast"):
        discovery.driver("nimbus")


async def test_the_key_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_API_KEY", fakes.KEY)
    driver = discovery.driver("vast")
    settings = driver.settings()
    cloud = driver.open(settings, clocks.SystemClock())
    assert fakes.KEY not in f"{settings!r} {cloud!r} {vars(cloud)!r}"
    await cloud.close()
