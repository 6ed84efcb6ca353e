"""Reads of instances, and what changes them."""

import base64
import json
from typing import Any

import pytest
from tests.contract.vast_sim import api


async def several(vast: api.Vast, count: int, **body: Any) -> list[int]:
    offers = (await vast.search(num_gpus={"eq": 1}))[:count]
    assert len(offers) == count
    return [await vast.rented(offer["id"], **body) for offer in offers]


# -- the list


async def test_pages_hold_25_at_most_and_together_everything_once(vast: api.Vast) -> None:
    vast.control.switch(hard_cap=0)
    ids = await several(vast, 60)
    seen: list[int] = []
    token: str | None = ""
    while token is not None:
        page = await vast.page(limit="100", **({"after_token": token} if token else {}))
        assert page["instances_found"] == len(page["instances"]) <= 25
        assert page["total_instances"] == 60
        seen += [record["id"] for record in page["instances"]]
        token = page["next_token"]
    assert seen == ids


@pytest.mark.parametrize(("asked", "got"), [("0", 5), ("-3", 5), ("7", 7), ("1000", 25), ("many", 25)])
async def test_limits_out_of_range_are_bent(vast: api.Vast, asked: str, got: int) -> None:
    await several(vast, 30)
    assert len(await vast.listed(limit=asked)) == got


async def test_a_token_is_base64_of_json_and_a_broken_one_is_a_400_without_success(vast: api.Vast) -> None:
    ids = await several(vast, 3)
    page = await vast.page(limit="1")
    assert json.loads(base64.b64decode(page["next_token"])) == {"values": {"id": ids[0]}}
    reply = await vast.call("GET", "/api/v1/instances/", after_token="nonsense")
    assert reply.status == 400
    assert reply.body == {"error": "invalid_token", "msg": "Invalid pagination token"}


async def test_a_token_whose_instance_is_gone_goes_on_after_it(vast: api.Vast) -> None:
    ids = await several(vast, 3)
    token = (await vast.page(limit="1"))["next_token"]
    vast.control.vanish(ids[0])
    await vast.clock.advance(1)
    assert await vast.listed(after_token=token) == ids[1:]


async def test_a_label_finds_its_instance_in_one_call_and_counts_cover_the_account(vast: api.Vast) -> None:
    one, other = await several(vast, 2)
    await vast.call("PUT", f"/api/v0/instances/{one}/", {"label": "bareboat/c/pod/1"})
    page = await vast.page(select_filters={"label": {"eq": "bareboat/c/pod/1"}})
    assert [record["id"] for record in page["instances"]] == [one]
    assert page["total_instances"] == 1
    assert page["label_counts"] == {"bareboat/c/pod/1": 1, "": 1}
    vast.control.switch(label_counts="filtered")
    page = await vast.page(select_filters={"label": {"eq": "bareboat/c/pod/1"}})
    assert page["label_counts"] == {"bareboat/c/pod/1": 1}
    assert await vast.listed(select_filters={"label": {"eq": None}}) == [other]


@pytest.mark.parametrize(
    ("filters", "chosen"),
    [
        ({"id": {"gt": 27400001}}, [27400002, 27400003]),
        ({"id": {"in": ["27400001", 27400003]}}, [27400001, 27400003]),
        ({"id": {"notin": [27400001]}}, [27400002, 27400003]),
        ({"id": {"gte": 27400001, "lt": 27400003}}, [27400001, 27400002]),
        ({"id": {"neq": 27400002}}, [27400001, 27400003]),
        ({"id": {"lte": 27400001}}, [27400001]),
        ({"actual_status": {"eq": "running"}}, [27400001, 27400002, 27400003]),
        ({"actual_status": {"in": ["exited", "offline"]}}, []),
        ({"label": {"in": ["x"]}, "actual_status": {"eq": "running"}}, [27400001, 27400002, 27400003]),
    ],
)
async def test_contract_columns_can_be_filtered(vast: api.Vast, filters: Any, chosen: list[int]) -> None:
    await several(vast, 3, label="x")
    assert await vast.listed(select_filters=filters) == chosen


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"select_filters": {"dph_total": {"gt": 1}}}, "dph_total is not a valid search key"),
        ({"select_filters": {"num_gpus": {"eq": 1}}}, "num_gpus is not a valid search key"),
        ({"select_filters": {"label": {"like": "x"}}}, "like is not a valid search op"),
        ({"order_by": [{"col": "dph_total", "dir": "asc"}]}, "dph_total is not a valid search key"),
        ({"select_filters": "{"}, "select_filters is not valid json"),
    ],
)
async def test_computed_columns_and_unknown_operators_are_refused(vast: api.Vast, query: Any, words: str) -> None:
    reply = await vast.call("GET", "/api/v1/instances/", **query)
    assert reply.status == 400
    assert words in reply.body["msg"]


async def test_whether_null_differs_from_a_value_and_what_is_counted_are_switches() -> None:
    async with api.served(plan=api.QUIET) as vast:
        [booting] = await several(vast, 1)
        filters = {"actual_status": {"neq": "running"}}
        assert await vast.listed(select_filters=filters) == [booting]
        vast.control.switch(neq_finds_null=False)
        assert await vast.listed(select_filters=filters) == []
        assert (await vast.page(select_filters=filters))["total_instances"] == 0
        vast.control.switch(total_instances="account")
        assert (await vast.page(select_filters=filters))["total_instances"] == 1


async def test_columns_can_be_chosen_and_unknown_ones_are_null(vast: api.Vast) -> None:
    [only] = await several(vast, 1)
    page = await vast.page(select_cols=["id", "colour"])
    assert page["instances"] == [{"id": only, "colour": None}]


async def test_the_list_can_be_ordered(vast: api.Vast) -> None:
    ids = await several(vast, 3)
    assert await vast.listed(order_by=[{"col": "id", "dir": "desc"}]) == ids[::-1]


async def test_the_list_shows_a_new_instance_late_and_the_single_read_at_once(vast: api.Vast) -> None:
    vast.control.add_fault("list_lag", {"count": 1, "for_s": [5, 5]})
    instance_id = await vast.rented()
    assert await vast.show(instance_id) is not None
    assert await vast.listed() == []
    await vast.clock.advance(5.1)
    assert await vast.listed() == [instance_id]


async def test_the_list_shows_a_destroyed_instance_for_a_while(vast: api.Vast) -> None:
    instance_id = await vast.rented()
    vast.control.add_fault("list_ghost", {"count": 1, "for_s": [5, 5]})
    await vast.call("DELETE", f"/api/v0/instances/{instance_id}/", {})
    assert await vast.show(instance_id) is None
    assert await vast.listed() == [instance_id]
    await vast.clock.advance(5.1)
    assert await vast.listed() == []


@pytest.mark.parametrize(("how", "second"), [("repeat", [1, 2]), ("skip", [3])])
async def test_a_page_can_shift_while_one_reads(vast: api.Vast, how: str, second: list[int]) -> None:
    ids = await several(vast, 4)
    token = (await vast.page(limit="2"))["next_token"]
    vast.control.add_fault("list_page_shift", {"count": 1, "how": how})
    assert await vast.listed(limit="2", after_token=token) == [ids[index] for index in second]


async def test_the_old_list_is_gone_complete_or_cut_off(vast: api.Vast) -> None:
    await several(vast, 30)
    gone = await vast.call("GET", "/api/v0/instances/", owner="me")
    assert (gone.status, gone.body["error"]) == (410, "deprecated_endpoint")
    vast.control.switch(v0_list="ok")
    assert (await vast.call("GET", "/api/v0/instances/", owner="me")).body["instances_found"] == 30
    vast.control.switch(v0_list="paginated25")
    assert len((await vast.call("GET", "/api/v0/instances/", owner="me")).body["instances"]) == 25


# -- one instance


async def test_an_unknown_instance_reads_null_with_200(vast: api.Vast) -> None:
    for instance_id in ("1", "99999999", "none"):
        reply = await vast.call("GET", f"/api/v0/instances/{instance_id}/")
        assert (reply.status, reply.body) == (200, {"instances": None})


async def test_a_boot_goes_through_null_loading_created_and_running() -> None:
    async with api.served(plan=api.QUIET) as vast:
        instance_id = await vast.rented(env={"-p 80:80": "1"})
        seen: list[tuple[Any, bool, bool]] = []
        for _ in range(400):
            record = await vast.show(instance_id)
            assert record is not None
            state = (record["actual_status"], record["ports"] is not None, record["public_ipaddr"] is not None)
            if not seen or seen[-1] != state:
                seen.append(state)
            await vast.clock.advance(0.5)
        assert record is not None
        assert seen[:2] == [(None, False, False), ("loading", False, True)]
        assert seen[-1] == ("running", True, True)
        assert record["status_msg"] == "success, running busybox_latest/args\n"


@pytest.mark.parametrize(
    ("image", "login", "words"),
    [
        ("bareboat/missing:1", None, "pull access denied for bareboat/missing, repository does not exist"),
        ("bareboat/private:1", None, "pull access denied"),
        ("bareboat/private:1", "-u robot -p wrong docker.io", "unauthorized: "),
    ],
)
async def test_an_image_that_can_not_be_pulled_shows_only_in_the_status_message(
    image: str, login: str | None, words: str
) -> None:
    async with api.served(plan=api.QUIET) as vast:
        instance_id = await vast.rented(image=image, image_login=login)
        await vast.clock.advance(1800)
        record = await vast.show(instance_id)
        assert record is not None
        assert record["actual_status"] == "loading"
        assert words in record["status_msg"]


async def test_a_private_image_runs_with_its_login(vast: api.Vast) -> None:
    instance_id = await vast.rented(image="bareboat/private:1", image_login="-u robot -p opensesame docker.io")
    assert await vast.status(instance_id) == "running"


async def test_a_stopped_instance_keeps_its_disk_and_can_start_again() -> None:
    async with api.served(plan=api.QUIET) as vast:
        instance_id = await vast.running(env={"-p 80:80": "1"})
        assert (await vast.call("PUT", f"/api/v0/instances/{instance_id}/", {"state": "stopped"})).body == {
            "success": True
        }
        await vast.clock.advance(31)
        record = await vast.show(instance_id)
        assert record is not None
        assert (record["actual_status"], record["intended_status"], record["ports"]) == ("exited", "stopped", None)
        assert record["instance"]["gpuCostPerHour"] == 0
        assert record["search"]["gpuCostPerHour"] > 0
        assert (await vast.call("PUT", f"/api/v0/instances/{instance_id}/", {"state": "running"})).body["success"]
        seen: list[Any] = []
        for _ in range(120):
            await vast.clock.advance(1)
            status = await vast.status(instance_id)
            if not seen or seen[-1] != status:
                seen.append(status)
        assert seen[0] == "exited"
        assert seen[-1] == "running"


async def test_a_start_without_free_gpus_answers_200_without_success_and_starts_later(vast: api.Vast) -> None:
    instance_id = await vast.rented(31870033)
    path = f"/api/v0/instances/{instance_id}/"
    await vast.call("PUT", path, {"state": "stopped"})
    vast.control.take_all_offers(52033)
    queued = await vast.call("PUT", path, {"state": "running"})
    assert queued.status == 200
    assert queued.body == {
        "success": False,
        "msg": "Required resources are currently unavailable, state change queued.",
    }
    record = await vast.show(instance_id)
    assert record is not None
    assert (record["intended_status"], record["actual_status"]) == ("running", "exited")
    vast.control.free_offers(52033)
    await vast.clock.advance(31)
    assert await vast.status(instance_id) == "running"


async def test_a_label_can_be_set_and_is_answered_in_words(vast: api.Vast) -> None:
    instance_id = await vast.rented()
    reply = await vast.call("PUT", f"/api/v0/instances/{instance_id}/", {"label": "a:b/c=d"})
    assert reply.body == {"success": True, "msg": f"label for {instance_id} set to 'a:b/c=d'"}
    long = await vast.call("PUT", f"/api/v0/instances/{instance_id}/", {"label": "x" * 1025})
    assert (long.status, long.body["error"]) == (400, "label_too_long")
    unknown = await vast.call("PUT", "/api/v0/instances/1/", {"label": "x"})
    assert (unknown.status, unknown.body["error"]) == (404, "no_such_instance")


async def test_destroying_ends_it_and_destroying_again_is_a_404_in_one_of_two_ways(vast: api.Vast) -> None:
    instance_id = await vast.rented()
    path = f"/api/v0/instances/{instance_id}/"
    assert (await vast.call("DELETE", path, {})).body["success"] is True
    assert await vast.show(instance_id) is None
    again = await vast.call("DELETE", path, {})
    assert (again.status, again.body["error"]) == (404, "no_such_instance")
    vast.control.switch(destroyed_again="not_found")
    assert (await vast.call("DELETE", path, {})).body["error"] == "not_found"


async def test_many_instances_can_be_stopped_started_and_destroyed_in_one_call(vast: api.Vast) -> None:
    ids = await several(vast, 3)
    await vast.call("PUT", "/api/v0/instances/", {"state": "stopped", "ids": ids[:2]})
    assert [await vast.status(one) for one in ids] == ["exited", "exited", "running"]
    await vast.call("POST", "/api/v0/instances/start", {"IDs": ids[:1]})
    assert [await vast.status(one) for one in ids] == ["running", "exited", "running"]
    await vast.call("DELETE", "/api/v0/instances/", {"instance_ids": ids})
    assert await vast.listed() == []


@pytest.mark.parametrize(("how", "status"), [("429", 429), ("500", 500), ("lingers", 200)])
async def test_a_destroy_can_fail_or_take_its_time(vast: api.Vast, how: str, status: int) -> None:
    instance_id = await vast.rented()
    vast.control.add_fault("destroy_fails", {"count": 1, "how": how, "for_s": [30, 30]})
    reply = await vast.call("DELETE", f"/api/v0/instances/{instance_id}/", {})
    assert reply.status == status
    await vast.clock.advance(20)
    assert await vast.show(instance_id) is not None
    await vast.call("DELETE", f"/api/v0/instances/{instance_id}/", {})
    await vast.clock.advance(1)
    assert await vast.show(instance_id) is None


async def test_reboot_and_recycle_come_back_running() -> None:
    async with api.served(plan=api.QUIET) as vast:
        instance_id = await vast.running()
        assert (await vast.call("PUT", f"/api/v0/instances/reboot/{instance_id}/", {})).body["success"]
        assert await vast.status(instance_id) == "rebooting"
        await vast.clock.advance(10)
        assert await vast.status(instance_id) == "running"
        assert (await vast.call("PUT", f"/api/v0/instances/recycle/{instance_id}/", {})).body["success"]
        await vast.clock.advance(16)
        assert await vast.status(instance_id) == "loading"
        await vast.clock.advance(120)
        assert await vast.status(instance_id) == "running"


async def test_a_raised_bid_resumes_an_outbid_instance(vast: api.Vast) -> None:
    offer = await vast.an_offer(type="bid")
    instance_id = await vast.rented(offer["id"], price=offer["min_bid"])
    vast.control.outbid(instance_id)
    record = await vast.show(instance_id)
    assert record is not None
    assert record["cur_state"] == record["intended_status"] == record["next_state"] == "stopped"
    vast.control.free_offers(offer["machine_id"])
    path = f"/api/v0/instances/bid_price/{instance_id}/"
    assert (await vast.call("PUT", path, {"client_id": "me", "price": offer["min_bid"] * 2})).body["success"]
    assert await vast.status(instance_id) == "running"
    low = await vast.call("PUT", path, {"price": 0})
    assert low.body["msg"] == "Please set a bid price >= 0.001."
    assert low.status == 400


async def test_a_snapshot_must_not_repeat_the_id(vast: api.Vast) -> None:
    instance_id = await vast.rented()
    path = f"/api/v0/instances/take_snapshot/{instance_id}/"
    assert (await vast.call("POST", path, {"repo": "x"})).body["success"]
    refused = await vast.call("POST", path, {"id": instance_id})
    assert refused.body["msg"] == "params duplicated in URL and body: ['id']"


async def test_a_host_can_ask_for_more_and_is_paid_more_once_that_is_accepted(vast: api.Vast) -> None:
    kept, raised = await several(vast, 2)
    for instance_id in (kept, raised):
        vast.control.ask_more(instance_id, usd_per_hour=9.0, days=10)
    rows = (await vast.call("GET", "/api/v0/instances/pending-price-increases/")).body["pending_price_increases"]
    pending = {row["contract_id"]: row["pending_price_increase_id"] for row in rows}
    assert set(pending) == {kept, raised}
    before = await vast.show(raised)
    body = {"pending_price_increase_id": pending[raised]}
    accepted = await vast.call("PUT", "/api/v0/instances/accept-price-increase/", body)
    assert accepted.body == {"success": True, **body, "contract_id": raised}
    assert (await vast.call("PUT", "/api/v0/instances/accept-price-increase/", body)).status == 404
    body = {"pending_price_increase_id": pending[kept]}
    assert (await vast.call("PUT", "/api/v0/instances/reject-price-increase/", body)).body["success"]
    after, other = await vast.show(raised), await vast.show(kept)
    assert before is not None
    assert after is not None
    assert other is not None
    assert (after["dph_base"], other["dph_base"] < 9.0) == (9.0, True)
    assert after["end_date"] == before["end_date"] + 10 * 86_400
    usd = vast.sim.ledger.spend().gpu
    await vast.clock.advance(3600)
    assert vast.sim.ledger.spend().gpu - usd == pytest.approx(9.0 + other["dph_base"])


async def test_a_contract_that_has_ended_can_not_be_started_again(vast: api.Vast) -> None:
    instance_id = await vast.rented()
    vast.control.end_contract(instance_id)
    reply = await vast.call("PUT", f"/api/v0/instances/{instance_id}/", {"state": "running"})
    assert (reply.status, reply.body["error"]) == (400, "invalid_args")
    assert await vast.status(instance_id) == "exited"
