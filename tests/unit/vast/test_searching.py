"""What is asked for when searching, and how far the search goes on."""

from typing import Any

import pytest
from tests.unit.vast import fakes

from bareboat.clouds.vast import query as queries
from bareboat.clouds.vast import search
from bareboat.core import errors, needs


def _asks(start: int, count: int, price: float = 0.1, **told: Any) -> list[dict[str, Any]]:
    return [
        {"id": start + n, "gpu_name": "L4", "num_gpus": 1, "dph_base": price, "dph_total": price + n / 1000} | told
        for n in range(count)
    ]


def test_hard_limits_narrow_the_search() -> None:
    query = search.strict(
        needs.Needs(
            gpu_count=2,
            gpu_names=("rtx_4090", "RTX 3090"),
            gpu_memory_gib=24.0,
            disk_gib=40.0,
            ports=2,
            max_usd_per_hour=1.0,
            regions=("US-CA", "se"),
            min_reliability=0.95,
            min_inet_down_mbps=100.0,
            min_cuda=12.4,
            min_duration_s=3600.0,
        )
    )
    assert query == {
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "external": {"eq": False},
        "verified": {"eq": True},
        "type": "on-demand",
        "allocated_storage": 40.0,
        "order": [["dph_total", "asc"]],
        "limit": 64,
        "num_gpus": {"eq": 2},
        "gpu_name": {"in": ["RTX 4090", "RTX 3090"]},
        "gpu_ram": {"gte": 24064},
        "direct_port_count": {"gte": 2},
        "dph_total": {"lte": 1.02},
        "geolocation": {"in": ["SE", "US"]},
        "reliability": {"gte": 0.95},
        "inet_down": {"gte": 100.0},
        "cuda_max_good": {"gte": 12.4},
        "duration": {"gte": 3600.0},
    }


def test_spot_searches_bids_and_odd_regions_are_left_to_the_caller() -> None:
    query = search.strict(needs.Needs(pricing=needs.Pricing.SPOT, regions=("the moon", "US"), verified_only=False))
    assert query["type"] == "bid"
    assert not {"geolocation", "verified", "gpu_ram", "dph_total"} & query.keys()


def test_a_continent_is_searched_by_its_countries() -> None:
    countries = search.strict(needs.Needs(regions=("EU", "US-CA")))["geolocation"]["in"]
    assert {"SE", "US"} < set(countries) and "EU" not in countries


async def test_enough_offers_cost_one_call() -> None:
    async with fakes.serving(fakes.says({"offers": _asks(1, 20)})) as server, fakes.client(server.url) as cloud:
        assert len(await cloud.search(needs.Needs())) == 20
    assert [(method, path) for method, path, *_ in server.asked] == [("POST", "/api/v0/bundles/")]


async def test_a_full_page_is_followed_by_price_and_doubles_are_dropped() -> None:
    replies = [fakes.says({"offers": _asks(1, 64)}), fakes.says({"offers": _asks(60, 10)})]
    async with fakes.serving(*replies) as server, fakes.client(server.url) as cloud:
        found = await cloud.search(needs.Needs(max_usd_per_hour=2.0))
    assert sorted(int(each.id) for each in found) == list(range(1, 70))
    assert server.asked[1][3]["dph_total"] == {"lte": 2.04, "gte": pytest.approx(0.163)}


async def test_few_offers_are_joined_by_near_misses_of_a_wider_search() -> None:
    replies = [fakes.says({"offers": _asks(1, 2)}), fakes.says({"offers": _asks(1, 9, price=3.0)})]
    async with fakes.serving(*replies) as server, fakes.client(server.url) as cloud:
        found = {each.id: each.usd_per_hour for each in await cloud.search(needs.Needs(max_usd_per_hour=0.2))}
    assert found == {str(n): 0.1 if n < 3 else 3.0 for n in range(1, 10)}
    assert "dph_total" in server.asked[0][3] and "dph_total" not in server.asked[1][3]


async def test_a_card_younger_than_our_list_is_searched_by_spelling_and_then_without() -> None:
    async with fakes.serving(fakes.says({"offers": []})) as server, fakes.client(server.url) as cloud:
        assert await cloud.search(needs.Needs(gpu_names=("rtx_9090_ti",))) == []
    assert server.asked[0][3]["gpu_name"] == {"in": ["rtx 9090 ti", "RTX 9090 TI", "RTX 9090 Ti"]}
    assert "gpu_name" not in server.asked[1][3]


async def test_a_query_in_vasts_own_words_is_sent_as_it_is() -> None:
    asked = queries.parse("gpu_name=L4 dph<0.5", defaults=True).query
    async with fakes.serving(fakes.says({"offers": _asks(1, 3)})) as server, fakes.client(server.url) as cloud:
        assert len(await cloud.matching(asked)) == 3
    assert server.asked[0][3] == asked


@pytest.mark.parametrize("body", [{}, {"success": False, "msg": "no"}, {"offers": "x"}, "<html>"])
async def test_no_answer_is_not_an_empty_market(body: Any) -> None:
    async with fakes.serving(fakes.says(body)) as server, fakes.client(server.url, tries=1) as cloud:
        with pytest.raises(errors.CloudDown):
            await cloud.search(needs.Needs())
