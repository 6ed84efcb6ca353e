"""What outlives a process: annotations written by one record are read back as the same renting."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import nodes
from tests.fakes import pods as fake_pods

from bareboat.node import decide, records
from bareboat.workload import annotations as notes
from bareboat.workload import pod as pods
from bareboat.workload import status as statuses

NOW_S = 1_790_000_000.0
Renting = records.Renting


def pod_with(annotations: dict[str, str | None], **status: object) -> pods.Pod:
    told = fake_pods.manifest("a", annotations={key: text for key, text in annotations.items() if text is not None})
    told["metadata"] |= {"uid": "u"}
    told["status"] |= status
    return msgspec.convert(told, pods.Pod)


def attempted() -> records.Record:
    record = records.from_pod(pod_with({}), NOW_S)
    record.new_attempt(nodes.an_offer(5), 0.105, "busybox:1.36", NOW_S)
    return record


def read_again(record: records.Record) -> records.Record:
    return records.from_pod(pod_with(record.annotations()), NOW_S + 5)


def test_a_pod_never_seen_has_nothing() -> None:
    record = records.from_pod(pod_with({}), NOW_S)
    assert record.renting is Renting.NONE and record.attempt == 0
    assert set(record.annotations().values()) == {None}


def test_an_attempt_that_may_have_bought_is_unknown_to_the_next_process() -> None:
    again = read_again(attempted())
    assert again.renting is Renting.UNKNOWN and again.attempt == 1 and again.cloud == "vast"
    assert again.asked_s == NOW_S + 5, "the last process may have asked until its end"


def test_what_is_rented_is_known_to_the_next_process() -> None:
    record = attempted()
    record.rented("77", NOW_S + 1)
    again = read_again(record)
    assert (again.renting, again.instance_id, again.machine_id) == (Renting.RENTED, "77", "m5")
    assert again.usd_per_hour == 0.105 and again.image == "busybox:1.36"


def test_what_is_settled_needs_no_looking_up() -> None:
    record = attempted()
    record.rented("77", NOW_S)
    record.nothing_rented(NOW_S + 3600)
    again = read_again(record)
    assert again.renting is Renting.NONE and again.attempt == 1
    assert again.spent_usd == 0.0 or abs(again.spent_usd - 0.105) < 1e-6


def test_each_attempt_has_a_number_of_its_own() -> None:
    record = attempted()
    record.nothing_rented(NOW_S)
    record = read_again(record)
    record.new_attempt(nodes.an_offer(6), 0.1, "x", NOW_S)
    assert record.attempt == 2 and record.instance_id is None and record.renting is Renting.UNKNOWN


def test_avoided_machines_are_remembered() -> None:
    record = attempted()
    record.avoid = {"m2", "m1"}
    assert record.annotations()[notes.AVOID] == "m1,m2" and read_again(record).avoid == {"m1", "m2"}


def test_a_terminal_phase_is_the_end_whatever_the_containers_say() -> None:
    for phase in ("Succeeded", "Failed"):
        assert records.from_pod(pod_with({}, phase=phase), NOW_S).end is not None


def test_a_running_container_is_taken_up_with_its_start_and_readiness() -> None:
    state = {"running": {"startedAt": "2026-09-21T13:00:00Z"}}
    container = {"name": "main", "ready": True, "started": True, "restartCount": 3, "state": state}
    record = records.from_pod(pod_with({}, phase="Running", containerStatuses=[container]), NOW_S)
    assert record.running_s is not None and record.has_run and record.restart_count == 3
    assert record.resumed_probe is not None and record.resumed_probe.ready


def waiting_to_restart(count: int, *, started_s: float, ended_s: float, reason: str = "CrashLoopBackOff") -> pods.Pod:
    ended = {"exitCode": 3, "startedAt": statuses.stamp(started_s), "finishedAt": statuses.stamp(ended_s)}
    container = {
        "name": "main",
        "restartCount": count,
        "state": {"waiting": {"reason": reason}},
        "lastState": {"terminated": ended},
    }
    return pod_with({}, phase="Running", containerStatuses=[container])


@pytest.mark.parametrize(
    ("count", "ran_s", "ended_ago_s", "left_s"),
    [
        (1, 5, 0, 10),
        (1, 5, 4, 6),
        (3, 5, 1, 39),
        (9, 5, 100, 200),
        (9, 600, 2, 8),  # ten good minutes
        (2, 5, 3600, None),
        (1, 5, -9999, 10),  # an end in the future is not believed
        (0, 5, 0, 10),
        (2**31 - 1, 5, 0, 300),
    ],
)
def test_the_wait_before_a_restart_outlives_the_process(
    count: int, ran_s: float, ended_ago_s: float, left_s: float | None
) -> None:
    ended_s = NOW_S - ended_ago_s
    record = records.from_pod(waiting_to_restart(count, started_s=ended_s - ran_s, ended_s=ended_s), NOW_S)
    assert max(0.0, record.not_before_s - NOW_S) == (left_s or 0.0)


def test_the_wait_that_is_read_back_is_the_one_that_was_begun() -> None:
    for count, ran_s in itertools.product(range(8), (3.0, 599.0, 601.0)):
        record = records.Record("u", ("t", "a"), NOW_S, restart_count=count, running_s=NOW_S - ran_s)
        begun_s = decide.restart_pause_s(record, NOW_S)
        pod = waiting_to_restart(count + 1, started_s=NOW_S - ran_s, ended_s=NOW_S)
        assert records.from_pod(pod, NOW_S + 2).not_before_s == NOW_S + begun_s


def test_a_container_that_waits_for_something_else_is_not_held_back() -> None:
    pod = waiting_to_restart(5, started_s=NOW_S - 9, ended_s=NOW_S, reason="NoOffers")
    assert records.from_pod(pod, NOW_S).not_before_s == 0.0
    garbled = waiting_to_restart(5, started_s=NOW_S, ended_s=NOW_S)
    assert garbled.status.container_statuses[0].last_state.terminated is not None
    garbled.status.container_statuses[0].last_state.terminated.finished_at = "soon"
    assert records.from_pod(garbled, NOW_S).not_before_s == 0.0


OURS = [notes.ATTEMPT, notes.ATTEMPTED_AT, notes.CLOUD, notes.PRICE, notes.INSTANCE, notes.SPENT, notes.AVOID]


@given(st.dictionaries(
    st.sampled_from(OURS),
    st.text(max_size=40) | st.floats().map(str) | st.integers().map(str) | st.datetimes().map(str),
))  # fmt: skip
def test_no_annotation_makes_a_record_that_harms(annotations: dict[str, str]) -> None:
    record = records.from_pod(pod_with(dict(annotations)), NOW_S)
    assert 0 <= record.usd_per_hour <= records.DEAREST_USD_PER_HOUR
    assert 0 <= record.spent_usd < float("inf") and 0 <= record.attempt < 10**9
    assert record.attempted_s <= NOW_S
    assert (record.renting is Renting.RENTED) == (record.instance_id is not None)
    assert record.instance_id != ""


def test_an_instance_annotation_without_an_id_is_an_attempt_to_look_up() -> None:
    record = records.from_pod(pod_with({notes.ATTEMPT: "2", notes.INSTANCE: "vast/"}), NOW_S)
    assert record.renting is Renting.UNKNOWN and record.instance_id is None
