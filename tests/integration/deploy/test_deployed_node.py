"""The manifests proven by use: the node lives a whole life as its ServiceAccount, with no right too few or too many."""

import base64
import re
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request

from tests.integration.deploy import conftest as parts
from tests.integration.deploy import recording, rights
from tests.integration.node import stage

INPUTS: list[stage.Json] = [
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "deploy-mood"}, "data": {"mood": "sunny"}},
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "deploy-word"},
        "data": {"word": base64.b64encode(b"sesame").decode()},
    },
]


def a_pod(name: str, command: str, config_map: str = "deploy-mood") -> stage.Json:
    variables = [
        {"name": "MOOD", "valueFrom": {"configMapKeyRef": {"name": config_map, "key": "mood"}}},
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "deploy-word", "key": "word"}}},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": {"kubernetes.io/hostname": parts.NODE},
            "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}],
            "containers": [{"name": "main", "image": "debian:12", "command": ["sh", "-c", command], "env": variables}],
        },
    }


def test_node_lives_a_whole_life_on_exactly_the_rights_of_the_manifests(deployed: parts.Installation) -> None:
    cluster, vast, node = deployed.cluster, deployed.vast, deployed.node
    node.start()
    cluster.apply(*INPUTS)
    cluster.kubectl("apply", *parts.EXAMPLES)
    cluster.apply(
        a_pod("deploy-reads", 'echo "$MOOD $WORD"; sleep 100000'),
        a_pod("deploy-waits", "sleep 100000", config_map="deploy-nobody-made-it"),
    )
    try:
        _logs_come_through_kubectl(cluster)
        _examples_run(cluster)
        _who_calls_is_asked_of_the_api_server(cluster, node)
        _life_is_seen_by_the_probe(deployed)
        _make_tells_how_it_stands(deployed)
        _lasting_trouble_is_one_event_that_counts(cluster)
        _orphan_of_a_killed_node_is_ended(deployed)
        cluster.kubectl("delete", *parts.EXAMPLES, "--ignore-not-found", "--timeout=50s")
        cluster.kubectl("delete", "pod", "deploy-reads", "deploy-waits", "--timeout=50s")
        stage.until(lambda: not vast.alive(), lambda: f"all ended; alive are {vast.alive()}")
        stage.assert_no_double_rent(vast)
    finally:
        for each in INPUTS:
            cluster.kubectl("delete", each["kind"], each["metadata"]["name"], "--ignore-not-found")

    assert deployed.refused == []
    assert "forbidden" not in node.log.lower()
    _each_right_was_used(deployed.requests, parts.manifests())


def test_node_names_the_missing_right_where_pod_inputs_are_not_bound(deployed: parts.Installation) -> None:
    cluster = deployed.cluster
    cluster.kubectl("delete", "rolebinding", "virtual-kubelet-vast", "-n", "default")
    deployed.node.start()
    cluster.apply(*INPUTS, a_pod("deploy-refused", "sleep 100000"))
    message = cluster.until("deploy-refused", lambda pod: stage.waiting(pod).get("message"), "the reason in the status")
    assert message and "configmaps in namespace default" in message and "RoleBinding" in message
    assert deployed.vast.instances() == []
    cluster.kubectl("delete", "pod", "deploy-refused", "--timeout=50s")
    for each in INPUTS:
        cluster.kubectl("delete", each["kind"], each["metadata"]["name"])


def test_total_caps_need_the_rights_of_their_example_and_nothing_else(deployed: parts.Installation) -> None:
    cluster = deployed.cluster
    cluster.kubectl("apply", "-n", "kube-system", "-f", str(parts.TOTAL_CAPS))
    deployed.start_again(BAREBOAT_INSTALLATION_USD_CAP="5")
    cluster.apply(*INPUTS, a_pod("deploy-costs", "sleep 1"))
    cluster.until_phase("deploy-costs", "Succeeded")
    cluster.kubectl("delete", "pod", "deploy-costs", "--timeout=50s")
    kept = f"configmap/bareboat-spend-{parts.NODE}"
    stage.until(
        lambda: "default" in cluster.kubectl("-n", "kube-system", "get", kept, "-o", "jsonpath={.data}", check=False),
        "what the pod has cost kept",
    )
    cluster.kubectl("-n", "kube-system", "delete", kept)
    for each in INPUTS:
        cluster.kubectl("delete", each["kind"], each["metadata"]["name"])
    assert deployed.refused == []
    of_caps = [each for each in deployed.requests if each.resource == "configmaps" and each.namespace == "kube-system"]
    granted = rights.granted(parts.manifests(parts.TOTAL_CAPS))
    # A patch of what is not there yet is answered with 404: it was allowed.
    assert [str(right) for right in granted if not any(right.covers(each) for each in of_caps)] == []


def _logs_come_through_kubectl(cluster: stage.Cluster) -> None:
    cluster.until_phase("deploy-reads", "Running")
    cluster.until_phase("gpu-pod", "Running", 60)
    assert cluster.kubectl("logs", "deploy-reads").strip() == "sunny sesame"
    stage.until(lambda: "NVIDIA-SMI" in cluster.kubectl("logs", "gpu-pod"), "the example's nvidia-smi in its log")


def _examples_run(cluster: stage.Cluster) -> None:
    cluster.kubectl("wait", "--for=condition=Available", "deployment/june-gpu-services", "--timeout=55s")
    told = cluster.kubectl("get", "pods", "-l", "app=june-gpu-services", "-o", "wide")
    assert parts.NODE in told
    assert parts.NODE in cluster.kubectl("get", "nodes", "-l", "provider=vast.ai")


def _make_tells_how_it_stands(on: parts.Installation) -> None:
    told = parts.make("dev-status", kubectl=on.kubectl, home=on.folder)
    for expected in ("deployment.apps/virtual-kubelet-vast", parts.NODE, "june-gpu-services-", "deploy-reads"):
        assert expected in told
    told = parts.make("dev-debug", kubectl=on.kubectl, home=on.folder)
    for expected in ("registry.example.com/virtual-kubelet-vast:", "min_reliability", "ClusterRole", "nodes/status"):
        assert expected in told
    assert on.vast.key not in told and base64.b64encode(on.vast.key.encode()).decode() not in told


def _who_calls_is_asked_of_the_api_server(cluster: stage.Cluster, node: stage.Node) -> None:
    found = cluster.find("nodes", node.name)
    assert found is not None
    url = f"https://127.0.0.1:{found['status']['daemonEndpoints']['kubeletEndpoint']['Port']}/healthz"
    token = cluster.kubectl("create", "token", "default").strip()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        urllib.request.urlopen(request, timeout=10, context=ssl._create_unverified_context())
    except urllib.error.HTTPError as refused:
        assert refused.code == 403 and b"system:serviceaccount:default:default" in refused.read()
    else:
        raise AssertionError("a ServiceAccount without rights was let in")


def _life_is_seen_by_the_probe(on: parts.Installation) -> None:
    """The very command of the manifest: fine while the node answers or does not listen yet, not while it hangs."""
    (deployment,) = [each for each in parts.manifests() if each["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    python, *arguments = container["livenessProbe"]["exec"]["command"]
    assert python == "python"
    found = on.cluster.find("nodes", parts.NODE)
    assert found is not None
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        ports = {
            "answers": found["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"],
            "refuses": 1,
            "hangs": hangs.getsockname()[1],
        }
        probes = {
            state: subprocess.Popen(
                [sys.executable, *arguments],
                env={"POD_IP": "127.0.0.1", "KUBELET_PORT": str(port)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for state, port in ports.items()
        }
        told = {state: probe.communicate(timeout=30)[1] for state, probe in probes.items()}
    assert {state: probe.returncode for state, probe in probes.items()} == {"answers": 0, "refuses": 0, "hangs": 1}, (
        told
    )
    assert "timed out" in told["hangs"] and told["answers"] == ""


def _lasting_trouble_is_one_event_that_counts(cluster: stage.Cluster) -> None:
    stage.until(
        lambda: any(each.get("count", 1) > 1 for each in cluster.events("deploy-waits")),
        lambda: f"an event that repeats; there are {[each['message'] for each in cluster.events('deploy-waits')]}",
    )


def _orphan_of_a_killed_node_is_ended(on: parts.Installation) -> None:
    cluster, vast, node = on.cluster, on.vast, on.node
    pod = cluster.pod("gpu-pod")
    assert vast.alive(pod)
    # While the node is there: the object goes at once, and its owner is read anew before the machine is ended.
    cluster.kubectl("delete", "pod", "gpu-pod", "--force", "--grace-period=0")
    stage.until(lambda: not vast.alive(pod), "the machine of a pod that was deleted by force ended")
    cluster.kubectl("apply", *parts.EXAMPLES)
    pod = cluster.until_phase("gpu-pod", "Running", 60)
    # While it is not: nobody looks, until the next start lists all pods. A new label has it change its Node as well.
    node.kill()
    cluster.kubectl("delete", "pod", "gpu-pod", "--force", "--grace-period=0")
    assert vast.alive(pod)
    on.start_again(BAREBOAT_LABELS="example.com/room=2")
    stage.until(
        lambda: "example.com/room=2" in cluster.kubectl("get", "node", parts.NODE, "--show-labels"), "the new label"
    )
    stage.until(lambda: not vast.alive(pod), "the orphan ended", 60)


def _each_right_was_used(requests: list[recording.Request], manifests: list[stage.Json]) -> None:
    granted = rights.granted(manifests)
    # What is not there, or has changed meanwhile, was looked at with a right all the same.
    used = [each for each in requests if each.status not in (401, 403)]
    # To approve is asked of the signer by the API server itself while it handles the approval.
    approvals = [each for each in used if each.resource == "certificatesigningrequests/approval"]
    used += [
        recording.Request("approve", "certificates.k8s.io", "signers", name="kubernetes.io/kubelet-serving")
        for _ in approvals
    ]
    idle = [str(right) for right in granted if not any(right.covers(each) for each in used)]
    assert idle == [], "granted, and not used in a whole life"
    # Everyone who is authenticated may ask who they are; the other comes by a role of Kubernetes' own.
    by_others = {"selfsubjectreviews", "extension-apiserver-authentication"}
    strays = {
        re.sub(r" -> .*", "", str(each))
        for each in used
        if not any(right.covers(each) for right in granted) and not {each.resource, each.name} & by_others
    }
    assert strays == set(), "used, and not granted by these manifests"
