"""Boxes for the runner's tests: one with every right, one that may not mount, one of an ordinary user."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.runner import boxes

ROOT = Path(__file__).parents[3]
NOBODY = 65534


@pytest.fixture(scope="session", autouse=True)
def built_runner() -> None:
    """The programs are of the present sources; it costs nothing when they were before."""
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "build-runner")], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(f"the runner is not built: {done.stderr.strip()}")


@pytest.fixture
def new_box() -> Iterator[Callable[..., boxes.Box]]:
    made: list[boxes.Box] = []
    folders: list[Path] = []

    def make(*, mounting: bool = True, user: int | None = None) -> boxes.Box:
        if os.getuid() != 0:
            pytest.skip("a box that can mount, or run as somebody else, needs root")
        # Not pytest's own: the pod's users must reach their volumes, as under /var/lib.
        folder = Path(tempfile.mkdtemp(prefix="bareboat-box-"))
        folders.append(folder)
        folder.chmod(0o711)
        made.append(boxes.Box(folder, mounting=mounting, user=user))
        return made[-1]

    yield make
    for box in made:
        box.close()
    for folder in folders:
        shutil.rmtree(folder)


@pytest.fixture
def box(new_box: Callable[..., boxes.Box]) -> boxes.Box:
    """Of root, who may mount."""
    return new_box()


@pytest.fixture(params=["mounting", "linking"])
def either_box(request: pytest.FixtureRequest, new_box: Callable[..., boxes.Box]) -> boxes.Box:
    """Of root; once where mounting is allowed and once, as on most rented machines, where it is not."""
    return new_box(mounting=request.param == "mounting")


@pytest.fixture
def poor_box(new_box: Callable[..., boxes.Box]) -> boxes.Box:
    """Of an ordinary user."""
    return new_box(user=NOBODY)
