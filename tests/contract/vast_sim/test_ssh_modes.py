"""Ssh and jupyter modes on the wire: addresses, ports, keys, and what misfortunes may touch."""

import pytest
from tests.contract.vast_sim import api

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample me"


async def test_the_proxy_is_told_from_the_create_on_and_stays(vast: api.Vast) -> None:
    instance_id = await vast.rented(runtype="ssh_direct")
    before = await vast.show(instance_id)
    assert before is not None
    await vast.clock.advance(600)
    after = await vast.show(instance_id)
    assert after is not None
    assert before["ssh_host"] == after["ssh_host"] == f"ssh{after['ssh_idx']}.vast.ai"
    assert before["ssh_port"] == after["ssh_port"]


@pytest.mark.parametrize(("runtype", "mapped"), [("ssh", False), ("ssh_direct", True), ("jupyter_direct", True)])
async def test_port_22_is_mapped_in_the_direct_modes_alone(vast: api.Vast, runtype: str, mapped: bool) -> None:
    record = await vast.show(await vast.running(runtype=runtype, env={"-p 80:80": "1"}))
    assert record is not None
    assert ("22/tcp" in record["ports"]) is mapped
    assert "80/tcp" in record["ports"]


async def test_no_host_key_and_no_private_thing_is_in_a_record(vast: api.Vast) -> None:
    instance_id = await vast.running(runtype="ssh_direct")
    reply = await vast.call("GET", f"/api/v0/instances/{instance_id}/")
    assert "PRIVATE" not in reply.text
    assert "PRIVATE" not in (await vast.call("GET", "/control/ledger", key=None)).text


async def test_what_requests_said_is_kept_for_tests_without_the_key(vast: api.Vast) -> None:
    instance_id = await vast.rented(runtype="ssh_direct")
    await vast.call("POST", f"/api/v0/instances/{instance_id}/ssh/", {"ssh_key": KEY})
    route, path, body = vast.sim.told[-1]
    assert route == "POST /api/v0/instances/{id}/ssh"
    assert path == f"/api/v0/instances/{instance_id}/ssh/"
    assert KEY in body
    assert all(vast.sim.api_key not in " ".join(told) for told in vast.sim.told)


async def test_ssh_controls_are_no_error_where_nothing_really_runs(vast: api.Vast) -> None:
    instance_id = await vast.running(runtype="ssh_direct")
    for action in ("ssh/drop", "ssh/host-key"):
        assert (await vast.call("POST", f"/control/{action}", {"instance_id": instance_id}, key=None)).body["ok"]
        assert (await vast.call("POST", f"/control/{action}", {"instance_id": 1}, key=None)).status == 400


async def test_a_scripted_drop_and_a_scripted_host_key_strike_at_their_moment(vast: api.Vast) -> None:
    instance_id = await vast.running(runtype="ssh_direct")
    rental = vast.sim.estate.rental(instance_id)
    assert rental is not None
    before = rental.terms.host_key
    now_s = vast.clock.now_s() - vast.sim.estate.start_s
    for name in ("ssh_drops", "host_key_changes"):
        vast.control.add_fault(name, {"at_s": now_s + 10, "match": {"instance_id": instance_id}})
    await vast.control.advance(20)
    assert rental.terms.host_key != before
