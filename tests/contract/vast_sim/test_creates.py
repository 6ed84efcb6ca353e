"""PUT /asks/{id}/: what it takes, what it refuses, what it leaves behind when it fails."""

import asyncio
import contextlib
from typing import Any

import pytest
from tests.contract.vast_sim import api


async def test_a_create_answers_with_the_instance_and_its_own_key(vast: api.Vast) -> None:
    reply = await vast.create(31870033, label="bareboat/c/pod/1")
    assert reply.status == 200
    assert reply.body["success"] is True
    assert reply.body["new_contract"] != 31870033
    assert len(reply.body["instance_api_key"]) == 64
    record = await vast.show(reply.body["new_contract"])
    assert record is not None
    assert record["label"] == "bareboat/c/pod/1"
    assert record["machine_id"] == 52033
    assert record["disk_space"] == 10


@pytest.mark.parametrize(
    ("variant", "status", "error"),
    [("400", 400, "invalid_args"), ("404", 404, "invalid_args"), ("410", 410, "no_such_ask")],
)
async def test_a_taken_offer_says_no_such_ask_in_one_of_three_ways(
    vast: api.Vast, variant: str, status: int, error: str
) -> None:
    vast.control.switch(no_such_ask=variant)
    await vast.rented(31870033)
    reply = await vast.create(31870033)
    assert (reply.status, reply.body["error"]) == (status, error)
    assert "no_such_ask" in reply.body["msg"]
    assert reply.body["ask_id"] == 31870033
    assert reply.body["success"] is False


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ({"image": None}, "invalid_args", "'image' is required"),
        ({"image": "x" * 1025}, "invalid_args", "'image' is too long"),
        ({"disk": 7}, "invalid_args", "at least 8 GB"),
        ({"disk": "much"}, "invalid_args", "'disk' is much"),
        ({"price": 0}, "invalid_price", "Please set a bid price >= 0.001."),
        ({"price": 1000}, "invalid_price", "Please set a bid price"),
        ({"label": "x" * 257}, "label_too_long", "at most 256"),
        ({"args": ["x" * 5000]}, "invalid_args", "4096 characters together"),
        ({"env": {"A": "x" * 40000}}, "invalid_args", "32768 characters"),
        ({"runtype": "teleport"}, "invalid_args", "'runtype' is 'teleport'"),
        ({"env": {f"-p {port}:{port}": "1" for port in range(8000, 8065)}}, "invalid_args", "too many open ports: 65"),
        ({"template_hash_id": "0" * 32}, "not_found", "Template not found"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_nothing_is_rented(
    vast: api.Vast, body: dict[str, Any], error: str, words: str
) -> None:
    reply = await vast.create(31870099, **body)
    assert reply.status in (400, 404)
    assert reply.body["error"] == error
    assert words in reply.body["msg"]
    assert vast.sim.ledger.entries() == []
    assert [refusal.error for refusal in vast.sim.ledger.refusals] == [error]


async def test_a_machine_with_too_few_ports_refuses_or_maps_only_some(vast: api.Vast) -> None:
    env = {f"-p {port}:{port}": "1" for port in range(8000, 8005)}
    refused = await vast.create(31870100, env=env)
    assert refused.status == 400
    vast.control.switch(too_few_ports="missing")
    record = await vast.show(await vast.rented(31870100, env=env))
    assert record is not None
    assert len(record["ports"]) == 3


async def test_env_comes_back_as_pairs_and_ports_as_text(vast: api.Vast) -> None:
    env = {"DOG": "CAT", "-p 8001:8001": "1", "-p 5000:5000/udp": "1"}
    record = await vast.show(await vast.running(env=env))
    assert record is not None
    assert record["extra_env"] == [["DOG", "CAT"], ["-p 8001:8001", "1"], ["-p 5000:5000/udp", "1"]]
    assert set(record["ports"]) == {"8001/tcp", "5000/udp"}
    port = record["ports"]["8001/tcp"][0]["HostPort"]
    assert isinstance(port, str)
    assert int(port) != 8001
    assert record["public_ipaddr"] == "127.0.0.1\n"


async def test_an_env_that_is_a_string_is_silently_not_applied(vast: api.Vast) -> None:
    record = await vast.show(await vast.running(env="-e A=b -p 80:80"))
    assert record is not None
    assert record["extra_env"] == []
    assert record["ports"] is None


async def test_an_identity_port_is_shown_under_the_number_it_got(vast: api.Vast) -> None:
    record = await vast.show(await vast.running(env={"-p 70001:70001": "1"}))
    assert record is not None
    [(key, [binding])] = record["ports"].items()
    assert key == f"{binding['HostPort']}/tcp"
    vast.control.switch(identity_port_key="asked")
    again = await vast.show(record["id"])
    assert again is not None
    assert list(again["ports"]) == ["70001/tcp"]


async def test_ssh_and_jupyter_open_their_own_ports_and_args_does_not(vast: api.Vast) -> None:
    ssh = await vast.show(await vast.running(runtype="ssh_direct", env={"-p 80:80": "1"}))
    args = await vast.show(await vast.running(runtype="args", env={"-p 80:80": "1"}))
    jupyter = await vast.show(await vast.running(runtype="jupyter_direct", env={"-p 80:80": "1"}))
    assert ssh is not None
    assert args is not None
    assert jupyter is not None
    assert set(ssh["ports"]) == {"80/tcp", "22/tcp"}
    assert ssh["image_runtype"] == "ssh ssh_direc ssh_proxy"
    assert set(args["ports"]) == {"80/tcp"}
    assert set(jupyter["ports"]) == {"80/tcp", "22/tcp", "8080/tcp"}


async def test_the_price_is_fixed_at_rent_time_and_includes_the_disk(vast: api.Vast) -> None:
    offer = await vast.an_offer(allocated_storage=50)
    record = await vast.show(await vast.rented(offer["id"], disk=50))
    assert record is not None
    assert record["dph_total"] == pytest.approx(offer["dph_total"])
    assert record["is_bid"] is False


async def test_a_low_bid_is_an_error_that_leaves_a_stopped_instance_behind(vast: api.Vast) -> None:
    reply = await vast.create(31870033, price=0.01)
    assert reply.status == 400
    stray = reply.body["new_contract"]
    record = await vast.show(stray)
    assert record is not None
    assert record["cur_state"] == record["intended_status"] == record["next_state"] == "stopped"
    await vast.clock.advance(3600)
    [entry] = vast.sim.ledger.running_now()
    assert entry.usd.disk > 0


async def test_a_low_bid_with_cancel_unavail_leaves_nothing_behind(vast: api.Vast) -> None:
    reply = await vast.create(31870033, price=0.01, cancel_unavail=True)
    assert reply.status == 410
    assert "no_such_ask" in reply.body["msg"]
    assert vast.sim.ledger.entries() == []


async def test_a_bid_above_the_market_runs_at_its_price(vast: api.Vast) -> None:
    offer = await vast.an_offer(type="bid")
    record = await vast.show(await vast.rented(offer["id"], price=offer["min_bid"] + 0.01))
    assert record is not None
    assert record["is_bid"] is True
    assert record["dph_base"] == pytest.approx(offer["min_bid"] + 0.01)


async def test_without_credit_nothing_can_be_rented(vast: api.Vast) -> None:
    vast.control.set_credit(0)
    reply = await vast.create(31870033)
    assert reply.status == 400
    assert reply.body["error"] == "insufficient_credit"


async def test_a_bulk_create_rents_every_offer_named(vast: api.Vast) -> None:
    reply = await vast.call("POST", "/api/v0/asks/bulk/", {"ids": [31870033, 31870055], "image": "busybox:latest"})
    assert len(reply.body["new_contracts"]) == 2


async def test_launch_instance_takes_the_first_match(vast: api.Vast) -> None:
    body = {"q": {"gpu_name": {"eq": "RTX 4090"}}, "num_gpus": 1, "image": "busybox:latest", "disk": 10}
    reply = await vast.call("PUT", "/api/v0/launch_instance/", body)
    record = await vast.show(reply.body["new_contract"])
    assert record is not None
    assert record["gpu_name"] == "RTX 4090"


# -- faults of a create


async def test_an_offer_can_be_gone_between_search_and_create(vast: api.Vast) -> None:
    offer = await vast.an_offer()
    vast.control.add_fault("offer_gone")
    assert "no_such_ask" in (await vast.create(offer["id"])).text
    assert offer["id"] not in {other["id"] for other in await vast.search()}


@pytest.mark.parametrize("how", ["502", "504"])
async def test_the_next_create_answers_504_but_is_applied(vast: api.Vast, how: str) -> None:
    vast.control.add_fault("create_lost_answer", {"count": 1, "how": how, "lag_s": [5, 5]})
    reply = await vast.create(31870033, label="bareboat/c/pod/1")
    assert reply.status == int(how)
    assert "<html>" in reply.text
    label = {"label": {"eq": "bareboat/c/pod/1"}}
    assert await vast.listed(select_filters=label) == []
    await vast.clock.advance(6)
    assert len(await vast.listed(select_filters=label)) == 1
    assert len(vast.sim.ledger.ever_rented("bareboat/c/")) == 1


async def test_a_lost_answer_can_be_a_dropped_connection(vast: api.Vast) -> None:
    vast.control.add_fault("create_lost_answer", {"count": 1, "how": "drop"})
    body = b'{"image": "busybox:latest"}'
    head = f"PUT /api/v0/asks/31870033/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {vast.sim.api_key}\r\n"
    # By hand, because aiohttp quietly repeats a PUT whose connection breaks.
    reader, writer = await asyncio.open_connection("127.0.0.1", int(vast.sim.url.rpartition(":")[2]))
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    assert len(vast.sim.ledger.running_now()) == 1


@pytest.mark.parametrize(("how", "status"), [("empty", 200), ("400", 400)])
async def test_a_lost_answer_can_look_like_something_else(vast: api.Vast, how: str, status: int) -> None:
    vast.control.add_fault("create_lost_answer", {"count": 1, "how": how})
    assert (await vast.create(31870033)).status == status
    assert len(vast.sim.ledger.running_now()) == 1


async def test_a_create_error_is_not_applied(vast: api.Vast) -> None:
    vast.control.add_fault("create_error", {"count": 1, "status": 503})
    assert (await vast.create(31870033)).status == 503
    assert vast.sim.ledger.entries() == []
    assert (await vast.create(31870033)).status == 200


async def test_a_phantom_reads_null_for_ever(vast: api.Vast) -> None:
    vast.control.add_fault("create_phantom")
    phantom = await vast.rented(31870033)
    assert await vast.show(phantom) is None
    assert await vast.listed() == []


@pytest.mark.parametrize("stray", [True, False])
async def test_a_create_can_answer_200_without_success(vast: api.Vast, stray: bool) -> None:
    vast.control.add_fault("create_unsuccessful", {"count": 1, "stray": stray})
    reply = await vast.create(31870033)
    assert reply.status == 200
    assert reply.body["success"] is False
    assert ("new_contract" in reply.body) == stray
    assert len(vast.sim.ledger.running_now()) == stray
