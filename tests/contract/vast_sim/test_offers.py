"""Search: what offers look like and what a query finds."""

from typing import Any

import pytest
from tests.contract.vast_sim import api

EVERYTHING = {"hard_cap": 0, "default_limit": 100_000}


async def everything(vast: api.Vast, **query: Any) -> list[dict[str, Any]]:
    vast.control.switch(**EVERYTHING)
    return await vast.search(**query)


async def test_there_are_at_least_300_offers_and_the_ten_known_ones_are_among_them(vast: api.Vast) -> None:
    offers = await everything(vast)
    assert len(offers) >= 300
    known = {31870011, 31870022, 31870033, 31870044, 31870055, 31870066, 31870077, 31870088, 31870099, 31870100}
    assert known <= {offer["id"] for offer in offers}
    assert len({offer["id"] for offer in offers}) == len(offers)


@pytest.mark.parametrize("storage_gb", [8, 5.0, 120])
@pytest.mark.parametrize("kind", ["on-demand", "bid"])
async def test_every_offer_obeys_the_formulas(vast: api.Vast, storage_gb: float, kind: str) -> None:
    for offer in await everything(vast, allocated_storage=storage_gb, type=kind):
        total = offer["dph_total"]
        assert offer["ask_contract_id"] == offer["id"]
        assert offer["gpu_total_ram"] == offer["gpu_ram"] * offer["num_gpus"]
        assert offer["cpu_cores_effective"] == pytest.approx(offer["cpu_cores"] * offer["gpu_frac"])
        assert offer["storage_total_cost"] == pytest.approx(offer["storage_cost"] * storage_gb / 720, abs=1e-8)
        assert total == pytest.approx(offer["dph_base"] + offer["storage_total_cost"], abs=1e-8)
        assert offer["dph_total_adj"] == offer["discounted_dph_total"] == total
        assert offer["dlperf_per_dphtotal"] == pytest.approx(offer["dlperf"] / total, abs=1e-4)
        assert offer["flops_per_dphtotal"] == pytest.approx(offer["total_flops"] / total, abs=1e-4)
        assert offer["vram_costperhour"] == pytest.approx(total / offer["gpu_total_ram"])
        assert offer["internet_down_cost_per_tb"] == pytest.approx(offer["inet_down_cost"] * 1024, abs=1e-5)
        assert offer["score"] == pytest.approx(offer["dlperf_per_dphtotal"] * offer["reliability"], rel=1e-3)
        assert offer["expected_reliability"] == pytest.approx(offer["reliability"] ** 2, abs=1e-4)
        assert (offer["vericode"] == 1) == (offer["verification"] == "verified")
        assert offer["vms_enabled"] == (offer["hosting_type"] == 1)
        assert offer["is_bid"] == (kind == "bid")
        assert offer["duration"] == pytest.approx(offer["end_date"] - vast.clock.now_s())
        assert offer["search"]["totalHour"] == total
        assert offer["instance"]["gpuCostPerHour"] == 0
        if kind == "on-demand":
            assert 0.57 <= offer["min_bid"] / offer["dph_base"] <= 0.79


def test_driver_versions_become_zero_padded_numbers() -> None:
    from bareboat.clouds.vast.sim import records

    assert records.driver_number("535.86.05") == 535086005
    assert records.driver_number("570.124.04") == 570124004


async def test_answers_are_json_without_a_charset(vast: api.Vast) -> None:
    reply = await vast.call("POST", "/api/v0/bundles/", {})
    assert reply.kind == "application/json"


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ({"num_gpus": {"eq": "4"}}, lambda o: o["num_gpus"] == 4),
        ({"gpu_ram": {"gte": 24000.0}}, lambda o: o["gpu_ram"] >= 24000),
        ({"gpu_name": {"in": ["RTX 4090", "H200"]}}, lambda o: o["gpu_name"] in ("RTX 4090", "H200")),
        ({"gpu_name": {"notin": ["RTX 4090"]}}, lambda o: o["gpu_name"] != "RTX 4090"),
        ({"gpu_name": {"neq": "RTX 4090"}}, lambda o: o["gpu_name"] != "RTX 4090"),
        ({"reliability": {"gt": "0.98", "lt": "0.999"}}, lambda o: 0.98 < o["reliability"] < 0.999),
        ({"reliability2": {"gt": "0.99"}}, lambda o: o["reliability"] > 0.99),
        ({"geolocation": {"in": ["US", "CA"]}}, lambda o: o["geolocation"].endswith((", US", ", CA"))),
        ({"geolocation": {"eq": "SE"}}, lambda o: o["geolocation"] == "Sweden, SE"),
        ({"verified": {"eq": True}}, lambda o: o["verification"] == "verified"),
        ({"verified": {"eq": False}}, lambda o: o["verification"] != "verified"),
        ({"datacenter": {"eq": True}}, lambda o: o["hosting_type"] == 1),
        ({"static_ip": {"eq": True}}, lambda o: o["static_ip"]),
        ({"driver_version": {"gte": 570000000}}, lambda o: o["driver_vers"] >= 570000000),
        ({"cuda_max_good": {"gte": "12.8"}}, lambda o: o["cuda_max_good"] >= 12.8),
        ({"dph_total": {"lte": "0.3"}}, lambda o: o["dph_total"] <= 0.3),
        ({"duration": {"gte": 30 * 86400.0}}, lambda o: o["duration"] >= 30 * 86400),
        ({"allocated_storage": 2000}, lambda o: o["disk_space"] >= 2000),
        ({"target_reliability": 0.99}, lambda o: o["expected_reliability"] >= 0.99),
        ({"external": {"eq": False}}, lambda o: not o["external"]),
        ({"rented": {"eq": False}}, lambda o: not o["rented"]),
        ({"ask_contract_id": {"eq": 31870033}}, lambda o: o["id"] == 31870033),
        ({"machine_id": {"neq": 52033}}, lambda o: o["machine_id"] != 52033),
    ],
)
async def test_a_filter_finds_what_it_says_and_nothing_else(vast: api.Vast, query: Any, holds: Any) -> None:
    offers = await everything(vast)
    found = await everything(vast, **query)
    assert found
    assert {offer["id"] for offer in found} == {offer["id"] for offer in offers if holds(offer)}


async def test_filtering_by_id_finds_nothing_as_it_did_in_the_wild(vast: api.Vast) -> None:
    assert await vast.search(id={"eq": 31870033}) == []
    vast.control.switch(id_filter=True)
    assert [offer["id"] for offer in await vast.search(id={"eq": 31870033})] == [31870033]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"foo": {"eq": "1"}}, "foo is not a valid search key"),
        ({"num_gpus": {"like": "1"}}, "like is not a valid search op"),
        ({"num_gpus": 1}, "num_gpus is not a valid search key"),
        ({"type": "stolen"}, "stolen is not a valid type"),
    ],
)
async def test_a_query_that_makes_no_sense_is_a_400(vast: api.Vast, query: Any, words: str) -> None:
    reply = await vast.call("POST", "/api/v0/bundles/", query)
    assert reply.status == 400
    assert reply.body["error"] == "invalid_request"
    assert words in reply.body["msg"]


async def test_a_body_that_is_no_json_is_a_400(vast: api.Vast) -> None:
    headers = {"Authorization": f"Bearer {vast.sim.api_key}"}
    async with vast.http.post(f"{vast.sim.url}/api/v0/bundles/", data=b"{", headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["msg"] == "Invalid json body"


async def test_results_are_sorted_and_the_best_score_comes_first_by_default(vast: api.Vast) -> None:
    scores = [offer["score"] for offer in await vast.search()]
    assert scores == sorted(scores, reverse=True)
    offers = await vast.search(order=[["num_gpus", "desc"], ["dph_total", "asc"]])
    keys = [(-offer["num_gpus"], offer["dph_total"]) for offer in offers]
    assert keys == sorted(keys)


async def test_one_search_returns_64_at_most_whatever_is_asked(vast: api.Vast) -> None:
    assert len(await vast.search()) == 64
    assert len(await vast.search(limit=3000)) == 64
    assert len(await vast.search(limit=3)) == 3


async def test_paging_by_price_reaches_every_offer(vast: api.Vast) -> None:
    seen: dict[int, float] = {}
    floor = 0.0
    while True:
        page = await vast.search(order=[["dph_total", "asc"]], dph_total={"gte": floor})
        fresh = [offer for offer in page if offer["id"] not in seen]
        if not fresh:
            break
        seen.update({offer["id"]: offer["dph_total"] for offer in fresh})
        floor = page[-1]["dph_total"]
    assert set(seen) == {offer["id"] for offer in await everything(vast)}


async def test_all_three_ways_to_search_find_the_same(vast: api.Vast) -> None:
    query = {"gpu_name": {"eq": "RTX 4090"}}
    posted = await vast.call("POST", "/api/v0/bundles/", query)
    got = await vast.call("GET", "/api/v0/bundles", q=query)
    put = await vast.call("PUT", "/api/v0/search/asks/", {"select_cols": ["*"], "q": query})
    assert posted.body == got.body == put.body
    few = await vast.call("PUT", "/api/v0/search/asks/", {"select_cols": ["id", "gpu_name"], "q": query})
    assert set(few.body["offers"][0]) == {"id", "gpu_name"}


async def test_search_needs_no_key(vast: api.Vast) -> None:
    assert (await vast.call("POST", "/api/v0/bundles/", {}, key=None)).status == 200
    names = await vast.call("GET", "/api/v0/gpu_names/unique/", key=None)
    assert "RTX 4090" in names.body["gpu_names"]


async def test_an_offer_on_a_machine_that_one_rents_on_is_marked_rented(vast: api.Vast) -> None:
    await vast.rented(31870044)
    here = await vast.search(machine_id={"eq": 52044})
    assert here
    assert all(offer["rented"] for offer in here)


async def test_fields_can_be_null_and_a_filter_can_be_ignored() -> None:
    async with api.served({"faults": {"offer_nulls": {"rate": 0.5, "ignore_filter": 0.5}}}) as vast:
        offers = await everything(vast, dph_total={"lte": 0.2})
        assert any(offer["cpu_cores"] is None for offer in offers)
        assert any(offer["dph_total"] > 0.2 for offer in offers)


async def test_raised_prices_are_shown_and_rented_instances_keep_theirs(vast: api.Vast) -> None:
    before = (await vast.search(machine_id={"eq": 52044}, num_gpus={"eq": 1}))[0]
    instance_id = await vast.rented(before["id"])
    vast.control.set_price(52044, 2.0)
    after = (await vast.search(machine_id={"eq": 52044}, num_gpus={"eq": 1}))[0]
    assert after["dph_base"] == pytest.approx(2 * before["dph_base"], rel=1e-3)
    record = await vast.show(instance_id)
    assert record is not None
    assert record["dph_base"] == before["dph_base"]
