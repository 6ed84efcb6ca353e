"""How the commands that look around tell ages, dollars and trouble."""

import pytest
import typer

from bareboat.cli import looking
from bareboat.core import errors
from bareboat.kube import errors as kube_errors


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, "?"), (0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h0m"), (90_000, "1d1h")],
)
def test_ages_are_told_in_two_units(seconds: float | None, told: str) -> None:
    assert looking.age(seconds) == told


@pytest.mark.parametrize(("dollars", "told"), [(0, "0.00"), (0.0041, "0.0041"), (0.1, "0.10"), (12.345, "12.35")])
def test_small_sums_are_told_exactly(dollars: float, told: str) -> None:
    assert looking.usd(dollars) == told


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (ValueError("BAREBOAT_PODS is 'x'"), 2),
        (kube_errors.ConfigError("no kubeconfig"), 2),
        (kube_errors.Unreachable("no answer"), 1),
        (errors.CloudDown("vast", "silent"), 1),
    ],
)
def test_trouble_is_a_sentence_and_an_exit_code(
    trouble: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work() -> int:
        raise trouble

    with pytest.raises(typer.Exit) as ended:
        looking.run("instances", work)
    assert ended.value.exit_code == code
    assert capsys.readouterr().err == f"bareboat instances: {trouble}\n"
