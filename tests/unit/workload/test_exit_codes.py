"""The wrapper is run for real by /bin/sh: what it reports is what the process did, and the log stays the process's."""

import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareboat.core import needs, offers
from bareboat.kube import objects
from bareboat.workload import exit_codes, launch
from bareboat.workload import pod as pods


def run(command: list[str], args: list[str] | None = None, attempt: str = "1") -> tuple[int, str]:
    wrapped, wrapped_args = exit_codes.wrap(command, args or [], attempt, "uid")
    with tempfile.TemporaryDirectory() as disk:
        done = subprocess.run(
            [*wrapped, *wrapped_args], capture_output=True, text=True, timeout=20, check=False, env=on_disk(disk)
        )
    return done.returncode, done.stdout


def on_disk(folder: str) -> dict[str, str]:
    """The environment of a container whose disk this is."""
    return {**os.environ, "TMPDIR": folder}


@pytest.mark.parametrize("code", [0, 1, 3, 42, 126, 255])
def test_the_code_of_the_process_is_reported_and_kept(code: int) -> None:
    returned, log = run(["sh", "-c", f"exit {code}"])
    assert returned == code and exit_codes.find(log, "1") == code


def test_a_program_that_does_not_exist_is_127() -> None:
    returned, log = run(["/no/such/program"])
    assert returned == 127 and exit_codes.find(log, "1") == 127


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_process_killed_by_a_signal_is_128_and_the_signal(number: int) -> None:
    returned, log = run(["sh", "-c", f"kill -{int(number)} $$"])
    assert returned == 128 + number and exit_codes.find(log, "1") == 128 + number


def test_a_wrapper_that_is_killed_itself_reports_nothing(tmp_path: Path) -> None:
    wrapped, args = exit_codes.wrap(["sh", "-c", "echo up; exec sleep 30"], [], "1", "uid")
    with subprocess.Popen(
        [*wrapped, *args], stdout=subprocess.PIPE, text=True, start_new_session=True, env=on_disk(str(tmp_path))
    ) as running:
        assert running.stdout is not None and running.stdout.readline() == "up\n"
        os.killpg(running.pid, signal.SIGKILL)
        log, _ = running.communicate(timeout=10)
    assert exit_codes.find(log, "1") is None


@pytest.mark.parametrize("code", [0, 3])
def test_a_container_that_its_host_starts_again_reports_again_and_does_nothing_twice(tmp_path: Path, code: int) -> None:
    wrapped, args = exit_codes.wrap(["sh", "-c", f"echo did it; exit {code}"], [], "1", "uid")
    first = subprocess.run([*wrapped, *args], capture_output=True, text=True, timeout=20, env=on_disk(str(tmp_path)))
    assert first.returncode == code and "did it" in first.stdout
    with subprocess.Popen(
        [*wrapped, *args], stdout=subprocess.PIPE, text=True, start_new_session=True, env=on_disk(str(tmp_path))
    ) as again:
        assert again.stdout is not None
        said = again.stdout.readline() + again.stdout.readline()
        assert again.poll() is None, "it has to stay, or it is started for ever"
        os.killpg(again.pid, signal.SIGKILL)
    assert "did it" not in said and exit_codes.find(said, "1") == code
    wrapped, args = exit_codes.wrap(["echo", "new"], [], "2", "uid")
    done = subprocess.run([*wrapped, *args], capture_output=True, text=True, timeout=20, env=on_disk(str(tmp_path)))
    assert "new" in done.stdout, "another attempt is another piece of work"


def test_a_disk_that_can_not_be_written_keeps_nobody_from_working(tmp_path: Path) -> None:
    wrapped, args = exit_codes.wrap(["echo", "done"], [], "1", "uid")
    nowhere = on_disk(str(tmp_path / "is" / "not" / "there"))
    done = subprocess.run([*wrapped, *args], capture_output=True, text=True, timeout=20, env=nowhere)
    assert done.returncode == 0 and done.stderr == "" and exit_codes.find(done.stdout, "1") == 0


@pytest.mark.parametrize("word", ["a b", "$HOME", "`id`", "'", '"', "\\n", "*", ";exit 9", "--", "%s%d", "é\n"])
def test_no_word_is_read_by_the_shell(word: str) -> None:
    _, log = run(["printf", "%s|"], [word, word])
    assert exit_codes.strip(log) == f"{word}|{word}|"
    assert exit_codes.find(log, "1") == 0


@pytest.mark.parametrize("output", ["", "x", "x\n", "x\n\n", "\n", "\n\nx", "a\r\nb"])
def test_the_log_is_what_the_process_wrote_with_or_without_a_last_line_break(output: str) -> None:
    _, log = run(["printf", "%s", output])
    # A text-mode pipe makes one line break of each kind.
    assert exit_codes.strip(log) == output.replace("\r\n", "\n")
    assert exit_codes.find(log, "1") == 0


@given(st.text(alphabet="ab\n", max_size=30), st.integers(0, 255))
def test_strip_takes_away_what_wrap_adds_and_nothing_else(output: str, code: int) -> None:
    log = f"{output}\nbareboat: exit {code} attempt 4\n"
    assert exit_codes.strip(log) == output
    assert exit_codes.find(log, "4") == code


def test_a_container_that_a_cloud_starts_again_and_again_has_no_wrapper_line_left_and_the_last_code() -> None:
    log = "one\n\nbareboat: exit 1 attempt 2\ntwo\n\nbareboat: exit 0 attempt 2\n"
    assert exit_codes.strip(log) == "one\ntwo\n"
    assert exit_codes.find(log, "2") == 0


def test_the_line_of_another_attempt_says_nothing_about_this_one() -> None:
    assert exit_codes.find("bareboat: exit 0 attempt 1\n", "2") is None


@pytest.mark.parametrize(
    "log", ["", "bareboat: exit attempt 1", "bareboat: exit 1234 attempt 1", "x bareboat: exit 0 attempt 1"]
)
def test_what_only_looks_like_the_line_is_the_workloads_own(log: str) -> None:
    assert exit_codes.find(log, "1") is None and exit_codes.strip(log) == log


def built(container: pods.Container, **annotations: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    pod = pods.Pod(objects.ObjectMeta(name="a", annotations=annotations), pods.PodSpec(containers=[container]))
    offer = offers.Offer(cloud="vast", id="1", gpu_name="RTX 4090", gpu_count=1, usd_per_hour=0.3)
    made = launch.build(
        pod,
        command=tuple(container.command or ()),
        args=tuple(container.args or ()),
        env={},
        login=None,
        wanted=needs.Needs(),
        offer=offer,
        attempt="1",
    )
    return made.command or (), made.args or ()


@pytest.mark.parametrize("name", ["plain", "a b", "it's", "-dash"])
def test_the_working_directory_is_entered_and_the_code_kept(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    folder = str(tmp_path / name)
    command, args = built(pods.Container(image="x", command=["sh", "-c", "pwd; exit 5"], working_dir=folder))
    done = subprocess.run(
        [*command, *args], capture_output=True, text=True, timeout=20, check=False, env=on_disk(str(tmp_path))
    )
    assert exit_codes.strip(done.stdout) == folder + "\n" and done.returncode == 5
    assert exit_codes.find(done.stdout, "1") == 5


def test_a_working_directory_that_is_not_there_fails_and_says_so(tmp_path: Path) -> None:
    command, args = built(pods.Container(image="x", command=["pwd"], working_dir="/no/such/folder"))
    done = subprocess.run(
        [*command, *args], capture_output=True, text=True, timeout=20, check=False, env=on_disk(str(tmp_path))
    )
    assert done.returncode not in (0, 127) and "/no/such/folder" in done.stderr
    assert exit_codes.find(done.stdout, "1") == done.returncode


def test_a_pod_without_a_command_is_left_to_its_image() -> None:
    assert built(pods.Container(image="x", args=["-v"])) == ((), ("-v",))


def test_a_pod_can_turn_the_wrapper_off() -> None:
    off = {"bareboat.dev/exit-code": "off"}
    assert built(pods.Container(image="x", command=["a"], args=["b"]), **off) == (("a",), ("b",))
