"""What kubectl says when the node stops, the pod is deleted or its machine dies under a session: never exit code 0 on
half of an output, never a hang."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.kubectl import ground
from tests.integration.node import stage

from bareboat.sandbox import controlplane

SLOW_COUNT = ("exec", "web", "--", "sh", "-c", "echo begun; sleep 100; echo never")
FORWARD = ("port-forward", "web", ":8080")
SERVE = "mkdir -p /srv; echo hello > /srv/index.html; httpd -p 8080 -h /srv; echo up; exec sleep 100000"


@pytest.fixture(params=["true", "false"], ids=["websocket", "spdy"])
def on(
    set_up: Callable[..., stage.Stage],
    sandbox: controlplane.ControlPlane,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> ground.Ground:
    """With one pod, `web`, in both of kubectl's ways."""
    for name in ("REMOTE_COMMAND", "PORT_FORWARD"):
        monkeypatch.setenv(f"KUBECTL_{name}_WEBSOCKETS", request.param)
    made = set_up()
    node = made.node(BAREBOAT_ACCESS="ssh")
    made.cluster.create(stage.pod("web", node, SERVE, terminationGracePeriodSeconds=1))
    made.cluster.until_phase("web", "Running", 60)
    return ground.Ground(made, sandbox, tmp_path)


def test_a_node_that_stops_tells_each_session_so(on: ground.Ground) -> None:
    with on.running(SLOW_COUNT) as running, on.running(FORWARD) as forward, on.running(["logs", "-f", "web"]) as log:
        running.until("begun\n")
        forward.until("-> 8080\n")
        log.until("up\n")
        assert on.node.stop() == 0
        said = running.end()
        assert said.code == 1 and said.out == "begun\n" and "the node agent is shutting down" in said.err, said
        gone = forward.end()
        assert gone.code == 1 and "lost connection to pod" in gone.err, gone
        assert log.end() == ground.Said(0, "up\n", "")
    on.node.start()
    assert on.stage.cluster.pod("web")["status"]["phase"] == "Running"
    stage.until(lambda: on.run(["exec", "web", "--", "true"]).code == 0, "the pod is reached again")
    left = on.must("exec", "web", "--", "ps", "-o", "args")
    assert "echo never" not in left, f"the abandoned command runs on: {left}"


def test_a_deleted_pod_ends_each_session(on: ground.Ground) -> None:
    with on.running(SLOW_COUNT) as running, on.running(FORWARD) as forward, on.running(["logs", "-f", "web"]) as log:
        running.until("begun\n")
        forward.until("-> 8080\n")
        log.until("up\n")
        on.must("delete", "pod", "web", "--wait=false")
        said = running.end(40)
        assert said.code != 0 and said.out == "begun\n", said
        gone = forward.end(40)
        assert gone.code == 1 and "lost connection to pod" in gone.err, gone
        assert log.end(40) == ground.Said(0, "up\n", "")
    on.stage.cluster.until_gone("web", 40)


def test_a_machine_that_dies_ends_an_exec_with_an_error(on: ground.Ground) -> None:
    with on.running(SLOW_COUNT) as running, on.running(FORWARD) as forward:
        running.until("begun\n")
        forward.until("-> 8080\n")
        machine = stage.instance_id(on.stage.cluster.pod("web"))
        on.stage.vast.control("vanish", instance_id=int(machine))
        said = running.end(40)
        assert said.code == 1 and said.out == "begun\n" and said.err, said


def test_a_dropped_connection_loses_no_line_of_a_followed_log(on: ground.Ground) -> None:
    count = "n=0; while true; do n=$((n+1)); echo $n; sleep 0.05; done"
    on.stage.cluster.create(stage.pod("counts", on.node, count, terminationGracePeriodSeconds=0))
    machine = int(stage.instance_id(on.stage.cluster.until_phase("counts", "Running", 60)))
    with on.running(["logs", "-f", "counts"]) as log, on.running(["exec", "counts", "--", "sleep", "100"]) as command:
        log.until("\n20\n")
        on.stage.vast.control("ssh/drop", instance_id=machine)
        broken = command.end()
        assert broken.code == 1 and "the connection" in broken.err, broken
        stage.until(lambda: on.run(["exec", "counts", "--", "true"]).code == 0, "reached again")
        last = int(on.must("logs", "counts", "--tail=1"))
        log.until(f"\n{last + 20}\n")
    told = log.seen.splitlines()[: last + 20]
    assert told == [str(number) for number in range(1, last + 21)]
