"""An installation for each test; the control plane is one for all."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.integration.node import stage

from bareboat.sandbox import controlplane

QUIET = {"profile": "none"}


@pytest.fixture
def set_up(sandbox: controlplane.ControlPlane, tmp_path: Path) -> Iterator[Callable[..., stage.Stage]]:
    """Makes an installation with a fault script and a speed of the test's choice."""
    with ExitStack() as opened:

        def make(script: dict[str, Any] | None = None, speed: float = stage.SPEED) -> stage.Stage:
            name = f"node-{uuid.uuid4().hex[:8]}"
            entered: AbstractContextManager[stage.Stage] = stage.opened(
                sandbox, tmp_path, name, speed=speed, script=QUIET if script is None else script
            )
            return opened.enter_context(entered)

        yield make


@pytest.fixture(scope="module")
def shared(sandbox: controlplane.ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stage.Stage]:
    """One for all tests of a module that leave cloud and node as they were. Its node is `shared.nodes[0]`."""
    name = f"node-{uuid.uuid4().hex[:8]}"
    with stage.opened(sandbox, tmp_path_factory.mktemp(name), name, script=QUIET) as opened:
        opened.node()
        yield opened


@pytest.fixture
def installation(set_up: Callable[..., stage.Stage]) -> stage.Stage:
    """With a cloud that has a good day."""
    return set_up()
