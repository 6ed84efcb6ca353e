"""Pods in ssh access on real parts: a runner on a machine of the simulated cloud, reached through real ssh."""

from typing import Any

import pytest
from tests.integration.node import stage

SSH = {"bareboat.dev/access": "ssh"}


def _ssh(name: str, on: stage.Stage, command: str = "sleep 100000", **spec: Any) -> stage.Json:
    return stage.pod(name, on.nodes[0], command, annotations=SSH, **spec)


def _running(on: stage.Stage, name: str, command: str = "sleep 100000", **spec: Any) -> stage.Json:
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


def test_files_volumes_and_init_steps_are_there(shared: stage.Stage) -> None:
    cluster = shared.cluster
    cluster.apply(
        stage.config_map("settings", level="high", other="x"),
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "hidden"},
            "stringData": {"password": "s3cr3t-of-the-test"},
        },
    )
    cluster.create(
        _ssh(
            "furnished",
            shared,
            "cat /scratch/made; exec sleep 100000",
            container={
                "env": [
                    {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "password"}}},
                    {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
                "volumeMounts": [
                    {"name": "settings", "mountPath": "/etc/settings"},
                    {"name": "hidden", "mountPath": "/etc/one", "subPath": "password"},
                    {"name": "work", "mountPath": "/scratch"},
                ],
            },
            initContainers=[
                {
                    "name": "before",
                    "image": "busybox:1.36",
                    "command": ["sh", "-c", "echo prepared > /scratch/made"],
                    "volumeMounts": [{"name": "work", "mountPath": "/scratch"}],
                }
            ],
            volumes=[
                {"name": "settings", "configMap": {"name": "settings", "defaultMode": 0o400}},
                {"name": "hidden", "secret": {"secretName": "hidden"}},
                {"name": "work", "emptyDir": {}},
            ],
        )
    )
    pod = cluster.until_phase("furnished", "Running")
    assert stage.until(lambda: cluster.kubectl("logs", "furnished"), "a line") == "prepared\n"
    assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0

    def inside(line: str) -> str:
        return cluster.kubectl("exec", "furnished", "--", "sh", "-c", line).strip()

    assert inside("cat /etc/settings/level /etc/one") == "high" + "s3cr3t-of-the-test"
    assert inside('echo "$PASSWORD $NAME $(hostname)"') == "s3cr3t-of-the-test furnished furnished"
    assert inside("stat -Lc %a /etc/settings/level") == "400"
    told = str(shared.vast.ledger()) + str(shared.vast.world())
    assert "s3cr3t" not in told and "PASSWORD" not in told, "the cloud was told a secret"

    cluster.apply(stage.config_map("settings", level="low"))
    stage.until(lambda: inside("cat /etc/settings/level; ls /etc/settings") == "lowlevel", "the volume's change", 75)


def test_a_pod_lives_through_restarts_of_the_node_with_the_same_process_and_every_line(
    installation: stage.Stage,
) -> None:
    # With election a killed process's lease has to run out first.
    node = installation.node(BAREBOAT_LEADER_ELECTION="false")
    pod = _running(installation, "steady", "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.05; done")
    inside = ("exec", "steady", "--", "sh", "-c", "ps -o pid,args | grep -c '[l]ine'")
    began = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    for number in range(10):
        (node.kill if number % 2 else node.stop)()
        node.start()
        stage.until(
            lambda: "1" in installation.cluster.kubectl(*inside, check=False).split(),
            lambda: f"reached again: {installation.cluster.kubectl(*inside, check=False)}",
            40,
        )
    after = installation.cluster.pod("steady")
    told = after["status"]["containerStatuses"][0]
    assert told["restartCount"] == 0 and told["state"]["running"]["startedAt"] == began
    lines = installation.cluster.kubectl("logs", "steady").splitlines()
    assert lines == [f"line {number}" for number in range(1, len(lines) + 1)] and len(lines) > 100
    assert len(installation.vast.instances()) == 1
    installation.cluster.delete("pods", "steady")
    installation.cluster.until_gone("steady", 60)
    installation.assert_money_was_kept()


def test_a_deleted_pod_has_its_grace(shared: stage.Stage) -> None:
    _running(
        shared,
        "polite",
        "trap 'echo bye; sleep 1; echo gone; exit 0' TERM; while true; do sleep 0.1; done",
        terminationGracePeriodSeconds=20,
        container={"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo stopping > /proc/1/fd/1"]}}}},
    )
    shared.cluster.kubectl("delete", "pod", "polite", "--wait=false")
    shared.cluster.until_gone("polite", 40)


def test_restarts_probes_and_several_containers_are_told_as_a_kubelet_tells_them(shared: stage.Stage) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}
    manifest = _ssh(
        "pair", shared, "sleep 1; touch /tmp/ready; exec sleep 100000", container={"readinessProbe": probe},
        restartPolicy="Always",
    )  # fmt: skip
    manifest["spec"]["containers"].append(
        {"name": "side", "image": "busybox:1.36", "command": ["sh", "-c", "echo died; exit 1"]}
    )
    shared.cluster.create(manifest)

    def both(pod: stage.Json) -> bool:
        told = {each["name"]: each for each in pod["status"].get("containerStatuses", ())}
        return bool(told) and told["main"]["ready"] and told["side"]["restartCount"] >= 1

    shared.cluster.until("pair", both, "main ready, side restarted", 60)
    pod = shared.cluster.pod("pair")
    side = next(each for each in pod["status"]["containerStatuses"] if each["name"] == "side")
    assert side["lastState"]["terminated"]["exitCode"] == 1
    assert shared.cluster.kubectl("logs", "pair", "-c", "side", "--previous").strip() == "died"
    assert stage.condition(pod, "Ready") == "False"
    assert "BackOff" in [each["reason"] for each in shared.cluster.events("pair")]
