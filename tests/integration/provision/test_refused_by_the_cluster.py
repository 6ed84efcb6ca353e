"""Rights that are missing, namespaces that don't exist, quotas: a clear answer, and nothing half made."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Kubectl
from tests.integration.provision import stage
from tests.integration.provision.test_provisioning import a_body

from bareboat.sandbox import controlplane

ALL: dict[str, list[str]] = {
    "pods": ["create", "get", "list", "delete"],
    "services": ["create", "get", "list", "update", "delete"],
    "secrets": ["create", "get", "patch", "delete"],
}


@pytest.fixture
def as_user(
    sandbox: controlplane.ControlPlane, kubectl: Kubectl, namespace: str, serve: Callable[..., stage.Service]
) -> Callable[[dict[str, list[str]]], stage.Service]:
    """A service of a user with those rights in the namespace alone."""

    def start(rights: dict[str, list[str]]) -> stage.Service:
        rules = [{"apiGroups": [""], "resources": [kind], "verbs": verbs} for kind, verbs in rights.items() if verbs]
        role: dict[str, Any] = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": rules}
        role["metadata"] = {"name": "provision", "namespace": namespace}
        kubectl("create", "-f", "-", stdin=json.dumps(role))
        user = f"user-{namespace}"
        kubectl("-n", namespace, "create", "rolebinding", "provision", "--role=provision", f"--user={user}")
        return serve(NAMESPACE=namespace, KUBECONFIG=str(sandbox.kubeconfig_for_user(user)))

    return start


def test_rights_in_the_namespace_are_enough(
    as_user: Callable[[dict[str, list[str]]], stage.Service], left: Callable[[], list[str]]
) -> None:
    service = as_user(ALL)
    answer = service.provision(a_body())
    assert service.ask("GET", "/readyz", raw=True)[0] == 200
    assert service.ask("DELETE", f"/provision/{answer['pod_name']}")[0] == 200
    assert left() == []


def test_ports_are_found_one_by_one_where_services_of_others_can_not_be_read(
    as_user: Callable[[dict[str, list[str]]], stage.Service], kubectl: Kubectl
) -> None:
    service = as_user(ALL)
    kubectl("create", "service", "nodeport", "taken", "--tcp=80", "--node-port=30080")
    try:
        assert service.provision(a_body())["connect_http_port"] == 30081
    finally:
        kubectl("delete", "service", "taken")


@pytest.mark.parametrize(("kind", "verb"), [("secrets", "patch"), ("services", "create"), ("pods", "create")])
def test_missing_right_is_told_and_nothing_is_left(
    kind: str,
    verb: str,
    as_user: Callable[[dict[str, list[str]]], stage.Service],
    left: Callable[[], list[str]],
) -> None:
    rights = ALL | {kind: [each for each in ALL[kind] if each != verb]}
    status, told = as_user(rights).ask("POST", "/provision", a_body())
    assert (status, [each["field"] for each in told["fields"]]) == (403, ["NAMESPACE"])
    assert f"cannot {verb} resource" in told["error"]
    assert left() == []


def test_failing_replacement_removes_the_client_as_a_whole(
    service: stage.Service, namespace: str, kubectl: Kubectl, left: Callable[[], list[str]]
) -> None:
    body = a_body()
    service.provision(body)
    kubectl("-n", namespace, "create", "quota", "none", "--hard=count/pods=0")
    give_up = 100
    while '"count/pods": "0"' not in kubectl(
        "-n", namespace, "get", "quota", "none", "-o", "jsonpath={.status.hard}"
    ).replace(":", ": "):
        give_up -= 1
        assert give_up
    status, told = service.ask("POST", "/provision", body)
    assert (status, told["fields"][0]["field"]) == (403, "NAMESPACE")
    assert "exceeded quota" in told["error"]
    assert left() == []


def test_namespace_that_does_not_exist_is_told_at_the_start_and_to_clients(
    serve: Callable[..., stage.Service],
) -> None:
    service = serve(NAMESPACE="nowhere")
    status, told = service.ask("POST", "/provision", a_body())
    assert (status, told["fields"][0]["field"]) == (404, "NAMESPACE")
    assert "'nowhere'" in told["error"]
    assert service.ask("GET", "/readyz", raw=True)[0] == 503
    assert "provision.not_ready" in service.log


def test_cluster_that_is_away_is_told(serve: Callable[..., stage.Service], tmp_path: Path) -> None:
    away = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{stage.free_port()}"}}],
        "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(away))
    service = serve(KUBECONFIG=str(tmp_path / "kubeconfig"))
    status, told = service.ask("POST", "/provision", a_body())
    assert (status, told["fields"][0]["field"]) == (503, "cluster")
    assert service.ask("GET", "/healthz", raw=True)[0] == 200
