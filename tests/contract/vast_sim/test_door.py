"""Keys, rate limits and the faults that any request can meet."""

import asyncio

import blockbuster
import pytest
from tests.contract.vast_sim import api

USER = "/api/v0/users/current/"


async def test_without_a_key_one_is_told_to_log_in(vast: api.Vast) -> None:
    reply = await vast.call("GET", USER, key=None)
    assert reply.status == 403
    assert reply.body == {"success": False, "error": "auth_error", "msg": "This action requires login."}


@pytest.mark.parametrize(("variant", "status"), [("404", 404), ("401", 401)])
async def test_a_wrong_key_is_a_404_or_a_401(vast: api.Vast, variant: str, status: int) -> None:
    vast.control.switch(wrong_key=variant)
    reply = await vast.call("GET", USER, key="wrong")
    assert reply.status == status
    assert reply.body == {"success": False, "error": "auth_error", "msg": "Invalid user key"}


async def test_a_key_in_the_query_works_as_well(vast: api.Vast) -> None:
    assert (await vast.call("GET", USER, key=None, api_key=vast.sim.api_key)).status == 200


async def test_paths_work_with_and_without_the_slash_at_their_end(vast: api.Vast) -> None:
    assert (await vast.call("GET", "/api/v0/users/current")).body == (await vast.call("GET", USER)).body


async def test_the_key_of_an_instance_may_end_its_own_and_nothing_else(vast: api.Vast) -> None:
    created = (await vast.create()).body
    own, key = f"/api/v0/instances/{created['new_contract']}/", created["instance_api_key"]
    other = await vast.rented()
    assert (await vast.call("GET", USER, key=key)).status == 401
    assert (await vast.call("DELETE", f"/api/v0/instances/{other}/", {}, key=key)).status == 401
    assert (await vast.call("PUT", own, {"state": "stopped"}, key=key)).status == 200
    assert (await vast.call("DELETE", own, {}, key=key)).status == 200


async def test_the_user_has_credit_that_shrinks_with_what_runs(vast: api.Vast) -> None:
    before = (await vast.call("GET", USER)).body["credit"]
    await vast.rented(31870099)
    await vast.clock.advance(3600)
    user = (await vast.call("GET", USER)).body
    assert before - user["credit"] == pytest.approx(17.92, rel=0.05)
    assert "api_key" not in user


# -- rate limits


async def test_calls_must_keep_their_interval_and_the_429_is_plain_text() -> None:
    async with api.served(rate_limits=True) as vast:
        assert (await vast.call("GET", "/api/v1/instances/")).status == 200
        refused = await vast.call("GET", "/api/v1/instances/")
        assert (refused.status, refused.text) == (429, "API requests too frequent")
        assert refused.kind.startswith("text/plain")
        await vast.clock.advance(1.0)
        assert (await vast.call("GET", "/api/v1/instances/")).status == 200


async def test_the_bucket_is_the_route_and_not_the_instance() -> None:
    async with api.served(rate_limits=True) as vast:
        assert (await vast.call("GET", "/api/v0/instances/1/")).status == 200
        assert (await vast.call("GET", "/api/v0/instances/2/")).status == 429
        assert (await vast.call("GET", USER)).status == 200
        await vast.clock.advance(2.0)
        assert (await vast.call("GET", "/api/v0/instances/2/")).status == 200


async def test_searches_are_counted_by_the_minute() -> None:
    async with api.served(rate_limits=True) as vast:
        statuses = [(await vast.call("POST", "/api/v0/bundles/", {})).status for _ in range(11)]
        assert statuses == [200] * 10 + [429]
        await vast.clock.advance(60.0)
        assert (await vast.call("POST", "/api/v0/bundles/", {})).status == 200


@pytest.mark.parametrize(("penalty", "wait_s"), [(True, 12.0), (False, 4.5)])
async def test_a_create_too_early_costs_a_penalty(penalty: bool, wait_s: float) -> None:
    async with api.served(rate_limits=True, penalty=penalty) as vast:
        await vast.create(1)
        await vast.clock.advance(1)
        assert (await vast.create(1)).status == 429
        await vast.clock.advance(wait_s - 1.5 if penalty else 3.0)
        if penalty:
            assert (await vast.create(1)).status == 429
            await vast.clock.advance(12.0)
        else:
            await vast.clock.advance(0.5)
        assert (await vast.create(1)).status == 400


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ("text", "API requests too frequent"),
        ("threshold_text", "API requests too frequent: endpoint threshold=1.0"),
        ("json", '{"detail":"API requests too frequent endpoint threshold=1.0"}'),
    ],
)
async def test_a_429_has_several_shapes(shape: str, text: str) -> None:
    async with api.served(rate_limits=True, rate_limit_body=shape) as vast:
        await vast.call("GET", "/api/v1/instances/")
        assert (await vast.call("GET", "/api/v1/instances/")).text == text


async def test_a_429_can_come_though_one_kept_to_the_interval(vast: api.Vast) -> None:
    vast.control.add_fault("rate_limited")
    assert (await vast.call("GET", USER)).status == 429
    assert (await vast.call("GET", USER)).status == 200


# -- weather


async def test_errors_come_in_bursts(vast: api.Vast) -> None:
    vast.control.add_fault("server_errors", {"count": 1, "for_s": [60, 60], "status": 503, "html": 1})
    first = await vast.call("GET", USER)
    assert (first.status, "<html>" in first.text) == (503, True)
    await vast.clock.advance(59)
    assert (await vast.call("GET", USER)).status == 503
    await vast.clock.advance(2)
    assert (await vast.call("GET", USER)).status == 200


async def test_a_fault_can_be_for_one_route_alone(vast: api.Vast) -> None:
    rule = {"rate": 1, "for_s": [0, 0], "html": 0, "match": {"route": "GET /api/v1/instances"}}
    vast.control.add_fault("server_errors", rule)
    assert (await vast.call("GET", USER)).status == 200
    failed = await vast.call("GET", "/api/v1/instances/")
    assert (failed.status, failed.body["error"]) == (502, "server_error")


async def test_an_answer_can_take_long() -> None:
    async with api.served({"faults": {"slow_answer": {"count": 1, "for_s": [30, 30]}}}) as vast:
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(vast.call("GET", USER), name="slow")
            while not vast.clock.sleeping:  # noqa: ASYNC110 - the clock has no event for that
                await asyncio.sleep(0)
            await vast.clock.advance(29)
            assert not slow.done()
            await vast.clock.advance(2)
        assert slow.result().status == 200


async def test_the_ledger_remembers_who_was_refused_what(vast: api.Vast) -> None:
    await vast.call("GET", USER, key="somebody-else")
    await vast.create(1)
    refusals = [(refusal.who, refusal.what, refusal.status) for refusal in vast.sim.ledger.refusals]
    assert refusals == [
        ("…else", "GET /api/v0/users/current/", 404),
        (f"…{vast.sim.api_key[-4:]}", "PUT /api/v0/asks/1/", 400),
    ]


async def test_no_request_blocks_the_event_loop(vast: api.Vast) -> None:
    with blockbuster.blockbuster_ctx("bareboat"):
        for image in ("busybox:latest", "nginx:1.27", "vllm/vllm-openai:latest", "bareboat/missing:1"):
            instance_id = await vast.rented(image=image)
            assert (await vast.logs(instance_id)).status == 200
        assert len(await vast.listed()) == 4
        await vast.call("GET", "/control/world", key=None)
        await vast.call("GET", "/control/ledger", key=None)
