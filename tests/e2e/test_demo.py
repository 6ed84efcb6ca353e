"""`bareboat demo` as a person runs it: its story, what it makes of other manifests, and that nothing is left."""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

DEMO_S = 60.0
END_S = 20.0
TOLERATION = "tolerations: [{key: virtual-kubelet.io/provider, operator: Exists}]"
pytestmark = pytest.mark.timeout(180)


class Demo:
    """A running demo whose output is read as it comes, and every process that was ever seen below it."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.text = ""
        self._descriptors: dict[int, int] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bareboat", "demo", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env={**os.environ, "BAREBOAT_SANDBOX_STATE_FOLDER": str(folder / "state"), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._out: IO[str] = self._process.stdout

    @property
    def told(self) -> str:
        """Without line breaks, which depend on the width."""
        return " ".join(self.text.split())

    def until(self, words: str) -> None:
        """Reads on until the demo says this."""
        for line in self._out:
            self.text += line
            if words in line:
                self._look_below()
                return
        pytest.fail(f"the demo ended without saying {words!r}:\n{self.text}")

    def end(self, number: signal.Signals | None = None) -> int:
        """The exit code, after a signal or by itself; with that, nothing of it runs any more."""
        self._look_below()
        if number is not None:
            self._process.send_signal(number)
        self.text += self._out.read()
        code = self._process.wait(END_S)
        self._assert_all_ended()
        return code

    def kill(self, words: str) -> None:
        """The one process below the demo, keepers aside, whose command line holds these words."""
        lines = {pid: " ".join(command_line(pid)) for pid in descendants(self._process.pid)}
        (pid,) = [pid for pid, line in lines.items() if words in line and "keeper.py" not in line]
        os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._out.close()
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def _look_below(self) -> None:
        for pid in descendants(self._process.pid):
            if pid not in self._descriptors:
                with contextlib.suppress(ProcessLookupError):
                    self._descriptors[pid] = os.pidfd_open(pid)

    def _assert_all_ended(self) -> None:
        give_up_s = time.monotonic() + END_S
        for pid, descriptor in self._descriptors.items():
            ready, _, _ = select.select([descriptor], [], [], max(0.0, give_up_s - time.monotonic()))
            assert ready, f"process {pid} has outlived the demo"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    with contextlib.ExitStack() as stack:

        def start(*words: str, manifest: str = "") -> Demo:
            (tmp_path / "mine.yaml").write_text(manifest)
            started = Demo(tmp_path, *words)
            stack.callback(started.close)
            return started

        yield start


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on; what ends meanwhile is left out."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children = [int(child) for child in (task / "children").read_text().split()]
            for child in children:
                found += [child, *descendants(child)]
    return found


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def pod(name: str, command: str, *, spec: str = TOLERATION, annotations: str = "{}") -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, annotations: {annotations}}}
spec:
  restartPolicy: Never
  {spec}
  containers:
  - {{name: main, image: "python:3.12", command: [sh, -c, "{command}"]}}
"""


def test_it_tells_the_whole_life_of_a_gpu_pod_and_leaves_nothing(demo: Callable[..., Demo]) -> None:
    started_s = time.monotonic()
    running = demo()
    running.until("step 2 of 5")
    assert running.end() == 0, running.text
    took_s = time.monotonic() - started_s

    rented = re.search(r"Rented 1x (RTX 4090|RTX 3090|RTX A5000) \(", running.told)
    assert rented, running.text
    table = re.search(r"# +GPU +VRAM.*\n.*\n +1 +(RTX \w+)", running.text)
    assert table and table[1] == rented[1], "what was rented is not the best of the offers shown"
    story = [
        "$ kubectl get nodes",
        "Ready",
        "$ bareboat offers -f hello-gpu.yaml",
        "$ kubectl apply -f hello-gpu.yaml",
        "pod/hello-gpu created",
        "Scheduled",
        rented[0],
        "Created container",
        "Running",
        "$ kubectl exec hello-gpu -- nvidia-smi -L",
        f"GPU 0: NVIDIA GeForce {rented[1]}",
        "$ kubectl port-forward",
        "is answered by SimpleHTTP",
        "$ kubectl cp enough.txt hello-gpu:enough.txt",
        "$ kubectl logs -f hello-gpu",
        "NVIDIA-SMI",
        f"NVIDIA GeForce {rented[1]}",
        "step 1 of 5",
        "step 5 of 5",
        "that will do",
        "Ended",
        "Completed",
        "$ kubectl delete -f hello-gpu.yaml",
        'pod "hello-gpu" deleted',
        "nothing left running",
    ]
    place = 0
    for words in story:
        found = running.told.find(words, place)
        assert found >= 0, f"{words!r} is not told, or not in its place:\n{running.text}"
        place = found + len(words)
    books = re.search(r"rented (\d+) s simulated, \$(0\.\d{4}), nothing left running", running.told)
    assert books and float(books[2]) > 0
    assert "\x1b" not in running.text, "colours in what is no terminal"
    assert max(len(line) for line in running.text.splitlines() if line[:1] not in "+|") <= 80
    assert took_s < DEMO_S


def test_a_manifest_of_ones_own_runs_and_its_failure_is_told(demo: Callable[..., Demo]) -> None:
    running = demo("--pod", "mine.yaml", manifest=pod("mine", "echo here I am; exit 3"))
    assert running.end() == 1, running.text
    assert "$ kubectl logs -f mine here I am" in running.told
    assert "mine failed: exit code 3" in running.told
    assert "nothing left running" in running.told


def test_a_pod_without_toleration_is_told_which_lines_to_add(demo: Callable[..., Demo]) -> None:
    running = demo("--pod", "mine.yaml", manifest=pod("mine", "echo never", spec="priority: 0"))
    assert running.end() == 1, running.text
    assert "FailedScheduling" in running.told
    assert "mine stays Pending" in running.told
    assert "tolerations: - {key: virtual-kubelet.io/provider, operator: Exists}" in running.told
    assert "nothing was rented" in running.told


def test_a_pod_that_is_too_cheap_stays_pending_with_the_reason(demo: Callable[..., Demo]) -> None:
    price = '{bareboat.dev/max-usd-per-hour: "0.002"}'
    running = demo("--pod", "mine.yaml", manifest=pod("mine", "echo never", annotations=price))
    assert running.end() == 1, running.text
    assert re.search(r"mine stays Pending: NoOffers: .*max price", running.told), running.text
    assert "nothing was rented" in running.told


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        ("{", "mine.yaml, line 1, is not YAML"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}", "mine.yaml holds no Pod"),
        (pod("mine", "true", annotations="{bareboat.dev/max-usd-per-hour: cheap}"), "max-usd-per-hour is 'cheap'"),
    ],
)
def test_a_bad_manifest_ends_it_at_once_with_a_sentence(
    demo: Callable[..., Demo], manifest: str, sentence: str
) -> None:
    running = demo("--pod", "mine.yaml", manifest=manifest)
    assert running.end() == 2
    assert sentence in running.told
    assert "kubectl" not in running.told


def test_what_the_api_server_refuses_is_told_in_its_words(demo: Callable[..., Demo]) -> None:
    running = demo("--pod", "mine.yaml", manifest=pod("Mine", "true"))
    assert running.end() == 2
    assert 'The Pod "Mine" is invalid' in running.told
    assert "kubectl does not take mine.yaml" in running.told


@pytest.mark.parametrize("moment", ["A control plane", "Kubernetes v", "Rented", "step 2"])
def test_killed_at_any_moment_it_leaves_no_process(demo: Callable[..., Demo], moment: str) -> None:
    running = demo()
    running.until(moment)
    assert running.end(signal.SIGKILL) == -signal.SIGKILL


def test_a_part_that_dies_ends_it_with_the_end_of_its_log(demo: Callable[..., Demo]) -> None:
    running = demo()
    running.until("$ kubectl apply")
    running.kill("-m bareboat node")
    assert running.end() == 1
    assert "bareboat node was ended by SIGKILL" in running.told
    logs = re.search(r"The logs stay in (\S+) until", running.told)
    assert logs and "node.registered" in (Path(logs[1]) / "node.log").read_text()


@pytest.mark.parametrize("moment", ["A control plane", "Started"])
def test_interrupted_it_cleans_up_and_says_so(demo: Callable[..., Demo], moment: str, tmp_path: Path) -> None:
    running = demo()
    running.until(moment)
    assert running.end(signal.SIGINT) == 130
    assert "interrupted; nothing was left running" in running.told
    assert not [path for path in (tmp_path / "state").glob("**/*") if path.is_file() and path.name != ".lock"]


def test_kept_up_it_can_be_looked_into_until_interrupted(demo: Callable[..., Demo]) -> None:
    running = demo("--keep")
    running.until("export KUBECONFIG=")
    line = running.text.splitlines()[-1]
    running.until("vast.log")
    seen = subprocess.run(
        ["bash", "-c", f"{line}; kubectl logs hello-gpu"], capture_output=True, text=True, timeout=30, check=False
    )
    assert "step 5 of 5" in seen.stdout, seen.stderr
    assert running.end(signal.SIGINT) == 0, running.text
    assert "nothing left running" in running.told
