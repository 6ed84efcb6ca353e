"""What becomes of pods whose machines can't be reached over ssh, or answer as somebody else."""

from collections.abc import Callable
from typing import Any

from tests.integration.node import stage

NEVER = {"profile": "none", "faults": {"ssh_late": {"rate": 1.0, "never": 1.0}}}
SHORT: dict[str, Any] = {"BAREBOAT_ACCESS": "ssh", "BAREBOAT_START_TIMEOUT_S": "6"}


def test_a_pod_that_did_not_ask_for_ssh_runs_plainly_once_two_machines_did_not_answer(
    set_up: Callable[..., stage.Stage],
) -> None:
    on = set_up(NEVER)
    node = on.node(**SHORT)
    on.cluster.create(stage.pod("patient", node, "echo here; exec sleep 100000"))
    pod = on.cluster.until_phase("patient", "Running", 60)
    assert pod["metadata"]["annotations"]["bareboat.dev/access-used"] == "plain"
    message = on.cluster.event("patient", "AccessChanged")
    assert "plain access instead of ssh" in message and "2 machines could not be made ready over ssh" in message
    assert on.cluster.event("patient", "SshUnreachable")
    assert len(on.vast.instances(pod)) == 3 and len(on.vast.alive(pod)) == 1
    stage.until(lambda: on.cluster.kubectl("logs", "patient") == "here\n", "its log")
    refused = on.cluster.kubectl("exec", "patient", "--", "true", check=False)
    assert "plain access has no exec" in refused
    on.cluster.delete("pods", "patient")
    on.cluster.until_gone("patient")
    on.assert_money_was_kept()


def test_a_pod_that_asks_for_ssh_never_runs_plainly(set_up: Callable[..., stage.Stage]) -> None:
    on = set_up(NEVER)
    node = on.node(**SHORT)
    on.cluster.create(stage.pod("strict", node, annotations={"bareboat.dev/access": "ssh"}))
    why = on.cluster.event("strict", "Unsupported", 60)
    assert "asks for ssh access" in why and "could not be made ready over ssh" in why
    stage.until(lambda: not on.vast.alive(), "no machine is kept")
    on.cluster.delete("pods", "strict")
    on.cluster.until_gone("strict")
    on.assert_money_was_kept()


def test_a_machine_that_answers_with_another_key_is_told_nothing_and_its_pod_is_not_ready(
    installation: stage.Stage,
) -> None:
    node = installation.node(BAREBOAT_ACCESS="ssh")
    installation.cluster.create(stage.pod("pinned", node))
    pod = installation.cluster.until("pinned", _ready, "ready")
    assert pod is not None
    installation.vast.control("ssh/host-key", instance_id=int(stage.instance_id(pod)))

    def doubted(pod: stage.Json) -> str:
        return stage.why(pod, "Ready") if stage.condition(pod, "Ready") == "False" else ""

    why = installation.cluster.until("pinned", doubted, "not ready", 40)
    assert "host key" in why and "has changed" in why
    assert "host key" in installation.cluster.kubectl("exec", "pinned", "--", "true", check=False)
    assert len(installation.vast.alive(pod)) == 1, "a doubt is no reason to end what runs"
    assert installation.cluster.pod("pinned")["status"]["phase"] == "Running"


def test_a_dropped_connection_is_mended_without_a_word(installation: stage.Stage) -> None:
    node = installation.node(BAREBOAT_ACCESS="ssh")
    installation.cluster.create(stage.pod("dropped", node))
    pod = installation.cluster.until("dropped", _ready, "ready")
    assert pod is not None
    installation.vast.control("ssh/drop", instance_id=int(stage.instance_id(pod)))

    def answers() -> bool:
        return installation.cluster.kubectl("exec", "dropped", "--", "echo", "here", check=False) == "here\n"

    stage.until(answers, "reached again")
    after = installation.cluster.pod("dropped")
    assert stage.condition(after, "Ready") == "True" and stage.container(after)["restartCount"] == 0


def _ready(pod: stage.Json) -> stage.Json | None:
    return pod if stage.condition(pod, "Ready") == "True" else None
