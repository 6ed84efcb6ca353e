"""The official Python client reaches into a pod in ssh access as kubectl does.

It runs in processes of its own: it leaves sockets to the garbage collector, which our tests take for an error.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.node import stage

from bareboat.sandbox import controlplane

pytest.importorskip("kubernetes", reason="the official Python client is not installed")

NAMESPACE = "python-client"
PAGE = "mkdir -p /srv; echo hello > /srv/index.html; httpd -p 8080 -h /srv; echo up; exec sleep 100000"
BEGIN = """
import json, select, sys
from kubernetes import client, config, stream
api = client.CoreV1Api(config.new_client_from_config(sys.argv[1]))
def executed(command, *sent):
    session = stream.stream(
        api.connect_get_namespaced_pod_exec, "web", "python-client", command=["sh", "-c", command],
        stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False)
    for text in sent:
        session.write_stdin(text)
    session.run_forever(timeout=40)
    return session.read_stdout(), session.read_stderr(), session.returncode
"""
EXEC = 'result = executed("read word; echo got $word; echo heard >&2; exit 3", "hello\\n")'
LARGE = """
out, err, code = executed("yes x | tr -d '\\n' | head -c 3000000")
result = len(out), out.strip("x"), code
"""
LOGS = 'result = api.read_namespaced_pod_log("web", "python-client")'
FORWARD = """
forward = stream.portforward(api.connect_get_namespaced_pod_portforward, "web", "python-client", ports="8080")
peer = forward.socket(8080)
peer.setblocking(True)
peer.sendall(b"GET /index.html HTTP/1.0\\r\\n\\r\\n")
answer = b""
while select.select([peer], [], [], 20)[0] and (data := peer.recv(65536)):
    answer += data
result = answer.decode().splitlines()[-1], forward.error(8080)
"""
Ask = Callable[[str], Any]


@pytest.fixture(scope="module")
def ask(sandbox: controlplane.ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Runs a script with the library's `api`; what it leaves as `result`. There is a pod `web`."""

    def run(script: str) -> Any:
        words = [sys.executable, "-c", f"{BEGIN}{script}\nprint(json.dumps(result))", str(sandbox.kubeconfig_path)]
        said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout)

    with stage.opened(sandbox, tmp_path_factory.mktemp(NAMESPACE), NAMESPACE, script={"profile": "none"}) as on:
        on.cluster.create(stage.pod("web", on.node(BAREBOAT_ACCESS="ssh"), PAGE))
        on.cluster.until_phase("web", "Running", 60)
        yield run


def test_exec_carries_input_both_outputs_and_the_exit_code(ask: Ask) -> None:
    assert ask(EXEC) == ["got hello\n", "heard\n", 3]


def test_exec_loses_nothing_of_a_large_output(ask: Ask) -> None:
    assert ask(LARGE) == [3_000_000, "", 0]


def test_logs_are_read(ask: Ask) -> None:
    assert ask(LOGS) == "up\n"


def test_a_port_is_forwarded(ask: Ask) -> None:
    assert ask(FORWARD) == ["hello", None]
