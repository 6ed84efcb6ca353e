"""Logs in the CRI format: their form, rotation, restarts, and how they are read on the machine."""

import re
import subprocess
import time
from datetime import UTC, datetime

import pytest
from tests.integration.runner import boxes
from tests.integration.runner.boxes import a_container, a_launch, container, terminated

CRI = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) [FP] .*")


def raw(box: boxes.Box, name: str = "main", restart: int = 0) -> list[str]:
    return (box.root / "logs" / name / f"{restart}.log").read_text().split("\n")[:-1]


def logs(box: boxes.Box, *arguments: str) -> str:
    done = box.call("logs", "--container", "main", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_every_line_has_time_stream_and_tag(box: boxes.Box) -> None:
    box.run_to_end(a_launch(a_container(script="echo out; echo err >&2; echo; printf 'no end'")))
    lines = raw(box)
    assert all(CRI.fullmatch(text) for text in lines)
    told = sorted(text.split(" ", 1)[1] for text in lines)
    assert told == ["stderr F err", "stdout F ", "stdout F out", "stdout P no end"]
    stamp = datetime.fromisoformat(lines[0].split()[0][:26]).replace(tzinfo=UTC)
    assert abs(stamp.timestamp() - time.time()) < 60


def test_a_long_line_is_told_in_parts_of_16_kib(box: boxes.Box) -> None:
    box.run_to_end(a_launch(a_container("python3", "-c", "print('a' * 40000); print('b' * 16384); print('c' * 16385)")))
    parts = [(text.split(" ", 3)[2], text.split(" ", 3)[3]) for text in raw(box)]
    assert [(tag, text[0], len(text)) for tag, text in parts] == [
        ("P", "a", 16384), ("P", "a", 16384), ("F", "a", 7232), ("F", "b", 16384), ("P", "c", 16384), ("F", "c", 1),
    ]  # fmt: skip


def test_bytes_that_are_no_text_are_kept(box: boxes.Box) -> None:
    box.run_to_end(a_launch(a_container("printf", r"\377\000x\n")))
    assert (box.root / "logs/main/0.log").read_bytes().endswith(b"stdout F \xff\x00x\n")


def test_rotation_keeps_five_files_and_loses_nothing_for_one_who_follows(box: boxes.Box) -> None:
    lines = 1_500_000
    script = f"import sys\nsys.stdin.readline()\nfor n in range({lines}): sys.stdout.write(f'{{n:030}}\\n')"
    box.run(a_launch(a_container("python3", "-c", script, stdin=True))).running()
    reader = subprocess.Popen(box.command("logs", "--container", "main", "--follow"), stdout=subprocess.PIPE)
    with boxes.attached(box, "--container", "main", "--stdin") as attached:
        attached.stdin.write(b"go\n")  # type: ignore[union-attr]
        attached.stdin.flush()  # type: ignore[union-attr]
        assert reader.stdout is not None
        expected = 0
        for text in reader.stdout:
            assert int(text.rsplit(b" ", 1)[1]) == expected
            expected += 1
    assert expected == lines and reader.wait(10) == 0
    reader.stdout.close()
    files = sorted((box.root / "logs/main").iterdir())
    assert len(files) == 5
    assert all(each.stat().st_size < (10 << 20) + (1 << 18) for each in files)
    assert len(logs(box, "--tail", "400000").splitlines()) == 400_000
    assert logs(box, "--tail", "1").endswith(f"{lines - 1:030}\n")


def test_the_previous_run_is_kept_and_older_ones_are_not(box: boxes.Box) -> None:
    box.environment["RUNNER_TIME_SCALE"] = "1000"
    count = box.files / "count"
    script = f"echo x >>{count}; echo run $(wc -l <{count}); [ $(wc -l <{count}) -lt 4 ] && exit 1; sleep 60"
    follower = box.run(a_launch(a_container(script=script, restart="Always")))
    follower.until(lambda state: container(state).restarts == 3 and container(state).running is not None)
    boxes.eventually(lambda: "run 4" in logs(box), "it has said so")
    assert logs(box, "--previous").endswith("run 3\n")
    assert logs(box, "--restart", "2").endswith("run 3\n")
    assert sorted(each.name for each in (box.root / "logs/main").iterdir()) == ["2.log", "3.log"]
    assert box.call("logs", "--container", "main", "--restart", "0").returncode == 6


def test_no_previous_run(box: boxes.Box) -> None:
    box.run_to_end(a_launch(a_container("true")))
    done = box.call("logs", "--container", "main", "--previous")
    assert done.returncode == 6 and b'previous terminated container "main" not found' in done.stderr
    assert box.call("logs", "--container", "other").returncode == 6
    assert box.call("logs", "--container", "../main").returncode == 6


@pytest.mark.parametrize(("tail", "first"), [(0, None), (1, 5), (3, 3), (5, 1), (100, 1)])
def test_tail(box: boxes.Box, tail: int, first: int | None) -> None:
    box.run_to_end(a_launch(a_container("seq", "1", "5")))
    told = [int(text.rsplit(" ", 1)[1]) for text in logs(box, "--tail", str(tail)).splitlines()]
    assert told == (list(range(first, 6)) if first else [])


def test_since(box: boxes.Box) -> None:
    box.run_to_end(a_launch(a_container(script="echo one; sleep 0.2; echo two; sleep 0.2; echo three")))
    whole = logs(box).splitlines()
    stamp = whole[1].split()[0]
    assert logs(box, "--since", stamp).splitlines() == whole[1:]
    assert logs(box, "--since", "2000-01-01T00:00:00Z").splitlines() == whole
    assert logs(box, "--since", "2100-01-01T00:00:00+02:00") == ""
    assert box.call("logs", "--container", "main", "--since", "yesterday").returncode == 2


def test_from_goes_on_at_a_position(box: boxes.Box) -> None:
    box.run_to_end(a_launch(a_container("seq", "1", "100")))
    whole = logs(box)
    assert logs(box, "--from", "500") == whole[500:]


def test_follow_is_told_lines_as_they_come_and_ends_with_the_run(box: boxes.Box) -> None:
    box.run(a_launch(a_container(script="read x; echo one; read x; echo two", stdin=True))).running()
    reader = subprocess.Popen(box.command("logs", "--container", "main", "--follow"), stdout=subprocess.PIPE)
    assert reader.stdout is not None
    with boxes.attached(box, "--container", "main", "--stdin") as attached:
        for word in (b"one", b"two"):
            began = time.monotonic()
            attached.stdin.write(b"\n")  # type: ignore[union-attr]
            attached.stdin.flush()  # type: ignore[union-attr]
            assert reader.stdout.readline().endswith(word + b"\n")
            assert time.monotonic() - began < 1
        assert reader.stdout.read() == b""
    assert reader.wait(5) == 0
    reader.stdout.close()


def test_follow_ends_when_nobody_reads(box: boxes.Box) -> None:
    box.run(a_launch(a_container("sleep", "60"))).running()
    reader = subprocess.Popen(box.command("logs", "--container", "main", "--follow"), stdout=subprocess.PIPE)
    assert reader.stdout is not None
    reader.stdout.close()
    assert reader.wait(5) == 0


def test_the_termination_message_is_read_from_its_file(either_box: boxes.Box) -> None:
    path = either_box.files / "said"
    main = a_container(script=f"echo -n because >{path}; exit 1", termination_message_path=str(path))
    assert terminated(either_box.run_to_end(a_launch(main))).message == "because"


def test_the_termination_message_has_4096_bytes(either_box: boxes.Box) -> None:
    path = either_box.files / "said"
    script = f"head -c 5000 /dev/zero | tr '\\0' x >{path}"
    main = a_container(script=script, termination_message_path=str(path))
    assert terminated(either_box.run_to_end(a_launch(main))).message == "x" * 4096


@pytest.mark.parametrize(("code", "told"), [(1, True), (0, False)])
def test_the_end_of_the_log_stands_in_for_a_message_on_failure(box: boxes.Box, code: int, told: bool) -> None:
    main = a_container(script=f"seq 1 200; exit {code}", termination_message_from_log=True)
    message = terminated(box.run_to_end(a_launch(main))).message
    assert message == ("".join(f"{n}\n" for n in range(121, 201)) if told else "")


def test_the_logs_end_is_cut_at_2048_bytes(box: boxes.Box) -> None:
    script = "for i in 1 2 3 4; do head -c 1000 /dev/zero | tr '\\0' $i; echo; done; exit 1"
    message = terminated(
        box.run_to_end(a_launch(a_container(script=script, termination_message_from_log=True)))
    ).message
    assert len(message) == 2048 and message.endswith("4\n")


def test_a_link_instead_of_a_message_is_not_followed(either_box: boxes.Box) -> None:
    secret, path = either_box.files / "secret", either_box.files / "said"
    secret.write_text("secret")
    secret.chmod(0o600)
    script = f"rm -f {path} 2>/dev/null; ln -sf {secret} {path} 2>/dev/null; exit 1"
    state = either_box.run_to_end(a_launch(a_container(script=script, termination_message_path=str(path))))
    assert terminated(state).message == ""
    assert secret.stat().st_mode & 0o777 == 0o600


def test_a_message_outranks_the_log(box: boxes.Box) -> None:
    path = box.files / "said"
    main = a_container(script=f"echo noise; echo -n this >{path}; exit 1", termination_message_path=str(path),
                       termination_message_from_log=True)  # fmt: skip
    assert terminated(box.run_to_end(a_launch(main))).message == "this"


def test_output_of_a_background_process_does_not_hold_up_the_end(box: boxes.Box) -> None:
    began = time.monotonic()
    box.run_to_end(a_launch(a_container(script="(while :; do echo noise; sleep 0.01; done) & sleep 0.1; exit 0")))
    assert time.monotonic() - began < 3
