"""A list is complete or an error, and a census costs two or three calls however the server compares null."""

from typing import Any

import pytest
from tests.unit.vast import accounts, fakes

from bareboat.core import errors


def _ids(found: Any) -> list[int]:
    return sorted(int(each.id) for each in found)


async def test_all_pages_are_read() -> None:
    account = accounts.Account([accounts.a_row(number) for number in range(1, 61)])
    async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
        listed = await cloud.instances()
    assert _ids(listed.instances) == list(range(1, 61))
    assert account.calls == 3


async def test_an_empty_account_is_an_empty_list() -> None:
    account = accounts.Account()
    async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
        assert (await cloud.instances()).instances == ()
        census = await cloud.census()
    assert (census.total, census.unsettled) == (0, ())


@pytest.mark.parametrize(
    "body",
    [
        {"success": True, "instances": None, "total_instances": 0},
        {"success": True, "instances": {}, "total_instances": 0},
        {"success": True, "instances": [], "total_instances": "0"},
    ],
)
async def test_the_ways_to_say_nothing_are_all_empty(body: Any) -> None:
    async with fakes.serving(fakes.says(body)) as server, fakes.client(server.url) as cloud:
        assert (await cloud.instances()).instances == ()


@pytest.mark.parametrize(
    "body",
    [
        {"success": True},
        {"success": True, "instances": None},
        {"success": True, "instances": None, "total_instances": 3},
        {"success": False, "instances": [], "total_instances": 0},
        {"success": True, "instances": [{"id": None}], "total_instances": 1},
        {"success": True, "instances": "none", "total_instances": 0},
        {"success": True, "instances": [1, 2], "total_instances": 2},
        [],
        "<html>maintenance</html>",
        "",
    ],
)
async def test_an_answer_that_proves_nothing_is_never_an_empty_list(body: Any) -> None:
    async with fakes.serving(fakes.says(body)) as server, fakes.client(server.url, tries=1) as cloud:
        with pytest.raises(errors.CloudDown):
            await cloud.instances()


async def test_a_row_that_slips_between_pages_is_caught_by_reading_again() -> None:
    account = accounts.Account([accounts.a_row(number) for number in range(1, 61)])
    account.hidden = lambda page, row: page == 2 and row["id"] == 30
    async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
        listed = await cloud.instances()
    assert _ids(listed.instances) == list(range(1, 61))
    assert account.calls == 6


async def test_rows_that_slip_in_both_readings_are_asked_for_by_id() -> None:
    account = accounts.Account([accounts.a_row(number) for number in range(1, 61)])
    account.hidden = lambda page, row: (page, row["id"]) in {(2, 30), (5, 40)}
    async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
        listed = await cloud.instances()
    assert _ids(listed.instances) == list(range(1, 61))
    assert account.calls == 7


async def test_an_account_that_shrinks_all_the_while_can_still_be_read() -> None:
    account = accounts.Account([accounts.a_row(number) for number in range(1, 101)])

    def shrink(page: int) -> None:
        account.rows.pop()

    account.before_page = shrink
    async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
        listed = await cloud.instances()
    alive = {row["id"] for row in account.rows}
    assert alive <= set(_ids(listed.instances))


async def test_an_account_that_grows_is_read_once() -> None:
    account = accounts.Account([accounts.a_row(number) for number in range(1, 61)])
    account.before_page = lambda page: account.rows.append(accounts.a_row(100 + page))
    async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
        listed = await cloud.instances()
    assert set(range(1, 61)) <= set(_ids(listed.instances))
    assert account.calls == 3


async def test_a_list_that_never_adds_up_is_an_error() -> None:
    account = accounts.Account([accounts.a_row(number) for number in range(1, 31)])
    account.hidden = lambda page, row: row["id"] == 7
    async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
        with pytest.raises(errors.CloudDown, match="29 of 30"):
            await cloud.instances()


async def test_without_counts_two_readings_have_to_agree() -> None:
    account = accounts.Account([accounts.a_row(number) for number in range(1, 31)], tells_count=False)
    async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
        assert len((await cloud.instances()).instances) == 30
        account.hidden = lambda page, row: page == 5 and row["id"] == 3
        with pytest.raises(errors.CloudDown):
            await cloud.instances()


async def test_marked_asks_by_label_and_checks_what_comes() -> None:
    mine, other = fakes.a_mark("1"), fakes.a_mark("2")
    rows = [accounts.a_row(1, label=str(mine)), accounts.a_row(2, label=str(other)), accounts.a_row(3)]
    for ignored in (False, True):
        account = accounts.Account(rows, ignores_filters=ignored)
        async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
            assert _ids(await cloud.marked(mine)) == [1]
        assert account.calls == 1


async def test_a_mark_is_found_though_counts_are_of_the_whole_account() -> None:
    mine = fakes.a_mark("1")
    rows = [accounts.a_row(1, label=str(mine)), *(accounts.a_row(number) for number in range(2, 40))]
    account = accounts.Account(rows, counts_account=True)
    async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
        assert _ids(await cloud.marked(mine)) == [1]
        assert _ids(await cloud.marked(fakes.a_mark("2"))) == []
        assert len((await cloud.instances()).instances) == 39
    assert account.calls == 5


async def test_a_filtered_list_of_many_pages_without_a_count_has_to_come_twice_the_same() -> None:
    mark = fakes.a_mark()
    rows = [accounts.a_row(number, label=str(mark)) for number in range(1, 31)] + [accounts.a_row(99)]
    account = accounts.Account(rows, counts_account=True)
    async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
        assert len(await cloud.marked(mark)) == 30
        account.calls = 0
        account.hidden = lambda page, row: page == 2 and row["id"] == 28
        with pytest.raises(errors.CloudDown, match="changed while it was read"):
            await cloud.marked(mark)


STATUSES = [None, "loading", "created", "exited", "stopped", "offline", "unknown"]


@pytest.mark.parametrize("null_passes_neq", [True, False])
@pytest.mark.parametrize("null_equals_null", [True, False])
@pytest.mark.parametrize("ignores_filters", [True, False])
@pytest.mark.parametrize("counts_account", [True, False])
@pytest.mark.parametrize("statuses", [STATUSES, [None], ["loading"], []])
async def test_a_census_sees_all_that_does_not_run_whatever_the_server_thinks_of_null(
    null_passes_neq: bool,
    null_equals_null: bool,
    ignores_filters: bool,
    counts_account: bool,
    statuses: list[str | None],
) -> None:
    rows = [accounts.a_row(number) for number in range(1, 41)]
    rows += [accounts.a_row(100 + number, status) for number, status in enumerate(statuses)]
    account = accounts.Account(rows, null_passes_neq, null_equals_null, ignores_filters, counts_account=counts_account)
    async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
        for _ in range(2):  # what the first learned may not mislead the second
            census = await cloud.census()
            assert census.total == 40 + len(statuses)
            assert _ids(census.unsettled) == [100 + number for number in range(len(statuses))]


@pytest.mark.parametrize(("null_passes_neq", "booting_calls"), [(True, 3), (False, 4)])
async def test_a_census_costs_two_calls_when_nothing_boots(null_passes_neq: bool, booting_calls: int) -> None:
    account = accounts.Account([accounts.a_row(number) for number in range(1, 201)], null_passes_neq)
    async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
        await cloud.census()
        assert account.calls == 4  # the first of all learns what the counts count
        for booting, calls in ((None, 2), ("loading", 3), (None, 2)):
            account.calls = 0
            account.rows[0]["actual_status"] = booting or "running"
            await cloud.census()
            assert account.calls == calls
        for _ in range(2):
            account.calls = 0
            account.rows[0]["actual_status"] = None
            assert _ids((await cloud.census()).unsettled) == [1]
            assert account.calls == booting_calls


async def test_a_census_of_an_empty_account_costs_one_call() -> None:
    account = accounts.Account()
    async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
        await cloud.census()
    assert account.calls == 1


@pytest.mark.parametrize("null_passes_neq", [True, False])
async def test_once_null_was_seen_instances_that_start_to_run_meanwhile_cost_nothing(null_passes_neq: bool) -> None:
    account = accounts.Account([accounts.a_row(1), *(accounts.a_row(n, None) for n in range(2, 9))], null_passes_neq)
    async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
        await cloud.census()
        started = account.calls

        def starts(page: int) -> None:
            account.rows[page - started]["actual_status"] = "running"

        account.before_page = starts
        census = await cloud.census()
    assert census.total == 8
    assert account.calls - started == (3 if null_passes_neq else 4)
    assert {row["id"] for row in account.rows if row["actual_status"] is None} <= set(_ids(census.unsettled))


async def test_an_instance_that_starts_to_run_during_a_census_does_not_spoil_it() -> None:
    account = accounts.Account([accounts.a_row(1), accounts.a_row(2, "loading")], null_passes_neq=False)

    def starts(page: int) -> None:
        if page == 5:
            account.rows[1]["actual_status"] = "running"

    account.before_page = starts
    async with fakes.serving(account.reply) as server, fakes.client(server.url) as cloud:
        census = await cloud.census()
    assert (census.total, census.unsettled) == (2, ())
    assert account.calls == 8


async def test_a_census_without_an_answer_is_an_error() -> None:
    async with fakes.serving(fakes.says("", 503)) as server, fakes.client(server.url, tries=2) as cloud:
        with pytest.raises(errors.CloudDown):
            await cloud.census()
    assert len(server.asked) == 2
