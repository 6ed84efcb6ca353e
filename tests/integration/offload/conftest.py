"""An installation for each test, or one for a module; the control plane is one for all."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from tests.integration.offload import stage

from bareboat.sandbox import controlplane

QUIET: stage.Json = {"profile": "none"}


@pytest.fixture
def set_up(sandbox: controlplane.ControlPlane, tmp_path: Path) -> Iterator[Callable[..., stage.Stage]]:
    """Makes an installation with a fault script of the test's choice."""
    with ExitStack() as opened:

        def make(script: stage.Json | None = None) -> stage.Stage:
            name = f"offload-{uuid.uuid4().hex[:8]}"
            entered: AbstractContextManager[stage.Stage] = stage.opened(
                sandbox, tmp_path, name, script=QUIET if script is None else script
            )
            return opened.enter_context(entered)

        yield make


@pytest.fixture
def installation(set_up: Callable[..., stage.Stage]) -> stage.Stage:
    """With a cloud that has a good day."""
    return set_up()


@pytest.fixture(scope="module")
def shared(sandbox: controlplane.ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stage.Stage]:
    """One for all tests of a module that leave cloud and door as they were. Its door, `shared.doors[0]`,
    sends out what is forced and nothing else."""
    name = f"offload-{uuid.uuid4().hex[:8]}"
    with stage.opened(sandbox, tmp_path_factory.mktemp(name), name, script=QUIET) as opened:
        opened.offload(
            BAREBOAT_OFFLOAD_MAX_PENDING_TIME="3600",
            BAREBOAT_OFFLOAD_PENDING_JOB_THRESHOLD="1000",
        )
        yield opened
