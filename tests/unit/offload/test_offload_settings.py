"""Flags and variables of the offload door: the documented defaults, and sentences for what makes no sense."""

import pytest
import typer.testing

from bareboat import settings
from bareboat.cli import main
from bareboat.offload import health, policy
from bareboat.offload import settings as offload_settings


def read(**given: object) -> offload_settings.Offload:
    found: offload_settings.Offload = settings.read(offload_settings.Offload, **given)
    return found


def test_defaults_are_the_documented_ones() -> None:
    about = read()
    assert (about.reconcile_interval, about.health_address()) == (30.0, health.Address("", 8080))
    assert about.rules() == policy.Rules(
        max_pending_s=0.0, pending_job_threshold=1, max_usd_per_hour=0.5, order=policy.Order.OLDEST
    )


def test_every_word_of_the_policy_is_read() -> None:
    rules = read(
        order="fewest-gpus",
        selector="tier=batch",
        namespaces="a, b",
        max_pods=3,
        max_pods_per_namespace=2,
        budgets="a=2.5, *=1",
        cloud="vast,runpod",
        max_pending_time=60,
        pending_job_threshold=7,
        max_gpu_price=0.25,
    ).rules()
    assert rules.order is policy.Order.FEWEST_GPUS and rules.clouds == ("vast", "runpod")
    assert rules.namespaces == {"a", "b"} and rules.selector.fits({"tier": "batch"}) and not rules.selector.fits({})
    assert (rules.most_pods, rules.most_pods_per_namespace) == (3, 2)
    assert rules.usd_per_hour_by_namespace == {"a": 2.5, "*": 1.0}
    assert (rules.max_pending_s, rules.pending_job_threshold, rules.max_usd_per_hour) == (60, 7, 0.25)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("max_gpu_price", "cheap", "BAREBOAT_OFFLOAD_MAX_GPU_PRICE is 'cheap'"),
        ("max_gpu_price", "nan", "BAREBOAT_OFFLOAD_MAX_GPU_PRICE"),
        ("max_gpu_price", "0", "greater than 0"),
        ("max_pending_time", "-1", "greater than or equal to 0"),
        ("pending_job_threshold", "many", "BAREBOAT_OFFLOAD_PENDING_JOB_THRESHOLD is 'many'"),
        ("reconcile_interval", "0", "greater than 0"),
        ("health_server_address", "8080", "allowed is HOST:PORT"),
        ("health_server_address", ":99999", "allowed is HOST:PORT"),
        ("selector", "a b", "no term of a label selector"),
        ("namespaces", "Team_A", "no name of a namespace"),
        ("budgets", "team-a=lots", "no budget; allowed are pairs such as team-a=2.5"),
        ("order", "random", "BAREBOAT_OFFLOAD_ORDER is 'random'"),
    ],
)
def test_nonsense_is_a_sentence(name: str, value: str, told: str) -> None:
    with pytest.raises(settings.Bad) as caught:
        read(**{name: value})
    assert told in str(caught.value)


def test_bad_flags_end_the_command_with_exit_code_2_and_no_traceback() -> None:
    runner = typer.testing.CliRunner()
    result = runner.invoke(main.app, ["offload", "--order", "random", "--max-gpu-price", "0"])
    assert result.exit_code == 2
    assert "BAREBOAT_OFFLOAD_ORDER" in result.output and "BAREBOAT_OFFLOAD_MAX_GPU_PRICE" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("text", "host", "port"), [(":8080", "", 8080), ("127.0.0.1:0", "127.0.0.1", 0), ("[::1]:9", "::1", 9)]
)
def test_health_addresses(text: str, host: str, port: int) -> None:
    assert read(health_server_address=text).health_address() == health.Address(host, port)
