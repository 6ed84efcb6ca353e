"""The step that follows, by what is recorded and what the cloud shows."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import pods as fake_pods

from bareboat.core import instances
from bareboat.node import decide, records
from bareboat.workload import pod as pods

NOW_S = 1_790_000_000.0
POLICY = decide.Policy(start_timeout_s=900, unreachable_timeout_s=600, visibility_window_s=60)
State = instances.State
Fault = instances.Fault
Renting = records.Renting
END = records.End(pods.Terminated(0, "Completed"), process_ended=True)


def a_pod(*, deleted: bool = False, generation: int = 1, **spec: Any) -> pods.Pod:
    told = fake_pods.manifest("a", **spec)
    told["metadata"] |= {"uid": "u", "generation": generation}
    if deleted:
        told["metadata"]["deletionTimestamp"] = datetime.fromtimestamp(NOW_S, UTC).isoformat()
    return msgspec.convert(told, pods.Pod)


def a_record(**changes: Any) -> records.Record:
    record = records.Record("u", ("t", "a"), NOW_S - 1000)
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def rented(**changes: Any) -> records.Record:
    told = {"renting": Renting.RENTED, "instance_id": "7", "cloud": "vast", "rented_s": NOW_S - 500, "attempt": 1}
    return a_record(**(told | {"image": "busybox:1.36", "machine_id": "m1"} | changes))


def an_instance(state: State, **changes: Any) -> instances.Instance:
    return instances.Instance("vast", "7", state, **changes)


def step(pod: pods.Pod, record: records.Record, instance: instances.Instance | None = None) -> decide.Action:
    return decide.decide(pod, record, instance, NOW_S, POLICY)


UNKNOWN = a_record(renting=Renting.UNKNOWN, attempt=1)


@pytest.mark.parametrize("pod", [a_pod(), a_pod(deleted=True), a_pod(activeDeadlineSeconds=1)])
@pytest.mark.parametrize("end", [None, END])
def test_an_unknown_attempt_is_looked_up_before_anything_else(pod: pods.Pod, end: records.End | None) -> None:
    assert step(pod, a_record(renting=Renting.UNKNOWN, attempt=1, end=end)) == decide.LookUp()


@pytest.mark.parametrize(
    ("pod", "record", "expected"),
    [
        (a_pod(), a_record(), decide.Rent()),
        (a_pod(), a_record(not_before_s=NOW_S + 5), decide.Rest(5)),
        (a_pod(), a_record(not_before_s=NOW_S - 5), decide.Rent()),
        (a_pod(generation=3), a_record(refused_generation=3), decide.Rest()),
        (a_pod(generation=4), a_record(refused_generation=3), decide.Rent()),
        (a_pod(deleted=True), a_record(), decide.Remove()),
        (a_pod(deleted=True), a_record(end=END), decide.Remove()),
        (a_pod(), a_record(end=END), decide.Rest()),
        (a_pod(activeDeadlineSeconds=1010), a_record(not_before_s=NOW_S + 50), decide.Rest(10)),
        (a_pod(activeDeadlineSeconds=1100), a_record(not_before_s=NOW_S + 50), decide.Rest(50)),
        (a_pod(generation=3, activeDeadlineSeconds=1010), a_record(refused_generation=3), decide.Rest(10)),
    ],
)
def test_with_nothing_rented(pod: pods.Pod, record: records.Record, expected: decide.Action) -> None:
    assert step(pod, record) == expected


@pytest.mark.parametrize(
    ("pod", "record", "expected"),
    [
        (a_pod(deleted=True), rented(), decide.EndInstance("its pod was deleted")),
        (a_pod(), rented(end=END), decide.EndInstance("its pod is over")),
        (a_pod(), rented(ending_why="too dear"), decide.EndInstance("too dear")),
        (a_pod(container={"image": "busybox:2"}), rented(), decide.Replace()),
        (a_pod(container={"image": "busybox:2"}), rented(image=""), decide.Rest()),
        (a_pod(activeDeadlineSeconds=1030), rented(), decide.Rest(30)),
    ],
)
@pytest.mark.parametrize("state", [State.RUNNING])
def test_with_an_instance_that_runs(
    pod: pods.Pod, record: records.Record, expected: decide.Action, state: State
) -> None:
    assert step(pod, record, an_instance(state)) == expected


def test_an_instance_that_no_list_shows_is_new_or_has_to_be_asked_for() -> None:
    assert step(a_pod(), rented(rented_s=NOW_S - 20)) == decide.Rest(40)
    assert step(a_pod(), rented(rented_s=NOW_S - 60)) == decide.Confirm()
    assert step(a_pod(), rented(asked_s=NOW_S)) == decide.Rest(60), "this process has not watched it for long enough"


@pytest.mark.parametrize("state", sorted(instances.BOOTING, key=str))
def test_a_start_gets_its_time_and_not_more(state: State) -> None:
    assert step(a_pod(), rented(), an_instance(state)) == decide.Rest(400)
    late = step(a_pod(), rented(rented_s=NOW_S - 900), an_instance(state, message="pulling"))
    assert isinstance(late, decide.GiveUp) and late.avoid_machine and "machine m1" in late.message
    assert late.reason == late.event == "StartTooSlow" and "pulling" in late.message


@pytest.mark.parametrize("state", sorted(instances.BOOTING, key=str))
def test_a_machine_that_starts_again_after_hours_gets_its_time_anew_and_counts_as_lost_after_it(state: State) -> None:
    ran = {"rented_s": NOW_S - 90_000, "running_s": NOW_S - 80_000}
    assert step(a_pod(), rented(**ran, unreachable_s=NOW_S), an_instance(state)) == decide.Rest(900)
    late = step(a_pod(), rented(**ran, unreachable_s=NOW_S - 901), an_instance(state))
    assert isinstance(late, decide.Ended) and late.disrupted


@pytest.mark.parametrize(
    ("fault", "reason", "avoids", "is_pull"),
    [
        (Fault.IMAGE_NOT_FOUND, "ErrImagePull", False, True),
        (Fault.IMAGE_UNAUTHORIZED, "ErrImagePull", False, True),
        (Fault.IMAGE_PULL, "ErrImagePull", False, True),
        (Fault.CREATE_FAILED, "CreateContainerError", True, False),
        (Fault.OTHER, "RunContainerError", True, False),
        (None, "RunContainerError", True, False),
    ],
)
def test_a_failed_start_names_its_fault(fault: Fault | None, reason: str, avoids: bool, is_pull: bool) -> None:
    given_up = step(a_pod(), rented(), an_instance(State.FAILED, fault=fault, message="no"))
    assert given_up == decide.GiveUp(reason, "no", "Failed", avoids, is_pull)


@pytest.mark.parametrize(
    ("state", "fault", "told"),
    [
        (State.STOPPED, Fault.OUTBID, "somebody outbid it"),
        (State.STOPPED, None, "it was stopped by the cloud or by hand: no reason given"),
        (State.FAILED, None, "the cloud says that it failed, and not why"),
    ],
)
def test_what_ran_and_is_taken_away_is_lost_never_given_up(state: State, fault: Fault | None, told: str) -> None:
    action = step(a_pod(), rented(running_s=NOW_S - 60), an_instance(state, fault=fault))
    assert isinstance(action, decide.Ended) and action.disrupted and action.why == told
    assert action.terminated.exit_code == 137 and action.terminated.container_id == "vast://7"
    assert action.terminated.started_at is not None and action.terminated.finished_at is not None


def test_what_never_ran_and_is_taken_away_is_given_up() -> None:
    action = step(a_pod(), rented(), an_instance(State.STOPPED))
    assert isinstance(action, decide.GiveUp) and action.reason == "InstanceLost"


def test_a_silent_host_is_waited_for_and_then_lost() -> None:
    silent = an_instance(State.UNREACHABLE, message="offline")
    assert step(a_pod(), rented(running_s=1.0), silent) == decide.Rest(600)
    assert step(a_pod(), rented(running_s=1.0, unreachable_s=NOW_S - 100), silent) == decide.Rest(500)
    assert isinstance(step(a_pod(), rented(running_s=1.0, unreachable_s=NOW_S - 600), silent), decide.Ended)


def test_an_ended_process_is_read() -> None:
    assert step(a_pod(), rented(), an_instance(State.EXITED)) == decide.ReadExit()


def test_a_deadline_ends_a_pod_whatever_it_does() -> None:
    for record, instance in ((a_record(), None), (rented(running_s=NOW_S - 5), an_instance(State.RUNNING))):
        action = step(a_pod(activeDeadlineSeconds=1000), record, instance)
        assert isinstance(action, decide.Finish) and action.end.reason == "DeadlineExceeded"
        assert not action.end.process_ended, "it is told only once nothing runs any more"


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_restart_policies(policy: str, code: int, again: bool) -> None:
    assert decide.restarts(a_pod(restartPolicy=policy), pods.Terminated(code)) is again


@pytest.mark.parametrize(("count", "pause_s"), [(0, 10), (1, 20), (4, 160), (5, 300), (500, 300)])
def test_restarts_wait_longer_each_time(count: int, pause_s: float) -> None:
    assert decide.restart_pause_s(a_record(restart_count=count), NOW_S) == pause_s


def test_ten_good_minutes_make_the_wait_short_again() -> None:
    assert decide.restart_pause_s(a_record(restart_count=9, running_s=NOW_S - 600), NOW_S) == 10


def test_an_exit_code_that_nobody_can_tell_is_said_to_be_unknown() -> None:
    action = decide.ended(rented(running_s=NOW_S - 9), None, "", NOW_S)
    assert (action.terminated.exit_code, action.terminated.reason) == (137, "ContainerStatusUnknown")
    assert decide.ended(rented(), 0, "bye", NOW_S).terminated.reason == "Completed"
    assert decide.ended(rented(), 3, "bye", NOW_S).terminated.reason == "Error"


some_records = st.builds(
    a_record,
    renting=st.sampled_from(Renting),
    instance_id=st.sampled_from([None, "7"]),
    end=st.sampled_from([None, END]),
    ending_why=st.sampled_from(["", "why"]),
    running_s=st.sampled_from([None, NOW_S - 10]),
    not_before_s=st.sampled_from([0.0, NOW_S + 9]),
    rented_s=st.sampled_from([0.0, NOW_S - 5, NOW_S - 5000]),
)
some_instances = st.none() | st.builds(
    an_instance, st.sampled_from(State), fault=st.none() | st.sampled_from(Fault), message=st.sampled_from(["", "no"])
)


@given(some_records, some_instances, st.booleans())
def test_nothing_is_bought_or_removed_while_something_is_or_may_be_rented(
    record: records.Record, instance: instances.Instance | None, deleted: bool
) -> None:
    if (record.renting is Renting.RENTED) != (record.instance_id is not None):
        return
    action = step(a_pod(deleted=deleted), record, instance)
    if isinstance(action, decide.Rent | decide.Remove):
        assert record.renting is Renting.NONE
    if isinstance(action, decide.Rent):
        assert not deleted and record.end is None
    if record.renting is Renting.UNKNOWN:
        assert action == decide.LookUp()
    if isinstance(action, decide.Rest) and action.seconds is not None:
        assert action.seconds > 0
