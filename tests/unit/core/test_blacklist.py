"""Bans of machines, and of hosts with several bad machines."""

import json

from tests.unit.core import offering

from bareboat.core import blacklist


def test_a_banned_machine_is_out_in_all_its_offers_until_the_ban_is_over() -> None:
    bans = blacklist.Blacklist(machine_ttl_s=100)
    one, other = offering.an_offer(id="1", machine_id="m"), offering.an_offer(id="2", machine_id="m")
    ban = bans.ban(one, "did not start", 0.0)
    assert str(ban) == "machine m of vast: did not start"
    assert bans.is_banned(other, 99.0)
    assert not bans.is_banned(other, 100.0)
    assert not bans.is_banned(offering.an_offer(id="3"), 1.0)


def test_two_bad_machines_of_one_host_ban_the_host_for_longer() -> None:
    bans = blacklist.Blacklist(machine_ttl_s=100, host_ttl_s=1000)
    bans.ban(offering.an_offer(id="1"), "slow", 0.0)
    unseen = offering.an_offer(id="9")
    assert not bans.is_banned(unseen, 1.0)
    widest = bans.ban(offering.an_offer(id="2"), "never pulled", 1.0)
    assert widest.scope == "host"
    assert widest.reason == "2 of its machines are banned; last: never pulled"
    assert bans.is_banned(unseen, 500.0)
    assert not bans.is_banned(offering.an_offer(id="8", host_id="h2"), 2.0)


def test_the_same_machine_failing_twice_does_not_ban_its_host() -> None:
    bans = blacklist.Blacklist()
    for _ in range(3):
        assert bans.ban(offering.GOOD, "slow", 0.0).scope == "machine"


def test_machines_whose_bans_are_over_do_not_count_against_the_host() -> None:
    bans = blacklist.Blacklist(machine_ttl_s=10)
    bans.ban(offering.an_offer(id="1"), "slow", 0.0)
    assert bans.ban(offering.an_offer(id="2"), "slow", 20.0).scope == "machine"


def test_a_shorter_ban_does_not_shorten_the_one_in_force() -> None:
    bans = blacklist.Blacklist()
    bans.ban(offering.GOOD, "broken", 0.0, ttl_s=1000)
    bans.ban(offering.GOOD, "slow", 1.0, ttl_s=10)
    assert bans.is_banned(offering.GOOD, 500.0)


def test_a_lifted_ban_is_over() -> None:
    bans = blacklist.Blacklist()
    bans.ban(offering.GOOD, "slow", 0.0)
    bans.lift("vast", machine_id="m1")
    bans.lift("vast", machine_id="never there")
    assert not bans.is_banned(offering.GOOD, 1.0)


def test_bans_survive_a_round_trip_through_json_and_old_ones_are_dropped() -> None:
    bans = blacklist.Blacklist(machine_ttl_s=100)
    bans.ban(offering.an_offer(id="1"), "slow", 0.0)
    bans.ban(offering.an_offer(id="2", host_id="h2"), "broken", 50.0)
    bans.ban_host("vast", "h7", "blocked by hand", 50.0)
    kept = json.loads(json.dumps(bans.dump(60.0)))
    other = blacklist.Blacklist()
    assert other.load(kept, 120.0) == ()
    assert [ban.id for ban in other.in_force(120.0)] == ["m2", "h7"]


def test_rows_that_make_no_sense_are_left_out_with_a_sentence() -> None:
    bans = blacklist.Blacklist()
    rows: list[dict[str, object]] = [
        {"scope": "machine", "cloud": "vast", "id": "m1"},
        {"scope": "planet", "cloud": "vast", "id": "m1", "until_s": 9e9},
        {"scope": "machine", "cloud": "vast", "id": "m1", "until_s": "soon"},
        {"scope": "machine", "cloud": "vast", "id": "m2", "until_s": 9e9, "reason": "slow"},
    ]
    problems = bans.load(rows, 0.0)
    assert len(problems) == 3
    assert "'planet'" in problems[1]
    assert [ban.id for ban in bans.in_force(0.0)] == ["m2"]
