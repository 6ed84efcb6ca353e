"""make, its help, and the documents that commands write."""

import re
import subprocess
from pathlib import Path

from tools import configuration

ROOT = Path(__file__).parents[3]
OURS = ["demo", "test", "check", "bench", "fmt", "docs"]
FOR_CLUSTERS = ["build", "quick-test", "docker", "push", "deploy", "dev-logs", "dev-status", "dev-debug"]


def _make(*arguments: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_configuration_document_is_current() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text()
    assert written == configuration.text(), "run `make docs`"


def test_make_alone_lists_every_promised_target_within_80_columns() -> None:
    told = _make()
    listed = re.findall(r"^  ([a-z-]+) +\S", told, re.MULTILINE)
    assert {*OURS, *FOR_CLUSTERS} <= set(listed)
    assert [line for line in told.splitlines() if len(line) > 80] == []


def test_make_tells_of_every_target_that_it_has() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))
    assert targets == set(re.findall(r"^([a-z][a-z-]*):.*## \S", text, re.MULTILINE))


def test_image_is_named_after_the_registry_that_was_given() -> None:
    told = _make("-n", "docker", "push", "REGISTRY=ozzuworld", "TAG=1", "DOCKER=engine")
    assert told.splitlines() == [
        "engine build -f deploy/Dockerfile -t ozzuworld/virtual-kubelet-vast:1 .",
        "engine push ozzuworld/virtual-kubelet-vast:1",
    ]


def test_benchmarks_can_be_run_one_by_one_and_sized() -> None:
    assert "-m benchmarks.$each --n 7" in _make("-n", "-o", ".venv/.ready", "bench", "ONLY=watch", "N=7")
