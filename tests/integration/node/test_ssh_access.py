"""Pods in ssh access on real parts: a runner on a machine of the simulated cloud, reached through real ssh."""

import pytest
from tests.integration.node import stage

SSH = {"bareboat.dev/access": "ssh"}


def _ssh(name: str, on: stage.Stage, command: str = "sleep 100000", **spec: object) -> stage.Json:
    return stage.pod(name, on.nodes[0], command, annotations=SSH, **spec)


def _running(on: stage.Stage, name: str, command: str = "sleep 100000", **spec: object) -> stage.Json:
    on.cluster.create(_ssh(name, on, command, **spec))
    return on.cluster.until_phase(name, "Running")


def test_a_pod_runs_and_its_log_and_exit_code_are_told(shared: stage.Stage) -> None:
    shared.cluster.create(_ssh("counts", shared, "echo one; echo two >&2; exit 3"))
    pod = shared.cluster.until_phase("counts", "Failed")
    ended = stage.terminated(pod)
    assert (ended["exitCode"], ended["reason"]) == (3, "Error")
    assert stage.container(pod)["imageID"].startswith("docker.io/library/busybox@sha256:")
    assert sorted(shared.cluster.kubectl("logs", "counts").split()) == ["one", "two"]
    stage.until(lambda: not shared.vast.alive(pod), "the instance is ended")


@pytest.mark.parametrize("websockets", ["true", "false"])
def test_kubectl_reaches_into_it(shared: stage.Stage, websockets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
    name = f"reached-{websockets}"
    _running(shared, name, "mkdir -p /srv && echo hello > /srv/index.html && exec sleep 100000")
    assert shared.cluster.kubectl("exec", name, "--", "cat", "/srv/index.html") == "hello\n"
    assert shared.cluster.kubectl("exec", "-i", name, "--", "wc", "-c", stdin="12345").strip() == "5"
    assert "exit code 7" in shared.cluster.kubectl("exec", name, "--", "sh", "-c", "exit 7", check=False)
