"""How a renting looks as a status."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import pods as fake_pods

from bareboat.core import instances
from bareboat.node import records, views
from bareboat.workload import pod as pods
from bareboat.workload import probing

NOW_S = 1_790_000_000.0
State = instances.State


def a_pod(**container: Any) -> pods.Pod:
    told = fake_pods.manifest("a", container=container)
    told["metadata"] |= {"uid": "u"}
    return msgspec.convert(told, pods.Pod)


def a_record(**changes: Any) -> records.Record:
    record = records.Record("u", ("t", "a"), NOW_S)
    told = {"renting": records.Renting.RENTED, "instance_id": "7", "cloud": "vast", "gpu": "1x RTX 4090"}
    for name, value in (told | {"usd_per_hour": 0.31} | changes).items():
        setattr(record, name, value)
    return record


def an_instance(state: State = State.RUNNING, **changes: Any) -> instances.Instance:
    return instances.Instance("vast", "7", state, **changes)


ENDED = records.End(pods.Terminated(0, "Completed", container_id="vast://7"), process_ended=True)
TAKEN = records.End(pods.Terminated(137, "Error"), "DeadlineExceeded", "too long")


@pytest.mark.parametrize(
    ("state", "reason"),
    [(State.PROVISIONING, "ContainerCreating"), (State.PULLING, "Pulling"), (State.STARTING, "ContainerCreating")],
)
def test_a_start_tells_what_the_cloud_does_and_what_it_costs(state: State, reason: str) -> None:
    view = views.view(a_pod(), a_record(), an_instance(state, message="layer 3 of 9"))
    assert view.waiting == pods.Waiting(reason, "rented 1x RTX 4090 as vast/7 at $0.310/h; layer 3 of 9")
    assert view.network_up and not view.ready


def test_before_anything_is_rented_the_records_own_reason_stands() -> None:
    waiting = pods.Waiting("NoOffers", "None of 3 offers fits")
    view = views.view(a_pod(), a_record(renting=records.Renting.NONE, instance_id=None, waiting=waiting), None)
    assert view.waiting == waiting and not view.network_up and view.container_id == ""


def test_a_running_pod_is_ready_once_its_ports_are_mapped_and_its_probe_succeeds() -> None:
    pod = a_pod(ports=[{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}])
    half = an_instance(ports={(80, "TCP"): 4080})
    view = views.view(pod, a_record(running_s=NOW_S), half)
    assert not view.ready and view.unready_why == "not yet mapped to a public port: 53"
    whole = an_instance(ports={(80, "TCP"): 4080, (53, "UDP"): 4053})
    assert views.view(pod, a_record(running_s=NOW_S), whole).ready
    failing = probing.Verdict(started=True, ready=False, message="connection refused")
    view = views.view(pod, a_record(running_s=NOW_S, probe=failing), whole)
    assert not view.ready and view.unready_why == "connection refused"


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (State.UNREACHABLE, "the cloud has lost touch with the host of vast/7"),
        (State.STOPPED, "the cloud says that vast/7 is stopped"),
        (State.STARTING, "the cloud says that vast/7 is starting"),
    ],
)
def test_what_ran_and_is_in_doubt_stays_running_and_is_not_ready(state: State, why: str) -> None:
    view = views.view(a_pod(), a_record(running_s=NOW_S), an_instance(state))
    assert view.running_since_s == NOW_S and not view.ready and view.unready_why == why


def test_a_machine_that_no_list_shows_at_the_moment_is_not_told_as_gone() -> None:
    view = views.view(a_pod(), a_record(running_s=NOW_S), None)
    assert view.running_since_s == NOW_S and not view.ready
    assert view.unready_why == "vast/7 is not in the cloud's list at the moment"


def test_a_process_that_ended_is_told_at_once_but_a_pod_that_was_ended_only_when_nothing_runs() -> None:
    assert views.view(a_pod(), a_record(end=ENDED, running_s=NOW_S), an_instance()).final
    assert not views.view(a_pod(), a_record(end=TAKEN, running_s=NOW_S), an_instance()).final
    gone = a_record(end=TAKEN, renting=records.Renting.NONE, instance_id=None)
    view = views.view(a_pod(), gone, None)
    assert view.final and (view.reason, view.message) == ("DeadlineExceeded", "too long")


def test_between_two_starts_the_back_off_stands_with_the_last_end() -> None:
    last = pods.Terminated(1, "Error")
    record = a_record(ending_why="exit 1", last=last, restart_count=2)
    record.waiting = views.restart_waiting(a_pod(), record, 40)
    view = views.view(a_pod(), record, an_instance(State.EXITED))
    assert view.waiting == pods.Waiting("CrashLoopBackOff", "back-off 40s restarting failed container=main pod=a_t")
    assert view.last == last and view.restart_count == 2


@given(
    st.sampled_from(records.Renting),
    st.sampled_from([None, ENDED, TAKEN]),
    st.sampled_from(["", "why"]),
    st.sampled_from([None, NOW_S]),
    st.none() | st.sampled_from(State).map(an_instance),
)
def test_exactly_one_state_is_told_whatever_is_recorded(
    renting: records.Renting,
    end: records.End | None,
    ending_why: str,
    running_s: float | None,
    instance: instances.Instance | None,
) -> None:
    record = a_record(renting=renting, end=end, ending_why=ending_why, running_s=running_s)
    view = views.view(a_pod(), record, instance)
    assert sum(each is not None for each in (view.waiting, view.running_since_s, view.ended)) == 1
    assert not view.ready or view.running_since_s is not None


def test_addresses_are_told_in_annotations_and_taken_away_again() -> None:
    told = views.address_annotations(an_instance(address="198.51.100.7", ports={(80, "TCP"): 4080, (53, "UDP"): 4053}))
    assert told == {"bareboat.dev/address": "198.51.100.7", "bareboat.dev/ports": "53/UDP=4053,80/TCP=4080"}
    assert set(views.address_annotations(None).values()) == {None}


@pytest.mark.parametrize(("failures", "pause_s"), [(0, 10), (1, 20), (5, 300), (100, 300)])
def test_pulls_wait_longer_each_time(failures: int, pause_s: float) -> None:
    assert views.pull_pause_s(a_record(failures=failures)) == pause_s
