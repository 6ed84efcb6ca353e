"""The kubelet's own flags: their names, their defaults, what they open, and the warning that goes with it."""

import pytest
from structlog import testing
from tests.unit.kubelet import serving

from bareboat.kubelet import authn, authz, flags


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in flags.Flags.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_by_default_the_api_server_decides_about_everybody() -> None:
    given = flags.Flags.model_validate({})
    assert given.authentication() == authn.Settings()
    assert given.authorization() == authz.Settings()
    assert given.serving("127.0.0.1", 0).streams.idle_s == 4 * 3600


@pytest.mark.parametrize(
    "text, seconds",
    [("30s", 30), ("4h0m0s", 14400), ("2m30s", 150), ("1.5h", 5400), ("100ms", 0.1), ("0", 0), ("0s", 0)],
)
def test_durations_are_written_as_for_a_kubelet(text: str, seconds: float) -> None:
    assert flags.seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "4 h", "-5s", "1d", "h", "5s5"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="allowed are durations such as 30s"):
        flags.seconds(text)


def test_an_idle_timeout_of_0_means_never() -> None:
    given = flags.Flags.model_validate({"streaming_connection_idle_timeout": "0"})
    assert given.serving("127.0.0.1", 0).streams.idle_s == float("inf")


@pytest.mark.parametrize(
    "anonymous, mode, word",
    [
        (False, "Webhook", None),
        (True, "Webhook", "anonymous auth: whoever reaches this port"),
        (False, "AlwaysAllow", "AlwaysAllow: every caller that is known may run commands"),
        (True, "AlwaysAllow", "AlwaysAllow: whoever reaches this port may run commands"),
    ],
)
async def test_what_is_left_open_is_warned_about_at_the_start(anonymous: bool, mode: str, word: str | None) -> None:
    given = flags.Flags.model_validate({"anonymous_auth": anonymous, "authorization_mode": mode})
    with testing.capture_logs() as logged:
        async with serving.served(authentication=given.authentication(), authorization=given.authorization()):
            pass
    warnings = [entry["why"] for entry in logged if entry["log_level"] == "warning"]
    assert len(warnings) == (word is not None)
    assert word is None or word in warnings[0]
