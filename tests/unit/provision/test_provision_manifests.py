import base64
import json
from typing import Any

import msgspec
from tests.unit.provision import keys

from bareboat.core import needs as core_needs
from bareboat.node import node_object
from bareboat.provision import manifests, order
from bareboat.workload import access, needs, support
from bareboat.workload import pod as pods

KEY = keys.a_key()
GPU = {
    "count": 2,
    "names": ["RTX 4090", "RTX 3090"],
    "memory_gib": 24,
    "max_usd_per_hour": 0.4,
    "regions": ["US", "EU"],
    "disk_gib": 40,
    "min_reliability": 0.95,
    "verified_only": False,
    "pricing": "spot",
    "clouds": ["vast"],
}


def asked(**more: Any) -> order.Order:
    return order.read(json.dumps({"container_img_url": "me/app:1", "ssh_public_key": KEY, **more}).encode())


def as_the_node_reads_it(pod: dict[str, Any]) -> pods.Pod:
    return msgspec.json.decode(msgspec.json.encode(pod), type=pods.Pod)


def test_pod_is_as_the_document_says() -> None:
    pod = manifests.pod(asked(port=2222))
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "me/app:1"
    assert {each["name"]: each["value"] for each in container["env"]} == {"MODEL_PORT": "8080", "SSH_PORT": "2222"}
    assert [each["containerPort"] for each in container["ports"]] == [8080, 2222]
    (mount,) = container["volumeMounts"]
    assert (mount["mountPath"], mount["subPath"]) == ("/home/ubuntu/.ssh/authorized_keys", "authorized_keys")
    assert pod["spec"]["volumes"][0]["secret"]["secretName"] == "ssh-authorized-keys"


def test_pod_mounts_its_own_clients_key() -> None:
    order_ = asked()
    (item,) = manifests.pod(order_)["spec"]["volumes"][0]["secret"]["items"]
    data = manifests.secret({order_.name: order_.key.line}, 0.0)["data"]
    assert base64.b64decode(data[item["key"]]).decode() == f"{KEY}\n"
    assert item["key"] != manifests.DOCUMENTED_KEY
    assert item["path"] == "authorized_keys"


def test_image_gets_no_identity_in_the_cluster() -> None:
    assert manifests.pod(asked())["spec"]["automountServiceAccountToken"] is False


def test_service_selects_its_own_pod_alone() -> None:
    order_ = asked(port=2222)
    service = manifests.service(order_, 30080, None)
    selector = service["spec"]["selector"]
    assert selector.items() <= manifests.pod(order_)["metadata"]["labels"].items()
    other = manifests.pod(asked(ssh_public_key=keys.a_key()))
    assert not selector.items() <= other["metadata"]["labels"].items()
    assert [(each["name"], each["port"], each.get("nodePort")) for each in service["spec"]["ports"]] == [
        ("http", 8080, 30080),
        ("ssh", 2222, None),
    ]


def test_the_virtual_node_reads_every_need_that_the_client_wrote() -> None:
    pod = as_the_node_reads_it(manifests.pod(asked(gpu=GPU)))
    assert needs.from_pod(pod, needs.Defaults()) == core_needs.Needs(
        gpu_count=2,
        gpu_names=("RTX 4090", "RTX 3090"),
        gpu_memory_gib=24,
        disk_gib=40,
        ports=2,
        max_usd_per_hour=0.4,
        regions=("US", "EU"),
        min_reliability=0.95,
        verified_only=False,
        pricing=core_needs.Pricing.SPOT,
        clouds=("vast",),
    )


def test_the_virtual_node_takes_the_pod() -> None:
    pod = as_the_node_reads_it(manifests.pod(asked(gpu={})))
    assert [each for each in support.check(pod) if each.fatal] == []


def test_gpu_pod_goes_to_the_virtual_node_and_may_stay_there() -> None:
    spec = node_object.Spec("n", "10.0.0.1", 10250, {})
    pod = manifests.pod(asked(gpu={}))["spec"]
    assert pod["nodeSelector"].items() <= node_object.labels(spec).items()
    (taint,) = node_object.taints(spec, node_object.Health(), [])
    assert {"key": taint["key"], "operator": "Exists"} in pod["tolerations"]


def test_gpu_pod_runs_plainly_so_that_clients_reach_the_images_own_ssh_server() -> None:
    assert access.asked(as_the_node_reads_it(manifests.pod(asked(gpu={})))) is access.Access.PLAIN


def test_gpu_pod_gets_its_key_as_a_variable() -> None:
    order_ = asked(gpu={})
    (container,) = manifests.pod(order_)["spec"]["containers"]
    references = [each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each]
    assert references == [{"name": "ssh-authorized-keys", "key": order_.name}] * 2


def test_pod_without_gpu_stays_in_the_cluster() -> None:
    spec = manifests.pod(asked())["spec"]
    assert not {"nodeSelector", "tolerations"} & set(spec)
