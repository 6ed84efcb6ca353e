"""Pods of a real control plane that run on the simulated RunPod, by `bareboat node` as a process of its own."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.node import stage

from bareboat.sandbox import controlplane


class Runpod(stage.Vast):
    """A simulated RunPod in a process of its own."""

    cloud = "runpod"


@contextlib.contextmanager
def _opened(sandbox: controlplane.ControlPlane, folder: Path) -> Iterator[stage.Stage]:
    cluster = stage.Cluster(sandbox, f"runpod-{uuid.uuid4().hex[:8]}")
    cluster.kubectl("create", "namespace", cluster.namespace)
    stage.until(lambda: cluster.find("serviceaccounts", "default"), "the namespace's default ServiceAccount")
    with Runpod(folder, speed=10.0, script={"profile": "none"}) as runpod:
        opened = stage.Stage(cluster, runpod, folder)
        try:
            opened.node(
                BAREBOAT_CLOUDS="runpod",
                RUNPOD_URL=runpod.url,
                RUNPOD_API_KEY=runpod.key,
                RUNPOD_RATE_LIMIT="off",
                RUNPOD_VISIBILITY_WINDOW_S="4",
                BAREBOAT_START_TIMEOUT_S="60",
            )
            yield opened
        finally:
            opened.close()


@pytest.fixture(scope="module")
def installation(sandbox: controlplane.ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stage.Stage]:
    with _opened(sandbox, tmp_path_factory.mktemp("runpod")) as opened:
        yield opened


def _ours(on: stage.Stage, pod: stage.Json) -> list[stage.Json]:
    return [each for each in on.vast.alive(pod) if not each["foreign"]]


@pytest.mark.parametrize("access", ["plain", "ssh"])
def test_a_pod_runs_to_its_end_and_its_exit_code_and_log_are_told(installation: stage.Stage, access: str) -> None:
    name = f"counts-{access}"
    installation.cluster.create(
        stage.pod(
            name,
            installation.nodes[0],
            "echo begun; sleep 4; echo done; exit 3",
            annotations={"bareboat.dev/access": access},
        )
    )
    pod = installation.cluster.until_phase(name, "Failed", 60)
    assert stage.terminated(pod)["exitCode"] == 3
    # Whatever the host did with a container that had ended: the work was done once.
    assert installation.cluster.kubectl("logs", name).split() == ["begun", "done"]
    stage.until(lambda: not _ours(installation, pod), "its instance is ended")
    assert len(installation.vast.instances(pod)) == 1


def test_a_pod_that_is_deleted_takes_its_instance_along_and_no_other(installation: stage.Stage) -> None:
    installation.cluster.create(stage.pod("lasting", installation.nodes[0]))
    pod = installation.cluster.until_phase("lasting", "Running", 60)
    assert len(_ours(installation, pod)) == 1
    installation.cluster.delete("pods", "lasting", grace_s=1)
    installation.cluster.until_gone("lasting")
    assert not _ours(installation, pod)
    assert len([each for each in installation.vast.alive() if each["foreign"]]) == 3
    stage.assert_no_double_rent(installation.vast)
