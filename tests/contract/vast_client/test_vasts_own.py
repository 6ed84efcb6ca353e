"""What only Vast has: templates, its search language, bids; client and simulator together."""

import aiohttp
import pytest
from tests.contract.vast_client import rig as rigs

from bareboat.clouds.vast import query as queries
from bareboat.core import instances, labels, launches, needs

MARK = labels.Mark("contract", "owner-1", "1")
BOOT_S = 3600.0


async def _template(rig: rigs.VastRig, method: str = "POST", **told: object) -> str:
    """Makes or changes a template as a person would, and returns its hash."""
    url = f"{rig.simulator.url}/api/v0/template/"
    headers = {"Authorization": f"Bearer {rigs.KEY}"}
    async with aiohttp.ClientSession() as session, session.request(method, url, json=told, headers=headers) as response:
        answer = await response.json()
    assert answer["success"], answer
    return str(answer["template"]["hash_id"])


async def test_a_template_is_found_by_its_name_underscores_included() -> None:
    async with rigs.simulated() as rig:
        made = await _template(rig, name="my_web", image="nginx", env="-e A=b -p 80:80")
        await _template(rig, name="my web", image="busybox")
        [(number, found)] = await rig.cloud.templates("my_web")
        assert (number.isdigit(), found) == (True, made)
        changed = await _template(rig, "PUT", hash_id=made, name="my_web", image="busybox")
        assert changed != made
        assert await rig.cloud.templates("my_web") == [(number, changed)]


async def test_an_instance_from_a_template_names_it_and_runs_its_image() -> None:
    async with rigs.simulated() as rig:
        made = await _template(rig, name="my_web", image="nginx", tag="1.27", env="-p 80:80", runtype="args")
        offer = (await rig.cloud.search(needs.Needs(ports=1)))[0]
        bought = await rig.cloud.rent(offer, launches.Launch("", template=made), MARK)
        await rig.advance(BOOT_S)
        found = await rig.cloud.instance(bought.id)
        assert found is not None
        assert (found.template, found.image, found.state) == (made, "nginx:1.27", instances.State.RUNNING)
        assert (80, "TCP") in found.ports


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("num_gpus>=2", lambda offer: offer.gpu_count >= 2),
        ("gpu_name=RTX_4090 num_gpus=1", lambda offer: (offer.gpu_name, offer.gpu_count) == ("RTX 4090", 1)),
        ('gpu_name in ["RTX 4090","RTX 3090"]', lambda offer: offer.gpu_name in ("RTX 4090", "RTX 3090")),
        ("gpu_ram>=24", lambda offer: offer.gpu_memory_gib >= 24),
        ("dph<0.5", lambda offer: offer.usd_per_hour < 0.5),
        ("reliability>0.98", lambda offer: offer.reliability > 0.98),
        ("geolocation in [SE,US]", lambda offer: offer.region.startswith(("SE", "US"))),
        ("geolocation notin [US]", lambda offer: not offer.region.startswith("US")),
        ("datacenter=true", lambda offer: offer.datacenter),
        ("verified=false", lambda offer: not offer.verified),
        ('{"dph_total": {"lte": 0.3}, "order": [["dph_total", "desc"]]}', lambda offer: offer.usd_per_hour <= 0.3),
    ],
)
async def test_the_search_language_finds_what_it_says(text: str, check: object) -> None:
    async with rigs.simulated() as rig:
        found = await rig.cloud.matching(queries.parse(text, defaults=True).query)
        assert found
        assert callable(check) and all(check(offer) for offer in found)


async def test_a_bid_is_rented_at_its_price() -> None:
    async with rigs.simulated() as rig:
        offer = (await rig.cloud.search(needs.Needs(ports=1, pricing=needs.Pricing.SPOT)))[0]
        assert offer.spot_usd_per_hour is not None
        bid = round(offer.spot_usd_per_hour * 1.2, 4)
        launch = launches.Launch("nginx", pricing=needs.Pricing.SPOT, bid_usd_per_hour=bid)
        bought = await rig.cloud.rent(offer, launch, MARK)
        await rig.advance(BOOT_S)
        found = await rig.cloud.instance(bought.id)
        assert found is not None and found.state is instances.State.RUNNING
        assert found.usd_per_hour == pytest.approx(bought.usd_per_hour, rel=0.01)
        assert found.usd_per_hour == pytest.approx(bid + offer.usd_per_gib_month * 10 / 720, rel=0.01)
