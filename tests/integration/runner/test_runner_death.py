"""What is left when the runner dies, the machine is started anew, or its disk is full."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.integration.runner import boxes
from tests.integration.runner.boxes import a_container, a_launch, container, terminated

from bareboat.access import binaries, documents


def test_a_runner_that_dies_takes_the_pod_along_and_follow_says_so(box: boxes.Box) -> None:
    pids = box.files / "pids"
    script = f"sleep 60 & echo $! >{pids}; echo $$ >>{pids}; wait"
    follower = box.run(a_launch(a_container(script=script)))
    boxes.eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2, "it runs")
    boxes.eventually(lambda: container(box.state()).running is not None, "the file has it")
    os.kill(box.supervisor(), signal.SIGKILL)
    state = follower.ended(within_s=5)
    assert state.failure == "the runner died"
    ended = terminated(state)
    assert (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")
    assert ended.id == container(state).id
    boxes.eventually(lambda: not any(boxes.alive(int(pid)) for pid in pids.read_text().split()), "all are gone")
    assert follower.process.wait(5) == 0


def test_a_later_start_finds_out_that_the_runner_died(box: boxes.Box) -> None:
    launch = a_launch(a_container("sleep", "60"))
    follower = box.run(launch)
    number = follower.running().number
    follower.close()
    os.kill(box.supervisor(), signal.SIGKILL)
    boxes.eventually(lambda: box.start(launch).outcome == "ended", "it is found out")
    state = box.state()
    assert state.failure == "the runner died" and state.ended and state.number > number


def test_a_runner_that_is_asked_to_end_stops_the_pod(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container("sleep", "60")))
    follower.running()
    os.kill(box.supervisor(), signal.SIGTERM)
    state = follower.ended()
    assert terminated(state).exit_code == 143 and not state.failure


def started_anew(box: boxes.Box) -> None:
    """Makes what is there look as if the machine had been started anew since. Nobody may be following."""
    boxes.eventually(lambda: container(box.state()).running is not None, "the file has it")
    os.kill(box.supervisor(), signal.SIGKILL)
    path = box.root / "state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "boot_id": "another/1"}))


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_after_a_new_start_of_the_machine_the_pod_goes_on_as_its_policy_says(box: boxes.Box, policy: str) -> None:
    launch = a_launch(a_container("sleep", "60", restart=policy))
    follower = box.run(launch)
    before = follower.running()
    follower.close()
    started_anew(box)
    told = box.call("follow")
    assert told.returncode == 4 and b"started anew" in told.stderr
    assert box.start(launch).outcome == "started"
    state = box.follow().running()
    assert state.number > before.number and state.boot_id == before.boot_id
    again = container(state)
    assert again.restarts == 1 and again.id != container(before).id
    assert again.last is not None and (again.last.exit_code, again.last.reason) == (137, "ContainerStatusUnknown")
    assert again.last.id == container(before).id


def test_after_a_new_start_of_the_machine_what_never_restarts_has_failed(box: boxes.Box) -> None:
    launch = a_launch(a_container("sleep", "60"), init=(a_container("true", name="step"),))
    follower = box.run(launch)
    follower.running()
    follower.close()
    started_anew(box)
    box.start(launch)
    state = box.follow().ended()
    assert terminated(state).reason == "ContainerStatusUnknown" and not state.failure


def test_boot_ids_differ_between_starts_of_a_machine(box: boxes.Box) -> None:
    """A container that is started anew keeps its host's kernel, but its first process is another one."""
    kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    box.run(a_launch(a_container("true"))).ended()
    assert box.state().boot_id.startswith(kernel + "/")
    inside = ["unshare", "--pid", "--fork", "--mount-proc", "--"]
    done = [
        subprocess.run([*inside, "sh", "-c", "cut -d' ' -f22 /proc/1/stat; sleep 0.02"], capture_output=True, text=True)
        for _ in range(2)
    ]
    assert done[0].stdout != done[1].stdout


def test_a_log_that_cannot_be_written_fails_the_pod(box: boxes.Box) -> None:
    script = "import os\nimport resource\nprint('x' * 3_000_000)\nimport time\ntime.sleep(60)"
    box.upload(a_launch(a_container("python3", "-c", script)))
    done = box.try_start(limit='{"RLIMIT_FSIZE": 2000000}')
    assert done.returncode == 0, done.stderr
    state = box.follow().ended()
    assert state.failure.startswith(f"logs can't be kept: writing {box.root}/logs/main/0.log: file too large")
    assert terminated(state).exit_code == 143


def test_a_full_disk_fails_the_pod_with_a_state_that_says_so(tmp_path: Path) -> None:
    """The whole box lies on a small tmpfs, in a mount namespace of its own with the test's other half inside."""
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    script = (
        "set -e; mount -t tmpfs -o size=8m tmpfs $1; cp $2 $1/runner; cp $3 $1/launch.json; "
        "$1/runner start --root $1 >/dev/null; sleep 4 | $1/runner follow --root $1; cat $1/state.json"
    )
    launch = tmp_path / "launch.json"
    main = a_container("head", "-c", "20000000", "/dev/zero", termination_message_path=str(tmp_path / "said"))
    sleeper = a_container("sleep", "60", name="other", termination_message_path=str(tmp_path / "said-too"))
    launch.write_bytes(documents.encode_launch(a_launch(main, sleeper, grace_s=1)))
    root = tmp_path / "root"
    root.mkdir()
    program = binaries.path(os.uname().machine)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(root), str(program), str(launch)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *_, last, kept = done.stdout.splitlines()
    told = documents.decode_line(last.encode())
    assert isinstance(told, documents.State)
    assert told.ended and told.failure.startswith("the machine's disk is full: writing ")
    assert terminated(told, "other").exit_code == 143, "everything was stopped"
    assert documents.decode_state(kept.encode()) == told, "the last words found room"
