"""A pod's life on a machine: init steps, containers, sidecars, and how it ends."""

import os
import time

from tests.integration.runner import boxes
from tests.integration.runner.boxes import a_container, a_launch, container, terminated

from bareboat.access import documents


def test_a_container_runs_and_its_exit_is_told(box: boxes.Box) -> None:
    state = box.run_to_end(a_launch(a_container(script="echo hello; exit 3")))
    ended = terminated(state)
    assert (ended.exit_code, ended.reason, ended.signal) == (3, "Error", 0)
    assert ended.finished_at >= ended.started_at > time.time() - 60
    assert ended.id == container(state).id and len(ended.id) == 64
    assert box.log() == "hello\n"
    assert boxes.reasons(state) == ["Created", "Started"]


def test_success_is_completed(box: boxes.Box) -> None:
    ended = terminated(box.run_to_end(a_launch(a_container("true"))))
    assert (ended.exit_code, ended.reason) == (0, "Completed")


def test_a_signal_is_told_as_128_and_its_number(box: boxes.Box) -> None:
    ended = terminated(box.run_to_end(a_launch(a_container(script="kill -SEGV $$"))))
    assert (ended.exit_code, ended.signal, ended.reason) == (139, 11, "Error")


def test_init_steps_run_in_order_and_before_the_containers(box: boxes.Box) -> None:
    trace = box.files / "trace"
    steps = [a_container(name=n, script=f"sleep 0.05; echo {n} >>{trace}", restart="OnFailure") for n in ("one", "two")]
    follower = box.run(a_launch(a_container(script=f"echo main >>{trace}"), init=tuple(steps)))
    state = follower.ended()
    assert trace.read_text().split() == ["one", "two", "main"]
    assert [terminated(state, name).exit_code for name in ("one", "two", "main")] == [0, 0, 0]
    waiting = container(follower.states[0]).waiting
    assert waiting is not None and waiting.reason == "PodInitializing"


def test_a_failed_init_step_of_a_pod_that_never_restarts_ends_the_pod(box: boxes.Box) -> None:
    step = a_container(name="step", script="exit 9", restart="Never")
    state = box.run_to_end(a_launch(a_container("true"), init=(step,)))
    assert terminated(state, "step").exit_code == 9
    waiting = container(state).waiting
    assert waiting is not None and waiting.reason == "PodInitializing"
    assert not state.failure


def test_a_failed_init_step_is_tried_again(box: boxes.Box) -> None:
    marker = box.files / "marker"
    step = a_container(name="step", script=f"test -e {marker} || {{ touch {marker}; exit 1; }}", restart="OnFailure")
    state = box.run_to_end(a_launch(a_container("true"), init=(step,)))
    assert container(state, "step").restarts == 1
    assert terminated(state, "step").exit_code == 0
    last = container(state, "step").last
    assert last is not None and last.exit_code == 1


def test_containers_share_the_machine(box: boxes.Box) -> None:
    there = box.files / "there"
    first = a_container(name="first", script=f"touch {there}")
    second = a_container(name="second", script=f"until [ -e {there} ]; do sleep 0.01; done; echo seen")
    box.run_to_end(a_launch(first, second))
    assert box.log("second") == "seen\n"


def test_a_sidecar_is_waited_for_stays_and_is_stopped_after_the_containers_in_reverse(box: boxes.Box) -> None:
    trace, ready = box.files / "trace", box.files / "ready"

    def sidecar(name: str, first: str, **more: object) -> documents.Container:
        script = f"trap 'echo {name} stopped >>{trace}; exit 0' TERM; {first}; while :; do sleep 0.02; done"
        return a_container(name=name, script=script, restart="Always", **more)

    probe = documents.Probe(documents.Action("exec", command=("test", "-e", str(ready))), failure_threshold=100)
    box.environment["RUNNER_TIME_SCALE"] = "20"
    slow = sidecar("slow", f"sleep 0.3; echo slow ready >>{trace}; touch {ready}", startup=probe)
    state = box.run_to_end(a_launch(a_container(script=f"echo main >>{trace}"), init=(slow, sidecar("quick", "true"))))
    assert trace.read_text().splitlines() == ["slow ready", "main", "quick stopped", "slow stopped"]
    assert terminated(state, "slow").exit_code == 0


def test_sidecars_outlive_the_containers_when_the_pod_is_stopped(box: boxes.Box) -> None:
    trace = box.files / "trace"

    def until_stopped(name: str, first: str) -> str:
        return f"trap '{first}; echo {name} >>{trace}; exit 0' TERM; echo up; while :; do sleep 0.02; done"

    side = a_container(name="side", script=until_stopped("side", "true"), restart="Always")
    follower = box.run(a_launch(a_container(script=until_stopped("main", "sleep 0.3")), init=(side,)))
    boxes.eventually(lambda: "up" in box.log() and "up" in box.log("side"), "both are up")
    follower.ask("stop")
    follower.ended()
    assert trace.read_text().split() == ["main", "side"]


def test_readiness_of_init_steps_is_that_they_are_done(box: boxes.Box) -> None:
    step = a_container("sleep", "0.3", name="step", restart="OnFailure")
    follower = box.run(a_launch(a_container("true"), init=(step,)))
    state = follower.running("step")
    assert container(state, "step").started and not container(state, "step").ready
    assert container(follower.ended(), "step").ready


def test_a_sidecar_that_fails_is_restarted_while_the_containers_run(box: boxes.Box) -> None:
    side = a_container(name="side", script="exit 1", restart="Always")
    follower = box.run(a_launch(a_container("sleep", "60"), init=(side,)))
    follower.until(lambda state: container(state, "side").restarts >= 1)
    follower.ask("stop", grace_s=1)
    state = follower.ended()
    assert terminated(state).exit_code == 143


def test_the_workload_outlives_those_who_look_at_it(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container("sleep", "60")))
    running = container(follower.running()).running
    assert running is not None
    follower.close()
    again = box.follow()
    assert container(again.running()).running == running
    assert os.getsid(running.pid) == running.pid


def test_the_state_file_holds_the_last_state(box: boxes.Box) -> None:
    assert box.run_to_end(a_launch(a_container("true"))) == box.state()


def test_nothing_is_told_that_the_file_has_not(box: boxes.Box) -> None:
    box.environment["RUNNER_TIME_SCALE"] = "10000"
    follower = box.run(a_launch(a_container("false", restart="Always")))
    for restarts in range(5):
        told = follower.until(lambda state, at=restarts: container(state).restarts > at)  # type: ignore[misc]
        assert box.state().number >= told.number


def test_numbers_of_states_and_occurrences_rise(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container("true"), init=(a_container("true", name="step"),)))
    state = follower.ended()
    numbers = [each.number for each in follower.states]
    assert numbers == sorted(set(numbers))
    assert [each.number for each in state.occurrences] == list(range(1, len(state.occurrences) + 1))


def test_an_exit_is_told_within_milliseconds(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container(script="sleep 0.5")))
    state = follower.until(lambda state: container(state).terminated is not None)
    late_s = follower.seen_at[follower.states.index(state)] - terminated(state).finished_at
    assert late_s < 0.25, f"{late_s * 1000:.1f} ms"
