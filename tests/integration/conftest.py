"""One real control plane for all integration tests of a session, and the real kubectl for it."""

import asyncio
import concurrent.futures
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from bareboat.sandbox import controlplane


class Kubectl(Protocol):
    """Runs the real kubectl and returns its standard output; fails the test with what it said on standard error."""

    def __call__(
        self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None, timeout_s: float = 60
    ) -> str: ...


def run_to_end(work: Callable[[], Awaitable[None]]) -> None:
    """Runs `work` in a loop and thread of its own, so that the loops of the tests stay as they are."""

    async def main() -> None:
        await work()

    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(lambda: asyncio.run(main())).result()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[controlplane.ControlPlane]:
    """A control plane shared by the whole session: make a namespace of your own and leave the rest as it was."""
    running = controlplane.ControlPlane()
    run_to_end(running.start)
    try:
        yield running
        running.check()
    finally:
        run_to_end(running.stop)


@pytest.fixture(scope="session")
def kubectl(sandbox: controlplane.ControlPlane) -> Kubectl:
    """kubectl as the administrator of `sandbox`; blocks, so call it from async tests via `asyncio.to_thread`."""

    def run(*arguments: str, stdin: str | None = None, kubeconfig: Path | None = None, timeout_s: float = 60) -> str:
        done = subprocess.run(
            [sandbox.kubectl_path, f"--kubeconfig={kubeconfig or sandbox.kubeconfig_path}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"kubectl {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    return run
