"""The fault catalogue of the simulated Vast, as far as a client meets it: by number, in the catalogue's order."""

import asyncio
from collections.abc import Sequence

import pytest
from tests.contract.vast_client import rig as rigs

from bareboat.core import errors, instances, labels, launches, needs, offers
from bareboat.plumbing import clock as clocks
from bareboat.simulation import estate, market, rentals

BOOT_S = 3600.0


def _mark(attempt: int = 1) -> labels.Mark:
    return labels.Mark("contract", "owner-1", str(attempt))


async def _offers(rig: rigs.VastRig, **told: object) -> Sequence[offers.Offer]:
    return await rig.cloud.search(needs.Needs(ports=1, **told))  # type: ignore[arg-type]


async def _rented(rig: rigs.VastRig, attempt: int = 1) -> instances.Instance:
    for offer in await _offers(rig):
        try:
            return await rig.cloud.rent(offer, rig.a_launch(), _mark(attempt))
        except errors.OfferGone:
            continue
    raise AssertionError("the simulated market has nothing to rent")


async def _found(rig: rigs.VastRig, instance_id: str) -> instances.Instance:
    found = await rig.cloud.instance(instance_id)
    assert found is not None
    return found


@pytest.mark.parametrize("status", ["400", "404", "410"])
async def test_01_an_offer_that_is_gone_in_each_of_its_spellings(status: str) -> None:
    async with rigs.simulated(switches={"no_such_ask": status}) as rig:
        offer = (await _offers(rig))[0]
        rig.fault("offer_gone")
        with pytest.raises(errors.OfferGone):
            await rig.cloud.rent(offer, rig.a_launch(), _mark())
        assert rig.rented() == []


@pytest.mark.parametrize("how", ["502", "504", "drop", "empty", "400", "hang"])
async def test_02_a_create_that_went_through_is_never_taken_for_a_refusal(how: str) -> None:
    async with rigs.simulated(timeout_s=0.3) as rig:
        offer = (await _offers(rig))[0]
        rig.fault("create_lost_answer", how=how)
        with pytest.raises(errors.OutcomeUnknown):
            await rig.cloud.rent(offer, rig.a_launch(), _mark())
        await rig.advance(rig.cloud.visibility_window_s)
        assert [each.id for each in await rig.cloud.marked(_mark())] == rig.rented()
        assert len(rig.rented()) == 1
        await rig.advance(600)  # lets the hanging answer end


async def test_03_a_create_that_failed_leaves_nothing() -> None:
    async with rigs.simulated() as rig:
        offer = (await _offers(rig))[0]
        rig.fault("create_error", status=503)
        with pytest.raises(errors.OutcomeUnknown):
            await rig.cloud.rent(offer, rig.a_launch(), _mark())
        assert rig.rented() == []


async def test_04_a_phantom_is_none_to_every_read() -> None:
    async with rigs.simulated() as rig:
        offer = (await _offers(rig))[0]
        rig.fault("create_phantom")
        phantom = await rig.cloud.rent(offer, rig.a_launch(), _mark())
        await rig.advance(rig.cloud.visibility_window_s)
        assert await rig.cloud.instance(phantom.id) is None
        assert list(await rig.cloud.marked(_mark())) == []


@pytest.mark.parametrize("stray", [True, False])
async def test_05_a_create_that_says_no_with_200_hands_its_stray_on(stray: bool) -> None:
    async with rigs.simulated() as rig:
        offer = (await _offers(rig))[0]
        rig.fault("create_unsuccessful", stray=stray)
        with pytest.raises(errors.OutcomeUnknown) as caught:
            await rig.cloud.rent(offer, rig.a_launch(), _mark())
        assert bool(rig.rented()) is stray
        assert caught.value.instance_id == (rig.rented()[0] if stray else None)


async def test_05_a_bid_below_the_market_buys_nothing() -> None:
    async with rigs.simulated() as rig:
        offer = (await _offers(rig, pricing=needs.Pricing.SPOT))[0]
        assert offer.spot_usd_per_hour is not None
        low = launches.Launch("nginx", pricing=needs.Pricing.SPOT, bid_usd_per_hour=offer.spot_usd_per_hour / 2)
        with pytest.raises(errors.OfferGone):
            await rig.cloud.rent(offer, low, _mark())
        assert rig.rented() == []


async def test_06_a_lagging_list_and_a_prompt_single_read() -> None:
    async with rigs.simulated() as rig:
        rig.fault("list_lag", for_s=10)
        bought = await _rented(rig)
        assert list(await rig.cloud.marked(_mark())) == []
        assert (await _found(rig, bought.id)).mark == _mark()
        await rig.advance(rig.cloud.visibility_window_s)
        assert [each.id for each in await rig.cloud.marked(_mark())] == [bought.id]


async def test_07_a_ghost_in_the_list_spoils_neither_list_nor_census() -> None:
    async with rigs.simulated() as rig:
        alive, ended = await _rented(rig, 1), await _rented(rig, 2)
        await rig.advance(BOOT_S)
        rig.fault("list_ghost", for_s=5)
        await rig.cloud.destroy(ended.id)
        await rig.advance(4)
        assert alive.id in {each.id for each in (await rig.cloud.instances()).instances}
        assert await rig.cloud.instance(ended.id) is None
        await rig.cloud.census()
        await rig.advance(60)
        assert [each.id for each in (await rig.cloud.instances()).instances] == [alive.id]


@pytest.mark.parametrize("how", ["repeat", "skip"])
async def test_08_pages_that_shift_lose_nothing_and_double_nothing(how: str) -> None:
    async with rigs.simulated() as rig:
        for attempt in range(55):
            await _rented(rig, attempt)
        rig.fault("list_page_shift", how=how, count=2)
        listing = await rig.cloud.instances()
        assert [each.id for each in listing.instances] == sorted(rig.rented())


@pytest.mark.parametrize(("stage", "state"), [("placing", "PROVISIONING"), ("pulling", "PULLING")])
async def test_09_a_boot_that_is_stuck_stays_a_boot(stage: str, state: str) -> None:
    async with rigs.simulated() as rig:
        rig.fault("boot_stuck", stage=stage)
        bought = await _rented(rig)
        await rig.advance(BOOT_S)
        assert (await _found(rig, bought.id)).state.name == state


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("manifest unknown: manifest unknown", instances.Fault.IMAGE_NOT_FOUND),
        ("unauthorized: authentication required", instances.Fault.IMAGE_UNAUTHORIZED),
        ("pull access denied for x", instances.Fault.IMAGE_UNAUTHORIZED),
        ("Error: something new", instances.Fault.OTHER),
    ],
)
async def test_11_a_pull_that_failed_says_why(message: str, fault: instances.Fault) -> None:
    async with rigs.simulated() as rig:
        rig.fault("pull_error", message=message)
        bought = await _rented(rig)
        await rig.advance(BOOT_S)
        found = await _found(rig, bought.id)
        assert (found.state, found.fault) == (instances.State.FAILED, fault)
        assert message in found.message


@pytest.mark.parametrize("image", ["bareboat/missing", "bareboat/private"])
async def test_11_images_that_cannot_be_pulled_say_so(image: str) -> None:
    """Docker says the same of an image that is missing and of one that needs a login; so its message has to be kept."""
    async with rigs.simulated() as rig:
        offer = (await _offers(rig))[0]
        bought = await rig.cloud.rent(offer, launches.Launch(image), _mark())
        await rig.advance(BOOT_S)
        found = await _found(rig, bought.id)
        assert (found.state, found.fault) == (instances.State.FAILED, instances.Fault.IMAGE_UNAUTHORIZED)
        assert "does not exist or may require" in found.message


async def test_11_a_private_image_is_pulled_with_its_login() -> None:
    async with rigs.simulated() as rig:
        offer = (await _offers(rig))[0]
        login = launches.RegistryLogin("https://index.docker.io/v1/", "robot", "opensesame")
        launch = launches.Launch("bareboat/private", registry_login=login)
        bought = await rig.cloud.rent(offer, launch, _mark())
        await rig.advance(BOOT_S)
        assert (await _found(rig, bought.id)).state is instances.State.RUNNING


async def test_12_a_container_that_cannot_be_created_has_failed() -> None:
    async with rigs.simulated() as rig:
        rig.fault("oci_error")
        bought = await _rented(rig)
        await rig.advance(BOOT_S)
        found = await _found(rig, bought.id)
        assert (found.state, found.fault) == (instances.State.FAILED, instances.Fault.CREATE_FAILED)


async def test_13_running_without_ports_is_running_without_ports() -> None:
    async with rigs.simulated() as rig:
        rig.fault("ports_late", for_s=7200, never=0.0)
        bought = await _rented(rig)
        await rig.advance(BOOT_S)
        found = await _found(rig, bought.id)
        assert (found.state, dict(found.ports)) == (instances.State.RUNNING, {})
        await rig.advance(7200)
        assert (8080, "TCP") in (await _found(rig, bought.id)).ports


async def test_16_and_17_a_host_that_is_silent_is_unreachable() -> None:
    async with rigs.simulated() as rig:
        bought = await _rented(rig)
        await rig.advance(BOOT_S)
        rig.simulator.control.silence(int(bought.id), 60)
        assert (await _found(rig, bought.id)).state is instances.State.UNREACHABLE
        await rig.advance(61)
        found = await _found(rig, bought.id)
        assert found.state is instances.State.RUNNING and found.machine_id is not None
        rig.simulator.control.host_down(int(found.machine_id))
        assert (await _found(rig, bought.id)).state is instances.State.UNREACHABLE
        census = await rig.cloud.census()
        assert [each.id for each in census.unsettled] == [bought.id]


async def test_18_being_outbid_is_told_from_the_end_of_the_workload() -> None:
    async with rigs.simulated() as rig:
        offer = (await _offers(rig, pricing=needs.Pricing.SPOT))[0]
        assert offer.spot_usd_per_hour is not None
        bid = launches.Launch(
            "nginx:latest", pricing=needs.Pricing.SPOT, bid_usd_per_hour=offer.spot_usd_per_hour * 1.1
        )
        bought = await rig.cloud.rent(offer, bid, _mark())
        await rig.advance(BOOT_S)
        running = await _found(rig, bought.id)
        assert running.usd_per_hour == pytest.approx(bought.usd_per_hour, rel=0.01)
        rig.simulator.control.outbid(int(bought.id))
        await rig.advance(60)
        found = await _found(rig, bought.id)
        assert (found.state, found.fault) == (instances.State.STOPPED, instances.Fault.OUTBID)


@pytest.mark.parametrize("shape", ["text", "threshold_text", "json", "json_error"])
async def test_20_throttling_in_each_of_its_shapes(shape: str) -> None:
    async with rigs.simulated(switches={"rate_limit_body": shape}) as rig:
        bought = await _rented(rig)
        rig.fault("rate_limited")
        assert await rig.cloud.instance(bought.id) is not None
        offer = (await _offers(rig))[0]
        rig.fault("rate_limited")
        with pytest.raises(errors.Throttled) as caught:
            await rig.cloud.rent(offer, rig.a_launch(), _mark(2))
        assert caught.value.after_s > 0
        assert rig.rented() == [bought.id]


@pytest.mark.parametrize("html", [0.0, 1.0])
async def test_21_a_short_burst_of_trouble_is_sat_out_by_reads(html: float) -> None:
    async with rigs.simulated(clock=clocks.ScaledClock(20.0)) as rig:
        bought = await _rented(rig)
        rig.fault("server_errors", for_s=2, html=html)
        assert [each.id for each in (await rig.cloud.instances()).instances] == [bought.id]
        assert rig.simulator.requests["GET /api/v1/instances"] > 1


async def test_22_a_slow_answer_to_a_read_is_given_up() -> None:
    async with rigs.simulated(timeout_s=0.1, patience_s=2.0, tries=2) as rig:
        rig.fault("slow_answer", count=2, for_s=40)
        with pytest.raises(errors.CloudDown):
            await rig.cloud.instances()
        await rig.advance(60)


@pytest.mark.parametrize("how", ["429", "500", "lingers"])
async def test_23_a_destroy_that_fails_is_repeated_and_proves_nothing(how: str) -> None:
    async with rigs.simulated() as rig:
        bought = await _rented(rig)
        rig.fault("destroy_fails", how=how, for_s=30)
        await rig.cloud.destroy(bought.id)
        await rig.advance(120)
        assert await rig.cloud.instance(bought.id) is None


@pytest.mark.parametrize("status", ["401", "404"])
async def test_25_a_revoked_key_in_each_of_its_spellings(status: str) -> None:
    async with rigs.simulated(switches={"wrong_key": status}) as rig:
        rig.key_is_revoked()
        with pytest.raises(errors.CredentialsRefused):
            await rig.cloud.credit_usd()


async def test_26_and_32_a_changed_address_and_label_are_seen() -> None:
    async with rigs.simulated() as rig:
        bought = await _rented(rig)
        await rig.advance(BOOT_S)
        rig.simulator.control.change_address(int(bought.id), "203.0.113.250")
        rig.simulator.control.relabel(int(bought.id), None)
        found = await _found(rig, bought.id)
        assert (found.address, found.mark) == ("203.0.113.250", None)


async def test_27_a_contract_at_its_end_is_stopped() -> None:
    async with rigs.simulated() as rig:
        bought = await _rented(rig)
        await rig.advance(BOOT_S)
        rig.simulator.control.end_contract(int(bought.id))
        await rig.advance(60)
        assert (await _found(rig, bought.id)).state is instances.State.STOPPED


@pytest.mark.parametrize("status", [403, 404])
async def test_28_logs_that_come_late_are_waited_for(status: int) -> None:
    async with rigs.simulated() as rig:
        bought = await _rented(rig)
        await rig.advance(BOOT_S)
        rig.fault("logs_late", tries=4, status=status, never=0.0)
        assert "nginx" in await rig.cloud.logs(bought.id)


async def test_28_logs_that_never_come_are_an_error() -> None:
    async with rigs.simulated() as rig:
        bought = await _rented(rig)
        await rig.advance(BOOT_S)
        rig.fault("logs_late", never=1.0)
        with pytest.raises(errors.CloudDown):
            await rig.cloud.logs(bought.id)


async def test_29_offers_with_gaps_are_still_offers() -> None:
    async with rigs.simulated(faults={"offer_nulls": {"rate": 1.0}}) as rig:
        found = await rig.cloud.search(needs.Needs())
        assert found
        assert any(each.region is None or each.cpu_cores is None or each.memory_gib is None for each in found)


async def test_the_client_keeps_the_published_pace() -> None:
    """Every route asked as fast as the client lets us, on the simulator's own clock: no refusal in its books."""
    clock = clocks.ManualClock()
    quiet = estate.Plan(churn=market.Churn.none(), boot=rentals.BootTimes.instant())
    async with rigs.simulated(limited=True, clock=clock, plan=quiet) as rig:

        async def churn(attempt: int) -> None:
            bought = await _rented(rig, attempt)
            await rig.cloud.instance(bought.id)
            await rig.cloud.instances()
            await rig.cloud.logs(bought.id)
            await rig.cloud.credit_usd()
            await rig.cloud.templates("x")
            await rig.cloud.destroy(bought.id)

        churning = asyncio.gather(*(churn(attempt) for attempt in range(5)))
        while not churning.done():
            for _ in range(60):  # both ends live in this loop: what is under way arrives before time moves on
                await asyncio.sleep(0)
            await clock.advance(0.2)
        await churning
        book = rig.simulator.ledger.report()
        assert [refusal for refusal in book["refusals"] if refusal["status"] == 429] == []
        assert len(rig.rented()) == 5


async def test_another_program_on_the_same_key_slows_the_client_down_without_harm() -> None:
    async with rigs.simulated(limited=True, clock=clocks.ScaledClock(60.0)) as rig:
        bought = await _rented(rig)
        rig.fault("rate_limited", count=2)
        assert await rig.cloud.instance(bought.id) is not None
        assert len((await rig.cloud.instances()).instances) == 1
