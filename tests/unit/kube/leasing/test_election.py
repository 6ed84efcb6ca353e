"""At most one leads, a standby takes over, and who can't renew stops in time."""

import asyncio
import socket

import pytest
from structlog.testing import capture_logs
from tests.unit.kube import fakeapi
from tests.unit.kube.leasing import leasestore

from bareboat.kube import client as clients
from bareboat.kube import election
from bareboat.plumbing import clock as clocks


class Candidate:
    """One process: an election of its own and the work it does while it leads."""

    leading: set[str]

    def __init__(self, client: clients.Client, name: str, clock: clocks.Clock, leading: set[str]) -> None:
        self.name = name
        self.leading = leading
        self.election = election.Election(client, "kube-system", "lead", name, clock=clock)
        self.task = asyncio.create_task(self.election.run(self.lead), name=name)

    async def lead(self) -> None:
        assert not self.leading, "two lead at once"
        self.leading.add(self.name)
        try:
            await asyncio.Event().wait()
        finally:
            self.leading.discard(self.name)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def settle(clock: clocks.ManualClock, seconds: float, *candidates: Candidate) -> None:
    """Moves time on in small steps; after each, the requests of every candidate that goes on come to their end."""

    def all_rest() -> bool:
        return clock.sleeping == sum(not each.task.done() for each in candidates)

    for _ in range(round(seconds / 0.5)):
        await fakeapi.until(all_rest, "nobody has a request under way")
        await clock.advance(0.5)
    await fakeapi.until(all_rest, "nobody has a request under way")


async def test_the_first_leads_and_the_second_waits(api: leasestore.LeaseApi, client: clients.Client) -> None:
    clock, leading = clocks.ManualClock(), set[str]()
    first = Candidate(client, "first", clock, leading)
    await fakeapi.until(lambda: leading == {"first"}, "the first leads")
    second = Candidate(client, "second", clock, leading)
    await settle(clock, 25, first, second)
    assert leading == {"first"}
    assert first.election.leads and not second.election.leads and second.election.leader == "first"
    spec = api.leases["lead"]["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("first", 15, 0)
    await second.stop()
    await first.stop()


async def test_a_leader_that_ends_in_order_hands_over_at_once(api: leasestore.LeaseApi, client: clients.Client) -> None:
    clock, leading = clocks.ManualClock(), set[str]()
    first = Candidate(client, "first", clock, leading)
    await fakeapi.until(lambda: leading == {"first"}, "the first leads")
    second = Candidate(client, "second", clock, leading)
    await settle(clock, 1, first, second)
    await first.stop()
    assert api.leases["lead"]["spec"]["holderIdentity"] == ""
    await settle(clock, 3, first, second)
    assert leading == {"second"}
    assert api.leases["lead"]["spec"]["leaseTransitions"] == 1
    await second.stop()


async def test_a_leader_that_vanished_is_waited_for_and_then_replaced(
    api: leasestore.LeaseApi, client: clients.Client
) -> None:
    clock, leading = clocks.ManualClock(), set[str]()
    api.leases["lead"] = {
        "metadata": {"name": "lead", "resourceVersion": "1"},
        # Its clock is years ahead: only what we see change counts.
        "spec": {"holderIdentity": "gone", "leaseDurationSeconds": 15, "renewTime": "2099-01-01T00:00:00.000000Z"},
    }
    second = Candidate(client, "second", clock, leading)
    await settle(clock, 14, second)
    assert leading == set()
    await settle(clock, 5, second)
    assert leading == {"second"}
    await second.stop()


async def test_a_leader_without_an_api_server_stops_before_others_may_begin(
    api: leasestore.LeaseApi, client: clients.Client
) -> None:
    clock, leading = clocks.ManualClock(), set[str]()
    first = Candidate(client, "first", clock, leading)
    await fakeapi.until(lambda: leading == {"first"}, "the first leads")
    with capture_logs():
        api.down = True
        await settle(clock, 8, first)
        assert leading == {"first"}
        await settle(clock, 6, first)
        assert leading == set()
        with pytest.raises(election.Lost, match="could not be renewed for"):
            await first.task
    assert not first.election.leads


async def test_a_leader_whose_lease_was_taken_stops_at_its_next_renewal(
    api: leasestore.LeaseApi, client: clients.Client
) -> None:
    clock, leading = clocks.ManualClock(), set[str]()
    first = Candidate(client, "first", clock, leading)
    await fakeapi.until(lambda: leading == {"first"}, "the first leads")
    api.leases["lead"]["spec"]["holderIdentity"] = "usurper"
    api.leases["lead"]["metadata"]["resourceVersion"] = "999"
    await settle(clock, 3, first)
    assert leading == set()
    with pytest.raises(election.Lost):
        await first.task
    assert api.leases["lead"]["spec"]["holderIdentity"] == "usurper", "what is not ours is not released"


async def test_a_leader_goes_on_through_a_short_outage(api: leasestore.LeaseApi, client: clients.Client) -> None:
    clock, leading = clocks.ManualClock(), set[str]()
    first = Candidate(client, "first", clock, leading)
    await fakeapi.until(lambda: leading == {"first"}, "the first leads")
    with capture_logs():
        api.down = True
        await settle(clock, 6, first)
        api.down = False
        await settle(clock, 30, first)
    assert leading == {"first"}
    await first.stop()


async def test_what_led_and_failed_is_passed_on_and_the_lease_given_back(
    api: leasestore.LeaseApi, client: clients.Client
) -> None:
    async def lead() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await election.Election(client, "kube-system", "lead", "me").run(lead)
    assert api.leases["lead"]["spec"]["holderIdentity"] == ""


async def test_two_processes_of_one_host_do_not_both_lead(api: leasestore.LeaseApi, client: clients.Client) -> None:
    first, second = election.identity(), election.identity()
    assert first.startswith(f"{socket.gethostname()}_") and second.startswith(f"{socket.gethostname()}_")
    clock, leading = clocks.ManualClock(), set[str]()
    ahead = Candidate(client, first, clock, leading)
    await fakeapi.until(lambda: leading == {first}, "the first leads")
    behind = Candidate(client, second, clock, leading)
    await settle(clock, 25, ahead, behind)
    assert leading == {first}
    await behind.stop()
    await ahead.stop()


def test_times_that_can_let_two_lead_are_refused(client: clients.Client) -> None:
    with pytest.raises(ValueError, match="deadline_s < lease_s"):
        election.Election(client, "n", "l", "me", lease_s=10, deadline_s=10)
