"""Settings: where a value comes from, and a line for each that makes no sense."""

from pathlib import Path

import pytest

from bareboat import settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NODENAME", "KUBELET_PORT", "BAREBOAT_ENV_FILE", "BAREBOAT_GPUS", "BAREBOAT_ADDRESS", "POD_IP"):
        monkeypatch.delenv(name, raising=False)


def bad(kind: type, **flags: object) -> str:
    with pytest.raises(settings.Bad) as wrong:
        settings.read(kind, **flags)
    return str(wrong.value)


def test_defaults_are_those_of_the_documents() -> None:
    node = settings.read(settings.Node)
    assert (node.node_name, node.kubelet_port, node.rent_for) == ("vast-gpu-node-na-1", 10250, "all")
    renting = settings.read(settings.Renting)
    assert (renting.max_usd_per_hour, renting.watch_idle_s) == (1.0, 10.0)


def test_flags_go_before_the_environment_that_before_the_file_that_before_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "settings.env"
    file.write_text("NODENAME=from-file\nBAREBOAT_GPUS=3\nKUBELET_PORT=1111\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("BAREBOAT_ENV_FILE", str(file))
    assert settings.read(settings.Node).node_name == "from-file"
    monkeypatch.setenv("NODENAME", "from-environment")
    node = settings.read(settings.Node)
    assert (node.node_name, node.gpus, node.kubelet_port) == ("from-environment", 3, 1111)
    node = settings.read(settings.Node, node_name="from-flag", kubelet_port=None)
    assert (node.node_name, node.kubelet_port) == ("from-flag", 1111)


def test_a_file_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAREBOAT_ENV_FILE", "/no/such/file")
    assert bad(settings.Node) == "BAREBOAT_ENV_FILE is '/no/such/file': there is no such file"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NODENAME", "Upper_Case"),
        ("NODENAME", ""),
        ("KUBELET_PORT", "http"),
        ("KUBELET_PORT", "70000"),
        ("BAREBOAT_CPUS", "lots"),
        ("BAREBOAT_MEMORY", "2 Terabytes"),
        ("BAREBOAT_GPUS", "-1"),
        ("BAREBOAT_GPUS", "1.5"),
        ("BAREBOAT_PODS", "0"),
        ("BAREBOAT_WORKERS", "0"),
        ("BAREBOAT_ADDRESS", "node.example.com"),
        ("POD_IP", "10.0.0.999"),
        ("BAREBOAT_LABELS", "zone"),
        ("BAREBOAT_LABELS", "a b=c"),
        ("BAREBOAT_LABELS", "zone=eu 1"),
        ("BAREBOAT_CLUSTER_ID", "a/b"),
        ("BAREBOAT_RENT_FOR", "some"),
        ("VKUBELET_TAINT_EFFECT", "Never"),
        ("BAREBOAT_APPROVE_CERTIFICATE", "perhaps"),
    ],
)
def test_a_node_setting_that_makes_no_sense_names_variable_and_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    line = bad(settings.Node)
    assert "\n" not in line and repr(value) in line
    if variable != "POD_IP":
        assert line.startswith(f"{variable} is ")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "0", "free"])
@pytest.mark.parametrize(
    "variable",
    [
        "BAREBOAT_MAX_USD_PER_HOUR",
        "BAREBOAT_POD_USD_PER_HOUR_CAP",
        "BAREBOAT_NAMESPACE_USD_CAP",
        "BAREBOAT_INSTALLATION_USD_PER_HOUR_CAP",
        "BAREBOAT_START_TIMEOUT_S",
        "BAREBOAT_WATCH_IDLE_S",
    ],
)
def test_no_money_or_time_is_set_to_nonsense(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert bad(settings.Renting).startswith(f"{variable} is '{value}': ")


def test_all_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODENAME", "!")
    monkeypatch.setenv("BAREBOAT_GPUS", "x")
    assert len(bad(settings.Node).splitlines()) == 2


def test_settings_become_what_the_parts_work_with() -> None:
    node = settings.read(settings.Node, labels="zone=eu-1, example.com/tier=gpu,", gpus=4, address="10.0.0.7")
    assert node.extra_labels() == {"zone": "eu-1", "example.com/tier": "gpu"}
    assert node.capacity()["nvidia.com/gpu"] == "4" and node.address == "10.0.0.7"
    assert node.taint().key == "virtual-kubelet.io/provider"
    renting = settings.read(settings.Renting, pod_usd_per_hour_cap=0.5, namespace_usd_cap=20.0)
    limits = renting.limits()
    assert (limits.each_usd_per_hour, limits.namespace.usd, limits.installation.usd) == (0.5, 20.0, None)
    assert renting.defaults().pod_cap_usd_per_hour == 0.5
    assert renting.policy(33.0).visibility_window_s == 33.0


def test_the_own_address_is_found_without_sending_anything() -> None:
    assert settings.own_address("127.0.0.1", 6443) == "127.0.0.1"
    assert settings.own_address("no.such.host.invalid", 6443) == "127.0.0.1"
