"""What the driver does beyond the contract: registry logins, quotas by header, figures from GraphQL, calls counted."""

import asyncio

import pytest
from tests.contract.runpod_client import rig as rigs

from bareboat.clouds.runpod import logins
from bareboat.core import errors, instances, labels, launches, needs
from bareboat.fleet import watcher
from bareboat.plumbing import clock as clocks

LOGIN = launches.RegistryLogin("registry.example", "somebody", "a secret")
OTHER = launches.RegistryLogin("registry.example", "somebody", "another secret")


def _mark(attempt: int = 1, cluster: str = "own") -> labels.Mark:
    return labels.Mark(cluster, "owner", str(attempt))


async def _rented(
    rig: rigs.RunpodRig, attempt: int = 1, login: launches.RegistryLogin | None = None
) -> instances.Instance:
    for offer in await rig.cloud.search(needs.Needs(min_reliability=0.9)):
        try:
            return await rig.cloud.rent(offer, launches.Launch("nginx:latest", registry_login=login), _mark(attempt))
        except errors.OfferGone:
            continue
    raise AssertionError("nothing to rent")


def _names(rig: rigs.RunpodRig) -> list[str]:
    return [each.name for each in rig.simulator.account.registries.values()]


# -- registry logins


async def test_a_registry_login_is_made_once_and_used_by_all_pods_that_have_it() -> None:
    async with rigs.simulated() as rig:
        for attempt in range(3):
            await _rented(rig, attempt, LOGIN)
        await _rented(rig, 3, OTHER)
        assert _names(rig) == [logins.name_of(LOGIN, _mark()), logins.name_of(OTHER, _mark())]
        assert LOGIN.password not in "".join(_names(rig))
        assert rig.simulator.requests["POST /v2/registries"] == 2
        used = {pod.registry for pod in (each.raw for each in (await rig.cloud.instances()).instances)}
        assert used == set(rig.simulator.account.registries)


async def test_a_login_of_an_earlier_life_is_found_and_used_again() -> None:
    async with rigs.simulated() as rig:
        rig.simulator.account.add_registry(logins.name_of(LOGIN, _mark()), "somebody", "a secret")
        await _rented(rig, 1, LOGIN)
        assert len(_names(rig)) == 1 and "POST /v2/registries" not in rig.simulator.requests


async def test_a_login_that_no_pod_uses_is_removed_after_a_while_and_those_of_others_are_not() -> None:
    clock = clocks.ManualClock()
    another = logins.name_of(LOGIN, _mark(cluster="another-cluster"))
    async with rigs.simulated(clock=clock, foreign=3) as rig:
        rig.simulator.account.add_registry("somebody's own", "u", "p")
        rig.simulator.account.add_registry(another, "u", "p")
        bought = await _rented(rig, 1, LOGIN)
        await rig.advance(logins.UNUSED_S * 2)
        await rig.cloud.instances()
        assert len(_names(rig)) == 3, "it is in use"
        await rig.cloud.destroy(bought.id)
        await rig.advance(60)
        await rig.cloud.instances()
        assert len(_names(rig)) == 3, "a pod may be in no list yet"
        await rig.advance(logins.UNUSED_S)
        await rig.cloud.instances()
        assert _names(rig) == ["somebody's own", another], "another cluster rents on this account, and minds its own"
        await _rented(rig, 2, LOGIN)
        assert len(_names(rig)) == 3, "and made anew when it is wanted again"


async def test_a_login_that_the_account_keeps_is_named_and_none_is_made() -> None:
    async with rigs.simulated() as rig:
        kept = rig.simulator.account.add_registry("somebody's own", "u", "p")
        offer = (await rig.cloud.search(needs.Needs()))[0]
        launch = launches.Launch("nginx:latest", registry_login=LOGIN, registry_auth_id=kept.id)
        await rig.cloud.rent(offer, launch, _mark())
        assert _names(rig) == ["somebody's own"]
        assert (await rig.cloud.instances()).instances[0].raw.registry == kept.id
        with pytest.raises(errors.LaunchRefused, match="registry"):
            launch = launches.Launch("nginx:latest", registry_auth_id="nosuch")
            await rig.cloud.rent((await rig.cloud.search(needs.Needs()))[0], launch, _mark(2))


async def test_without_v2_logins_are_kept_by_v1() -> None:
    async with rigs.simulated(switches={"v2": "404"}) as rig:
        await _rented(rig, 1, LOGIN)
        assert _names(rig) == [logins.name_of(LOGIN, _mark())]
        assert rig.simulator.requests["POST /v1/containerregistryauth"] == 1


async def test_a_login_that_can_never_be_stored_is_the_launchs_fault() -> None:
    async with rigs.simulated() as rig:
        with pytest.raises(errors.LaunchRefused, match="registry login"):
            await _rented(rig, 1, launches.RegistryLogin("registry.example", "somebody", ""))
        assert rig.rented() == []


# -- quotas


async def test_quotas_are_kept_to_as_the_answers_tell_them() -> None:
    clock = clocks.ScaledClock(100.0)
    async with rigs.simulated(clock=clock, limited=True, switches={"per_minute": 12}, patience_s=90.0) as rig:
        started_s = clock.now_s()
        for _ in range(20):
            await rig.cloud.instances()
        assert clock.now_s() - started_s >= 60
        assert not [each for each in rig.simulator.ledger.refusals if each.status == 429]


async def test_what_ends_costs_may_use_the_last_calls_of_a_quota() -> None:
    async with rigs.simulated(switches={"rate_limits": True, "per_minute": 12}, limited=True, patience_s=2.0) as rig:
        bought = await _rented(rig)
        with pytest.raises((errors.Throttled, errors.CloudDown)):
            for _ in range(12):
                await rig.cloud.instances()
        await rig.cloud.destroy(bought.id)
        assert not [each for each in rig.simulator.ledger.refusals if each.status == 429]


@pytest.mark.parametrize("count", [1, 40])
async def test_a_quiet_account_is_watched_with_six_calls_a_minute_however_many_pods(count: int) -> None:
    clock = clocks.ManualClock()
    async with rigs.simulated(clock=clock, switches={"rate_limits": False}) as rig:
        for attempt in range(count):
            await _rented(rig, attempt)
        await rig.advance(3600)
        eye = watcher.Watcher(rig.cloud, clock)
        listing = await rig.cloud.instances()
        assert len(listing.instances) == count
        before = dict(rig.simulator.requests)
        minutes = 5
        looks = await _watched(rig, eye, minutes)
        calls = sum(rig.simulator.requests.values()) - sum(before.values())
        assert looks and calls <= 6 * minutes + 1, "and the first look"
        assert set(rig.simulator.requests) - set(before) == set()


async def _watched(rig: rigs.RunpodRig, eye: watcher.Watcher, minutes: int) -> int:
    task = asyncio.ensure_future(eye.run())
    try:
        for _ in range(minutes * 60):
            for _ in range(200):
                await asyncio.sleep(0)
            await rig.advance(1)
            await asyncio.sleep(0.002)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return eye.listings


# -- what only GraphQL tells


async def test_cores_and_memory_come_from_graphql_when_they_are_asked_for() -> None:
    async with rigs.simulated() as rig:
        plain = await rig.cloud.search(needs.Needs())
        assert all(each.cpu_cores is None for each in plain) and "POST /graphql" not in rig.simulator.requests
        asked = await rig.cloud.search(needs.Needs(cpu_cores=4, memory_gib=16, gpu_count=2))
        assert any((each.cpu_cores or 0) >= 4 and (each.memory_gib or 0) >= 16 for each in asked)
        await rig.cloud.search(needs.Needs(cpu_cores=8, gpu_count=2))
        assert rig.simulator.requests["POST /graphql"] == 1, "they hardly change"


async def test_without_graphql_offers_lack_figures_and_spot_is_no_answer() -> None:
    async with rigs.simulated(switches={"graphql": "410"}) as rig:
        found = await rig.cloud.search(needs.Needs(cpu_cores=4))
        assert found and all(each.cpu_cores is None for each in found)
        with pytest.raises(errors.CloudDown):
            await rig.cloud.search(needs.Needs(pricing=needs.Pricing.SPOT))


async def test_hosts_of_peers_are_not_asked_for_where_a_rate_is_demanded() -> None:
    async with rigs.simulated() as rig:
        everything = await rig.cloud.search(needs.Needs(verified_only=False))
        assert {each.datacenter for each in everything} == {True, False}
        assert {each.verified for each in everything if not each.datacenter} == {False}
        before = rig.simulator.requests["GET /v2/catalog/gpus"]
        rated = await rig.cloud.search(needs.Needs(min_reliability=0.9))
        assert all(each.datacenter for each in rated)
        assert rig.simulator.requests["GET /v2/catalog/gpus"] == before + 1
        peers = await rig.cloud.search(needs.Needs(datacenter=False, min_reliability=0.0))
        assert peers and not any(each.datacenter for each in peers)
        assert all(each.datacenter for each in await rig.cloud.search(needs.Needs(datacenter=True)))


async def test_a_newer_cuda_is_asked_of_the_host_as_well() -> None:
    async with rigs.simulated() as rig:
        found = await rig.cloud.search(needs.Needs(min_cuda=12.8, min_reliability=0.9))
        assert all((each.cuda or 0) >= 12.8 for each in found)
        for attempt, offer in enumerate(found[:20:5]):
            await rig.cloud.rent(offer, rig.a_launch(), _mark(attempt))
        assert all(float(each.host.cuda) >= 12.8 for each in rig.simulator.estate.live())


async def test_an_account_of_one_kind_of_launch_is_told_when_every_offer_refuses_it() -> None:
    """A 400 in unknown words is said of stock and of launches alike."""
    async with rigs.simulated() as rig:
        rig.simulator.control.add_fault("capacity", {"rate": 1.0, "text": "request could not be processed"})
        rig.simulator.control.switch(capacity_status="400")
        rows: set[str] = set()
        refused: list[type[Exception]] = []
        for offer in await rig.cloud.search(needs.Needs(min_reliability=0.9)):
            if offer.raw.name in rows or len(refused) == 3:
                continue
            rows.add(offer.raw.name)
            with pytest.raises((errors.OfferGone, errors.LaunchRefused)) as caught:
                await rig.cloud.rent(offer, rig.a_launch(), _mark())
            refused.append(caught.type)
        assert refused == [errors.OfferGone, errors.OfferGone, errors.LaunchRefused]
        assert rig.rented() == []
