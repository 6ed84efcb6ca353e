"""Pods in ssh access as the node remembers them: over its own restarts, over machines that are lost."""

import msgspec
from tests.fakes import pods as fake_pods

from bareboat.access import documents
from bareboat.core import instances
from bareboat.node import decide, records, views
from bareboat.workload import pod as pods

NOW_S = 1_790_000_000.0
MACHINE = instances.Instance("vast", "7", instances.State.RUNNING)
RUNS = documents.Running(NOW_S - 50, 12)


def told(*, restarts: int = 0, ended: bool = False, exit_code: int = 0, failure: str = "") -> documents.State:
    terminated = documents.Terminated(exit_code, "Error" if exit_code else "Completed", NOW_S - 60, NOW_S - 1)
    state = documents.ContainerState(
        "main",
        restarts=restarts,
        ready=not ended,
        started=not ended,
        running=None if ended else RUNS,
        terminated=terminated if ended and not failure else None,
        id=f"run-{restarts}",
    )
    return documents.State("uid", "1", 1, NOW_S, "boot", containers=(state,), ended=ended, failure=failure)


def rented(**changes: object) -> records.Record:
    record = records.Record("uid", ("t", "a"), NOW_S - 3000)
    record.access, record.attempt, record.cloud, record.instance_id = records.SSH, 1, "vast", "7"
    record.renting, record.rented_s = records.Renting.RENTED, NOW_S - 2000
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def a_pod(**spec: object) -> pods.Pod:
    return msgspec.convert(fake_pods.manifest("a", **spec), pods.Pod)  # type: ignore[arg-type]


def step(record: records.Record, pod: pods.Pod | None = None) -> decide.Action:
    return decide.decide(pod or a_pod(), record, MACHINE, NOW_S, decide.Policy())


def restarted(record: records.Record, pod: pods.Pod) -> tuple[pods.Pod, records.Record]:
    """The pod as it stands in the API after a write, and the record that the next process makes of it."""
    pod.status = views.status(pod, record, MACHINE, "10.0.0.1", NOW_S)
    notes = {name: value for name, value in record.annotations().items() if value is not None}
    pod = msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, annotations=notes))
    return pod, records.from_pod(pod, NOW_S)


def test_restarts_of_the_present_machine_are_not_counted_twice_after_a_restart_of_the_node() -> None:
    pod, record = a_pod(), rented()
    record.hear(told(restarts=2))
    pod, again = restarted(record, pod)
    assert pod.status.container_statuses[0].restart_count == 2
    assert views.status(pod, again, MACHINE, "10.0.0.1", NOW_S) == pod.status, "nothing is heard yet, nothing changes"
    again.hear(told(restarts=3))
    assert views.status(pod, again, MACHINE, "10.0.0.1", NOW_S).container_statuses[0].restart_count == 3


def test_a_machine_that_runs_without_being_heard_is_never_given_up() -> None:
    assert step(rented(has_run=True)) == decide.Rest()


def test_a_crash_looping_pod_is_not_given_up_because_the_node_was_started_anew() -> None:
    pod, record = a_pod(restartPolicy="Always"), rented()
    waiting = documents.ContainerState(
        "main",
        restarts=4,
        waiting=documents.Waiting("CrashLoopBackOff"),
        last=documents.Terminated(1, "Error", NOW_S - 60, NOW_S - 1),
    )
    record.hear(documents.State("uid", "1", 1, NOW_S, "boot", containers=(waiting,)))
    pod, again = restarted(record, pod)
    assert again.access == records.SSH and again.told is None
    assert isinstance(step(again, pod), decide.Rest)


def test_a_machine_that_never_answered_is_given_up_and_counts_against_ssh() -> None:
    action = step(rented(unfollowed_why="no route"))
    assert isinstance(action, decide.GiveUp) and action.ssh_problem and "no route" in action.message


def test_the_end_that_the_runner_tells_is_the_pods() -> None:
    record = rented()
    record.hear(told(ended=True, exit_code=3))
    action = step(record)
    assert isinstance(action, decide.Finish)
    assert action.end.terminated.exit_code == 3 and action.end.process_ended


def test_a_runner_that_can_not_run_the_pod_fails_it_with_its_reason() -> None:
    record = rented()
    record.hear(told(ended=True, failure="no space left on device"))
    action = step(record)
    assert isinstance(action, decide.Finish) and action.end.reason == "RunnerFailed"
    record.end = action.end
    status = views.status(a_pod(), record, MACHINE, "10.0.0.1", NOW_S)
    assert (status.phase, status.reason, status.message) == ("Failed", "RunnerFailed", "no space left on device")


def test_a_pod_that_is_over_for_a_reason_of_its_own_is_stopped_in_order_first() -> None:
    record = rented(end=records.End(pods.Terminated(137, "DeadlineExceeded"), "DeadlineExceeded"))
    record.hear(told())
    pod = a_pod(terminationGracePeriodSeconds=7)
    assert step(record, pod) == decide.StopContainers(7.0, "its pod is over")
    record.stop_by_s = NOW_S + 5
    assert step(record, pod) == decide.Rest(5.0)
    record.stop_by_s = NOW_S - 1
    assert step(record, pod) == decide.EndInstance("its pod is over")


def test_an_annotation_alone_makes_no_machine_one_that_is_reached_by_ssh() -> None:
    pod = msgspec.convert(fake_pods.manifest("a", annotations={"bareboat.dev/access-used": "nonsense"}), pods.Pod)
    assert records.from_pod(pod, NOW_S).access == records.PLAIN
