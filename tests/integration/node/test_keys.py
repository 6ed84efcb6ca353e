"""The installation's ssh key: made by the first node, rotated by command, old machines reached all the same."""

import os
import subprocess

import pytest
from tests.integration.node import stage


def _keys(on: stage.Stage, *words: str) -> str:
    environment = {**os.environ, "KUBECONFIG": str(on.cluster.kubeconfig), "BAREBOAT_SSH_SECRET": "rotated"}
    done = subprocess.run(
        [*stage.BAREBOAT, "keys", *words], env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def rotating(installation: stage.Stage) -> stage.Stage:
    installation.node(BAREBOAT_SSH_SECRET="rotated", BAREBOAT_ACCESS="ssh")
    return installation


def test_a_rotated_key_is_for_new_machines_and_the_old_one_still_opens_the_old(rotating: stage.Stage) -> None:
    def running(name: str) -> None:
        rotating.cluster.create(stage.pod(name, rotating.nodes[0]))
        rotating.cluster.until_phase(name, "Running")

    running("before")
    shown = stage.until(lambda: _keys(rotating, "show"), "a key")
    assert shown.startswith("present   SHA256:") and "previous" not in shown
    rotated = _keys(rotating, "rotate")
    assert shown.split()[1] in rotated.split("previous")[1]
    rotating.nodes[0].stop()
    rotating.nodes[0].start()
    running("after")
    for name in ("before", "after"):
        _answers(rotating, name)
    rotating.cluster.kubectl("-n", "kube-system", "delete", "secret", "rotated")


def _answers(on: stage.Stage, name: str) -> None:
    def said() -> str:
        return on.cluster.kubectl("exec", name, "--", "echo", "here", check=False)

    stage.until(lambda: said() == "here\n", said)
