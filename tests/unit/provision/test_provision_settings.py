import re
from pathlib import Path

import pytest

from bareboat import settings
from bareboat.provision import description

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


def test_every_variable_is_in_the_document_with_its_default() -> None:
    document = (Path(__file__).parents[3] / "docs" / "provision.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (`\S+`|) ?\| ", document, re.MULTILINE))
    fields = settings.Provision.model_fields
    defaults = {field.alias or f"PROVISION_{name}".upper(): field.default for name, field in fields.items()}
    assert rows == {name: f"`{value}`" if str(value) else "" for name, value in defaults.items()}
    for field in fields.values():
        assert field.description and field.description in document


def test_every_refusal_of_the_document_is_described_to_programs() -> None:
    document = (Path(__file__).parents[3] / "docs" / "provision.md").read_text()
    paragraph = document[document.index("A refusal is JSON") : document.index("## On a rented GPU")]
    told = set(re.findall(r"\b([45]\d\d):", paragraph))
    operations = [each for path in description.document(with_token=False)["paths"].values() for each in path.values()]
    assert told == {status for each in operations for status in each["responses"]} - {"200"}
