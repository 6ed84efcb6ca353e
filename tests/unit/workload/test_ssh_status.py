"""The status of a pod in ssh access: what kubectl, Jobs, Services and test suites read from it."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes import pods as fake_pods

from bareboat.access import documents
from bareboat.workload import pod as pods
from bareboat.workload import ssh_status, status

NOW_S = 1_790_000_000.0
IMAGE_ID = "docker.io/library/busybox@sha256:abc"
RUNNING = documents.Running(NOW_S - 10, 77)
FINE = documents.Terminated(0, "Completed", NOW_S - 20, NOW_S - 5, id="run-1")
BROKEN = documents.Terminated(3, "Error", NOW_S - 20, NOW_S - 5, message="boom", id="run-1")


def a_pod(
    policy: str = "Always",
    *,
    init: tuple[str, ...] = (),
    sidecars: tuple[str, ...] = (),
    names: tuple[str, ...] = ("main",),
    **now: Any,
) -> pods.Pod:
    told = fake_pods.manifest("p", restartPolicy=policy)
    told["metadata"] |= {"uid": "u", "generation": 4}
    told["spec"]["containers"] = [{"name": name, "image": "busybox"} for name in names]
    told["spec"]["initContainers"] = [{"name": name, "image": "busybox"} for name in init] + [
        {"name": name, "image": "busybox", "restartPolicy": "Always"} for name in sidecars
    ]
    told["status"] |= now
    return msgspec.convert(told, pods.Pod)


def state(
    *containers: documents.ContainerState, init: tuple[documents.ContainerState, ...] = (), **more: Any
) -> documents.State:
    return documents.State("u", "1", 1, NOW_S, "boot", init=init, containers=containers, **more)


def runs(name: str = "main", **more: Any) -> documents.ContainerState:
    return documents.ContainerState(name, **{"ready": True, "started": True, "running": RUNNING, "id": "run-2", **more})


def ended(name: str = "main", how: documents.Terminated = FINE, **more: Any) -> documents.ContainerState:
    return documents.ContainerState(name, terminated=how, id=how.id, **more)


def waits(name: str = "main", reason: str = "ContainerCreating", **more: Any) -> documents.ContainerState:
    return documents.ContainerState(name, waiting=documents.Waiting(reason), **more)


def built(pod: pods.Pod, told: documents.State | None, **known: Any) -> pods.PodStatus:
    known = {"acknowledged_s": NOW_S - 50, "image_id": IMAGE_ID, "network_up": True, **known}
    return ssh_status.build(pod, ssh_status.Known(state=told, **known), "10.0.0.1", NOW_S)


def condition(found: pods.PodStatus, kind: str) -> tuple[str, str, str]:
    (only,) = [each for each in found.conditions if each.type == kind]
    return only.status, only.reason, only.message


def test_running_container_has_everything_a_kubelet_tells() -> None:
    found = built(a_pod(), state(runs(restarts=2, last=BROKEN)), pod_ips=("10.4.0.9",))
    (main,) = found.container_statuses
    assert (main.name, main.image, main.image_id, main.container_id) == (
        "main",
        "busybox",
        IMAGE_ID,
        "bareboat://run-2",
    )
    assert (main.ready, main.started, main.restart_count) == (True, True, 2)
    assert main.state.running is not None
    assert main.state.running.started_at == status.stamp(NOW_S - 10)
    last = main.last_state.terminated
    assert last is not None
    assert (last.exit_code, last.reason, last.message, last.container_id) == (3, "Error", "boom", "bareboat://run-1")
    assert (last.started_at, last.finished_at) == (status.stamp(NOW_S - 20), status.stamp(NOW_S - 5))
    assert (found.phase, found.host_ip, found.pod_ip, found.observed_generation) == (
        "Running",
        "10.0.0.1",
        "10.4.0.9",
        4,
    )
    assert [each.ip for each in found.pod_ips] == ["10.4.0.9"]
    assert found.start_time == status.stamp(NOW_S - 50)
    assert {each.type: each.status for each in found.conditions} == dict.fromkeys(
        ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"), "True"
    )


def test_before_the_runner_speaks_everybody_waits_with_the_reason_given() -> None:
    found = built(a_pod(names=("b", "a")), None, waiting=pods.Waiting("ContainerCreating", "renting"), network_up=False)
    assert [(each.name, each.state.waiting) for each in found.container_statuses] == [
        ("a", pods.Waiting("ContainerCreating", "renting")), ("b", pods.Waiting("ContainerCreating", "renting"))
    ]  # fmt: skip
    assert found.phase == "Pending"
    assert condition(found, "PodReadyToStartContainers")[0] == "False"
    assert condition(found, "Ready") == ("False", "ContainersNotReady", "containers with unready status: [a b]")


def test_init_containers_come_first_and_the_rest_waits_for_them() -> None:
    pod = a_pod(init=("one", "two"), sidecars=("side",))
    begun = built(pod, state(init=(ended("one"), documents.ContainerState("two", running=RUNNING, id="x"))))
    assert begun.phase == "Pending"
    assert [each.name for each in begun.init_container_statuses] == ["one", "two", "side"]
    assert [each.ready for each in begun.init_container_statuses] == [True, False, False]
    assert begun.container_statuses[0].state.waiting == pods.Waiting("PodInitializing")
    assert condition(begun, "Initialized") == (
        "False", "ContainersNotInitialized", "containers with incomplete status: [two side]"
    )  # fmt: skip
    later = built(pod, state(waits(), init=(ended("one"), ended("two"), runs("side", ready=False))))
    assert (later.phase, condition(later, "Initialized")) == ("Pending", ("True", "", ""))
    assert condition(later, "ContainersReady")[2] == "containers with unready status: [side main]"
    done = built(pod, state(runs(), init=(ended("one"), ended("two"), runs("side"))))
    assert (done.phase, condition(done, "Ready")) == ("Running", ("True", "", ""))


def test_failed_init_container_is_the_end_of_a_pod_that_never_restarts() -> None:
    found = built(a_pod("Never", init=("one",)), state(waits(), init=(ended("one", BROKEN),), ended=True))
    assert found.phase == "Failed"
    assert condition(found, "Initialized")[0] == "False"
    assert condition(found, "Ready") == ("False", "PodFailed", "")
    retried = built(a_pod(init=("one",)), state(init=(waits("one", "CrashLoopBackOff", last=BROKEN, restarts=1),)))
    assert (retried.phase, retried.init_container_statuses[0].restart_count) == ("Pending", 1)


@pytest.mark.parametrize(
    ("policy", "told", "phase"),
    [
        ("Always", state(waits()), "Pending"),
        ("Always", state(runs()), "Running"),
        ("Always", state(waits(reason="CrashLoopBackOff", last=BROKEN)), "Running"),
        ("Never", state(ended()), "Running"),
        ("Never", state(ended(), ended=True), "Succeeded"),
        ("Never", state(ended(how=BROKEN), ended=True), "Failed"),
        ("OnFailure", state(ended(), ended=True), "Succeeded"),
        ("Always", state(ended(), ended=True, stopping=True), "Succeeded"),
        ("Always", state(ended(how=BROKEN), ended=True, stopping=True), "Failed"),
        ("Always", state(waits(reason="CrashLoopBackOff", last=BROKEN), ended=True), "Failed"),
        ("Always", state(waits(), ended=True, stopping=True), "Failed"),
        ("Always", state(waits(), ended=True, failure="no space left"), "Failed"),
    ],
)
def test_phase(policy: str, told: documents.State, phase: str) -> None:
    assert built(a_pod(policy), told).phase == phase


def test_one_of_two_containers_decides_as_a_kubelet_would() -> None:
    pod = a_pod("Never", names=("a", "b"))
    assert built(pod, state(ended("a", BROKEN), runs("b"))).phase == "Running"
    assert built(pod, state(runs("a"), waits("b"))).phase == "Pending"
    assert built(pod, state(ended("a"), ended("b", BROKEN), ended=True)).phase == "Failed"
    assert built(pod, state(ended("a"), ended("b"), ended=True)).phase == "Succeeded"


def test_terminal_phase_waits_for_sidecars_to_end_and_their_codes_do_not_count() -> None:
    pod = a_pod("Never", sidecars=("side",))
    assert built(pod, state(ended(), init=(runs("side"),))).phase == "Running"
    assert built(pod, state(ended(), init=(ended("side", BROKEN),), ended=True)).phase == "Succeeded"


def test_container_that_waited_for_its_next_start_ended_as_it_ended_last() -> None:
    found = built(a_pod(), state(waits(reason="CrashLoopBackOff", last=BROKEN), ended=True))
    terminated = found.container_statuses[0].state.terminated
    assert terminated is not None
    assert (terminated.exit_code, terminated.container_id) == (3, "bareboat://run-1")


def test_failure_of_the_runner_is_the_pods_with_its_words() -> None:
    found = built(a_pod(), state(waits(), ended=True, failure="no space left on device"))
    assert (found.phase, found.reason, found.message) == ("Failed", "RunnerFailed", "no space left on device")


def test_lost_machine_leaves_containers_whose_end_nobody_saw() -> None:
    end = ssh_status.End("InstanceLost", "vast/5 is gone", disrupted_why="vast/5 is gone")
    found = built(a_pod("Never", names=("a", "b", "c")), state(runs("a"), ended("b"), waits("c")), end=end)
    one, two, three = found.container_statuses
    assert one.state.terminated is not None
    assert (one.state.terminated.exit_code, one.state.terminated.reason) == (137, "ContainerStatusUnknown")
    assert two.state.terminated is not None
    assert two.state.terminated.exit_code == 0
    assert three.state.waiting is not None
    assert (found.phase, found.reason) == ("Failed", "InstanceLost")
    assert condition(found, "DisruptionTarget") == ("True", "TerminationByKubelet", "vast/5 is gone")


@pytest.mark.parametrize(("how", "phase"), [(FINE, "Succeeded"), (BROKEN, "Failed")])
def test_pod_that_was_deleted_ends_by_its_exit_codes(how: documents.Terminated, phase: str) -> None:
    assert built(a_pod(), state(ended(how=how), ended=True), end=ssh_status.End()).phase == phase


def test_lost_connection_takes_readiness_and_nothing_else() -> None:
    found = built(a_pod(), state(runs()), untouched_why="no word from vast/5 for 30 s")
    assert found.phase == "Running"
    assert found.container_statuses[0].state.running is not None
    assert condition(found, "Ready")[2].endswith("[main]: no word from vast/5 for 30 s")


def test_what_an_earlier_process_told_holds_until_the_runner_answers() -> None:
    before = built(a_pod(), state(runs(restarts=3)))
    pod = msgspec.structs.replace(a_pod(), status=before)
    assert built(pod, None, resumed=True).container_statuses == before.container_statuses
    assert condition(built(pod, None, resumed=True), "Ready")[0] == "True"


def test_next_machine_counts_on_top_of_those_before() -> None:
    pod = a_pod()
    earlier = ssh_status.carried(pod, {}, state(runs(restarts=2, last=BROKEN)))
    assert earlier["main"].restarts == 3
    assert earlier["main"].last is not None
    assert earlier["main"].last.exit_code == 137
    found = built(pod, state(runs(restarts=1)), earlier=earlier)
    assert found.container_statuses[0].restart_count == 4
    again = ssh_status.carried(pod, earlier, state(ended(how=BROKEN)))
    assert (again["main"].restarts, again["main"].last and again["main"].last.exit_code) == (4, 3)


def test_machine_that_ran_nothing_counts_for_nothing() -> None:
    assert ssh_status.carried(a_pod(), {}, state(waits()))["main"] == ssh_status.Earlier()
    assert ssh_status.carried(a_pod(), {}, None)["main"] == ssh_status.Earlier()


def test_without_the_runners_word_the_api_tells_what_ran() -> None:
    pod = msgspec.structs.replace(a_pod(), status=built(a_pod(), state(runs(restarts=1))))
    earlier = ssh_status.carried(pod, {}, None)["main"]
    assert earlier.restarts == 2
    assert earlier.last is not None
    assert (earlier.last.exit_code, earlier.last.reason) == (137, "ContainerStatusUnknown")


def test_clock_of_the_machine_is_corrected() -> None:
    found = built(a_pod(), state(runs()), skew_s=100.0)
    running = found.container_statuses[0].state.running
    assert running is not None
    assert running.started_at == status.stamp(NOW_S - 110)


@pytest.mark.parametrize(("code", "told"), [(0, 0), (255, 255), (256, 0), (-1, 255), (137, 137)])
def test_exit_code_is_one_that_a_job_understands(code: int, told: int) -> None:
    assert ssh_status.terminated(documents.Terminated(code, "", NOW_S, NOW_S)).exit_code == told


def test_readiness_gate_in_the_kubelets_words() -> None:
    pod = a_pod()
    pod.spec.readiness_gates.append({"conditionType": "example.com/lb"})
    assert condition(built(pod, state(runs())), "Ready") == (
        "False",
        "ReadinessGatesNotReady",
        'corresponding condition of pod readiness gate "example.com/lb" does not exist.',
    )
    pod.status.conditions.append(pods.Condition("example.com/lb", "False"))
    assert condition(built(pod, state(runs())), "Ready")[2] == (
        'the status of pod readiness gate "example.com/lb" is not "True", but False'
    )
    pod.status.conditions[0].status = "True"
    assert condition(built(pod, state(runs())), "Ready")[0] == "True"


def test_events_go_on_after_the_last_that_was_told() -> None:
    told = state(
        occurrences=(
            documents.Occurrence(3, NOW_S, "main", "Unhealthy", "Liveness probe failed", warning=True),
            documents.Occurrence(2, NOW_S, "one", "Started", "Started container one"),
            documents.Occurrence(1, NOW_S, "one", "Created", "Created container: one"),
            documents.Occurrence(4, NOW_S, "", "ReadOnlyRoot", "x" * 5000),
        )
    )
    found = list(ssh_status.events(a_pod(init=("one",)), told, after=1))
    assert [(each.number, each.field_path, each.reason, each.warning) for each in found] == [
        (2, "spec.initContainers{one}", "Started", False),
        (3, "spec.containers{main}", "Unhealthy", True),
        (4, "", "ReadOnlyRoot", False),
    ]
    assert len(found[-1].message.encode()) <= status.MESSAGE_BYTES


# Laws

ends = st.builds(
    documents.Terminated, exit_code=st.integers(0, 255), reason=st.sampled_from(["", "Error", "OOMKilled"]),
    started_at=st.just(NOW_S), finished_at=st.just(NOW_S), id=st.sampled_from(["", "r1"]),
)  # fmt: skip
presents = st.one_of(
    st.builds(lambda reason: {"waiting": documents.Waiting(reason)}, st.sampled_from(["CrashLoopBackOff", "Odd"])),
    st.builds(lambda ready, started: {"running": RUNNING, "ready": ready, "started": started},
              st.booleans(), st.booleans()),
    st.builds(lambda end: {"terminated": end}, ends),
    st.just({}),
)  # fmt: skip
NAMES = ("a", "b")


def told_of(name: str) -> st.SearchStrategy[documents.ContainerState]:
    return st.builds(
        lambda now, last, restarts: documents.ContainerState(name, last=last, restarts=restarts, **now),
        presents, st.none() | ends, st.integers(0, 5),
    )  # fmt: skip


several = st.tuples(*map(told_of, NAMES)).flatmap(lambda all_: st.integers(0, len(NAMES)).map(lambda many: all_[:many]))
firsts = st.tuples(told_of("init"), told_of("side")).flatmap(
    lambda both: st.integers(0, 2).map(lambda many: both[:many])
)
runners = st.none() | st.builds(
    lambda containers, init, over, failure: state(*containers, init=init, ended=over, failure=failure if over else ""),
    several, firsts, st.booleans(), st.sampled_from(["", "", "full disk"]),
)  # fmt: skip
knowns = st.builds(
    lambda told, end, untouched, resumed, restarts: ssh_status.Known(
        NOW_S - 50, told, pods.Waiting("ContainerCreating", "x"), IMAGE_ID, True, untouched, end,
        {"a": ssh_status.Earlier(restarts)}, resumed=resumed),
    runners, st.none() | st.just(ssh_status.End()) | st.just(ssh_status.End("DeadlineExceeded", "too long", "why")),
    st.sampled_from(["", "lost"]), st.booleans(), st.integers(0, 3),
)  # fmt: skip


def written(pod: pods.Pod, known: ssh_status.Known, now_s: float) -> pods.Pod:
    """The pod after a strategic merge of the status, as an API server does it."""
    made = ssh_status.build(pod, known, "10.0.0.1", now_s)
    body = json.loads(status.encode(made, pod.status))
    merged = json.loads(msgspec.json.encode(pod.status))
    conditions = fake_pods.merged_conditions(merged.get("conditions", []), body.pop("conditions"))
    for name, value in body.items():
        merged.pop(name, None) if value is None else merged.update({name: value})
    merged["conditions"] = conditions
    return msgspec.structs.replace(pod, status=msgspec.convert(merged, pods.PodStatus))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(knowns, min_size=1, max_size=5), st.sampled_from(["Always", "OnFailure", "Never"]))
def test_laws_hold_whatever_is_told_in_whatever_order(told: list[ssh_status.Known], policy: str) -> None:
    foreign = {"type": "example.com/lb", "status": "True", "reason": "Theirs"}
    pod = a_pod(policy, init=("init",), sidecars=("side",), names=("b", "a"), conditions=[foreign])
    for number, known in enumerate(told):
        before, pod = pod, written(pod, known, NOW_S + number)
        after = pod.status
        if before.status.phase in status.TERMINAL:
            assert (after.phase, after.reason, after.message) == (
                before.status.phase, before.status.reason, before.status.message
            ), "a terminal phase is never left"  # fmt: skip
        if before.status.phase == "Running":
            assert after.phase != "Pending", "what ran is never Pending again"
        if after.phase in status.TERMINAL and before.status.phase not in status.TERMINAL:
            over = known.end is not None or (known.state is not None and known.state.ended)
            assert over, "a terminal phase is told only of a pod that is over"
        every = [*after.container_statuses, *after.init_container_statuses]
        for each in every:
            set_ = [each.state.waiting, each.state.running, each.state.terminated]
            assert sum(one is not None for one in set_) == 1, each
            assert not each.ready or each.state.waiting is None
        assert [each.name for each in after.container_statuses] == ["a", "b"]
        assert [each.name for each in after.init_container_statuses] == ["init", "side"]
        counts = {each.name: each.restart_count for each in every}
        for each in (*before.status.container_statuses, *before.status.init_container_statuses):
            assert counts[each.name] >= each.restart_count, "a restart count never falls"
        kinds = {each.type: each for each in after.conditions}
        assert kinds["example.com/lb"].reason == "Theirs"
        if after.phase in status.TERMINAL:
            assert kinds["Ready"].status == kinds["ContainersReady"].status == "False"
            assert not any(each.ready for each in after.container_statuses)
        standing = {each.type: each for each in before.status.conditions}
        for kind, now in kinds.items():
            old = standing.get(kind)
            if old is not None and old.status == now.status:
                assert now.last_transition_time == old.last_transition_time
        assert after.start_time == status.stamp(NOW_S - 50)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(knowns, min_size=1, max_size=3))
def test_what_was_written_is_the_same_as_what_is_wanted(told: list[ssh_status.Known]) -> None:
    """Else the node would write for ever."""
    pod = a_pod(init=("init",), sidecars=("side",), names=NAMES)
    for number, known in enumerate(told):
        pod = written(pod, known, NOW_S + number)
        again = ssh_status.build(pod, known, "10.0.0.1", NOW_S + 100)
        assert status.same(again, pod.status)
