"""What plain access can't honour is named by its full path, with a reason, and only then."""

from typing import Any

import msgspec
import pytest

from bareboat.workload import pod as pods
from bareboat.workload import support

TOKEN = {"name": "kube-api-access-abcde", "projected": {"sources": []}}
TOKEN_MOUNT = {"name": "kube-api-access-abcde", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
PROBE = {"httpGet": {"port": 80}}


def a_pod(container: dict[str, Any] | None = None, **spec: Any) -> pods.Pod:
    first = {"name": "main", "image": "busybox", "ports": [{"containerPort": 80, "name": "web"}], **(container or {})}
    return msgspec.convert({"metadata": {}, "spec": {"containers": [first], **spec}}, pods.Pod)


def with_volume(source: dict[str, Any]) -> pods.Pod:
    mounts = [{"name": "v", "mountPath": "/data"}]
    return a_pod({"volumeMounts": mounts}, volumes=[{"name": "v", **source}])


def with_env(source: dict[str, Any]) -> pods.Pod:
    return a_pod({"env": [{"name": "A", "value": "1"}, {"name": "X", "valueFrom": source}]})


def secured(**context: Any) -> pods.Pod:
    return a_pod({"securityContext": context})


FATAL: list[tuple[pods.Pod, str]] = [
    (a_pod(containers=[{"name": "a"}, {"name": "b"}]), "spec.containers[1]"),
    (a_pod(initContainers=[{"name": "init"}]), "spec.initContainers[0]"),
    (a_pod(ephemeralContainers=[{"name": "debug"}]), "spec.ephemeralContainers[0]"),
    *(
        (with_volume({kind: {}}), "spec.containers[0].volumeMounts[0]")
        for kind in (
            "configMap", "secret", "projected", "downwardAPI", "persistentVolumeClaim", "hostPath", "csi", "ephemeral",
            "nfs", "iscsi", "image", "gitRepo",
        )
    ),
    (a_pod(hostNetwork=True), "spec.hostNetwork"),
    (a_pod(hostPID=True), "spec.hostPID"),
    (a_pod(hostIPC=True), "spec.hostIPC"),
    (a_pod(runtimeClassName="gvisor"), "spec.runtimeClassName"),
    (secured(privileged=True), "spec.containers[0].securityContext.privileged"),
    (secured(capabilities={"add": ["NET_ADMIN"]}), "spec.containers[0].securityContext.capabilities.add"),
    (with_env({"fieldRef": {"fieldPath": "status.podIP"}}), "spec.containers[0].env[1].valueFrom.fieldRef"),
    (with_env({"fileKeyRef": {"key": "k"}}), "spec.containers[0].env[1].valueFrom.fileKeyRef"),
    (a_pod(os={"name": "windows"}), "spec.os.name"),
    (a_pod(resourceClaims=[{"name": "tpu"}]), "spec.resourceClaims"),
    (a_pod({"resources": {"claims": [{"name": "tpu"}]}}), "spec.containers[0].resources.claims"),
    (a_pod({"volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]}), "spec.containers[0].volumeDevices"),
    (a_pod(volumes=[{"name": "h", "emptyDir": {"medium": "HugePages"}}]), "spec.volumes[0].emptyDir.medium"),
]  # fmt: skip

TOLD: list[tuple[pods.Pod, str]] = [
    (with_volume({"emptyDir": {}}), "spec.containers[0].volumeMounts[0]"),
    (a_pod({"livenessProbe": PROBE}), "spec.containers[0].livenessProbe"),
    (a_pod({"readinessProbe": {"exec": {"command": ["x"]}}}), "spec.containers[0].readinessProbe.exec"),
    (a_pod({"startupProbe": {"grpc": {"port": 1}}}), "spec.containers[0].startupProbe.grpc"),
    (a_pod({"readinessProbe": {"httpGet": {"port": "none"}}}), "spec.containers[0].readinessProbe.httpGet.port"),
    (
        a_pod({"readinessProbe": {"tcpSocket": {"port": 80, "host": "db"}}}),
        "spec.containers[0].readinessProbe.tcpSocket.host",
    ),
    (a_pod({"lifecycle": {"preStop": {"exec": {}}}}), "spec.containers[0].lifecycle"),
    (a_pod({"stdin": True}), "spec.containers[0].stdin"),
    (a_pod({"tty": True}), "spec.containers[0].tty"),
    (a_pod({"workingDir": "/srv"}), "spec.containers[0].workingDir"),
    (a_pod({"restartPolicy": "Always"}), "spec.containers[0].restartPolicy"),
    (a_pod({"ports": [{"containerPort": 80, "hostPort": 8080}]}), "spec.containers[0].ports[0].hostPort"),
    (a_pod({"ports": [{"containerPort": 80, "protocol": "SCTP"}]}), "spec.containers[0].ports[0].protocol"),
    (a_pod({"restartPolicyRules": [{"action": "Restart"}]}), "spec.containers[0].restartPolicyRules"),
    (a_pod({"imagePullPolicy": "Never"}), "spec.containers[0].imagePullPolicy"),
    (
        a_pod({"volumeMounts": [TOKEN_MOUNT | {"mountPropagation": "Bidirectional"}]}, volumes=[TOKEN]),
        "spec.containers[0].volumeMounts[0].mountPropagation",
    ),
    (
        a_pod({"volumeMounts": [TOKEN_MOUNT | {"recursiveReadOnly": "Enabled"}]}, volumes=[TOKEN]),
        "spec.containers[0].volumeMounts[0].recursiveReadOnly",
    ),
    (a_pod(hostUsers=False), "spec.hostUsers"),
    (a_pod(hostAliases=[{"ip": "10.0.0.1"}]), "spec.hostAliases"),
    (a_pod(dnsConfig={"nameservers": ["1.1.1.1"]}), "spec.dnsConfig"),
    (a_pod(subdomain="web"), "spec.subdomain"),
    (secured(runAsUser=0), "spec.containers[0].securityContext.runAsUser"),
    (secured(runAsNonRoot=True), "spec.containers[0].securityContext.runAsNonRoot"),
    (secured(readOnlyRootFilesystem=True), "spec.containers[0].securityContext.readOnlyRootFilesystem"),
    (secured(allowPrivilegeEscalation=False), "spec.containers[0].securityContext.allowPrivilegeEscalation"),
    (secured(capabilities={"drop": ["ALL"]}), "spec.containers[0].securityContext.capabilities.drop"),
    (secured(seccompProfile={"type": "RuntimeDefault"}), "spec.containers[0].securityContext.seccompProfile.type"),
    (a_pod(securityContext={"fsGroup": 1000}), "spec.securityContext.fsGroup"),
    (a_pod(securityContext={"sysctls": [{"name": "kernel.x", "value": "1"}]}), "spec.securityContext.sysctls"),
]

FINE: list[pods.Pod] = [
    a_pod(),
    a_pod({"volumeMounts": [TOKEN_MOUNT]}, volumes=[TOKEN]),
    a_pod(volumes=[{"name": "unmounted", "configMap": {"name": "x"}}]),
    a_pod({"readinessProbe": PROBE, "startupProbe": {"tcpSocket": {"port": "web"}}}),
    a_pod({"workingDir": "/srv", "command": ["run"]}),
    a_pod(runtimeClassName="nvidia"),
    a_pod(securityContext={}, readinessGates=[{"conditionType": "x"}], shareProcessNamespace=True),
    secured(privileged=False, runAsNonRoot=False, allowPrivilegeEscalation=True, capabilities={}),
    with_env({"fieldRef": {"fieldPath": "metadata.name"}}),
]


@pytest.mark.parametrize(("pod", "field"), FATAL)
def test_pod_that_could_only_run_wrong_never_rents(pod: pods.Pod, field: str) -> None:
    assert [(each.field, each.fatal) for each in support.check(pod)] == [(field, True)]


@pytest.mark.parametrize(("pod", "field"), TOLD)
def test_field_that_is_left_out_is_told_and_the_pod_runs(pod: pods.Pod, field: str) -> None:
    assert [(each.field, each.fatal) for each in support.check(pod)] == [(field, False)]


@pytest.mark.parametrize("pod", FINE)
def test_nothing_is_said_of_what_is_honoured_or_stands_on_every_pod(pod: pods.Pod) -> None:
    assert support.check(pod) == ()


def test_projected_volume_of_the_users_own_is_not_taken_for_the_token() -> None:
    mount = {"name": "kube-api-access-mine", "mountPath": "/etc/other"}
    pod = a_pod({"volumeMounts": [mount]}, volumes=[{"name": "kube-api-access-mine", "projected": {}}])
    assert [each.fatal for each in support.check(pod)] == [True]


def test_every_rule_is_hit_by_an_example_above() -> None:
    pod_list = [pod for pod, _ in FATAL + TOLD]
    silent = [rule.field for rule in support.RULES if not any(list(rule.hits(pod)) for pod in pod_list)]
    # The remaining keys of securityContext share one rule's code.
    assert all(field.startswith(("SecurityContext.", "PodSecurityContext.")) for field in silent)


def test_fatal_reasons_come_first_and_what_was_asked_is_in_the_sentence() -> None:
    found = support.check(a_pod({"tty": True, "securityContext": {"capabilities": {"add": ["NET_ADMIN", "SYS_TIME"]}}}))
    assert [each.fatal for each in found] == [True, False]
    assert "NET_ADMIN, SYS_TIME" in support.sentence(found)


def test_sentence_fits_an_event_and_counts_what_it_leaves_out() -> None:
    pod = a_pod(initContainers=[{"name": f"init-{number}"} for number in range(40)])
    text = support.sentence(support.check(pod))
    assert len(text) <= support.LONGEST_SENTENCE + 20
    assert text.startswith("spec.initContainers[0]: ")
    assert " more" in text


def test_annotation_that_makes_no_sense_is_left_to_its_reader() -> None:
    pod = msgspec.convert(
        {
            "metadata": {"annotations": {"bareboat.dev/exit-code": "perhaps"}},
            "spec": {"containers": [{"name": "main", "command": ["x"], "workingDir": "/srv"}]},
        },
        pods.Pod,
    )
    assert support.check(pod) == ()


def test_no_placeholder_is_left_in_any_sentence() -> None:
    for pod, _ in FATAL + TOLD:
        assert "{" not in support.sentence(support.check(pod))
