"""What goes wrong with instances while they boot and run."""

import contextlib
import socket
from typing import Any

import pytest
from tests.contract.vast_sim import api

PORT = {"-p 8001:8001": "1"}


@pytest.mark.parametrize(("stage", "status"), [("placing", None), ("pulling", "loading")])
async def test_a_boot_can_be_stuck_for_ever(stage: str, status: str | None) -> None:
    async with api.served({"faults": {"boot_stuck": {"count": 1, "stage": stage}}}, plan=api.QUIET) as vast:
        instance_id = await vast.rented()
        await vast.clock.advance(7 * 86_400)
        assert await vast.status(instance_id) == status
        [entry] = vast.sim.ledger.running_now()
        assert entry.usd.gpu == 0
        assert entry.usd.disk > 0


async def test_a_pull_can_be_slow() -> None:
    async with api.served({"faults": {"pull_slow": {"count": 1, "times": [20, 20]}}}, plan=api.QUIET) as vast:
        instance_id = await vast.rented()
        await vast.clock.advance(300)
        assert await vast.status(instance_id) == "loading"
        await vast.clock.advance(1500)
        assert await vast.status(instance_id) == "running"


async def test_a_container_can_be_created_and_never_start(vast: api.Vast) -> None:
    vast.control.add_fault("oci_error")
    record = await vast.show(await vast.rented())
    assert record is not None
    assert record["actual_status"] == "created"
    assert ": OCI runtime create failed:" in record["status_msg"]


async def test_a_pull_can_fail_with_any_text(vast: api.Vast) -> None:
    vast.control.add_fault("pull_error", {"count": 1, "message": "toomanyrequests: slow down", "after_s": [0, 0]})
    record = await vast.show(await vast.rented())
    assert record is not None
    assert (record["actual_status"], "toomanyrequests" in record["status_msg"]) == ("loading", True)


@pytest.mark.parametrize("never", [0.0, 1.0])
async def test_ports_can_appear_after_running_or_never(vast: api.Vast, never: float) -> None:
    vast.control.add_fault("ports_late", {"count": 1, "for_s": [15, 15], "never": never})
    instance_id = await vast.rented(env=PORT)
    assert await vast.status(instance_id) == "running"
    shown = []
    for _ in range(2):
        record = await vast.show(instance_id)
        assert record is not None
        shown.append(record["ports"] is not None)
        await vast.clock.advance(16)
    assert shown == [False, not never]


async def test_a_mapped_port_can_refuse_connections(vast: api.Vast) -> None:
    vast.control.add_fault("port_refuses")
    record = await vast.show(await vast.running(env=PORT))
    assert record is not None
    with contextlib.closing(socket.socket()) as client:
        assert client.connect_ex(("127.0.0.1", int(record["ports"]["8001/tcp"][0]["HostPort"]))) != 0


async def test_a_process_can_end_by_itself(vast: api.Vast) -> None:
    vast.control.add_fault("process_exits", {"count": 1, "code": 3, "after_s": [30, 30]})
    instance_id = await vast.rented()
    assert await vast.status(instance_id) == "running"
    await vast.clock.advance(31)
    assert await vast.status(instance_id) == "exited"
    assert vast.sim.ledger.entries()[0].states[-1].exit_code == 3


async def test_an_ended_process_starts_again_where_that_is_switched_on() -> None:
    async with api.served(plan=api.QUIET, on_exit="restart") as vast:
        instance_id = await vast.running()
        vast.control.exit(instance_id, 1)
        assert await vast.status(instance_id) == "rebooting"
        await vast.clock.advance(10)
        assert await vast.status(instance_id) == "running"


async def test_a_host_can_go_offline_and_come_back_and_bills_nothing_meanwhile(vast: api.Vast) -> None:
    vast.control.add_fault("host_offline", {"count": 1, "for_s": [600, 600], "forever": 0})
    instance_id = await vast.rented(31870100)
    await vast.clock.advance(61)
    assert await vast.status(instance_id) == "offline"
    usd = vast.sim.ledger.spend().total
    await vast.clock.advance(500)
    assert vast.sim.ledger.spend().total == pytest.approx(usd)
    await vast.clock.advance(100)
    assert await vast.status(instance_id) == "running"
    assert vast.sim.ledger.spend().total > usd


async def test_a_lost_heartbeat_reads_unknown_for_a_while(vast: api.Vast) -> None:
    vast.control.add_fault("heartbeat_lost", {"count": 1, "for_s": [60, 60]})
    instance_id = await vast.rented()
    statuses = set()
    for _ in range(30):
        await vast.clock.advance(5)
        statuses.add(await vast.status(instance_id))
    assert statuses == {"running", "unknown"}
    assert await vast.status(instance_id) == "running"


async def test_only_interruptible_instances_are_outbid(vast: api.Vast) -> None:
    vast.control.add_fault("outbid", {"count": 2, "resume": 0})
    offer = await vast.an_offer(type="bid")
    cheap = await vast.rented(offer["id"], price=offer["min_bid"])
    steady = await vast.rented()
    await vast.clock.advance(3600)
    assert await vast.status(cheap) == "exited"
    assert await vast.status(steady) == "running"


async def test_a_start_after_a_long_stop_is_queued_and_happens_later(vast: api.Vast) -> None:
    instance_id = await vast.rented()
    path = f"/api/v0/instances/{instance_id}/"
    await vast.call("PUT", path, {"state": "stopped"})
    vast.control.add_fault("start_queued", {"count": 1, "after_s": [100, 100]})
    await vast.clock.advance(301)
    assert (await vast.call("PUT", path, {"state": "running"})).body["success"] is False
    await vast.clock.advance(99)
    assert await vast.status(instance_id) == "exited"
    await vast.clock.advance(2)
    assert await vast.status(instance_id) == "running"


async def test_fewer_ports_can_be_mapped_than_asked_for(vast: api.Vast) -> None:
    vast.control.add_fault("ports_missing", {"count": 1, "keep": 1})
    record = await vast.show(await vast.rented(env={**PORT, "-p 8002:8002": "1"}))
    assert record is not None
    assert list(record["ports"]) == ["8001/tcp"]


SCENARIOS: dict[str, tuple[dict[str, Any], Any]] = {
    "instance_vanishes": ({}, "gone"),
    "contract_ends": ({}, "exited"),
    "heartbeat_lost": ({"for_s": [60, 60]}, "unknown"),
    "host_offline": ({"for_s": [60, 60]}, "offline"),
    "credit_exhausted": ({}, "exited"),
}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_scenario_happens_at_its_moment(name: str) -> None:
    settings, status = SCENARIOS[name]
    async with api.served({"faults": {name: {"at_s": 100, **settings}}}) as vast:
        instance_id = await vast.rented()
        await vast.clock.advance(99)
        assert await vast.status(instance_id) == "running"
        await vast.clock.advance(2)
        assert await vast.status(instance_id) == status


async def test_a_scenario_can_edit_the_label_of_the_instances_it_matches() -> None:
    rule = {"at_s": 10, "label": "mine now", "match": {"label": "bareboat/"}}
    async with api.served({"faults": {"label_edited": rule}}) as vast:
        marked, other = await vast.rented(label="bareboat/c/pod/1"), await vast.rented(label="theirs")
        await vast.clock.advance(11)
        shown = [await vast.show(instance_id) for instance_id in (marked, other)]
        assert [record and record["label"] for record in shown] == ["mine now", "theirs"]


async def test_a_key_can_be_revoked_in_the_middle() -> None:
    async with api.served({"faults": {"key_revoked": {"at_s": 10}}}) as vast:
        assert (await vast.call("GET", "/api/v0/users/current/")).status == 200
        await vast.clock.advance(11)
        await vast.call("POST", "/api/v0/bundles/", {}, key=None)
        reply = await vast.call("GET", "/api/v0/users/current/")
        assert (reply.status, reply.body["error"]) == (404, "auth_error")


async def test_an_address_changes_unless_it_is_static() -> None:
    async with api.served({"faults": {"ip_changes": {"at_s": 10, "match": {"label": "x"}}}}) as vast:
        moving, static = await vast.rented(31870022, label="x1"), await vast.rented(31870033, label="x2")
        await vast.clock.advance(11)
        addresses = []
        for instance_id in (moving, static):
            record = await vast.show(instance_id)
            assert record is not None
            addresses.append(record["public_ipaddr"])
        assert addresses[0].startswith("203.0.113.")
        assert addresses[1] == "127.0.0.1\n"


async def test_an_address_can_change_at_some_time_while_it_runs(vast: api.Vast) -> None:
    vast.control.add_fault("ip_changes", {"per_hour": 10})
    instance_id = await vast.rented(31870022)
    await vast.clock.advance(7200)
    record = await vast.show(instance_id)
    assert record is not None
    assert record["public_ipaddr"].startswith("203.0.113.")


async def test_every_rate_of_a_nasty_day_still_gives_a_world_that_answers() -> None:
    """The whole catalogue at once: every answer is one of the documented shapes and the ledger adds up."""
    async with api.served({"profile": "nasty"}, plan=api.QUIET) as vast:
        vast.sim.estate.faults.clear("slow_answer")
        for round_number in range(40):
            offers = await vast.call("POST", "/api/v0/bundles/", {"num_gpus": {"eq": 1}, "type": "bid"})
            if offers.status == 200:
                offer = offers.body["offers"][round_number]
                await vast.create(offer["id"], price=offer["min_bid"], label=f"bareboat/c/{round_number}/1")
            await vast.clock.advance(400)
            page = await vast.call("GET", "/api/v1/instances/")
            assert page.status in (200, 502)
        ledger = vast.sim.ledger
        assert len(ledger.ever_rented("bareboat/")) > 20
        assert ledger.spend().total == pytest.approx(sum(entry.usd.total for entry in ledger.entries()))
        assert vast.sim.estate.faults.struck
