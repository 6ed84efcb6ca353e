"""Stops: signals, grace, hooks, and nothing left behind."""

import time
from pathlib import Path

import pytest
from tests.integration.runner import boxes, servers
from tests.integration.runner.boxes import a_container, a_launch, container, terminated

from bareboat.access.documents import Action

STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"


def test_a_stop_asks_first_and_takes_the_answer(box: boxes.Box) -> None:
    follower = box.run(
        a_launch(a_container(script="trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.02; done"))
    )
    boxes.eventually(lambda: "up" in box.log(), "it is up")
    assert follower.ask("stop").error == ""
    state = follower.ended()
    assert terminated(state).exit_code == 5 and state.stopping and not state.failure
    assert box.log() == "up\nbye\n"
    assert boxes.messages(state, "Killing") == ["Stopping container main"]


def test_after_the_grace_everything_is_killed(box: boxes.Box) -> None:
    pids = box.files / "pids"
    script = f"trap '' TERM; sleep 60 & echo $! >>{pids}; setsid sleep 60 & echo $! >>{pids}; echo up; wait; sleep 60"
    follower = box.run(a_launch(a_container(script=script)))
    boxes.eventually(lambda: "up" in box.log(), "it is up")
    began = time.monotonic()
    follower.ask("stop", grace_s=0.5)
    state = follower.ended()
    assert 0.4 < time.monotonic() - began < 3
    ended = terminated(state)
    assert (ended.exit_code, ended.signal, ended.reason) == (137, 9, "Error")
    assert [boxes.alive(int(pid)) for pid in pids.read_text().split()] == [False, False]


def test_a_daemon_that_hid_itself_dies_with_its_container(box: boxes.Box) -> None:
    hidden = box.files / "hidden"
    daemon = (
        "import os, sys, time\n"
        "if os.fork(): sys.exit()\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "for fd in range(3): os.close(fd)\n"
        f"open({str(hidden)!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    script = f'python3 -c "{daemon}"; until [ -s {hidden} ]; do sleep 0.01; done; exit 0'
    other = a_container("sleep", "60", name="other")
    follower = box.run(a_launch(a_container(script=script), other))
    state = follower.until(lambda state: container(state).terminated is not None)
    assert not boxes.alive(int(hidden.read_text()))
    assert container(state, "other").running is not None, "the other container's processes are left alone"


def test_a_later_shorter_stop_shortens(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container(script=STUBBORN)))
    boxes.eventually(lambda: "up" in box.log(), "it is up")
    began = time.monotonic()
    follower.ask("stop", grace_s=60)
    follower.ask("stop", grace_s=0.2)
    follower.ask("stop", grace_s=90)
    follower.ended()
    assert time.monotonic() - began < 5


def test_the_pods_own_grace_is_the_default(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container(script=STUBBORN), grace_s=1))
    boxes.eventually(lambda: "up" in box.log(), "it is up")
    began = time.monotonic()
    follower.ask("stop")
    assert terminated(follower.ended()).exit_code == 137
    assert 0.9 < time.monotonic() - began < 4


@pytest.mark.parametrize(("name", "number"), [("SIGUSR1", 10), ("INT", 2), ("3", 3), ("SIGRTMIN+3", 37)])
def test_the_images_stop_signal_is_used(box: boxes.Box, name: str, number: int) -> None:
    script = (
        f"import signal, sys, time\nsignal.signal({number}, lambda n, f: sys.exit(n))\n"
        "print('up', flush=True)\ntime.sleep(60)"
    )
    follower = box.run(a_launch(a_container("python3", "-c", script, stop_signal=name)))
    boxes.eventually(lambda: "up" in box.log(), "it is up")
    follower.ask("stop")
    assert terminated(follower.ended()).exit_code == number


def test_an_unknown_stop_signal_is_refused(box: boxes.Box) -> None:
    done = box.try_start(a_launch(a_container("true", stop_signal="SIGNONSENSE")))
    assert done.returncode == 5 and "SIGNONSENSE" in done.stderr


def test_pre_stop_runs_before_the_signal(box: boxes.Box) -> None:
    trace = box.files / "trace"
    main = a_container(
        script=f"trap 'echo term >>{trace}; exit 0' TERM; echo up; while :; do sleep 0.02; done",
        pre_stop=Action("exec", command=("sh", "-c", f"sleep 0.2; echo hook >>{trace}")),
    )
    follower = box.run(a_launch(main))
    boxes.eventually(lambda: "up" in box.log(), "it is up")
    follower.ask("stop")
    follower.ended()
    assert trace.read_text().split() == ["hook", "term"]


def test_pre_stop_by_http_and_sleep(box: boxes.Box) -> None:
    with servers.answering(lambda path: (200, "")) as server:
        asking = a_container("sleep", "60", name="asking", pre_stop=Action("http", port=server.port, path="/bye"))
        sleeping = a_container("sleep", "60", name="sleeping", pre_stop=Action("sleep", seconds=1))
        follower = box.run(a_launch(asking, sleeping))
        follower.running("sleeping")
        began = time.monotonic()
        follower.ask("stop")
        follower.ended()
        assert [path for path, _ in server.asked] == ["/bye"]
    assert 0.9 < time.monotonic() - began < 4


def test_an_http_hook_asks_for_an_answer_only(box: boxes.Box) -> None:
    with servers.answering(lambda path: (500, "")) as server:
        hook = Action("http", port=server.port, path="/")
        follower = box.run(a_launch(a_container("sleep", "60", post_start=hook, pre_stop=hook)))
        follower.until(lambda state: container(state).started)
        follower.ask("stop")
        assert boxes.reasons(follower.ended()) == ["Created", "Started", "Killing"]
        assert len(server.asked) == 2


def test_a_failing_pre_stop_hook_is_told_and_the_stop_goes_on(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container("sleep", "60", pre_stop=Action("exec", command=("false",)))))
    follower.running()
    follower.ask("stop")
    state = follower.ended()
    assert terminated(state).exit_code == 143 and "FailedPreStopHook" in boxes.reasons(state)


def test_pre_stop_counts_against_the_grace_and_two_seconds_are_left_for_the_signal(box: boxes.Box) -> None:
    main = a_container(
        script="trap 'sleep 1; exit 7' TERM; echo up; while :; do sleep 0.02; done",
        pre_stop=Action("exec", command=("sleep", "60")),
    )
    follower = box.run(a_launch(main))
    boxes.eventually(lambda: "up" in box.log(), "it is up")
    began = time.monotonic()
    follower.ask("stop", grace_s=1)
    assert terminated(follower.ended()).exit_code == 7
    assert 1.9 < time.monotonic() - began < 4


def test_no_pre_stop_for_a_container_that_ends_by_itself(box: boxes.Box) -> None:
    trace = box.files / "trace"
    box.run_to_end(a_launch(a_container("true", pre_stop=Action("exec", command=("touch", str(trace))))))
    assert not trace.exists()


def test_post_start_holds_back_started_and_the_next_container(box: boxes.Box) -> None:
    go, trace = box.files / "go", box.files / "trace"
    hook = Action("exec", command=("sh", "-c", f"until [ -e {go} ]; do sleep 0.01; done; echo hook >>{trace}"))
    first = a_container("sleep", "60", name="first", post_start=hook)
    second = a_container(script=f"echo second >>{trace}; sleep 60", name="second")
    follower = box.run(a_launch(first, second))
    state = follower.running("first")
    assert not container(state, "first").started and container(state, "second").running is None
    go.touch()
    follower.until(lambda state: container(state, "first").started and container(state, "second").running is not None)
    boxes.eventually(lambda: trace.read_text().split() == ["hook", "second"], "in order")


def test_a_failing_post_start_hook_kills_the_container(box: boxes.Box) -> None:
    hook = Action("exec", command=("sh", "-c", "echo no good; exit 1"))
    state = box.run_to_end(a_launch(a_container("sleep", "60", post_start=hook)))
    assert terminated(state).exit_code == 143
    assert boxes.messages(state, "FailedPostStartHook") == ["PostStartHook failed: no good"]


def test_stop_as_a_command_waits_for_the_end(box: boxes.Box) -> None:
    box.run(a_launch(a_container("sleep", "60"))).running()
    pid = box.supervisor()
    done = box.call("stop", "--grace", "2")
    assert done.returncode == 0 and b'"ended":true' in done.stdout
    boxes.eventually(lambda: not boxes.alive(pid), "the supervising process has gone")
    assert not Path(box.root, "reserve").exists()


def test_a_stop_during_an_init_step(box: boxes.Box) -> None:
    step = a_container("sleep", "60", name="step", restart="OnFailure")
    follower = box.run(a_launch(a_container("true"), init=(step,)))
    follower.running("step")
    follower.ask("stop", grace_s=2)
    state = follower.ended()
    assert terminated(state, "step").exit_code == 143 and container(state).waiting is not None


def test_commands_that_make_no_sense_are_answered(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container("sleep", "60")))
    assert follower.process.stdin is not None
    follower.process.stdin.write(b'nonsense\n{"id": 9, "do": "dance"}\n')
    follower.process.stdin.flush()
    boxes.eventually(lambda: {0, 9} <= follower.answers.keys(), "both are answered")
    assert "not a command" in follower.answers[0].error
    assert follower.answers[9].error == 'unknown command "dance"'
