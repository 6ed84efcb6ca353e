import base64
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.conftest import Kubectl
from tests.integration.provision import stage
from tests.unit.provision import keys

IMAGE = "docker.io/looogarithm/mock-inference:latest"
Json = dict[str, Any]
Left = Callable[[], list[str]]


def a_body(**more: Any) -> Json:
    return {"container_img_url": IMAGE, "ssh_public_key": keys.a_key(), "port": 22, **more}


def get(kubectl: Kubectl, namespace: str, what: str) -> Json:
    found: Json = json.loads(kubectl("-n", namespace, "get", what, "-o", "json"))
    return found


def set_status(kubectl: Kubectl, namespace: str, pod: str, status: Json) -> None:
    """What a kubelet would say."""
    kubectl(
        "-n",
        namespace,
        "patch",
        "pod",
        pod,
        "--subresource=status",
        "--type=strategic",
        "-p",
        json.dumps({"status": status}),
    )


def meanwhile(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_client_gets_a_secret_a_pod_and_a_service(service: stage.Service, namespace: str, kubectl: Kubectl) -> None:
    body = a_body()
    answer = service.provision(body)
    pod = get(kubectl, namespace, f"pod/{answer['pod_name']}")
    found = get(kubectl, namespace, f"service/{answer['service_name']}")
    secret = get(kubectl, namespace, f"secret/{answer['secret_name']}")
    assert pod["spec"]["containers"][0]["image"] == IMAGE
    assert base64.b64decode(secret["data"]["authorized_keys"]).decode() == body["ssh_public_key"] + "\n"
    assert {each["name"]: each["nodePort"] for each in found["spec"]["ports"]} == {
        "http": answer["connect_http_port"],
        "ssh": answer["connect_ssh_port"],
    }


def test_same_request_replaces_what_it_made_and_keeps_names_and_ports(
    service: stage.Service, namespace: str, kubectl: Kubectl
) -> None:
    body = a_body()
    first = service.provision(body)
    uid = get(kubectl, namespace, f"pod/{first['pod_name']}")["metadata"]["uid"]
    assert service.provision(body) == first
    assert get(kubectl, namespace, f"pod/{first['pod_name']}")["metadata"]["uid"] != uid
    assert len(service.ask("GET", "/provision")[1]["clients"]) == 1


def test_leftovers_of_another_program_with_these_names_are_replaced(
    service: stage.Service, namespace: str, kubectl: Kubectl
) -> None:
    body = a_body()
    answer = service.provision(body)
    kubectl("-n", namespace, "delete", "pod,service,secret", "--all", "--force", "--grace-period=0")
    kubectl("-n", namespace, "run", answer["pod_name"], "--image=busybox")
    kubectl("-n", namespace, "create", "service", "clusterip", answer["service_name"], "--tcp=80")
    kubectl("-n", namespace, "create", "secret", "generic", answer["secret_name"], "--from-literal=authorized_keys=old")
    service.provision(body)
    assert get(kubectl, namespace, f"pod/{answer['pod_name']}")["spec"]["containers"][0]["image"] == IMAGE
    assert get(kubectl, namespace, f"service/{answer['service_name']}")["spec"]["type"] == "NodePort"


def test_ports_that_others_have_are_passed_over(service: stage.Service, namespace: str, kubectl: Kubectl) -> None:
    for port in (30080, 30081, 30022):
        kubectl("create", "service", "nodeport", f"taken-{port}", "--tcp=80", f"--node-port={port}")
    try:
        answer = service.provision(a_body())
    finally:
        kubectl("delete", "service", "taken-30080", "taken-30081", "taken-30022")
    assert (answer["connect_http_port"], answer["connect_ssh_port"]) == (30082, 30023)


def test_fifty_clients_at_once_all_get_ports_and_keys_of_their_own(
    service: stage.Service, namespace: str, kubectl: Kubectl
) -> None:
    bodies = [a_body() for _ in range(50)]
    with stage.pool(50) as pool:
        answers = list(pool.map(service.provision, bodies))
    ports = [each[name] for each in answers for name in ("connect_http_port", "connect_ssh_port")]
    assert len(set(ports)) == 100
    assert min(each["connect_http_port"] for each in answers) == 30080
    assert min(each["connect_ssh_port"] for each in answers) == 30022
    data = get(kubectl, namespace, "secret/ssh-authorized-keys")["data"]
    for body, answer in zip(bodies, answers, strict=True):
        own = data[answer["pod_name"].removesuffix("-pod")]
        assert base64.b64decode(own).decode() == body["ssh_public_key"] + "\n"
    with stage.pool(50) as pool:
        gone = list(pool.map(lambda each: service.ask("DELETE", f"/provision/{each['pod_name']}")[0], answers))
    assert gone == [200] * 50
    assert kubectl("-n", namespace, "get", "pods,services,secrets", "-o", "name") == ""


def test_same_request_many_times_at_once_makes_one_client(service: stage.Service) -> None:
    body = a_body()
    with stage.pool(8) as pool:
        answers = list(pool.map(service.provision, [body] * 8))
    assert all(each == answers[0] for each in answers)
    assert len(service.ask("GET", "/provision")[1]["clients"]) == 1


def test_two_services_of_one_namespace_do_not_get_into_each_others_way(
    serve: Callable[..., stage.Service], namespace: str
) -> None:
    services = [serve(NAMESPACE=namespace), serve(NAMESPACE=namespace)]
    with stage.pool(20) as pool:
        answers = list(pool.map(lambda number: services[number % 2].provision(a_body()), range(20)))
    assert len({each["connect_http_port"] for each in answers}) == 20


def test_removing_one_client_leaves_the_others(service: stage.Service, namespace: str, kubectl: Kubectl) -> None:
    first, second = service.provision(a_body()), service.provision(a_body())
    assert service.ask("DELETE", f"/provision/{second['service_name']}")[0] == 200
    data = get(kubectl, namespace, "secret/ssh-authorized-keys")["data"]
    assert set(data) == {first["pod_name"].removesuffix("-pod")}
    assert service.ask("GET", f"/provision/{second['pod_name']}")[0] == 404
    assert service.ask("DELETE", f"/provision/{second['pod_name']}")[0] == 404
    status, told = service.ask("GET", f"/provision/{first['pod_name']}")
    assert (status, told["pod_name"], told["phase"]) == (200, first["pod_name"], "Pending")


def test_pods_that_are_not_clients_are_neither_shown_nor_removed(
    service: stage.Service, namespace: str, kubectl: Kubectl
) -> None:
    kubectl("-n", namespace, "run", "client-x-0123abcd-pod", "--image=busybox")
    assert service.ask("GET", "/provision/client-x-0123abcd")[0] == 404
    assert service.ask("DELETE", "/provision/client-x-0123abcd")[0] == 404
    assert service.ask("GET", "/provision")[1] == {"clients": []}
    assert get(kubectl, namespace, "pod/client-x-0123abcd-pod")["metadata"]["name"]


def test_waiting_ends_when_the_pod_is_ready(service: stage.Service, namespace: str, kubectl: Kubectl) -> None:
    body = a_body()
    name = service.provision(body)["pod_name"]
    assert service.ask("GET", f"/provision/{name}")[1]["ready"] is False
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    thread = meanwhile(lambda: set_status(kubectl, namespace, name, ready))
    started_s = time.monotonic()
    assert service.ask("GET", f"/provision/{name}?wait=60")[1]["ready"] is True
    assert time.monotonic() - started_s < 30
    thread.join()


def test_wait_that_is_over_says_why_the_pod_is_not_ready(service: stage.Service) -> None:
    answer = service.provision(a_body(), "?wait=1")
    assert answer["ready"] is False
    assert "nodes" in answer["reason"]


def test_image_that_can_not_be_pulled_is_refused_and_nothing_is_left(
    service: stage.Service, namespace: str, kubectl: Kubectl, left: Left
) -> None:
    def fail() -> None:
        deadline_s = time.monotonic() + 30
        while not (names := kubectl("-n", namespace, "get", "pods", "-o", "name").split()):
            assert time.monotonic() < deadline_s
        waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
        state = {"name": "client", "image": IMAGE, "imageID": "", "ready": False, "restartCount": 0}
        status = {"containerStatuses": [{**state, "state": {"waiting": waiting}}]}
        set_status(kubectl, namespace, names[0].removeprefix("pod/"), status)

    thread = meanwhile(fail)
    status, told = service.ask("POST", "/provision?wait=60", a_body())
    thread.join()
    assert (status, told["fields"][0]["field"]) == (422, "container_img_url")
    assert "no such image" in told["error"]
    assert left() == []


def test_gpu_client_is_scheduled_onto_the_virtual_node_with_its_needs(
    service: stage.Service, namespace: str, kubectl: Kubectl
) -> None:
    name = f"virtual-{namespace}"
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"bareboat.dev/node": "true"}},
        "spec": {"taints": [{"key": "virtual-kubelet.io/provider", "value": "vast.ai", "effect": "NoSchedule"}]},
        "status": {
            "allocatable": {"cpu": "8", "memory": "8Gi", "pods": "10", "nvidia.com/gpu": "8"},
            "capacity": {"cpu": "8", "memory": "8Gi", "pods": "10", "nvidia.com/gpu": "8"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    kubectl("create", "-f", "-", stdin=json.dumps(node))
    try:
        answer = service.provision(a_body(gpu={"count": 2, "max_usd_per_hour": 0.4, "names": ["RTX 4090"]}))
        deadline_s = time.monotonic() + 30
        while True:
            told = service.ask("GET", f"/provision/{answer['pod_name']}")[1]
            if told["rented"].get("node") == name:
                break
            assert time.monotonic() < deadline_s, told
            time.sleep(0.1)
        notes = get(kubectl, namespace, f"pod/{answer['pod_name']}")["metadata"]["annotations"]
        assert notes["bareboat.dev/max-usd-per-hour"] == "0.4"
        assert notes["bareboat.dev/gpu-names"] == "RTX 4090"
    finally:
        kubectl("-n", namespace, "delete", "pods", "--all", "--force", "--grace-period=0")
        kubectl("delete", "node", name)


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"ssh_public_key": "no key"}, 422, "ssh_public_key"),
        ({"ssh_public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI... user@example"}, 422, "ssh_public_key"),
        ({"container_img_url": "NOT AN IMAGE"}, 422, "container_img_url"),
        ({"port": 8080}, 422, "port"),
        ({"gpu": {"cuont": 1}}, 422, "gpu.cuont"),
    ],
)
def test_bad_field_is_named_and_nothing_is_made(
    changes: Json, status: int, field: str, service: stage.Service, left: Left
) -> None:
    answered, told = service.ask("POST", "/provision", a_body(**changes))
    assert (answered, told["fields"][0]["field"]) == (status, field)
    assert left() == []


def test_bodies_that_are_no_json_too_large_or_of_another_kind_are_refused(service: stage.Service, left: Left) -> None:
    assert service.ask("POST", "/provision", b"not json")[0] == 400
    status, told = service.ask("POST", "/provision", a_body(ssh_public_key="x" * 5_000_000))
    assert (status, told["fields"][0]["field"]) == (413, "body")
    assert service.ask("POST", "/provision", a_body(), kind="text/plain")[0] == 415
    assert service.ask("POST", "/provision", a_body(), encoding="gzip")[0] == 415
    assert service.ask("PUT", "/provision", a_body())[0] == 405
    assert service.ask("GET", "/nowhere")[0] == 404
    assert left() == []
    assert "Traceback" not in service.log


def test_page_and_description_load_nothing_from_elsewhere(service: stage.Service) -> None:
    page = service.ask("GET", "/", raw=True)[1]
    assert "openapi.json" in page
    assert "://" not in page
    described = service.ask("GET", "/openapi.json")[1]
    assert described["openapi"] == "3.1.0"
    assert set(described["paths"]) == {"/provision", "/provision/{name}"}
    assert service.ask("GET", "/readyz", raw=True) == (200, "ok\n")
