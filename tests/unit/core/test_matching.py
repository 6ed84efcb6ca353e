"""Hard limits and the reasons they give."""

from typing import Any

import pytest
from tests.unit.core import offering

from bareboat.core import blacklist, criteria, matching, needs

LAX = criteria.Criteria(min_reliability=None, min_inet_down_mbps=None, min_duration_s=None)


def limits_broken(wanted: needs.Needs, rules: criteria.Criteria = LAX, **offer: Any) -> list[str]:
    return [reason.limit for reason in matching.check(offering.an_offer(**offer), wanted, rules)]


@pytest.mark.parametrize(
    ("wanted", "offer", "said"),
    [
        ({"gpu_names": ("RTX 3090",)}, {}, "GPU RTX 3090, found RTX 4090"),
        ({"gpu_count": 2}, {}, "GPU count 2, found 1"),
        ({"gpu_memory_gib": 48.0}, {}, "GPU memory 48 GiB, found 23.99 GiB"),
        ({"cpu_cores": 32.0}, {}, "CPU 32 cores, found 16 cores"),
        ({"memory_gib": 128.0}, {}, "memory 128 GiB, found 64 GiB"),
        ({"disk_gib": 900.0}, {}, "disk 900 GiB, found 500 GiB"),
        ({"ports": 4}, {"ports": 3}, "ports 4, found 3"),
        ({"max_usd_per_hour": 0.25}, {}, "max price 0.25 $/h, found 0.30 $/h"),
        ({"regions": ("SE", "US-TX")}, {}, "region SE or US-TX, found US-CA"),
        ({"min_reliability": 0.995}, {}, "reliability 0.995, found 0.99"),
        ({"min_inet_down_mbps": 900.0}, {}, "download 900 Mb/s, found 800 Mb/s"),
        ({"min_cuda": 13.0}, {}, "CUDA 13, found 12.8"),
        ({}, {"verified": False}, "verified yes, found no"),
        ({"min_duration_s": 86_400.0}, {"duration_s": 7200.0}, "duration 24 h, found 2 h"),
        ({"pricing": needs.Pricing.SPOT}, {"spot_usd_per_hour": None}, "pricing spot, found on-demand only"),
        ({"clouds": ("runpod",)}, {}, "cloud runpod, found vast"),
    ],
)
def test_a_broken_limit_says_what_was_wanted_and_what_was_found(
    wanted: dict[str, Any], offer: dict[str, Any], said: str
) -> None:
    reasons = matching.check(offering.an_offer(**offer), needs.Needs(**wanted), LAX)
    assert [str(reason) for reason in reasons] == [said]


def test_an_offer_that_meets_all_limits_has_no_reasons() -> None:
    wanted = needs.Needs(gpu_names=("rtx_4090",), gpu_memory_gib=24, max_usd_per_hour=0.31, regions=("US",), ports=2)
    assert matching.check(offering.an_offer(), wanted) == ()


def test_every_broken_limit_is_told_not_only_the_first() -> None:
    assert limits_broken(needs.Needs(gpu_names=("H100",), min_cuda=13), verified=False) == ["GPU", "CUDA", "verified"]


@pytest.mark.parametrize("name", ["RTX_4090", "rtx-4090", "RTX4090", "rtx 4090"])
def test_gpu_names_compare_however_they_are_written(name: str) -> None:
    assert limits_broken(needs.Needs(gpu_names=(name,))) == []


def test_a_longer_gpu_name_is_another_gpu() -> None:
    assert limits_broken(needs.Needs(gpu_names=("RTX 4090",)), gpu_name="RTX 4090D") == ["GPU"]


@pytest.mark.parametrize(
    ("asked_gib", "reported_gib", "passes"),
    [(24, 23.99, True), (48, 44.99, True), (80, 79.65, True), (16, 15.0, True), (24, 22.0, False), (12, 11.0, False)],
)
def test_gpu_memory_means_the_size_on_the_box(asked_gib: float, reported_gib: float, passes: bool) -> None:
    assert (limits_broken(needs.Needs(gpu_memory_gib=asked_gib), gpu_memory_gib=reported_gib) == []) is passes


def test_max_price_includes_the_disk() -> None:
    wanted = needs.Needs(disk_gib=100, max_usd_per_hour=0.31)  # 0.30 + 100 × 0.144 / 720 = 0.32
    assert limits_broken(wanted) == ["max price"]


def test_max_price_of_a_spot_workload_looks_at_the_spot_price() -> None:
    assert limits_broken(needs.Needs(max_usd_per_hour=0.25, pricing=needs.Pricing.SPOT)) == []


def test_no_gpu_asked_for_takes_machines_with_any_number() -> None:
    assert limits_broken(needs.Needs(gpu_count=0), gpu_count=4) == []


@pytest.mark.parametrize(
    ("wanted", "unknown", "name"),
    [
        ({"gpu_memory_gib": 8.0}, "gpu_memory_gib", "GPU memory"),
        ({"cpu_cores": 1.0}, "cpu_cores", "CPU"),
        ({"memory_gib": 1.0}, "memory_gib", "memory"),
        ({"min_cuda": 11.0}, "cuda", "CUDA"),
        ({"regions": ("US",)}, "region", "region"),
        ({"min_reliability": 0.5}, "reliability", "reliability"),
        ({"min_inet_down_mbps": 1.0}, "inet_down_mbps", "download"),
        ({"disk_gib": 100.0}, "disk_gib", "disk"),
        ({"ports": 5}, "ports", "ports"),
        ({"min_duration_s": 60.0}, "duration_s", "duration"),
    ],
)
def test_an_unknown_figure_is_taken_as_the_table_says(wanted: dict[str, Any], unknown: str, name: str) -> None:
    rule = matching.UNKNOWN[name]
    gap: dict[str, Any] = {unknown: None}
    at_home = limits_broken(needs.Needs(**wanted), datacenter=False, **gap)
    in_datacenter = limits_broken(needs.Needs(**wanted), datacenter=True, **gap)
    assert at_home == ([] if rule == matching.PASSES else [name])
    assert in_datacenter == ([name] if rule == matching.FAILS else [])


def test_of_two_maximum_prices_the_lower_holds() -> None:
    rules = criteria.Criteria(max_usd_per_hour=0.2)
    assert limits_broken(needs.Needs(max_usd_per_hour=5.0), rules) == ["max price"]
    assert matching.joined(needs.Needs(max_usd_per_hour=0.1), rules).max_usd_per_hour == 0.1


def test_a_workload_may_ask_for_less_reliability_but_not_below_the_floor() -> None:
    rules = criteria.Criteria(min_reliability=0.95, floor_reliability=0.8)
    assert matching.joined(needs.Needs(), rules).min_reliability == 0.95
    assert matching.joined(needs.Needs(min_reliability=0.9), rules).min_reliability == 0.9
    assert matching.joined(needs.Needs(min_reliability=0.5), rules).min_reliability == 0.8


def test_preferred_regions_bind_only_when_the_criteria_say_so() -> None:
    assert limits_broken(needs.Needs(), region="SE") == []
    rules = criteria.Criteria(only_preferred_regions=True)
    assert limits_broken(needs.Needs(), rules, region="SE") == ["region"]
    assert limits_broken(needs.Needs(regions=("SE",)), rules, region="SE") == []


def test_blocked_places_hosts_and_machines_stay_blocked_whatever_the_workload_says() -> None:
    wanted = needs.Needs(regions=("US-CA",))
    assert limits_broken(wanted, criteria.Criteria(blocked_regions=("US",))) == ["blocked region"]
    assert limits_broken(wanted, criteria.Criteria(blocked_hosts=frozenset({"h1"}))) == ["banned"]
    assert limits_broken(wanted, criteria.Criteria(blocked_machines=frozenset({"m1"}))) == ["banned"]


def test_verified_only_can_be_left_to_the_workload_forced_or_lifted() -> None:
    assert limits_broken(needs.Needs(verified_only=False), verified=False) == []
    forced = criteria.Criteria(verified_only=True)
    assert limits_broken(needs.Needs(verified_only=False), forced, verified=False) == ["verified"]
    assert limits_broken(needs.Needs(), criteria.Criteria(verified_only=False), verified=False) == []


def test_a_ban_is_told_with_its_reason() -> None:
    bans = blacklist.Blacklist()
    bans.ban(offering.GOOD, "did not start within 300 s", 0.0)
    reasons = matching.check(offering.GOOD, needs.Needs(), LAX, matching.Situation(10.0, bans))
    assert [str(reason) for reason in reasons] == [
        "banned no, found machine m1 of vast: did not start within 300 s",
    ]


def test_a_measured_round_trip_over_the_limit_is_a_reason_and_an_unmeasured_one_is_not() -> None:
    far = matching.Situation(latencies_ms={"198.51.100.7": 83.2})
    assert [str(r) for r in matching.check(offering.GOOD, needs.Needs(), LAX, far)] == ["latency 50 ms, found 83.2 ms"]
    elsewhere = matching.Situation(latencies_ms={"198.51.100.8": 83.2})
    assert matching.check(offering.GOOD, needs.Needs(), LAX, elsewhere) == ()
    assert matching.check(offering.GOOD, needs.Needs(), criteria.Criteria(latency_check=False), far) == ()
