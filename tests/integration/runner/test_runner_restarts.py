"""Restart policies and back-off."""

import itertools

import pytest
from tests.integration.runner import boxes
from tests.integration.runner.boxes import a_container, a_launch, container, terminated


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 1, True), ("OnFailure", 0, False), ("Never", 1, False)],
)
def test_policies(box: boxes.Box, policy: str, code: int, again: bool) -> None:
    box.environment["RUNNER_TIME_SCALE"] = "1000"
    follower = box.run(a_launch(a_container(script=f"exit {code}", restart=policy)))
    if again:
        state = follower.until(lambda state: container(state).restarts >= 2)
        last = container(state).last
        assert last is not None and last.exit_code == code
    else:
        state = follower.ended()
        assert container(state).restarts == 0
        assert terminated(state).exit_code == code


def test_the_first_restart_is_immediate_and_the_next_wait_ten_twenty_forty_seconds(box: boxes.Box) -> None:
    box.environment["RUNNER_TIME_SCALE"] = "100"
    follower = box.run(a_launch(a_container(script="sleep 0.01; exit 1", restart="Always")))
    follower.until(lambda state: container(state).restarts >= 4 and container(state).running is not None)
    waits = {each.waiting.message.split()[1]: each for state in follower.states if (each := container(state)).waiting
             and each.waiting.reason == "CrashLoopBackOff"}  # fmt: skip
    assert list(waits) == ["10s", "20s", "40s"]
    # A state that lasts for less than it takes to tell is skipped; what ended last is told with the next.
    times = list({last.id: last.started_at for state in follower.states if (last := container(state).last)}.values())
    times += [run.started_at for state in follower.states if (run := container(state).running)
              and container(state).restarts == 4][:1]  # fmt: skip
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] < 0.1 <= gaps[1] < 0.2 <= gaps[2] < 0.4 <= gaps[3] < 0.8
    first = next(state for state in follower.states if container(state).waiting and container(state).restarts)
    crash = container(first)
    assert crash.last is not None and crash.last.exit_code == 1 and crash.running is None and crash.terminated is None
    assert "BackOff" in boxes.reasons(first)


def test_back_off_stops_growing_at_five_minutes(box: boxes.Box) -> None:
    box.environment["RUNNER_TIME_SCALE"] = "10000"
    follower = box.run(a_launch(a_container("false", restart="Always")))
    state = follower.until(lambda state: container(state).restarts >= 8)
    messages = [each.waiting.message.split()[1] for state in follower.states if (each := container(state)).waiting
                and each.waiting.reason == "CrashLoopBackOff"]  # fmt: skip
    assert messages[-1] == "5m0s" and "10m" not in " ".join(messages)
    assert container(state).restarts >= 8


def test_ten_good_minutes_reset_the_back_off(box: boxes.Box) -> None:
    box.environment["RUNNER_TIME_SCALE"] = "2000"  # ten minutes are 0.3 s
    count = box.files / "count"
    script = f"echo x >>{count}; [ $(wc -l <{count}) -ne 4 ] || sleep 0.5; exit 1"
    follower = box.run(a_launch(a_container(script=script, restart="Always")))
    follower.until(lambda state: container(state).restarts >= 5)
    waits = [each.waiting.message.split()[1] for state in follower.states if (each := container(state)).waiting
             and each.waiting.reason == "CrashLoopBackOff"]  # fmt: skip
    assert waits[:3] == ["10s", "20s", "10s"], "after the long run the first restart is immediate again"


def test_each_run_has_an_id_and_the_last_keeps_its_own(box: boxes.Box) -> None:
    box.environment["RUNNER_TIME_SCALE"] = "1000"
    follower = box.run(a_launch(a_container("false", restart="Always")))
    follower.until(lambda state: container(state).restarts >= 3)
    ids = {container(state).restarts: container(state).id for state in follower.states}
    assert len(set(ids.values())) == len(ids)
    for state in follower.states:
        each = container(state)
        if each.running and each.last and each.restarts - 1 in ids:
            assert each.last.id == ids[each.restarts - 1]


def test_exactly_one_of_the_three_states_is_told(box: boxes.Box) -> None:
    box.environment["RUNNER_TIME_SCALE"] = "1000"
    step = a_container("true", name="step", restart="OnFailure")
    follower = box.run(a_launch(a_container("false", restart="Always"), init=(step,)))
    follower.until(lambda state: container(state).restarts >= 3)
    follower.ask("stop", grace_s=0)
    follower.ended()
    for state in follower.states:
        for each in (*state.init, *state.containers):
            assert sum(part is not None for part in (each.waiting, each.running, each.terminated)) == 1, each


def test_a_stop_during_back_off_ends_at_once(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container("false", restart="Always")))
    follower.until(lambda state: container(state).waiting is not None and container(state).restarts == 1)
    follower.ask("stop")
    state = follower.ended(within_s=2)
    assert terminated(state).exit_code == 1
