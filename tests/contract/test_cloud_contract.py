"""The seam's contract, held against every cloud that is found, by way of its simulator. It knows no cloud by name."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from tests.contract import rigs

from bareboat.clouds import discovery
from bareboat.core import cloud as seam
from bareboat.core import errors, instances, labels, needs, offers

NOBODY = labels.Mark("nobody", "nothing", "never")
BOOT_S = 3600.0


@pytest.fixture(params=discovery.names())
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[rigs.Rig]:
    async with rigs.simulated(request.param) as opened:
        yield opened


def _mark(attempt: int = 1) -> labels.Mark:
    return labels.Mark("contract", "owner-1", str(attempt))


async def _offers(rig: rigs.Rig) -> Sequence[offers.Offer]:
    found = await rig.cloud.search(needs.Needs(ports=1, verified_only=False))
    return sorted(found, key=lambda each: (each.reliability or 0.0, each.id), reverse=True)


async def _rented(rig: rigs.Rig, attempt: int = 1) -> instances.Instance:
    """Rents the first offer that is still there: one machine's offers overlap."""
    for offer in await _offers(rig):
        try:
            return await rig.cloud.rent(offer, rig.a_launch(), _mark(attempt))
        except errors.OfferGone:
            continue
    raise AssertionError("the simulated market has nothing to rent")


async def _booted(rig: rigs.Rig) -> instances.Instance:
    bought = await _rented(rig)
    await rig.advance(BOOT_S)
    found = await rig.cloud.instance(bought.id)
    assert found is not None
    return found


async def test_names_and_windows_make_sense(rig: rigs.Rig) -> None:
    assert rig.cloud.name.isidentifier() and rig.cloud.name.islower()
    assert 0 < rig.cloud.visibility_window_s < 600


async def test_a_search_finds_offers_that_can_be_told_apart_and_priced(rig: rigs.Rig) -> None:
    found = await rig.cloud.search(needs.Needs())
    assert found
    assert len({each.id for each in found}) == len(found)
    for each in found:
        assert each.cloud == rig.cloud.name
        assert each.usd_per_hour > 0 and (each.price(10.0) or 0.0) >= each.usd_per_hour
        assert each.gpu_name and each.gpu_count >= 1


async def test_a_search_for_a_card_finds_it_however_it_is_written(rig: rigs.Rig) -> None:
    some = (await _offers(rig))[0]
    odd = some.gpu_name.lower().replace(" ", "_")
    wanted = needs.Needs(gpu_names=(odd,), gpu_count=some.gpu_count, verified_only=False)
    assert some.id in {each.id for each in await rig.cloud.search(wanted)}


async def test_narrowing_hides_no_offer_that_fits(rig: rigs.Rig) -> None:
    for each in (await _offers(rig))[::7]:
        wanted = needs.Needs(
            gpu_count=each.gpu_count,
            gpu_names=(each.gpu_name,),
            gpu_memory_gib=each.gpu_memory_gib,
            cpu_cores=each.cpu_cores,
            disk_gib=10.0,
            ports=1,
            max_usd_per_hour=each.price(10.0),
            regions=(each.region,) if each.region else (),
            min_reliability=each.reliability,
            min_inet_down_mbps=each.inet_down_mbps,
            min_cuda=each.cuda,
            verified_only=each.verified,
        )
        assert each.id in {found.id for found in await rig.cloud.search(wanted)}


async def test_an_empty_market_is_an_empty_answer(rig: rigs.Rig) -> None:
    rig.everything_is_rented()
    assert list(await rig.cloud.search(needs.Needs())) == []


async def test_a_rented_instance_carries_its_mark_from_the_first_read(rig: rigs.Rig) -> None:
    bought = await _rented(rig)
    assert bought.cloud == rig.cloud.name
    assert bought.mark == _mark()
    assert rig.rented() == [bought.id]
    await rig.advance(rig.cloud.visibility_window_s)
    found = await rig.cloud.instance(bought.id)
    assert found is not None and (found.id, found.mark) == (bought.id, _mark())
    assert [each.id for each in await rig.cloud.marked(_mark())] == [bought.id]
    assert [each.id for each in (await rig.cloud.instances()).instances] == [bought.id]


async def test_marks_are_compared_exactly(rig: rigs.Rig) -> None:
    await _rented(rig)
    await rig.advance(rig.cloud.visibility_window_s)
    assert list(await rig.cloud.marked(NOBODY)) == []
    assert list(await rig.cloud.marked(_mark(11))) == []


async def test_an_instance_comes_to_run_and_tells_where(rig: rigs.Rig) -> None:
    found = await _booted(rig)
    assert found.state is instances.State.RUNNING
    assert found.address and found.ports.get((8080, "TCP"))
    assert found.usd_per_hour and found.usd_per_hour > 0
    assert found.gpu_name and found.gpu_count
    hidden = all(each.machine_id is None for each in await _offers(rig))
    assert found.machine_id or hidden, "what offers tell of machines, instances tell, too"


async def test_the_price_of_an_instance_is_that_of_its_offer(rig: rigs.Rig) -> None:
    offer = (await _offers(rig))[0]
    bought = await rig.cloud.rent(offer, rig.a_launch(), _mark())
    await rig.advance(BOOT_S)
    found = await rig.cloud.instance(bought.id)
    expected = offer.price(rig.a_launch().disk_gib)
    assert found is not None and expected is not None
    assert found.usd_per_hour == pytest.approx(expected, rel=0.01)
    assert bought.usd_per_hour == pytest.approx(expected, rel=0.01)


async def test_an_offer_that_somebody_took_is_gone_and_nothing_is_bought(rig: rigs.Rig) -> None:
    offer = (await _offers(rig))[0]
    rig.somebody_rents(offer)
    with pytest.raises(errors.OfferGone):
        await rig.cloud.rent(offer, rig.a_launch(), _mark())
    assert rig.rented() == []


async def test_an_offer_makes_one_instance(rig: rigs.Rig) -> None:
    offer = (await _offers(rig))[0]
    await rig.cloud.rent(offer, rig.a_launch(), _mark(1))
    with pytest.raises(errors.OfferGone):
        await rig.cloud.rent(offer, rig.a_launch(), _mark(2))
    assert len(rig.rented()) == 1


async def test_a_lost_answer_is_an_unknown_outcome_that_the_mark_clears_up(rig: rigs.Rig) -> None:
    offer = (await _offers(rig))[0]
    rig.next_rent_is_lost()
    with pytest.raises(errors.OutcomeUnknown):
        await rig.cloud.rent(offer, rig.a_launch(), _mark())
    await rig.advance(rig.cloud.visibility_window_s)
    assert [each.id for each in await rig.cloud.marked(_mark())] == rig.rented()
    assert len(rig.rented()) == 1, "a rent call is never repeated by the driver"


async def test_trouble_of_the_cloud_while_renting_is_an_unknown_outcome(rig: rigs.Rig) -> None:
    offer = (await _offers(rig))[0]
    rig.next_rent_fails()
    with pytest.raises(errors.OutcomeUnknown):
        await rig.cloud.rent(offer, rig.a_launch(), _mark())
    await rig.advance(rig.cloud.visibility_window_s)
    assert list(await rig.cloud.marked(_mark())) == []
    assert rig.rented() == []


async def test_a_launch_that_can_never_work_is_refused_and_nothing_is_bought(rig: rigs.Rig) -> None:
    offer = (await _offers(rig))[0]
    with pytest.raises(errors.LaunchRefused) as caught:
        await rig.cloud.rent(offer, rig.an_impossible_launch(), _mark())
    assert len(caught.value.why) > 20, "a sentence for people"
    assert rig.rented() == []


async def test_without_money_nothing_is_bought(rig: rigs.Rig) -> None:
    offer = (await _offers(rig))[0]
    rig.money_runs_out()
    with pytest.raises(errors.CreditExhausted):
        await rig.cloud.rent(offer, rig.a_launch(), _mark())
    assert rig.rented() == []


async def test_without_money_what_ran_is_stopped_and_not_ended(rig: rigs.Rig) -> None:
    found = await _booted(rig)
    rig.money_runs_out()
    await rig.advance(120)
    stopped = await rig.cloud.instance(found.id)
    assert stopped is not None and stopped.state is instances.State.STOPPED


async def test_destroying_lasts_until_a_read_says_gone(rig: rigs.Rig) -> None:
    bought = await _rented(rig)
    await rig.advance(rig.cloud.visibility_window_s)
    await rig.cloud.destroy(bought.id)
    await rig.advance(120)
    assert await rig.cloud.instance(bought.id) is None
    assert list(await rig.cloud.marked(_mark())) == []
    assert (await rig.cloud.instances()).instances == ()
    await rig.cloud.destroy(bought.id)  # once more is no error


async def test_what_never_was_is_none_and_its_end_no_error(rig: rigs.Rig) -> None:
    assert await rig.cloud.instance("99999999") is None
    assert await rig.cloud.instance("no such thing") is None
    await rig.cloud.destroy("99999999")


async def test_an_instance_destroyed_by_somebody_else_is_none(rig: rigs.Rig) -> None:
    found = await _booted(rig)
    rig.somebody_destroys(found.id)
    await rig.advance(120)
    assert await rig.cloud.instance(found.id) is None


async def test_a_workload_that_ended_is_exited(rig: rigs.Rig) -> None:
    found = await _booted(rig)
    rig.workload_ends(found.id)
    await rig.advance(60)
    ended = await rig.cloud.instance(found.id)
    assert ended is not None and ended.state is instances.State.EXITED


async def test_a_listing_is_complete_over_many_pages_and_the_census_agrees(rig: rigs.Rig) -> None:
    count = 60
    for attempt in range(count):
        await _rented(rig, attempt)
        if attempt == count // 2:
            await rig.advance(BOOT_S)
    await rig.advance(rig.cloud.visibility_window_s)
    listing = await rig.cloud.instances()
    assert sorted(each.id for each in listing.instances) == sorted(rig.rented())
    assert {each.mark for each in listing.instances} == {_mark(attempt) for attempt in range(count)}
    running = {each.id for each in listing.instances if each.state is instances.State.RUNNING}
    assert running
    if isinstance(rig.cloud, seam.HasCensus):
        census = await rig.cloud.census()
        assert census.total == count
        assert {each.id for each in census.unsettled} == set(rig.rented()) - running


async def test_a_refused_key_is_named_by_every_call(rig: rigs.Rig) -> None:
    offer = (await _offers(rig))[0]
    rig.key_is_revoked()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: rig.cloud.rent(offer, rig.a_launch(), _mark()),
        lambda: rig.cloud.instances(),
        lambda: rig.cloud.instance("1"),
        lambda: rig.cloud.marked(_mark()),
        lambda: rig.cloud.destroy("1"),
    ]
    for call in calls:
        with pytest.raises(errors.CredentialsRefused):
            await call()
    assert rig.rented() == []


async def test_a_cloud_in_trouble_is_never_taken_for_an_empty_one(rig: rigs.Rig) -> None:
    bought = await _rented(rig)
    offer = (await _offers(rig))[0]
    rig.out_of_order()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: rig.cloud.search(needs.Needs()),
        lambda: rig.cloud.instances(),
        lambda: rig.cloud.instance(bought.id),
        lambda: rig.cloud.marked(_mark()),
        lambda: rig.cloud.destroy(bought.id),
    ]
    for call in calls:
        with pytest.raises(errors.CloudDown):
            await call()
    with pytest.raises((errors.OutcomeUnknown, errors.CloudDown)):
        await rig.cloud.rent(offer, rig.a_launch(), _mark(2))
    assert rig.rented() == [bought.id]


async def test_many_calls_at_once_do_not_mix_up_their_answers(rig: rigs.Rig) -> None:
    bought = [await _rented(rig, attempt) for attempt in range(8)]
    await rig.advance(rig.cloud.visibility_window_s)
    found = await asyncio.gather(*(rig.cloud.marked(_mark(attempt)) for attempt in range(8)))
    assert [[each.id for each in answer] for answer in found] == [[each.id] for each in bought]


async def test_logs_are_text_and_belong_to_an_instance(rig: rigs.Rig) -> None:
    if not isinstance(rig.cloud, seam.HasLogs):
        return
    found = await _booted(rig)
    text = await rig.cloud.logs(found.id)
    assert text and text.endswith("\n")
    assert (await rig.cloud.logs(found.id, tail=1)).count("\n") == 1
    assert await rig.cloud.logs(found.id, tail=0) == ""
    with pytest.raises(errors.InstanceGone):
        await rig.cloud.logs("99999999")


async def test_logs_before_the_start_are_empty(rig: rigs.Rig) -> None:
    if not isinstance(rig.cloud, seam.HasLogs):
        return
    bought = await _rented(rig)
    assert await rig.cloud.logs(bought.id) == ""


async def test_what_is_left_to_spend_falls(rig: rigs.Rig) -> None:
    if not isinstance(rig.cloud, seam.HasBilling):
        return
    before_usd = await rig.cloud.credit_usd()
    await _booted(rig)
    assert 0 < await rig.cloud.credit_usd() < before_usd


async def test_a_template_that_nobody_made_is_not_found(rig: rigs.Rig) -> None:
    if not isinstance(rig.cloud, seam.HasTemplates):
        return
    assert list(await rig.cloud.templates("no_such template")) == []


async def test_closing_twice_is_no_error_and_ends_nothing(rig: rigs.Rig) -> None:
    await _rented(rig)
    await rig.cloud.close()
    await rig.cloud.close()
    assert len(rig.rented()) == 1
