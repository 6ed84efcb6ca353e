"""RunPod's misfortunes, met by the driver: what it makes of each, and that nothing is bought, lost or doubled."""

import pytest
from tests.contract.runpod_client import rig as rigs

from bareboat.clouds.runpod.sim import faults, stock
from bareboat.core import errors, instances, labels, launches, needs, offers

State = instances.State
SPOT = needs.Needs(pricing=needs.Pricing.SPOT, min_reliability=0.9)


def _mark(attempt: int = 1) -> labels.Mark:
    return labels.Mark("faults", "owner", str(attempt))


async def _offers(rig: rigs.RunpodRig, wanted: needs.Needs | None = None) -> list[offers.Offer]:
    return list(await rig.cloud.search(wanted or needs.Needs(min_reliability=0.9)))


async def _rented(rig: rigs.RunpodRig, attempt: int = 1, **more: object) -> instances.Instance:
    launch = launches.Launch(image="nginx:latest", ports=(launches.Port(8080),))
    for name, value in more.items():
        object.__setattr__(launch, name, value)
    return await rig.cloud.rent((await _offers(rig))[0], launch, _mark(attempt))


async def _read(rig: rigs.RunpodRig, bought: instances.Instance, after_s: float = 0.0) -> instances.Instance:
    await rig.advance(after_s)
    found = await rig.cloud.instance(bought.id)
    assert found is not None
    return found


# -- creates


@pytest.mark.parametrize("text", [*stock.CAPACITY, stock.OVER_CONSTRAINED, stock.SPOT_CAPACITY])
@pytest.mark.parametrize("status", ["400", "500"])
async def test_stock_that_ran_out_is_told_by_its_text_whatever_the_status(text: str, status: str) -> None:
    async with rigs.simulated(switches={"capacity_status": status}) as rig:
        rig.fault("capacity", text=text)
        first, *others = await _offers(rig)
        with pytest.raises(errors.OfferGone):
            await rig.cloud.rent(first, rig.a_launch(), _mark())
        assert rig.rented() == []
        other_row = next(each for each in others if each.raw != first.raw)
        assert (await rig.cloud.rent(other_row, rig.a_launch(), _mark())).id in rig.rented()


async def test_other_offers_of_a_row_that_ran_dry_cost_no_call_and_are_not_found_for_a_while() -> None:
    async with rigs.simulated() as rig:
        found = await _offers(rig)
        rig.fault("over_constrained")
        same = [each for each in found if each.raw == found[0].raw]
        assert len(same) > 1
        for each in same:
            with pytest.raises(errors.OfferGone):
                await rig.cloud.rent(each, rig.a_launch(), _mark())
        assert rig.simulator.requests["POST /v2/pods"] == 1
        assert found[0].raw not in {each.raw for each in await _offers(rig)}


async def test_what_the_catalogue_still_shows_may_be_taken() -> None:
    async with rigs.simulated(faults={"offer_gone": 1.0}) as rig:
        with pytest.raises(errors.OfferGone):
            await _rented(rig)
        assert rig.rented() == []


@pytest.mark.parametrize("how", ["500", "502", "504", "drop", "empty"])
async def test_a_pod_behind_a_lost_answer_is_found_by_its_name(how: str) -> None:
    async with rigs.simulated() as rig:
        rig.fault("create_lost_answer", how=how)
        with pytest.raises(errors.OutcomeUnknown):
            await _rented(rig)
        await rig.advance(rig.cloud.visibility_window_s)
        assert [each.id for each in await rig.cloud.marked(_mark())] == rig.rented()
        assert len(rig.rented()) == 1


async def test_something_went_wrong_leaves_the_outcome_open_and_nothing_behind() -> None:
    async with rigs.simulated() as rig:
        rig.fault("create_error")
        with pytest.raises(errors.OutcomeUnknown, match="Something went wrong"):
            await _rented(rig)
        assert rig.rented() == []


async def test_a_launch_that_breaks_the_schema_is_refused_with_its_reasons() -> None:
    async with rigs.simulated() as rig:
        with pytest.raises(errors.LaunchRefused, match="template"):
            await _rented(rig, template="nosuch")
        assert rig.rented() == []


async def test_a_quota_that_is_used_up_throttles_a_create_and_says_for_how_long() -> None:
    async with rigs.simulated(limited=True) as rig:
        found = await _offers(rig)
        rig.fault("rate_limited", after_s=50, match={"route": "POST /v2/pods"})
        with pytest.raises(errors.Throttled) as caught:
            await rig.cloud.rent(found[0], rig.a_launch(), _mark())
        assert caught.value.after_s == pytest.approx(50, abs=2)
        assert rig.rented() == []


async def test_the_price_is_the_one_that_is_charged() -> None:
    async with rigs.simulated() as rig:
        rig.fault("price_differs", by=0.1)
        offer = (await _offers(rig))[0]
        bought = await rig.cloud.rent(offer, rig.a_launch(), _mark())
        disk_usd = offer.usd_per_gib_month * 10 / offers.HOURS_PER_MONTH
        assert bought.usd_per_hour == pytest.approx(offer.usd_per_hour * 1.1 + disk_usd, rel=0.01)


async def test_drifting_records_read_as_any_other() -> None:
    async with rigs.simulated(faults={"drift": 1.0}) as rig:
        bought = await _rented(rig)
        found = await _read(rig, bought, 600)
        assert (found.state, found.mark) == (State.RUNNING, _mark())
        assert bought.usd_per_hour == pytest.approx(found.usd_per_hour, rel=0.01)


# -- reads


async def test_a_new_pod_may_be_in_no_read_for_some_seconds() -> None:
    async with rigs.simulated() as rig:
        rig.fault("list_lag", for_s=15)
        bought = await _rented(rig)
        assert await rig.cloud.instance(bought.id) is None and list(await rig.cloud.marked(_mark())) == []
        assert (await _read(rig, bought, 16)).id == bought.id


@pytest.mark.parametrize("fault", ["bad_gateway", "answer_cut", "rate_limited"])
async def test_a_read_that_met_trouble_is_asked_again(fault: str) -> None:
    async with rigs.simulated() as rig:
        bought = await _rented(rig)
        rig.simulator.control.add_fault(fault, {"count": 2})
        assert [each.id for each in (await rig.cloud.instances()).instances] == [bought.id]


async def test_a_slow_answer_is_waited_for_no_longer_than_allowed() -> None:
    async with rigs.simulated(timeout_s=0.3, tries=2) as rig:
        rig.simulator.control.add_fault("slow_answer", {"rate": 1.0, "for_s": 60})
        with pytest.raises(errors.CloudDown, match="no answer"):
            await rig.cloud.instances()


async def test_ports_come_later_than_running() -> None:
    async with rigs.simulated(faults={"ports_late": {"rate": 1.0, "for_s": 20, "never": 0}}) as rig:
        bought = await _rented(rig)
        while (found := await _read(rig, bought, 1)).state is not State.RUNNING:
            pass
        assert not found.ports and not found.address
        found = await _read(rig, bought, 20)
        assert found.ports.get((8080, "TCP")) and found.address


async def test_a_host_that_never_starts_anything_never_looks_like_running() -> None:
    async with rigs.simulated() as rig:
        rig.fault("host_silent")
        bought = await _rented(rig)
        assert (await _read(rig, bought, 3600)).state is State.STARTING


async def test_a_pull_that_never_ends_is_a_start_that_lasts() -> None:
    async with rigs.simulated() as rig:
        rig.fault("boot_stuck")
        assert (await _read(rig, await _rented(rig), 3600)).state is State.STARTING


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ({"message": "manifest unknown: manifest unknown"}, instances.Fault.IMAGE_NOT_FOUND),
        ({"message": "error pulling image: layer does not exist"}, instances.Fault.IMAGE_PULL),
        ({"message": "unauthorized: access forbidden"}, instances.Fault.IMAGE_UNAUTHORIZED),
    ],
)
async def test_an_image_that_cant_be_had_has_failed_with_the_hosts_own_words(
    rule: dict[str, str], fault: instances.Fault
) -> None:
    async with rigs.simulated() as rig:
        rig.fault("pull_error", **rule)
        found = await _read(rig, await _rented(rig), 600)
        assert (found.state, found.fault) == (State.FAILED, fault)
        assert rule["message"] in found.message and "Exited by RunPod" in found.message


async def test_a_login_that_is_new_may_not_work_yet() -> None:
    async with rigs.simulated() as rig:
        rig.fault("login_late", for_s=200)
        login = launches.RegistryLogin("registry.example.com", "robot", "opensesame")
        image = "bareboat/private:1"
        states = []
        for attempt, after_s in ((1, 0.0), (2, 300.0)):
            await rig.advance(after_s)
            offer = (await _offers(rig))[0]
            launch = launches.Launch(image=image, registry_login=login)
            states.append((await _read(rig, await rig.cloud.rent(offer, launch, _mark(attempt)), 600)).state)
        assert states == [State.FAILED, State.RUNNING]


async def test_a_container_that_cant_be_created_has_failed() -> None:
    async with rigs.simulated() as rig:
        rig.fault("oci_error")
        found = await _read(rig, await _rented(rig), 600)
        assert (found.state, found.fault) == (State.FAILED, instances.Fault.CREATE_FAILED)


async def test_telemetry_that_is_missing_for_a_moment_proves_nothing() -> None:
    async with rigs.simulated() as rig:
        bought = await _rented(rig)
        assert (await _read(rig, bought, 600)).state is State.RUNNING
        rig.simulator.control.add_fault("runtime_blip", {"rate": 1.0})
        assert (await _read(rig, bought)).state is State.RUNNING


async def test_a_stopped_pod_is_stopped_though_its_telemetry_still_shows() -> None:
    async with rigs.simulated(faults={"stale_runtime": 1.0}) as rig:
        bought = await _rented(rig)
        await _read(rig, bought, 600)
        rig.simulator.control.stop(bought.id)
        found = await _read(rig, bought, 10)
        assert found.raw.has_runtime
        assert found.state is State.STOPPED and "Exited by user" in found.message


async def test_why_a_pod_stopped_is_asked_once() -> None:
    async with rigs.simulated() as rig:
        bought = await _rented(rig)
        await _read(rig, bought, 600)
        rig.simulator.control.stop(bought.id)
        await rig.advance(60)
        for _ in range(5):
            assert (await rig.cloud.instances()).instances[0].state is State.STOPPED
        assert rig.simulator.requests["POST /graphql"] == 1


async def test_a_pod_whose_end_was_asked_for_needs_no_explanation() -> None:
    async with rigs.simulated() as rig:
        bought = await _rented(rig)
        rig.fault("destroy_fails", how="lingers", for_s=30)
        await rig.cloud.destroy(bought.id)
        assert (await _read(rig, bought, 10)).state is State.STOPPED
        await rig.cloud.instances()
        assert "POST /graphql" not in rig.simulator.requests
        await rig.advance(60)
        assert await rig.cloud.instance(bought.id) is None


async def test_a_container_that_ended_stays_ended_however_long_its_successor_runs() -> None:
    async with rigs.simulated() as rig:
        bought = await _rented(rig)
        assert (await _read(rig, bought, 600)).state is State.RUNNING
        rig.workload_ends(bought.id)
        for after_s in (5, 30, 7200):
            assert (await _read(rig, bought, after_s)).state is State.EXITED
        assert rig.simulator.pods.status(rig.simulator.pods.find(bought.id)) == "RUNNING"


async def test_another_address_is_followed() -> None:
    async with rigs.simulated() as rig:
        found = await _read(rig, await _rented(rig), 600)
        rig.simulator.pods.find(found.id).moves_s = rig.simulator.estate.now()
        moved = await _read(rig, found)
        assert (moved.address, moved.ports) != (found.address, found.ports) and moved.ports


async def test_a_pod_that_vanished_is_none_and_in_no_list() -> None:
    async with rigs.simulated(faults={"pod_vanishes": {"per_hour": 3600}}) as rig:
        bought = await _rented(rig)
        await rig.advance(600)
        assert await rig.cloud.instance(bought.id) is None
        assert (await rig.cloud.instances()).instances == ()


async def test_a_404_of_the_door_is_no_proof_that_a_pod_is_gone() -> None:
    async with rigs.simulated() as rig:
        bought = await _rented(rig)
        rig.simulator.control.switch(v2="404", v1="404")
        for call in (rig.cloud.instance(bought.id), rig.cloud.destroy(bought.id), rig.cloud.instances()):
            with pytest.raises(errors.CloudDown):
                await call


async def test_a_list_with_pages_is_read_to_its_end() -> None:
    async with rigs.simulated(switches={"page": 2}) as rig:
        for attempt in range(5):
            await _rented(rig, attempt)
        assert sorted(each.id for each in (await rig.cloud.instances()).instances) == sorted(rig.rented())


# -- ends


@pytest.mark.parametrize("how", ["404", "500", "lingers", "alive"])
async def test_an_end_is_believed_when_a_read_says_so(how: str) -> None:
    async with rigs.simulated() as rig:
        bought = await _rented(rig)
        rig.fault("destroy_fails", how=how, for_s=30)
        await rig.cloud.destroy(bought.id)
        if how in ("404", "500", "alive"):
            assert await rig.cloud.instance(bought.id) is not None, "a DELETE's answer alone proves nothing"
            await rig.cloud.destroy(bought.id)
        await rig.advance(40)
        assert await rig.cloud.instance(bought.id) is None
        assert [entry.id for entry in rig.simulator.ledger.running_now()] == []


async def test_a_ghost_in_the_list_is_ended_again_without_harm() -> None:
    async with rigs.simulated() as rig:
        bought = await _rented(rig)
        rig.fault("list_ghost", for_s=5)
        await rig.cloud.destroy(bought.id)
        await rig.advance(4)
        assert await rig.cloud.instance(bought.id) is None
        await rig.cloud.destroy(bought.id)
        await rig.advance(5)
        assert (await rig.cloud.instances()).instances == ()


async def test_foreign_pods_with_names_like_ours_survive_everything() -> None:
    async with rigs.simulated(foreign=3, profile="quirks") as rig:
        bought = await _rented(rig)
        await rig.advance(60)
        listed = (await rig.cloud.instances()).instances
        assert len(listed) == 4
        assert [each.id for each in await rig.cloud.marked(_mark())] == [bought.id]
        assert [each.id for each in listed if each.mark and each.mark.cluster_id == "faults"] == [bought.id]
        await rig.cloud.destroy(bought.id)
        await rig.advance(60)
        assert len(list(rig.simulator.pods.foreign())) == 3


# -- spot


async def _spot(rig: rigs.RunpodRig, share: float = 1.1) -> instances.Instance:
    offer = next(each for each in await _offers(rig, SPOT) if each.spot_usd_per_hour)
    assert offer.spot_usd_per_hour is not None and offer.spot_usd_per_hour < offer.usd_per_hour
    launch = launches.Launch(
        image="nginx:latest",
        ports=(launches.Port(8080),),
        env={"BAREBOAT_X": "1"},
        pricing=needs.Pricing.SPOT,
        bid_usd_per_hour=offer.spot_usd_per_hour * share,
    )
    return await rig.cloud.rent(offer, launch, _mark())


async def test_spot_is_rented_by_graphql_and_charged_at_its_bid() -> None:
    async with rigs.simulated() as rig:
        bought = await _spot(rig)
        found = await _read(rig, bought, 600)
        assert (found.state, found.mark) == (State.RUNNING, _mark())
        assert found.usd_per_hour == pytest.approx(bought.usd_per_hour, rel=0.01)
        assert rig.simulator.ledger.entries()[0].bid
        assert found.tags == {"BAREBOAT_X": "1"}


async def test_without_graphql_spot_goes_by_v1() -> None:
    async with rigs.simulated() as rig:
        offer = next(each for each in await _offers(rig, SPOT) if each.spot_usd_per_hour)
        rig.simulator.control.switch(graphql="410")
        launch = launches.Launch(image="nginx:latest", pricing=needs.Pricing.SPOT, bid_usd_per_hour=9.0)
        with pytest.raises(errors.CloudDown):
            await rig.cloud.rent(offer, launch, _mark())
        assert (await rig.cloud.rent(offer, launch, _mark())).id in rig.rented()
        assert rig.simulator.ledger.entries()[0].bid


async def test_a_bid_that_is_too_low_is_an_offer_that_is_gone() -> None:
    async with rigs.simulated() as rig:
        with pytest.raises(errors.OfferGone, match="minimum bid"):
            await _spot(rig, 0.5)
        assert rig.rented() == []


@pytest.mark.parametrize("word", ["EXITED", "TERMINATED"])
async def test_being_outbid_is_told_as_such_or_as_an_end(word: str) -> None:
    async with rigs.simulated(switches={"outbid": word}) as rig:
        bought = await _spot(rig)
        await _read(rig, bought, 600)
        rig.simulator.control.outbid(bought.id)
        found = await rig.cloud.instance(bought.id)
        if word == "TERMINATED":
            assert found is None and (await rig.cloud.instances()).instances == ()
        else:
            assert found is not None and (found.state, found.fault) == (State.STOPPED, instances.Fault.OUTBID)


# -- back ends


async def test_without_v2_everything_goes_by_v1_and_graphql() -> None:
    async with rigs.simulated(switches={"v2": "404"}, faults={"drift": 0.5}) as rig:
        found = await _offers(rig)
        assert found
        bought = await rig.cloud.rent(found[0], rig.a_launch(), _mark())
        read = await _read(rig, bought, 600)
        assert (read.state, read.mark, read.ports.get((8080, "TCP")) is not None) == (State.RUNNING, _mark(), True)
        assert read.machine_id and read.usd_per_hour == pytest.approx(found[0].price(10.0), rel=0.01)
        assert [each.id for each in (await rig.cloud.instances()).instances] == [bought.id]
        await rig.cloud.destroy(bought.id)
        await rig.advance(60)
        assert await rig.cloud.instance(bought.id) is None


async def test_the_retirement_of_v1_is_nobodys_trouble_while_v2_is_there() -> None:
    async with rigs.simulated(faults={"v1_retired": {"at_s": 10}}) as rig:
        bought = await _rented(rig)
        assert (await _read(rig, bought, 600)).state is State.RUNNING
        assert rig.simulator.switches.v1 == "410"


def test_every_fault_of_the_catalogue_has_its_number_once() -> None:

    numbers = [kind.number for kind in faults.CATALOGUE.kinds]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
