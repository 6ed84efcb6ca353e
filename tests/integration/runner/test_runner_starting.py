"""`runner start` and what it refuses; documents that can't be read; programs that can't be run."""

import json
import subprocess

import msgspec
import pytest
from tests.integration.runner import boxes
from tests.integration.runner.boxes import a_container, a_launch, container, terminated

from bareboat.access import binaries, documents


def test_a_second_start_of_the_same_attempt_says_that_it_runs(box: boxes.Box) -> None:
    launch = a_launch(a_container("sleep", "60"))
    first = box.start(launch)
    assert first.outcome == "started" and boxes.alive(first.pid)
    before = container(box.follow().running()).running
    assert box.start(launch).outcome == "running"
    assert container(box.follow().running()).running == before


def test_a_start_after_the_end_says_so_and_runs_nothing(box: boxes.Box) -> None:
    launch = a_launch(a_container("true"))
    ended = box.run_to_end(launch)
    boxes.eventually(lambda: box.start(launch).outcome == "ended", "the supervising process has gone")
    assert box.state() == ended


@pytest.mark.parametrize("running", [True, False])
def test_another_attempt_is_refused_and_leaves_the_first_alone(box: boxes.Box, running: bool) -> None:
    script = "sleep 60" if running else "true"
    follower = box.run(a_launch(a_container(script=script)))
    follower.until(lambda state: state.ended or (running and container(state).running is not None))
    before = (box.root / "state.json").read_bytes()
    refused = box.try_start(a_launch(a_container("true"), attempt="second"))
    assert refused.returncode == 3
    assert "attempt second" in refused.stderr and "attempt first" in refused.stderr
    assert not running or (box.root / "state.json").read_bytes() == before


def test_two_starts_at_once_make_one_pod(box: boxes.Box) -> None:
    box.upload(a_launch(a_container(script=f"echo run >>{box.files}/runs; sleep 60")))
    starts = [subprocess.Popen(box.command("start"), stdout=subprocess.PIPE) for _ in range(8)]
    outcomes = sorted(json.loads(each.communicate()[0])["outcome"] for each in starts)
    assert outcomes == ["running"] * 7 + ["started"]
    box.follow().running()
    boxes.eventually(lambda: (box.files / "runs").exists(), "it ran")
    assert (box.files / "runs").read_text() == "run\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "EOF"),
        (b"{", "unexpected EOF"),
        (b"[]", "cannot unmarshal"),
        (b"\x00\xff", "invalid character"),
        (b'{"pod_uid": "u", "attempt": "a", "containers": []}', "no containers"),
        (b'{"pod_uid": "u", "attempt": "a", "surprise": 1}', 'unknown field "surprise"'),
        (b'{"pod_uid": "u", "attempt": "a", "version": 2}', "version 2"),
        (b'{"pod_uid": "", "attempt": "a", "containers": [{"name": "c", "argv": ["x"]}]}', "pod_uid"),
        (b'{"pod_uid": "u", "attempt": "a", "containers": [{"name": "../c", "argv": ["x"]}]}', "malformed name"),
        (b'{"pod_uid": "u", "attempt": "a", "containers": [{"name": "c", "argv": []}]}', "argv is empty"),
    ],
)
def test_an_unreadable_document_ends_the_pod_with_a_reason(box: boxes.Box, content: bytes, said: str) -> None:
    done = box.try_start(content)
    assert done.returncode == 5 and said in done.stderr
    assert done.stderr.count("\n") == 1, "one line"
    state = box.follow().ended()
    assert said in state.failure and state.ended


def test_an_unreadable_document_leaves_a_running_pod_alone(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container("sleep", "60")))
    running = container(follower.running()).running
    assert box.try_start(b"{").returncode == 5
    assert container(box.follow().running()).running == running


def test_a_good_document_after_an_unreadable_one_starts(box: boxes.Box) -> None:
    assert box.try_start(b"{").returncode == 5
    assert terminated(box.run_to_end(a_launch(a_container("true")))).exit_code == 0


def test_without_a_document_start_says_so(box: boxes.Box) -> None:
    done = box.try_start()
    assert done.returncode == 5 and "launch.json" in done.stderr


def test_nothing_to_follow_where_nothing_was_started(box: boxes.Box) -> None:
    done = box.call("follow")
    assert done.returncode == 4 and b"nothing was started" in done.stderr


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("no-such-program",), 127, 'exec: "no-such-program": executable file not found in $PATH'),
        (("/no/such/program",), 127, 'exec: "/no/such/program": no such file or directory'),
        (("/etc/passwd",), 126, 'exec: "/etc/passwd": permission denied'),
        (("/etc",), 126, 'exec: "/etc": permission denied'),
    ],
)
def test_a_program_that_cannot_be_run_is_told_as_a_runtime_tells_it(
    box: boxes.Box, argv: tuple[str, ...], code: int, said: str
) -> None:
    state = box.run_to_end(a_launch(a_container(*argv)))
    ended = terminated(state)
    assert (ended.exit_code, ended.reason, ended.message) == (code, "ContainerCannotRun", said)
    assert boxes.messages(state, "Failed") == [f"Error: {said}"]


def test_a_script_for_an_interpreter_that_lacks_is_not_executable(box: boxes.Box) -> None:
    script = box.files / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    assert terminated(box.run_to_end(a_launch(a_container(str(script))))).exit_code == 126


def test_an_unknown_user_is_told_by_name(box: boxes.Box) -> None:
    ended = terminated(box.run_to_end(a_launch(a_container("true", user="nosuchuser"))))
    assert (ended.exit_code, ended.reason) == (128, "StartError")
    assert "unable to find user nosuchuser" in ended.message


def test_an_environment_beyond_the_kernels_limit_is_told(box: boxes.Box) -> None:
    ended = terminated(box.run_to_end(a_launch(a_container("true", env=(("BIG", "x" * 200_000),)))))
    assert (ended.exit_code, ended.reason) == (128, "StartError")
    assert "too long" in ended.message


def test_a_program_that_cannot_be_run_is_tried_again_as_the_policy_says(box: boxes.Box) -> None:
    box.environment["RUNNER_TIME_SCALE"] = "1000"
    follower = box.run(a_launch(a_container("no-such-program", restart="Always")))
    follower.until(lambda state: container(state).restarts >= 3)


def test_the_version_names_the_sources() -> None:
    done = subprocess.run([binaries.path("x86_64"), "version"], capture_output=True, check=True)
    assert json.loads(done.stdout) == {"version": documents.VERSION, "build": binaries.build()}


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["start", "--nonsense"], ["follow", "extra"], ["exec"]])
def test_wrong_usage_is_answered_with_one_line(arguments: list[str]) -> None:
    done = subprocess.run([binaries.path("x86_64"), *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_an_architecture_without_a_runner_is_named() -> None:
    with pytest.raises(binaries.NoRunner, match="riscv64"):
        binaries.path("riscv64")
    assert binaries.content("aarch64").startswith(b"\x7fELF")


def test_documents_survive_their_codecs() -> None:
    launch = a_launch(a_container("true", memory_limit_bytes=1 << 30))
    assert documents.decode_launch(documents.encode_launch(launch)) == launch
    for broken in (b"", b"{", b'{"neither": 1}', b"[1]"):
        with pytest.raises(documents.Unreadable):
            documents.decode_line(broken)
    state = documents.State(pod_uid="u", attempt="a", number=1, at=0.5, boot_id="b")
    assert documents.decode_line(msgspec.json.encode(documents.Line(state=state))) == state
