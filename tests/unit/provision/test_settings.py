import pytest

from bareboat import settings

NAMES = ("HOST", "PORT", "NAMESPACE", "PROVISION_TOKEN", "PROVISION_IMAGES", "PROVISION_MAX_BODY_BYTES")


@pytest.fixture(autouse=True)
def _no_variables_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "PROVISION_REQUESTS_PER_MINUTE", "PROVISION_MAX_PODS", "BAREBOAT_ENV_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_defaults_are_the_documented_ones() -> None:
    about = settings.read(settings.Provision)
    assert (about.host, about.port, about.namespace) == ("0.0.0.0", 8088, "default")
    assert (about.server().token, about.server().images, about.server().requests_per_minute) == ("", (), 600)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "65536"),
        ("HOST", ""),
        ("NAMESPACE", "No_Namespace"),
        ("NAMESPACE", ""),
        ("PROVISION_MAX_BODY_BYTES", "1"),
        ("PROVISION_REQUESTS_PER_MINUTE", "-1"),
        ("PROVISION_MAX_PODS", "many"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(settings.Bad, match=name):
        settings.read(settings.Provision)


def test_the_token_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVISION_TOKEN", "very-secret")
    about = settings.read(settings.Provision)
    assert about.server().token == "very-secret"
    assert "very-secret" not in repr(about) + repr(about.server())
