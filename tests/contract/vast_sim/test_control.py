"""The control API over HTTP: the same as in process, for other processes and other languages."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.contract.vast_sim import api

from bareboat.clouds import vast as vast_cloud
from bareboat.clouds.vast import sim
from bareboat.plumbing import clock as clocks
from bareboat.simulation import faults, faultscript


async def act(vast: api.Vast, action: str, **arguments: Any) -> api.Reply:
    return await vast.call("POST", f"/control/{action}", arguments, key=None)


async def test_the_clock_can_be_moved_and_the_world_looked_at(vast: api.Vast) -> None:
    before_s = vast.clock.now_s()
    assert (await act(vast, "advance", seconds=3600)).body == {"ok": True, "now_s": before_s + 3600}
    world = (await vast.call("GET", "/control/world", key=None)).body
    assert world["now_s"] == before_s + 3600
    assert len(world["offers"]) >= 300
    assert world["switches"]["hard_cap"] == 64


async def test_everything_a_person_can_do_to_an_instance_can_be_done(vast: api.Vast) -> None:
    instance_id = await vast.rented(31870033, label="mine")
    await act(vast, "label", instance_id=instance_id, label=None)
    assert (await vast.page())["label_counts"] == {"": 1}
    await act(vast, "host/down", machine_id=52033)
    assert await vast.status(instance_id) == "offline"
    await act(vast, "host/up", machine_id=52033)
    assert await vast.status(instance_id) == "running"
    await act(vast, "traffic", instance_id=instance_id, down_gb=100)
    assert vast.sim.ledger.spend().bandwidth == pytest.approx(0.3)
    await act(vast, "exit", instance_id=instance_id, code=3)
    assert await vast.status(instance_id) == "exited"
    await act(vast, "vanish", instance_id=instance_id)
    assert await vast.show(instance_id) is None


async def test_the_market_can_be_emptied_and_filled_again(vast: api.Vast) -> None:
    await act(vast, "offers/take", ask_id=31870033)
    assert "no_such_ask" in (await vast.create(31870033)).text
    await act(vast, "offers/take-all")
    assert await vast.search() == []
    await act(vast, "offers/free")
    assert len(await vast.search()) == 64


async def test_faults_and_switches_can_be_set(vast: api.Vast) -> None:
    await act(vast, "faults/add", name="create_error")
    assert (await vast.create(31870033)).status == 500
    await act(vast, "faults/add", name="create_error", rule={"rate": 1})
    await act(vast, "faults/clear", name="create_error")
    assert (await vast.create(31870033)).status == 200
    await act(vast, "switch", hard_cap=3)
    assert len(await vast.search()) == 3


async def test_credit_and_keys_can_be_taken_away(vast: api.Vast) -> None:
    instance_id = await vast.rented()
    await act(vast, "credit", usd=0)
    assert await vast.status(instance_id) == "exited"
    await act(vast, "key/revoke")
    assert (await vast.call("GET", "/api/v0/users/current/")).status == 404
    await act(vast, "key/add", key=vast.sim.api_key)
    assert (await vast.call("GET", "/api/v0/users/current/")).status == 200


@pytest.mark.parametrize(
    ("action", "arguments", "status", "words"),
    [
        ("dance", {}, 404, "there is no control 'dance'; there are advance"),
        ("outbid", {"instance_id": 1}, 400, "there is no instance 1"),
        ("host/down", {"machine_id": 1}, 400, "there is no machine 1"),
        ("offers/take", {"ask_id": 1}, 400, "there is no offer 1"),
        ("advance", {"days": 1}, 400, "advance: "),
        ("speed", {"speed": 2}, 400, "a ManualClock has no speed to change"),
        ("faults/add", {"name": "rain"}, 400, "faults.rain is not a fault"),
        ("switch", {"hard_cap": "many"}, 400, "switches.hard_cap is 'many'; allowed is a number, 0 or more"),
        ("switch", {"wrong_key": "403"}, 400, "switches.wrong_key is '403'; allowed is 404, 401"),
        ("switch", {"colour": 1}, 400, "switches.colour does not exist; there are rate_limits"),
    ],
)
async def test_a_control_that_makes_no_sense_is_told_why(
    vast: api.Vast, action: str, arguments: Any, status: int, words: str
) -> None:
    reply = await act(vast, action, **arguments)
    assert reply.status == status
    assert words in reply.body["message"]


async def test_the_ledger_is_served_as_json(vast: api.Vast) -> None:
    instance_id = await vast.rented(label="bareboat/c/pod/1")
    await vast.clock.advance(60)
    report = (await vast.call("GET", "/control/ledger", key=None)).body
    assert report["running"] == [instance_id]
    assert report["instances"][0]["usd"]["gpu"] > 0


async def test_a_script_with_a_wrong_word_starts_nothing() -> None:
    with pytest.raises(faults.BadScript, match="not a fault"):
        async with sim.served(clock=clocks.ManualClock(), script={"faults": {"rain": 1}}):
            raise AssertionError("served all the same")


async def test_the_same_seed_gives_the_same_world_and_the_same_lives() -> None:
    async def story() -> list[Any]:
        async with api.served({"profile": "nasty"}, plan=api.QUIET) as vast:
            vast.sim.estate.faults.clear("slow_answer")
            told: list[Any] = [[offer["id"] for offer in await vast.search()]] if not vast.sim.requests else []
            for offer_id in (31870033, 31870055, 31870066, 31870077):
                told.append((await vast.create(offer_id)).status)
                await vast.clock.advance(60)
            return [*told, [entry.states for entry in vast.sim.ledger.entries()]]

    assert await story() == await story()


def test_the_page_about_the_simulator_names_every_fault_and_every_switch() -> None:
    page = (Path(vast_cloud.__file__).parent / "README.md").read_text()
    missing = [kind.name for kind in faults.CATALOGUE if f"| {kind.number} | `{kind.name}` |" not in page]
    missing += [field.name for field in dataclasses.fields(sim.Switches) if f"| `{field.name}` |" not in page]
    assert missing == []


def test_the_fault_script_on_that_page_is_one() -> None:
    page = (Path(vast_cloud.__file__).parent / "README.md").read_text()
    script = page.partition("```yaml\n")[2].partition("```")[0]
    assert len(faultscript.parse(yaml.safe_load(script))) > 6
