"""Criteria and weights from ConfigMaps and the environment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareboat.core import criteria, scoring
from bareboat.workload import selection

GROUPED = """
selection:
  gpu:
    type: "RTX3060"
    memory_gb: 12
    count: 1
  performance:
    min_download_mbps: 150
    reliability_score: 0.95
    max_price_per_hour: 0.50
  locations:
    - US-CA
    - US
    - NO
  system:
    min_ram_gb: 16
    cpu_cores: 4
template:
  image: whatever
"""
GROUPED_WEIGHTS = """
scoring:
  price: 0.30
  location: 0.40
blacklist:
  max_price_per_hour: 1.00
  min_reliability: 0.80
  blocked_locations: []
  blocked_hosts: ["12345"]
"""


def test_nothing_said_means_the_defaults() -> None:
    found = selection.read(None, None)
    assert found == selection.Read(criteria.Criteria(), scoring.Weights(), (), ())


def test_each_key_stands_by_itself_and_hyphens_do_as_well() -> None:
    found = selection.read(
        {
            "max-usd-per-hour": "0.45",
            "preferred_regions": "SE, us-ca",
            "only_preferred_regions": "true",
            "min_duration_hours": "2",
            "min_reliability": "none",
            "latency_check": "false",
            "verified_only": "false",
        },
        {"price": "50", "performance": "0"},
    )
    assert found.errors == found.warnings == ()
    assert found.rules.max_usd_per_hour == 0.45
    assert found.rules.preferred_regions == ("SE", "US-CA")
    assert found.rules.only_preferred_regions is True
    assert found.rules.min_duration_s == 7200.0
    assert found.rules.min_reliability is None
    assert found.rules.latency_check is False
    assert found.rules.verified_only is False
    assert (found.weights.price, found.weights.performance, found.weights.location) == (50.0, 0.0, 15.0)


def test_grouped_documents_are_read_whatever_their_key_is_called() -> None:
    found = selection.read({"instance-selection.yaml": GROUPED}, {"weights.yaml": GROUPED_WEIGHTS})
    assert found.errors == ()
    assert found.rules.preferred_gpus == ("RTX3060",)
    assert found.rules.min_gpu_memory_gib == 12
    assert found.rules.min_inet_down_mbps == 150
    assert found.rules.min_reliability == 0.95
    assert found.rules.floor_reliability == 0.80
    assert found.rules.min_memory_gib == 16
    assert found.rules.min_cpu_cores == 4
    assert found.rules.blocked_hosts == frozenset({"12345"})
    assert found.rules.blocked_regions == ()
    assert [sentence.split(": ")[1] for sentence in found.warnings] == [
        "gpu.count is not used",
        "template is not used",
    ]


def test_of_two_maximum_prices_in_the_documents_the_lower_holds() -> None:
    found = selection.read({"instance-selection.yaml": GROUPED}, {"weights.yaml": GROUPED_WEIGHTS})
    assert found.rules.max_usd_per_hour == 0.50


def test_norway_is_a_country() -> None:
    found = selection.read({"instance-selection.yaml": GROUPED}, None)
    assert found.rules.preferred_regions == ("US-CA", "US", "NO")


def test_weights_given_as_shares_are_on_the_scale_of_those_not_given() -> None:
    found = selection.read(None, {"weights.yaml": GROUPED_WEIGHTS})
    assert found.weights == scoring.Weights(price=30.0, location=40.0)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            {"max_usd_per_hour": "cheap"},
            "max_usd_per_hour is 'cheap'; allowed: a number from 0.001 to 1000 US dollars an hour, or none",
        ),
        ({"min_reliability": "95"}, "min_reliability is '95'; allowed: a number from 0 to 1, or none"),
        ({"min_cuda": "nan"}, "min_cuda is 'nan'; allowed: a number from 0 to 100, or none"),
        ({"latency_check": "maybe"}, "latency_check is 'maybe'; allowed: true or false"),
        (
            {"preferred_regions": "US-CA, Sweden"},
            "preferred_regions is 'US-CA, Sweden'; allowed: codes such as US-CA (part of a country), SE (country) or "
            "EU, ASIA, NA, SA, OC; 'SWEDEN' is none of these",
        ),
        ({"x.yaml": "a:\n  - [b"}, "x.yaml, line 2 is not YAML: expected ',' or ']', but got '<stream end>'"),
        ({"x.yaml": "- a"}, "x.yaml is not a mapping of names to values"),
        ({"x.yaml": "locations: [{a: b}]"}, "x.yaml has something other than plain values in the list locations"),
    ],
)
def test_a_value_that_makes_no_sense_is_told_with_key_value_and_what_is_allowed(
    data: dict[str, str], sentence: str
) -> None:
    assert selection.read(data, None).errors == (f"ConfigMap kube-system/vast-provider-config: {sentence}",)


def test_weights_that_make_no_sense_are_told_too() -> None:
    assert "price is '-1'; allowed: a number from 0" in selection.read(None, {"price": "-1"}).errors[0]
    nothing = dict.fromkeys(scoring.TERMS, "0")
    assert selection.read(None, nothing).errors == (
        "ConfigMap kube-system/vast-selection-weights: all weights are 0; at least one has to be greater",
    )


def test_an_unknown_key_is_warned_about_with_the_name_that_was_meant() -> None:
    found = selection.read({"prefered_regions": "US"}, {"prize": "3"})
    assert found.errors == ()
    assert found.warnings == (
        "ConfigMap kube-system/vast-provider-config: prefered_regions means nothing here; "
        "did you mean preferred_regions?",
        "ConfigMap kube-system/vast-selection-weights: prize means nothing here; did you mean price?",
    )


def test_one_bad_value_keeps_the_last_good_configuration_whole() -> None:
    live = selection.Live()
    live.update({"max_usd_per_hour": "0.5"}, {"price": "60"})
    found = live.update({"max_usd_per_hour": "0.9", "min_reliability": "high"}, {"price": "1"})
    assert len(found.errors) == 1
    assert (live.rules.max_usd_per_hour, live.weights.price) == (0.5, 60.0)
    live.update({"max_usd_per_hour": "0.9"}, None)
    assert (live.rules.max_usd_per_hour, live.weights.price) == (0.9, 30.0)


def test_a_removed_config_map_goes_back_to_the_environment() -> None:
    live = selection.Live(selection.from_environment({"VAST_PREFERRED_REGIONS": "SE"}))
    live.update({"preferred_regions": "US"}, None)
    live.update(None, None)
    assert live.rules.preferred_regions == ("SE",)


def test_the_environment_has_the_documented_defaults() -> None:
    rules = selection.from_environment({})
    assert rules.preferred_regions == ("US-CA", "US-TX", "US-NY", "US", "CA")
    assert rules.max_latency_ms == 50
    assert rules.latency_check is True


def test_the_environment_is_read() -> None:
    rules = selection.from_environment(
        {
            "VAST_PREFERRED_REGIONS": "SE,EU",
            "VAST_MAX_LATENCY_MS": "80ms",
            "VAST_LATENCY_CHECK_ENABLED": "False",
        }
    )
    assert (rules.preferred_regions, rules.max_latency_ms, rules.latency_check) == (("SE", "EU"), 80, False)


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("VAST_MAX_LATENCY_MS", "fast", "a number from 1 to 60000 ms"),
        ("VAST_LATENCY_CHECK_ENABLED", "perhaps", "true or false"),
        ("VAST_PREFERRED_REGIONS", "Mars", "codes such as US-CA"),
    ],
)
def test_a_senseless_variable_is_named_with_its_value(variable: str, value: str, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"{variable} is '{value}'; allowed: {allowed}"):
        selection.from_environment({variable: value})


@given(
    st.dictionaries(st.sampled_from([*selection.FIELDS, *selection.ALIASES, "a.yaml", "junk"]), st.text(max_size=60)),
    st.dictionaries(st.sampled_from([*scoring.TERMS, "w.yml", "blacklist.blocked_hosts"]), st.text(max_size=60)),
)
def test_no_text_whatever_breaks_the_reader(config: dict[str, str], weights: dict[str, str]) -> None:
    live = selection.Live()
    found = live.update(config, weights)
    if found.errors:
        assert live.rules == criteria.Criteria()
    else:
        assert live.rules == found.rules


def test_documents_that_refer_to_themselves_or_explode_are_refused() -> None:
    rows = ["a0: &a0 {" + ", ".join(f"k{n}: v" for n in range(9)) + "}"]
    rows += [f"a{n}: &a{n} {{" + ", ".join(f"k{k}: *a{n - 1}" for k in range(9)) + "}" for n in range(1, 5)]
    assert "more than 1000 values" in selection.read({"x.yaml": "\n".join(rows)}, None).errors[0]
    assert selection.read({"x.yaml": "&a [*a]"}, None).errors
    assert selection.read({"x.yaml": "a: &a {b: *a}"}, None).errors
