"""Fault scripts: what they may say, and when their faults strike."""

from typing import Any

import pytest

from bareboat.simulation import faults, faultscript

NOW_S = 1000.0


def script(*rules: faults.Rule, seed: int = 1) -> faults.Faults:
    return faults.Faults(rules, seed=seed)


def strikes(of: faults.Faults, name: str, times: int, at_s: float = NOW_S, **subject: Any) -> int:
    return sum(of.strikes(name, at_s, subject) is not None for _ in range(times))


def test_the_catalogue_holds_all_36_faults_once() -> None:
    assert [kind.number for kind in faults.CATALOGUE] == list(range(1, 37))
    assert len(faults.BY_NAME) == 36


def test_a_count_strikes_that_often_at_the_next_opportunities() -> None:
    of = script(faultscript.parse_rule("create_error", {"count": 2}))
    assert [of.strikes("create_error", NOW_S, {}) is not None for _ in range(4)] == [True, True, False, False]


def test_a_count_can_let_some_pass_first() -> None:
    of = script(faultscript.parse_rule("create_error", {"count": 1, "after": 2}))
    assert [of.strikes("create_error", NOW_S, {}) is not None for _ in range(4)] == [False, False, True, False]


def test_a_rate_strikes_about_that_often_and_the_same_way_for_the_same_seed() -> None:
    rule = faultscript.parse_rule("slow_answer", 0.3)
    hits = strikes(script(rule), "slow_answer", 2000)
    assert 500 < hits < 700
    assert strikes(script(rule), "slow_answer", 2000) == hits
    assert strikes(script(rule, seed=2), "slow_answer", 2000) != hits


def test_one_faults_luck_does_not_depend_on_another() -> None:
    alone = script(faultscript.parse_rule("slow_answer", 0.5))
    both = script(faultscript.parse_rule("slow_answer", 0.5), faultscript.parse_rule("create_error", 0.5))
    for _ in range(50):
        strikes(both, "create_error", 1)
        assert strikes(alone, "slow_answer", 1) == strikes(both, "slow_answer", 1)


def test_a_window_alone_means_every_time_within_it() -> None:
    of = script(faultscript.parse_rule("server_errors", {"from_s": 60, "to_s": 120}))
    assert strikes(of, "server_errors", 3, at_s=59) == 0
    assert strikes(of, "server_errors", 3, at_s=60) == 3
    assert strikes(of, "server_errors", 3, at_s=120) == 0


def test_a_match_narrows_a_fault_to_some_labels() -> None:
    of = script(faultscript.parse_rule("create_error", {"rate": 1, "match": {"label": "bareboat/a/"}}))
    assert strikes(of, "create_error", 1, label="bareboat/a/pod/1") == 1
    assert strikes(of, "create_error", 1, label="bareboat/b/pod/1") == 0
    assert strikes(of, "create_error", 1) == 0


def test_a_hazard_gives_a_time_that_fits_its_rate() -> None:
    of = script(faultscript.parse_rule("heartbeat_lost", {"per_hour": 2}))
    waits = [hazard[0] for _ in range(500) if (hazard := of.hazard_s("heartbeat_lost", NOW_S, {})) is not None]
    assert len(waits) == 500
    assert 1500 < sum(waits) / len(waits) < 2100


def test_settings_of_a_strike_are_drawn_from_their_range() -> None:
    of = script(faultscript.parse_rule("pull_slow", {"rate": 1, "times": [2, 3]}))
    strike = of.strikes("pull_slow", NOW_S, {})
    assert strike is not None
    assert 2 <= strike.number("times") <= 3


def test_cleared_faults_strike_no_more() -> None:
    of = script(*faultscript.profile("nasty"))
    of.clear("slow_answer")
    assert not of.has("slow_answer")
    assert of.has("create_error")
    of.clear()
    assert of.rules() == []


def test_a_good_day_has_quirks_and_nothing_that_costs() -> None:
    names = {rule.kind.name for rule in faultscript.parse({})}
    assert names == {"list_lag", "ports_late", "logs_late", "ssh_late"}
    assert faultscript.parse({"profile": "none"}) == []


def test_a_nasty_day_has_the_rates_of_the_catalogue() -> None:
    names = {rule.kind.name for rule in faultscript.parse({"profile": "nasty"})}
    assert names == {kind.name for kind in faults.CATALOGUE if kind.nasty > 0}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"profile": "hell"}, "profile is 'hell'; it has to be one of none, quirks, nasty"),
        ({"wind": 1}, "the script has wind; allowed are profile, faults, switches"),
        ({"faults": {"create_eror": 1}}, "faults.create_eror is not a fault; there are offer_gone"),
        ({"faults": {"create_error": {"rate": 2}}}, "faults.create_error.rate is 2; it has to be a number from 0 to 1"),
        ({"faults": {"create_error": {"count": -1}}}, "faults.create_error.count is -1; it has to be a whole number"),
        ({"faults": {"create_error": {"lag_s": 1}}}, "faults.create_error.lag_s is not known; allowed are after"),
        ({"faults": {"create_error": {}}}, "faults.create_error says neither rate, per_hour, count, at_s nor a window"),
        ({"faults": {"create_error": {"per_hour": 1}}}, "faults.create_error.per_hour: this fault waits for requests"),
        ({"faults": {"create_error": {"at_s": 1}}}, "faults.create_error.at_s: this fault waits for requests"),
        ({"faults": {"key_revoked": {"rate": 1}}}, "faults.key_revoked happens at a moment; give it at_s"),
        (
            {"faults": {"pull_slow": {"rate": 1, "times": [9, 2]}}},
            "faults.pull_slow.times is [9, 2]; a range has to be",
        ),
        ({"faults": {"pull_slow": {"rate": 1, "match": {"colour": 1}}}}, "match is {'colour': 1}; it has to be"),
        (
            {"faults": {"pull_slow": "often"}},
            "faults.pull_slow is 'often'; it has to be a number (its rate) or a mapping",
        ),
        ({"faults": ["pull_slow"]}, "faults has to be a mapping"),
    ],
)
def test_a_script_that_makes_no_sense_is_told_where_and_what_is_allowed(document: Any, words: str) -> None:
    with pytest.raises(faults.BadScript) as error:
        faultscript.parse(document)
    assert words in str(error.value)
