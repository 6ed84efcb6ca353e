"""Reads are repeated within bounds, ends are asked for until heard, and nothing is concluded from a bad answer."""

from typing import Any

import pytest
from tests.unit.vast import accounts, fakes

from bareboat.core import errors, instances

TOO_OFTEN = "API requests too frequent"
CREDIT = {"credit": 7.5, "api_key": "x"}


async def test_a_read_is_repeated_after_throttling_and_trouble() -> None:
    replies = [fakes.says(TOO_OFTEN, 429), fakes.says("<html>502</html>", 502), fakes.hangs_up(), fakes.says(CREDIT)]
    async with fakes.serving(*replies) as server, fakes.client(server.url) as cloud:
        assert await cloud.credit_usd() == 7.5
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("status", "answer", "expected", "calls"),
    [
        (429, TOO_OFTEN, errors.Throttled, 3),
        (500, {"error": "server_error", "msg": "Something went wrong"}, errors.CloudDown, 3),
        (200, "<html>hello</html>", errors.CloudDown, 3),
        (200, {"success": False, "msg": "not today"}, errors.CloudDown, 1),
        (400, {"error": "invalid_request", "msg": "x is not a valid search key"}, errors.CloudDown, 1),
        (404, {"error": "auth_error", "msg": "Invalid user key"}, errors.CredentialsRefused, 1),
        (401, "", errors.CredentialsRefused, 1),
        (403, {"success": False, "error": "not_authorized", "msg": "lacks user_read"}, errors.CredentialsRefused, 1),
        (403, "<html>blocked</html>", errors.CloudDown, 3),
        (404, {"detail": "Not Found"}, errors.CloudDown, 1),
        (308, "", errors.CloudDown, 3),
        (200, {"credit": None}, errors.CloudDown, 1),
    ],
)
async def test_a_read_that_fails_says_what_to_do(
    status: int, answer: Any, expected: type[errors.CloudError], calls: int
) -> None:
    async with fakes.serving(fakes.says(answer, status)) as server, fakes.client(server.url, tries=3) as cloud:
        with pytest.raises(expected) as caught:
            await cloud.credit_usd()
    assert type(caught.value) is expected
    assert len(server.asked) == calls


async def test_an_error_shows_neither_the_key_nor_markup_nor_pages_of_text() -> None:
    page = f"<html><script>evil()</script><p>key {fakes.KEY}\n\n is {'bad ' * 500}</p>"
    async with fakes.serving(fakes.says(page, 500)) as server, fakes.client(server.url, tries=1) as cloud:
        with pytest.raises(errors.CloudDown) as caught:
            await cloud.credit_usd()
    told = str(caught.value)
    assert "key *** is bad bad" in told
    assert fakes.KEY not in told and "<" not in told and "evil" not in told and len(told) < 400


async def test_a_server_that_never_answers_is_given_up_within_the_patience() -> None:
    async with fakes.serving(fakes.stalls()) as server, fakes.client(server.url, patience_s=0.2) as cloud:
        with pytest.raises(errors.CloudDown, match=r"within 0\.2 s"):
            await cloud.credit_usd()


async def test_a_redirect_is_not_followed() -> None:
    async with fakes.serving(fakes.says(CREDIT)) as thief:

        async def moved(request: Any) -> Any:
            reply = await fakes.says("", 308)(request)
            reply.headers["Location"] = thief.url
            return reply

        async with fakes.serving(moved) as server, fakes.client(server.url, tries=1) as cloud:
            with pytest.raises(errors.CloudDown):
                await cloud.credit_usd()
        assert thief.asked == []


async def test_the_single_read_knows_an_object_and_null() -> None:
    row = accounts.a_row(5, None, label="hello")
    gone = {"success": False, "error": "no_such_instance", "msg": "no"}
    for body, status in (
        ({"instances": None}, 200),
        ({"instances": []}, 200),
        ({"instances": {}}, 200),
        (gone, 404),
        (gone, 200),
    ):
        async with fakes.serving(fakes.says(body, status)) as server, fakes.client(server.url) as cloud:
            assert await cloud.instance("5") is None
        assert server.asked[0][:2] == ("GET", "/api/v0/instances/5/")
    for told in ({"instances": row}, {"instances": [row]}):
        async with fakes.serving(fakes.says(told)) as server, fakes.client(server.url) as cloud:
            found = await cloud.instance("5")
        assert found is not None and (found.id, found.label) == ("5", "hello")
        assert found.state is instances.State.PROVISIONING


@pytest.mark.parametrize("body", [{}, {"success": True}, {"instances": {"id": 6}}, {"instances": "?"}, []])
async def test_a_single_read_that_proves_nothing_is_not_gone(body: Any) -> None:
    async with fakes.serving(fakes.says(body)) as server, fakes.client(server.url, tries=1) as cloud:
        with pytest.raises(errors.CloudDown):
            await cloud.instance("5")


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, {"success": True, "msg": "destroyed"}),
        (404, {"success": False, "error": "no_such_instance", "msg": "gone"}),
        (404, {"success": False, "error": "not_found", "msg": "gone"}),
    ],
)
async def test_destroying_what_is_gone_is_no_error(status: int, answer: Any) -> None:
    async with fakes.serving(fakes.says(answer, status)) as server, fakes.client(server.url) as cloud:
        await cloud.destroy("9")
    assert server.asked == [("DELETE", "/api/v0/instances/9/", {}, {})]


async def test_destroying_is_repeated_when_it_was_throttled_or_lost() -> None:
    throttled = {"success": False, "error": "rate_limit_exceeded", "msg": "too frequent endpoint threshold=3.0"}
    replies = [fakes.says(throttled, 429), fakes.hangs_up(), fakes.says({"success": True})]
    async with fakes.serving(*replies) as server, fakes.client(server.url) as cloud:
        await cloud.destroy("9")
    assert [method for method, *_ in server.asked] == ["DELETE"] * 3


async def test_an_empty_yes_is_yes_to_an_end_and_nothing_to_a_read() -> None:
    async with fakes.serving(fakes.says("", 204)) as server, fakes.client(server.url) as cloud:
        await cloud.destroy("9")
        with pytest.raises(errors.CloudDown):
            await cloud.instance("9")


async def test_ids_that_are_no_numbers_never_reach_a_path() -> None:
    async with fakes.serving(fakes.says({})) as server, fakes.client(server.url) as cloud:
        assert await cloud.instance("../users/current") is None
        await cloud.destroy("1/../2")
        with pytest.raises(errors.InstanceGone):
            await cloud.logs("x")
    assert server.asked == []


async def test_logs_are_asked_for_then_fetched_elsewhere_without_the_key() -> None:
    replies = [fakes.says("", 404), fakes.says("", 403), fakes.says("", 503), fakes.says("one\ntwo\nthree")]
    async with fakes.serving(*replies) as store:
        promised = {"success": True, "result_url": f"{store.url}/vast.ai/instance_logs/x.log", "msg": ""}
        async with fakes.serving(fakes.says(promised)) as server, fakes.client(server.url) as cloud:
            assert await cloud.logs("9", tail=2) == "two\nthree\n"
    assert server.asked == [("PUT", "/api/v0/instances/request_logs/9/", {}, {"tail": "2"})]
    assert len(store.asked) == 4
    assert all("Authorization" not in headers for headers in store.headers)


@pytest.mark.parametrize(
    "text",
    [
        "Error response from daemon: No such container: C.9\n",
        "cat: /var/lib/vastai_kaalia/data/instance_logs/9.log: No such file or directory",
        "",
    ],
)
async def test_logs_of_a_container_that_is_not_there_yet_are_empty(text: str) -> None:
    async with fakes.serving(fakes.says(text)) as store:
        promised = {"success": True, "result_url": f"{store.url}/9.log"}
        async with fakes.serving(fakes.says(promised)) as server, fakes.client(server.url) as cloud:
            assert await cloud.logs("9") == ""


async def test_logs_that_mention_a_missing_container_in_passing_are_kept() -> None:
    text = "start\nError response from daemon: No such container: C.9\nnext\n"
    async with fakes.serving(fakes.says(text)) as store:
        promised = {"success": True, "result_url": f"{store.url}/9.log"}
        async with fakes.serving(fakes.says(promised)) as server, fakes.client(server.url) as cloud:
            assert await cloud.logs("9") == text


async def test_logs_that_never_appear_are_given_up() -> None:
    async with fakes.serving(fakes.says("", 404)) as store:
        promised = {"success": True, "result_url": f"{store.url}/9.log"}
        async with fakes.serving(fakes.says(promised)) as server, fakes.client(server.url) as cloud:
            with pytest.raises(errors.CloudDown, match="did not appear"):
                await cloud.logs("9")


@pytest.mark.parametrize("url", [None, "", "file:///etc/passwd", "ftp://x/y", "http://[", "/relative"])
async def test_a_place_of_the_logs_that_is_no_web_address_is_not_fetched(url: str | None) -> None:
    async with (
        fakes.serving(fakes.says({"success": True, "result_url": url})) as server,
        fakes.client(server.url) as cloud,
    ):
        with pytest.raises(errors.CloudDown):
            await cloud.logs("9")


async def test_logs_of_no_such_instance() -> None:
    gone = {"success": False, "error": "invalid_id", "msg": "no"}
    async with fakes.serving(fakes.says(gone, 404)) as server, fakes.client(server.url) as cloud:
        with pytest.raises(errors.InstanceGone):
            await cloud.logs("9")


async def test_templates_are_found_by_exact_name_newest_first() -> None:
    found = {
        "success": True,
        "templates": [
            {"id": 1, "hash_id": "a" * 32, "name": "my_web", "created_at": 10.0},
            {"id": 2, "hash_id": "b" * 32, "name": "my_web", "created_at": "20"},
            {"id": 3, "hash_id": "c" * 32, "name": "my web", "created_at": 30.0},
            {"id": 4, "hash_id": None, "name": "my_web", "created_at": 40.0},
        ],
    }
    async with fakes.serving(fakes.says(found)) as server, fakes.client(server.url) as cloud:
        assert await cloud.templates("my_web") == [("2", "b" * 32), ("1", "a" * 32)]
    [(method, path, query, _)] = server.asked
    assert (method, path) == ("GET", "/api/v0/template/")
    assert query == {"select_cols": '["*"]', "select_filters": '{"name":{"eq":"my_web"}}'}
