"""A rent call buys at most once, and every answer is read as what it proves."""

import asyncio
import functools
from typing import Any

import pytest
from tests.unit.vast import fakes

from bareboat.core import errors, instances
from bareboat.plumbing import clock as clocks

GONE = {
    "success": False,
    "error": "invalid_args",
    "msg": "error 404/3603: no_such_ask  Instance type by id 29907796 is not available.",
    "ask_id": 29907796,
}


async def test_rent_sends_one_put_with_the_mark_and_returns_the_instance() -> None:
    async with (
        fakes.serving(fakes.says({"success": True, "new_contract": 777, "instance_api_key": "f00"})) as server,
        fakes.client(server.url) as cloud,
    ):
        bought = await cloud.rent(fakes.an_offer(), fakes.a_launch(command=("sleep", "5")), fakes.a_mark())
    assert (bought.id, bought.state, bought.mark) == ("777", instances.State.PROVISIONING, fakes.a_mark())
    assert bought.usd_per_hour == pytest.approx(0.334 + 0.12 * 10 / 720)
    [(method, path, query, body)] = server.asked
    assert (method, path, query) == ("PUT", "/api/v0/asks/31870033/", {})
    assert body["label"] == str(fakes.a_mark())
    assert (body["runtype"], body["onstart"], body["args"]) == ("args", "sleep", ["5"])
    assert body["cancel_unavail"] is True and "price" not in body
    assert server.headers[0]["Authorization"] == f"Bearer {fakes.KEY}"
    assert server.headers[0]["User-Agent"].startswith("bareboat/")


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (400, GONE, errors.OfferGone),
        (404, GONE, errors.OfferGone),
        (
            410,
            {"success": False, "error": "no_such_ask", "msg": "error 410/3907: no longer available"},
            errors.OfferGone,
        ),
        (200, GONE, errors.OfferGone),
        (403, {"success": False, "error": "invalid_args", "msg": "error 403/3586: hosts"}, errors.OfferGone),
        (
            400,
            {"success": False, "error": "insufficient_credit", "msg": "Your account lacks credit"},
            errors.CreditExhausted,
        ),
        (411, {"msg": "Insufficient credit"}, errors.CreditExhausted),
        (400, {"success": False, "error": "spend_rate_limit", "msg": "new account"}, errors.CreditExhausted),
        (404, {"success": False, "error": "auth_error", "msg": "Invalid user key"}, errors.CredentialsRefused),
        (401, {"success": False, "error": "auth_error", "msg": "Invalid user key"}, errors.CredentialsRefused),
        (403, {"error": "auth_error", "msg": "This action requires login."}, errors.CredentialsRefused),
        (404, {"msg": "Session expired, log in again"}, errors.CredentialsRefused),
        (400, {"success": False, "error": "invalid_price", "msg": "bad price"}, errors.LaunchRefused),
        (400, {"success": False, "error": "invalid_args", "msg": "error 400/3467: bad"}, errors.OutcomeUnknown),
        (200, {"success": False, "error": "invalid_args", "msg": "currently unavailable"}, errors.OutcomeUnknown),
        (422, {"detail": "disk is no number"}, errors.LaunchRefused),
        (400, {"success": False, "error": "no_ssh_key_for_vm", "msg": "add a key"}, errors.LaunchRefused),
        (429, "API requests too frequent: endpoint threshold=4.5", errors.Throttled),
        (429, {"detail": "API requests too frequent endpoint threshold=4.5"}, errors.Throttled),
        (200, {"success": False, "error": "rate_limit_exceeded", "msg": "too frequent"}, errors.Throttled),
        (500, {"success": False, "error": "server_error", "msg": "Something went wrong"}, errors.OutcomeUnknown),
        (502, "<html><body>Bad Gateway</body></html>", errors.OutcomeUnknown),
        (504, "", errors.OutcomeUnknown),
        (400, "", errors.OutcomeUnknown),
        (400, {"success": False, "error": "a_new_word", "msg": "?"}, errors.OutcomeUnknown),
        (200, "", errors.OutcomeUnknown),
        (200, "<html>welcome</html>", errors.OutcomeUnknown),
        (200, {"success": True}, errors.OutcomeUnknown),
        (200, {"success": False, "msg": "who knows"}, errors.OutcomeUnknown),
        (200, {"success": True, "new_contract": "later"}, errors.OutcomeUnknown),
        (308, "", errors.OutcomeUnknown),
        (403, "<html>blocked by the wall</html>", errors.OutcomeUnknown),
    ],
)
async def test_each_refusal_has_its_name(status: int, answer: Any, expected: type[errors.CloudError]) -> None:
    async with fakes.serving(fakes.says(answer, status)) as server, fakes.client(server.url) as cloud:
        with pytest.raises(expected) as caught:
            await cloud.rent(fakes.an_offer(), fakes.a_launch(), fakes.a_mark())
    assert type(caught.value) is expected
    assert len(server.asked) == 1, "a rent call is made once, whatever comes of it"
    assert fakes.KEY not in str(caught.value)


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_a_refusal_that_names_an_instance_hands_it_on(status: int) -> None:
    answer = {"success": False, "error": "bid_too_low", "msg": "below the market", "new_contract": 4711}
    async with fakes.serving(fakes.says(answer, status)) as server, fakes.client(server.url) as cloud:
        with pytest.raises(errors.OutcomeUnknown) as caught:
            await cloud.rent(fakes.an_offer(), fakes.a_launch(), fakes.a_mark())
    assert caught.value.instance_id == "4711"


async def test_throttled_says_how_long_to_wait() -> None:
    text = "API requests too frequent: endpoint threshold=12.0"
    async with fakes.serving(fakes.says(text, 429)) as server, fakes.client(server.url) as cloud:
        with pytest.raises(errors.Throttled) as caught:
            await cloud.rent(fakes.an_offer(), fakes.a_launch(), fakes.a_mark())
    assert caught.value.after_s >= 12


async def test_a_rent_call_too_far_back_in_the_queue_is_not_made() -> None:
    clock = clocks.ManualClock()
    answer = fakes.says({"success": True, "new_contract": 1})
    async with (
        fakes.serving(answer) as server,
        fakes.client(server.url, limited=True, clock=clock, patience_s=60.0) as cloud,
    ):

        async def rent(attempt: int) -> str:
            try:
                return (await cloud.rent(fakes.an_offer(), fakes.a_launch(), fakes.a_mark(str(attempt)))).id
            except errors.Throttled as error:
                assert error.after_s > 0
                return "throttled"

        def asked(calls: int) -> bool:
            return len(server.asked) == calls

        renting = asyncio.gather(*(rent(attempt) for attempt in range(12)))
        for calls in range(1, 8):
            await fakes.until(functools.partial(asked, calls), f"{calls} calls")
            await clock.advance(5.0)
        outcomes = await renting
    assert outcomes.count("throttled") == 5
    assert len(server.asked) == 7


async def test_a_lost_answer_is_an_unknown_outcome_and_the_call_is_not_repeated() -> None:
    async with (
        fakes.serving(fakes.says({"success": True, "credit": 5}), fakes.hangs_up()) as server,
        fakes.client(server.url) as cloud,
    ):
        await cloud.credit_usd()  # a connection to keep: on a dead one the HTTP library would repeat a PUT by itself
        with pytest.raises(errors.OutcomeUnknown):
            await cloud.rent(fakes.an_offer(), fakes.a_launch(), fakes.a_mark())
    assert [method for method, *_ in server.asked] == ["GET", "PUT"]


async def test_a_time_out_is_an_unknown_outcome() -> None:
    async with fakes.serving(fakes.stalls()) as server, fakes.client(server.url, timeout_s=0.1) as cloud:
        with pytest.raises(errors.OutcomeUnknown):
            await cloud.rent(fakes.an_offer(), fakes.a_launch(), fakes.a_mark())
    assert len(server.asked) == 1


async def test_no_connection_at_all_is_no_unknown_outcome() -> None:
    async with fakes.serving(fakes.says({})) as server:
        url = server.url
    async with fakes.client(url) as cloud:
        with pytest.raises(errors.CloudDown):
            await cloud.rent(fakes.an_offer(), fakes.a_launch(), fakes.a_mark())


async def test_cancelling_a_rent_call_passes_through() -> None:
    async with fakes.serving(fakes.stalls()) as server, fakes.client(server.url) as cloud:
        renting = asyncio.create_task(cloud.rent(fakes.an_offer(), fakes.a_launch(), fakes.a_mark()))
        async with asyncio.timeout(5):
            await server.reached.wait()
        renting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await renting


async def test_an_offer_of_another_cloud_never_reaches_the_path() -> None:
    async with fakes.serving(fakes.says({})) as server, fakes.client(server.url) as cloud:
        with pytest.raises(errors.OfferGone):
            await cloud.rent(fakes.an_offer(id="../instances/1"), fakes.a_launch(), fakes.a_mark())
    assert server.asked == []
