"""What is used, and what happens when memory runs out."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.runner import boxes
from tests.integration.runner.boxes import a_container, a_launch, container, terminated

from bareboat.access import documents


def used(follower: boxes.Follower, name: str = "main") -> documents.Usage:
    report = follower.ask("usage").usage
    assert report is not None
    return next(each for each in report.containers if each.name == name)


def test_cpu_counts_ended_children_and_orphans(box: boxes.Box) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    script = f'python3 -c "{busy}"; (python3 -c "{busy}" &) ; sleep 1; echo up; sleep 60'
    follower = box.run(a_launch(a_container(script=script)))
    boxes.eventually(lambda: "up" in box.log(), "the work is done")
    first = used(follower)
    assert 0.55e9 < first.cpu_ns < 1.2e9
    assert used(follower).cpu_ns >= first.cpu_ns


def test_memory_is_that_of_all_processes(box: boxes.Box) -> None:
    hold = "import sys, time; kept = b'x' * 50_000_000; print('up', flush=True); time.sleep(60)"
    script = f'python3 -c "{hold}" & python3 -c "{hold}"'
    follower = box.run(a_launch(a_container(script=script), a_container("sleep", "60", name="other")))
    boxes.eventually(lambda: box.log().count("up") == 2, "both hold theirs")
    main, other = used(follower), used(follower, "other")
    assert 100e6 < main.working_set_bytes <= main.memory_bytes < 200e6
    assert other.memory_bytes < 10e6


def test_usage_as_a_command(box: boxes.Box) -> None:
    box.run(a_launch(a_container("sleep", "60"))).running()
    answer = documents.decode_line(box.call("usage").stdout)
    assert isinstance(answer, documents.Answer) and answer.usage is not None
    assert [each.name for each in answer.usage.containers] == ["main"]
    assert answer.usage.gpus == ()


def test_gpus_are_as_nvidia_smi_tells_them(box: boxes.Box) -> None:
    tool = box.files / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\n"
        "echo '0, NVIDIA GeForce RTX 4090, GPU-aaaa, 24564, 1024, 57'\n"
        "echo '1, NVIDIA GeForce RTX 4090, GPU-bbbb, 24564, 2, [N/A]'\n"
    )
    tool.chmod(0o755)
    box.environment["PATH"] = f"{box.files}:{os.environ['PATH']}"
    follower = box.run(a_launch(a_container("sleep", "60")))
    follower.running()
    report = follower.ask("usage").usage
    assert report is not None
    assert report.gpus == (
        documents.Gpu(0, "NVIDIA GeForce RTX 4090", "GPU-aaaa", 24564 << 20, 1024 << 20, 57),
        documents.Gpu(1, "NVIDIA GeForce RTX 4090", "GPU-bbbb", 24564 << 20, 2 << 20, 0),
    )


@pytest.mark.parametrize("script", ["exit 9", "sleep 60", "echo nonsense"])
def test_an_nvidia_smi_that_fails_costs_the_figures_only(box: boxes.Box, script: str) -> None:
    tool = box.files / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    box.environment["PATH"] = f"{box.files}:{os.environ['PATH']}"
    follower = box.run(a_launch(a_container("sleep", "60")))
    follower.running()
    report = follower.ask("usage").usage
    assert report is not None and report.gpus == () and len(report.containers) == 1


@contextlib.contextmanager
def limited_to(limit: int) -> Iterator[str]:
    """A memory cgroup below our own, and what one writes one's pid to in order to join it."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    v1 = next((path for _, names, path in lines if "memory" in names.split(",")), None)
    if v1 is not None:
        folder = Path("/sys/fs/cgroup/memory" + v1) / f"bareboat-test-{os.getpid()}"
        name = "memory.limit_in_bytes"
    else:
        folder = (
            Path("/sys/fs/cgroup" + next(path for n, _, path in lines if n == "0")) / f"bareboat-test-{os.getpid()}"
        )
        name = "memory.max"
    try:
        folder.mkdir()
        (folder / name).write_text(str(limit))
    except OSError as problem:
        pytest.skip(f"no memory cgroup can be made here: {problem}")
    try:
        yield str(folder / "cgroup.procs")
    finally:
        deadline = time.monotonic() + 10
        while (folder / "cgroup.procs").read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        folder.rmdir()


def test_a_kill_for_lack_of_memory_is_told_by_the_cgroups_own_count(box: boxes.Box) -> None:
    with limited_to(80 << 20) as join:
        own = Path("/proc/self/cgroup").read_text()
        Path(join).write_text(str(os.getpid()))
        try:
            box.start(a_launch(a_container("python3", "-c", "kept = b'x' * 300_000_000")))
        finally:
            (Path(join).parent.parent / "cgroup.procs").write_text(str(os.getpid()))
        assert Path("/proc/self/cgroup").read_text() == own
        ended = terminated(box.follow().ended())
        box.close()
    assert (ended.exit_code, ended.reason) == (137, "OOMKilled")


def test_a_container_beyond_its_own_limit_is_killed_without_a_cgroup(box: boxes.Box) -> None:
    hold = "import time; kept = b'x' * 100_000_000; time.sleep(60)"
    main = a_container("python3", "-c", hold, memory_limit_bytes=50 << 20)
    ended = terminated(box.run_to_end(a_launch(main, a_container("true", name="other"))))
    assert (ended.exit_code, ended.reason) == (137, "OOMKilled")
    assert f"of a limit of {50 << 20}" in ended.message


def test_a_kill_by_somebody_else_is_an_error(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container("sleep", "60")))
    running = container(follower.running()).running
    assert running is not None
    os.kill(running.pid, 9)
    ended = terminated(follower.ended())
    assert (ended.exit_code, ended.reason) == (137, "Error")
