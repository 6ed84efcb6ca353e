"""Pods as an API server fills them in: nothing that stands on every pod is taken for a wish, and a chart's pod runs."""

import json
import textwrap

import msgspec
import pytest
from tests.integration import conftest

from bareboat.registry import configs
from bareboat.workload import pod as pods
from bareboat.workload import sources, ssh_launch, support, volume_files

NAMESPACE = "charts"
RESTRICTED = """
apiVersion: v1
kind: Pod
metadata: {name: restricted, namespace: charts}
spec:
  securityContext:
    {runAsNonRoot: true, runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, seccompProfile: {type: RuntimeDefault}}
  initContainers:
  - name: prepare
    image: busybox:1.36
    command: [sh, -c, "echo hello > /scratch/x"]
    volumeMounts: [{name: scratch, mountPath: /scratch}]
    securityContext: &restricted
      {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, readOnlyRootFilesystem: true}
  - {name: sidecar, image: busybox:1.36, command: [sleep, inf], restartPolicy: Always, securityContext: *restricted}
  containers:
  - name: main
    image: docker.io/library/busybox:1.36
    args: ["$(WHO)"]
    env:
    - {name: WHO, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    ports: [{containerPort: 8080, name: web}]
    livenessProbe: {exec: {command: [cat, /scratch/x]}}
    readinessProbe: {httpGet: {path: /, port: web}}
    lifecycle: {preStop: {sleep: {seconds: 1}}}
    volumeMounts: [{name: scratch, mountPath: /scratch}, {name: all, mountPath: /etc/all}]
    securityContext: *restricted
    resources: {limits: {memory: 64Mi}}
  volumes:
  - {name: scratch, emptyDir: {}}
  - name: all
    projected:
      sources:
      - {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
      - {serviceAccountToken: {path: vault, audience: vault, expirationSeconds: 600}}
"""


@pytest.fixture(scope="module")
def chart_pod(kubectl: conftest.Kubectl) -> pods.Pod:
    """In a namespace whose pod security is `restricted`, so that the API server itself vouches for the example."""
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    try:
        kubectl("apply", "-f", "-", stdin=textwrap.dedent(RESTRICTED))
        return msgspec.json.decode(kubectl("get", "pod", "restricted", "-n", NAMESPACE, "-o", "json"), type=pods.Pod)
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_api_server_fills_in_what_nobody_asked_for(chart_pod: pods.Pod) -> None:
    assert chart_pod.spec.containers[0].termination_message_path == "/dev/termination-log"
    assert any(volume.name.startswith(support.TOKEN_VOLUME) for volume in chart_pod.spec.volumes)


def test_nothing_of_it_is_refused_or_left_out_in_ssh_access(chart_pod: pods.Pod) -> None:
    assert support.check(chart_pod, support.Access.SSH) == ()


def test_plain_access_says_what_it_lacks(chart_pod: pods.Pod) -> None:
    fields = {each.field for each in support.refusals(chart_pod, support.Access.PLAIN)}
    assert {"spec.initContainers[0]", "spec.initContainers[1]", "spec.containers[0].volumeMounts[1]"} <= fields
    assert support.access_needed(chart_pod) is support.Access.SSH


def test_its_launch_document_and_files_are_whole(chart_pod: pods.Pod) -> None:
    image = configs.Image("docker.io/library/busybox", "sha256:1", configs.Config(cmd=("sh",), env=(("PATH", "/bin"),)))
    found = sources.Sources({"kube-root-ca.crt": sources.ConfigMap(data={"ca.crt": "CA"})})
    made = ssh_launch.build(chart_pod, ssh_launch.Known(image, found), attempt="1")
    assert made.launch is not None
    assert made.told == ()
    main = made.launch.containers[0]
    assert (main.user, main.groups, main.argv) == ("1000:3000", (2000,), ("restricted",))
    assert [(each.name, each.restart) for each in made.launch.init] == [("prepare", "OnFailure"), ("sidecar", "Always")]
    assert main.readiness is not None
    assert main.readiness.action.port == 8080
    assert json.loads(msgspec.json.encode(made.launch))["hostname"] == "restricted"

    tokens = {each.request: volume_files.Token("t", 0.0, 600.0) for each in volume_files.tokens(chart_pod)}
    assert {each.audience for each in tokens} == {"", "vault"}
    files = volume_files.build(chart_pod, found, sources.NodeFacts(), tokens)
    assert files.blocking is None
    names = sorted(path for of_volume in files.files.values() for path in of_volume)
    assert names == ["ca.crt", "name", "namespace", "token", "vault"]
