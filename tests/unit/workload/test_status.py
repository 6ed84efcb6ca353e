"""Laws of a pod's status: what kubectl, controllers and Services rely on."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import pods as fake_pods

from bareboat.workload import pod as pods
from bareboat.workload import status

NOW_S = 1_790_000_000.0
ENDED = pods.Terminated(3, "Error", "boom", container_id="vast://1")


def a_pod(name: str = "a", **changes: Any) -> pods.Pod:
    told = fake_pods.manifest(name)
    told["metadata"] |= {"uid": "u", "generation": 2}
    told["status"] |= changes
    return msgspec.convert(told, pods.Pod)


def written(pod: pods.Pod, view: status.View, now_s: float = NOW_S) -> pods.Pod:
    """The pod after a strategic merge of the status, as an API server does it."""
    made = status.build(pod, view, "10.0.0.1", now_s)
    body = json.loads(status.encode(made, pod.status))
    merged = json.loads(msgspec.json.encode(pod.status))
    conditions = fake_pods.merged_conditions(merged.get("conditions", []), body.pop("conditions"))
    for name, value in body.items():
        merged.pop(name, None) if value is None else merged.update({name: value})
    merged["conditions"] = conditions
    return msgspec.structs.replace(pod, status=msgspec.convert(merged, pods.PodStatus))


def condition(pod: pods.Pod, kind: str) -> pods.Condition:
    return next(each for each in pod.status.conditions if each.type == kind)


texts = st.sampled_from(["", "a reason", "x" * 3000, "ü" * 900])
ends = st.builds(pods.Terminated, exit_code=st.integers(0, 255), reason=texts, message=texts)
states = st.one_of(
    st.builds(lambda r, m: {"waiting": pods.Waiting(r, m)}, texts, texts),
    st.builds(lambda s, ready, started: {"running_since_s": s, "ready": ready, "started": started, "network_up": True},
              st.floats(NOW_S - 1e5, NOW_S), st.booleans(), st.booleans()),
    st.builds(lambda end, final: {"ended": end, "final": final}, ends, st.booleans()),
)  # fmt: skip
views = st.builds(
    lambda state, last, count, why, reason, message, disrupted: status.View(
        acknowledged_s=NOW_S - 50, last=last, restart_count=count, unready_why=why, reason=reason, message=message,
        disrupted_why=disrupted, **state),
    states, st.none() | ends, st.integers(0, 9), texts, texts, texts, texts,
)  # fmt: skip


@given(st.lists(views, min_size=1, max_size=6))
def test_laws_hold_whatever_is_told_in_whatever_order(told: list[status.View]) -> None:
    pod = a_pod()
    for number, view in enumerate(told):
        before, pod = pod, written(pod, view, NOW_S + number)
        after = pod.status
        if before.status.phase in status.TERMINAL:
            assert after.phase == before.status.phase, "a terminal phase is never left"
        order = [status.PENDING, status.RUNNING, status.SUCCEEDED]
        if after.phase in order and before.status.phase in order:
            assert order.index(after.phase) >= order.index(before.status.phase), "no way back"
        for each in after.container_statuses:
            set_ = [each.state.waiting, each.state.running, each.state.terminated]
            assert sum(one is not None for one in set_) == 1
        spec = sorted((each.name, each.image) for each in pod.spec.containers)
        assert [(each.name, each.image) for each in after.container_statuses] == spec
        if after.phase in status.TERMINAL:
            assert condition(pod, "Ready").status == condition(pod, "ContainersReady").status == "False"
        standing = {each.type: each for each in before.status.conditions}
        for told_now in after.conditions:
            old = standing.get(told_now.type)
            stays = old is not None and old.status == told_now.status
            expected = old.last_transition_time if old is not None and stays else status.stamp(NOW_S + number)
            assert told_now.last_transition_time == expected
            assert len(told_now.message.encode()) <= status.MESSAGE_BYTES
        assert after.start_time == status.stamp(NOW_S - 50)


@given(st.lists(views, min_size=1, max_size=4))
def test_what_was_written_is_the_same_as_what_is_wanted(told: list[status.View]) -> None:
    """Else the node would write for ever, or a stale reason would stand for ever."""
    pod = a_pod()
    for number, view in enumerate(told):
        pod = written(pod, view, NOW_S + number)
        again = status.build(pod, view, "10.0.0.1", NOW_S + 100)
        assert status.same(again, pod.status)


def test_a_stale_reason_and_message_are_taken_back() -> None:
    waiting = status.View(NOW_S, waiting=pods.Waiting("Renting"), reason="Odd", message="strange")
    pod = written(a_pod(), waiting)
    assert (pod.status.reason, condition(pod, "Ready").reason) == ("Odd", "ContainersNotReady")
    pod = written(pod, status.View(NOW_S, running_since_s=NOW_S, ready=True, network_up=True))
    assert (pod.status.reason, pod.status.message) == ("", "")
    assert (condition(pod, "Ready").status, condition(pod, "Ready").reason, condition(pod, "Ready").message) == (
        "True",
        "",
        "",
    )


@pytest.mark.parametrize(
    ("view", "phase"),
    [
        (status.View(0, waiting=pods.Waiting("Renting")), "Pending"),
        (status.View(0, running_since_s=1), "Running"),
        (status.View(0, waiting=pods.Waiting("CrashLoopBackOff"), last=ENDED), "Running"),
        (status.View(0, ended=ENDED), "Running"),
        (status.View(0, ended=ENDED, final=True), "Failed"),
        (status.View(0, ended=pods.Terminated(0), final=True), "Succeeded"),
        (status.View(0, ended=pods.Terminated(0), final=True, reason="DeadlineExceeded"), "Failed"),
    ],
)
def test_phases(view: status.View, phase: str) -> None:
    assert status.phase(a_pod(), view) == phase


def test_a_pod_that_ran_is_not_pending_again() -> None:
    assert status.phase(a_pod(phase="Running"), status.View(0, waiting=pods.Waiting("Renting"))) == "Running"


def test_reasons_of_ready_are_a_kubelets() -> None:
    unready = written(a_pod(), status.View(NOW_S, running_since_s=NOW_S, unready_why="port 80 is not mapped"))
    assert condition(unready, "Ready").message == "port 80 is not mapped"
    over = written(a_pod(), status.View(NOW_S, ended=pods.Terminated(0), final=True))
    assert condition(over, "Ready").reason == condition(over, "Initialized").reason == "PodCompleted"
    failed = written(a_pod(), status.View(NOW_S, ended=ENDED, final=True))
    assert condition(failed, "Ready").reason == "PodFailed"


def test_a_readiness_gate_keeps_the_pod_unready_until_somebody_opens_it() -> None:
    pod = a_pod()
    pod.spec.readiness_gates.append({"conditionType": "example.com/lb"})
    view = status.View(NOW_S, running_since_s=NOW_S, ready=True, network_up=True)
    pod = written(pod, view)
    assert condition(pod, "Ready").status == "False" and condition(pod, "ContainersReady").status == "True"
    pod.status.conditions.append(pods.Condition("example.com/lb", "True"))
    pod = written(pod, view)
    assert condition(pod, "Ready").status == "True"
    assert condition(pod, "example.com/lb").status == "True", "conditions of others stand"


def test_a_probe_time_that_somebody_else_wrote_does_not_make_us_write_for_ever() -> None:
    view = status.View(NOW_S, running_since_s=NOW_S, ready=True)
    pod = written(a_pod(), view)
    condition(pod, "Ready").last_probe_time = status.stamp(NOW_S)
    assert status.same(status.build(pod, view, "10.0.0.1", NOW_S + 9), pod.status)


@given(st.text(max_size=2000))
def test_a_clipped_text_is_short_and_whole_letters(text: str) -> None:
    clipped = status.clip(text)
    assert len(clipped.encode()) <= status.MESSAGE_BYTES
    assert clipped == text or clipped.endswith("…")


def test_times_are_whole_seconds_of_rfc_3339() -> None:
    assert status.stamp(1_790_000_000.9) == "2026-09-21T14:13:20Z"
