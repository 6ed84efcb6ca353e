"""Renting for a pod: the broker's ranking, bans, next offers and cap over a query in the cloud's words."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.proxy import accounts

from bareboat.core import blacklist, errors, labels
from bareboat.fleet import broker
from bareboat.plumbing import clock as clocks
from bareboat.proxy import decide, renting


@pytest.fixture
def world(tmp_path: Path) -> accounts.World:
    return accounts.World(clocks.ManualClock(), tmp_path)


def renter(world: accounts.World, bans: blacklist.Blacklist | None = None, **about: Any) -> renting.Renter:
    world.about = dataclasses.replace(world.about, **about)
    note = renting.Note(world.folder / "attempt.json")
    return renting.Renter(world.cloud, world.about, bans or blacklist.Blacklist(), note, world.clock)


async def test_the_cheapest_of_equals_is_rented_under_the_pods_label_with_the_mark_beside_it(
    world: accounts.World,
) -> None:
    bought = await renter(world).rent(world.cloud.template, "attempt1")
    assert bought.label == "k8s_pod=vast-pod-0" and bought.machine_id == "m1"
    mark = labels.Mark.parse(bought.tags[decide.MARK_TAG])
    assert mark == labels.Mark("east", "vast-pod-0", "attempt1")
    [launch] = world.cloud.launched
    assert launch.registry_login is not None and launch.registry_login.password == "opensesame"
    assert (launch.image, launch.template, launch.disk_gib) == (accounts.IMAGE, accounts.HASH, 0.0)


async def test_the_query_reaches_the_cloud_as_it_was_written_with_the_templates_disk(world: accounts.World) -> None:
    await renter(world, query={"gpu_name": {"eq": "RTX 4090"}, "limit": 5}).rent(world.cloud.template, "a")
    assert world.cloud.queries == [{"gpu_name": {"eq": "RTX 4090"}, "limit": 5, "allocated_storage": 10.0}]


async def test_a_query_with_an_order_decides_itself(world: accounts.World) -> None:
    world.cloud.on_offer.reverse()
    bought = await renter(world, query={"order": [["dph_total", "desc"]]}).rent(world.cloud.template, "a")
    assert bought.machine_id == f"m{accounts.MANY - 1}"


async def test_banned_hosts_are_passed_over(world: accounts.World) -> None:
    bans = blacklist.Blacklist(machines_per_host=100)
    bans.ban_host("vast", "h1", "too slow", world.clock.now_s(), ttl_s=100)
    bans.ban_machine("vast", "m2", "too slow", world.clock.now_s())
    assert (await renter(world, bans).rent(world.cloud.template, "a")).machine_id == "m3"


async def test_an_offer_that_is_gone_is_followed_by_the_next_under_the_same_attempt(world: accounts.World) -> None:
    world.cloud.fail("rent", *[errors.OfferGone("vast", "taken")] * 2)
    bought = await renter(world).rent(world.cloud.template, "a")
    assert bought.machine_id == "m3" and world.cloud.attempts() == ["a"]
    assert {launch.env[decide.MARK_TAG] for launch in world.cloud.launched} == {"bareboat/east/vast-pod-0/a"}


async def test_nothing_dearer_than_the_cap_is_rented_and_what_came_closest_is_told(world: accounts.World) -> None:
    with pytest.raises(broker.NoOffers) as none:
        await renter(world, cap_usd_per_hour=0.1).rent(world.cloud.template, "a")
    assert "59" in none.value.sentence and "max price were 0.21" in none.value.sentence
    assert world.cloud.calls["rent"] == 0 and not (world.folder / "attempt.json").exists()


async def test_the_cap_counts_the_disk(world: accounts.World) -> None:
    world.cloud.on_offer = [accounts.an_offer(1, usd_per_hour=0.2, usd_per_gib_month=73.0)]
    big = dataclasses.replace(world.cloud.template, disk_gib=100.0)
    with pytest.raises(broker.NoOffers):
        await renter(world, cap_usd_per_hour=1.0).rent(big, "a")
    assert (await renter(world, cap_usd_per_hour=20.0).rent(big, "a")).usd_per_hour


@pytest.mark.parametrize(
    ("failure", "noted"),
    [
        (errors.OutcomeUnknown("vast", "lost"), True),
        (errors.NoCapacity("vast", "none"), False),
        (errors.LaunchRefused("vast", "no"), False),
        (errors.CloudDown("vast", "never sent"), False),
        (errors.Throttled("vast", "slow", 1.0), False),
    ],
)
async def test_the_note_stays_exactly_while_something_may_have_been_bought(
    world: accounts.World, failure: errors.CloudError, noted: bool
) -> None:
    world.cloud.fail("rent", failure)
    with pytest.raises(type(failure)):
        await renter(world).rent(world.cloud.template, "attempt7")
    note = world.folder / "attempt.json"
    assert note.exists() is noted
    if noted:
        assert json.loads(note.read_text()) == {"attempt": "attempt7", "at_s": world.clock.now_s()}


async def test_a_rent_after_one_of_unknown_end_is_not_kept_back_by_its_reservation(world: accounts.World) -> None:
    """Whether it may be made is the keeper's to know; the cap is for one instance."""
    world.cloud.fail("rent", errors.OutcomeUnknown("vast", "lost"))
    renting_ = renter(world, cap_usd_per_hour=0.3)
    with pytest.raises(errors.OutcomeUnknown):
        await renting_.rent(world.cloud.template, "a")
    await world.clock.advance(5)
    assert (await renting_.rent(world.cloud.template, "b")).usd_per_hour


async def test_a_machine_that_failed_comes_after_its_equals(world: accounts.World) -> None:
    world.cloud.on_offer = [accounts.an_offer(1, usd_per_hour=0.3), accounts.an_offer(2, usd_per_hour=0.3)]
    renting_ = renter(world)
    first = await renting_.rent(world.cloud.template, "a")
    renting_.went(first, good=False)
    world.cloud.sold.clear()
    await world.clock.advance(500)
    second = await renting_.rent(world.cloud.template, "b")
    assert second.machine_id != first.machine_id


def test_a_note_that_makes_no_sense_is_a_try_of_just_now(tmp_path: Path) -> None:
    note = renting.Note(tmp_path / "attempt.json")
    assert note.left(100.0) is None
    note.write("a", 50.0)
    assert note.left(100.0) == renting.Attempt("a", 50.0)
    assert note.left(10.0) == renting.Attempt("a", 10.0)
    (tmp_path / "attempt.json").write_text("{")
    assert note.left(100.0) == renting.Attempt("", 100.0)


def test_a_folder_that_can_t_be_written_costs_time_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    note = renting.Note(tmp_path / "file" / "attempt.json")
    note.closes()
    note.write("a", 1.0)
    assert note.begins() and note.begins() and not note.is_closed


def test_a_folder_knows_whether_it_has_seen_a_life(tmp_path: Path) -> None:
    note = renting.Note(tmp_path / "state" / "attempt.json")
    assert note.begins() and not note.begins()
    note.closes()
    assert note.is_closed
    assert not note.begins() and not note.is_closed
