"""What the documentation of the service shows, run word for word; and each of its variables."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.integration.conftest import Kubectl
from tests.integration.provision import stage
from tests.integration.provision.test_provisioning import a_body
from tests.unit.provision import keys

from bareboat.sandbox import controlplane

ELIDED = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI... user@example"
COMMAND = """\
curl -sS -X POST http://127.0.0.1:8088/provision \\
  -H 'Content-Type: application/json' \\
  -d '{
    "container_img_url": "docker.io/looogarithm/mock-inference:latest",
    "ssh_public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI... user@example",
    "port": 22
  }' | jq ."""
ANSWER = """\
{
  "pod_name": "client-mock-inference-67c5f2f8-pod",
  "service_name": "client-mock-inference-67c5f2f8-svc",
  "secret_name": "ssh-authorized-keys",
  "connect_http_port": 30080,
  "connect_ssh_port": 30022,
  "namespace": "default"
}
"""
ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "deploy" / "examples" / "provision.yaml"
Serve = Callable[..., stage.Service]


def run(command: str) -> str:
    assert shutil.which("curl") and shutil.which("jq"), "these tests need curl and jq"
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_documented_command_gives_the_documented_answer_but_for_the_digits(serve: Serve, kubectl: Kubectl) -> None:
    service = serve(PORT="8088")
    told = run(COMMAND.replace(ELIDED, keys.a_key()))
    try:
        assert re.sub(r"-[0-9a-f]{8}-", "-67c5f2f8-", told) == ANSWER
        found = json.loads(kubectl("get", "pod", json.loads(told)["pod_name"], "-o", "json"))
        (container,) = found["spec"]["containers"]
        assert {"name": "SSH_PORT", "value": "22"} in container["env"]
    finally:
        service.ask("DELETE", f"/provision/{json.loads(told)['pod_name']}")
    assert kubectl("get", "pods,secrets", "-o", "name") == ""


def test_documented_way_to_run_it_starts_the_same_service(
    sandbox: controlplane.ControlPlane, namespace: str, tmp_path: Path
) -> None:
    command = ("bash", "-c", f"cd {ROOT} && cd operator && exec python server_operator.py")
    settings = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(sandbox.kubeconfig_path),
    }
    with stage.Service(tmp_path / "log", command=command, NAMESPACE=namespace, PORT="8088", **settings):
        told = run(COMMAND.replace(ELIDED, keys.a_key()))
    shown = ANSWER.replace('"default"', f'"{namespace}"')
    assert re.sub(r"-[0-9a-f]{8}-", "-67c5f2f8-", told) == shown


def test_documented_body_without_a_port_works_too(serve: Serve, namespace: str) -> None:
    service = serve(NAMESPACE=namespace)
    body = {"container_img_url": "docker.io/looogarithm/mock-inference:latest", "ssh_public_key": keys.a_key()}
    answer = service.provision(body)
    assert list(answer) == list(json.loads(ANSWER))
    assert answer["namespace"] == namespace


def test_elided_key_itself_is_refused_by_name(service: stage.Service) -> None:
    status, told = service.ask("POST", "/provision", a_body(ssh_public_key=ELIDED))
    assert (status, told["fields"][0]["field"]) == (422, "ssh_public_key")


def test_host_and_port_say_where_it_listens(serve: Serve, namespace: str) -> None:
    port = stage.free_port("127.0.0.2")
    service = serve(HOST="127.0.0.2", PORT=str(port), NAMESPACE=namespace)
    assert service.url == f"http://127.0.0.2:{port}"
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
        pass


def test_namespace_says_where_it_works(serve: Serve, namespace: str, kubectl: Kubectl) -> None:
    answer = serve(NAMESPACE=namespace).provision(a_body())
    assert answer["namespace"] == namespace
    assert f"pod/{answer['pod_name']}" in kubectl("-n", namespace, "get", "pods", "-o", "name").split()


def test_token_keeps_others_out(serve: Serve, namespace: str) -> None:
    service = serve(NAMESPACE=namespace, PROVISION_TOKEN="secret-word")
    for method, path in (("POST", ""), ("GET", ""), ("GET", "/client-a-01234567"), ("DELETE", "/client-a-01234567")):
        assert service.ask(method, f"/provision{path}", a_body() if method == "POST" else None)[0] == 401
    assert service.ask("POST", "/provision", a_body(), token="other")[0] == 401
    assert service.provision(a_body(), token="secret-word")
    assert "token" in service.ask("GET", "/openapi.json")[1]["components"]["securitySchemes"]
    assert "secret-word" not in service.log


def test_only_images_of_the_list_run(serve: Serve, namespace: str, left: Callable[[], list[str]]) -> None:
    service = serve(NAMESPACE=namespace, PROVISION_IMAGES="docker.io/me/*, ghcr.io/we/app")
    status, told = service.ask("POST", "/provision", a_body())
    assert (status, told["fields"][0]["field"]) == (403, "container_img_url")
    assert left() == []
    assert service.provision(a_body(container_img_url="me/app:2"))


def test_quota_of_pods_holds_for_clients_who_come_at_once(serve: Serve, namespace: str) -> None:
    service = serve(NAMESPACE=namespace, PROVISION_MAX_PODS="3")
    bodies = [a_body() for _ in range(10)]
    with stage.pool(10) as pool:
        answers = list(pool.map(lambda body: service.ask("POST", "/provision", body), bodies))
    assert sorted(status for status, _ in answers) == [200] * 3 + [429] * 7
    assert {told["fields"][0]["field"] for status, told in answers if status == 429} == {"PROVISION_MAX_PODS"}
    again = next(body for body, (status, _) in zip(bodies, answers, strict=True) if status == 200)
    assert service.provision(again), "one that is there may be made anew"


def test_client_that_asks_too_often_is_told_to_wait(serve: Serve, namespace: str) -> None:
    service = serve(NAMESPACE=namespace, PROVISION_REQUESTS_PER_MINUTE="3")
    answers = [service.ask("GET", "/provision") for _ in range(4)]
    assert [status for status, _ in answers] == [200, 200, 200, 429]
    assert service.ask("GET", "/healthz", raw=True)[0] == 200


def test_longest_body_can_be_set(serve: Serve, namespace: str) -> None:
    service = serve(NAMESPACE=namespace, PROVISION_MAX_BODY_BYTES="2000")
    assert service.ask("POST", "/provision", a_body(comment="x" * 2000))[0] == 413
    assert service.provision(a_body(comment="x" * 1000))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PORT": "http"}, "PORT is 'http'"),
        ({"NAMESPACE": "No Good"}, "NAMESPACE is 'No Good'"),
        ({"HOST": "203.0.113.1"}, "can't listen"),
        ({"KUBECONFIG": "/nowhere/kubeconfig"}, "/nowhere/kubeconfig"),
    ],
)
def test_variables_that_make_no_sense_end_the_start(
    settings: dict[str, str], said: str, sandbox: controlplane.ControlPlane
) -> None:
    given = {"HOST": "127.0.0.1", "PORT": "0", "KUBECONFIG": str(sandbox.kubeconfig_path), **settings}
    done = subprocess.run(
        stage.BAREBOAT, env=stage.environment(**given), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_example_manifests_give_the_rights_that_are_needed(
    sandbox: controlplane.ControlPlane, kubectl: Kubectl, serve: Serve, tmp_path: Path
) -> None:
    manifests = list(yaml.safe_load_all(EXAMPLE.read_text()))
    (deployment,) = [each for each in manifests if each["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    assert (variables["HOST"], variables["PORT"], variables["NAMESPACE"]) == ("0.0.0.0", "8088", "default")
    rights = [each for each in manifests if each["kind"] in ("ServiceAccount", "Role", "RoleBinding")]
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(rights))
    kubectl("apply", "--dry-run=server", "-f", str(EXAMPLE))
    try:
        token = kubectl("-n", "default", "create", "token", "provision").strip()
        kubeconfig = sandbox.kubeconfig_for_token(token, path=tmp_path / "kubeconfig")
        service = serve(KUBECONFIG=str(kubeconfig))
        body = a_body()
        name = service.provision(body)["pod_name"]
        service.provision(body)
        assert service.ask("GET", "/readyz", raw=True)[0] == 200
        assert service.ask("GET", f"/provision/{name}")[0] == 200
        assert service.ask("DELETE", f"/provision/{name}")[0] == 200
        assert kubectl("get", "pods,secrets", "-o", "name") == ""
    finally:
        kubectl("delete", "-f", "-", "--ignore-not-found", stdin=yaml.safe_dump_all(rights))
