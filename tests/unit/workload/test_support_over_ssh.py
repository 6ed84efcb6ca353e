"""What ssh access refuses, tells and takes; and which way of access a pod gets."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bareboat.workload import access, annotations, support
from bareboat.workload import pod as pods

SSH, PLAIN = support.Access.SSH, support.Access.PLAIN
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "readOnlyRootFilesystem": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def a_pod(
    container: dict[str, Any] | None = None,
    *,
    asks: str | None = None,
    more: tuple[dict[str, Any], ...] = (),
    **spec: Any,
) -> pods.Pod:
    first = {"name": "main", "image": "busybox", **(container or {})}
    notes = {"bareboat.dev/access": asks} if asks is not None else {}
    told = {"metadata": {"annotations": notes}, "spec": {"containers": [first, *more], **spec}}
    return msgspec.convert(told, pods.Pod)


def with_volume(source: dict[str, Any]) -> pods.Pod:
    return a_pod({"volumeMounts": [{"name": "v", "mountPath": "/data"}]}, volumes=[{"name": "v", **source}])


def with_env(source: dict[str, Any]) -> pods.Pod:
    return a_pod({"env": [{"name": "X", "valueFrom": source}]})


OTHER = {"name": "side", "image": "nginx"}
REFUSED: list[tuple[pods.Pod, str, str]] = [
    (a_pod(more=(OTHER,)), "spec.containers[1].image", "pod of its own"),
    (a_pod(initContainers=[OTHER]), "spec.initContainers[0].image", "pod of its own"),
    (with_volume({"persistentVolumeClaim": {"claimName": "c"}}), "spec.volumes[0].persistentVolumeClaim", "emptyDir"),
    (with_volume({"hostPath": {"path": "/"}}), "spec.volumes[0].hostPath", "emptyDir"),
    (with_volume({"csi": {"driver": "d"}}), "spec.volumes[0].csi", "object store"),
    (with_volume({"ephemeral": {}}), "spec.volumes[0].ephemeral", "object store"),
    (with_volume({"nfs": {}}), "spec.volumes[0].nfs", "object store"),
    (with_volume({"iscsi": {}}), "spec.volumes[0]", "object store"),
    (with_volume({"image": {"reference": "x"}}), "spec.volumes[0].image", "put the files into"),
    (with_volume({"gitRepo": {"repository": "x"}}), "spec.volumes[0].gitRepo", "init container"),
    (with_volume({"projected": {"sources": [{"clusterTrustBundle": {"path": "x"}}]}}),
     "spec.volumes[0].projected.sources[0].clusterTrustBundle", "ConfigMap"),
    (with_volume({"emptyDir": {"medium": "HugePages-2Mi"}}), "spec.volumes[0].emptyDir.medium", "Memory"),
    (a_pod(hostNetwork=True), "spec.hostNetwork", "somebody else"),
    (a_pod(hostPID=True), "spec.hostPID", "somebody else"),
    (a_pod(hostIPC=True), "spec.hostIPC", "somebody else"),
    (a_pod(runtimeClassName="kata"), "spec.runtimeClassName", "nvidia"),
    (a_pod({"securityContext": {"privileged": True}}), "spec.containers[0].securityContext.privileged", "unprivileged"),
    (a_pod(initContainers=[{"name": "i", "image": "busybox", "securityContext": {"privileged": True}}]),
     "spec.initContainers[0].securityContext.privileged", "unprivileged"),
    (a_pod({"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}),
     "spec.containers[0].securityContext.capabilities.add", "NET_BIND_SERVICE"),
    (with_env({"fieldRef": {"fieldPath": "status.podIP"}}), "spec.containers[0].env[0].valueFrom.fieldRef", "address"),
    (with_env({"fileKeyRef": {"key": "k"}}), "spec.containers[0].env[0].valueFrom.fileKeyRef", "ConfigMap"),
    (a_pod({"volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]}), "spec.containers[0].volumeDevices", "storage"),
    (a_pod(resourceClaims=[{"name": "tpu"}]), "spec.resourceClaims", "nvidia.com/gpu"),
    (a_pod({"resources": {"claims": [{"name": "tpu"}]}}), "spec.containers[0].resources.claims", "nvidia.com/gpu"),
    (a_pod(os={"name": "windows"}), "spec.os.name", "linux"),
]  # fmt: skip

TAKEN: list[pods.Pod] = [
    a_pod(),
    a_pod({"securityContext": RESTRICTED}, securityContext={"runAsNonRoot": True, "fsGroup": 1000, "runAsUser": 1000,
          "seccompProfile": {"type": "RuntimeDefault"}, "supplementalGroups": [5]}),
    a_pod(more=({"name": "side", "image": "docker.io/library/busybox:latest"},)),
    a_pod(initContainers=[{"name": "i", "image": "busybox:latest"}, {"name": "s", "image": "busybox",
          "restartPolicy": "Always"}]),
    a_pod({"livenessProbe": {"exec": {"command": ["x"]}}, "startupProbe": {"grpc": {"port": 5}},
           "readinessProbe": {"httpGet": {"port": 80, "host": "db"}}, "lifecycle": {"preStop": {"sleep": {}}}}),
    a_pod({"stdin": True, "tty": True, "workingDir": "/srv", "restartPolicy": "Never"}),
    a_pod(hostAliases=[{"ip": "10.0.0.1", "hostnames": ["a"]}], subdomain="web"),
    a_pod(volumes=[{"name": "unmounted", "hostPath": {"path": "/"}}]),
    *(with_volume({kind: {}}) for kind in ("configMap", "secret", "projected", "downwardAPI", "emptyDir")),
    with_volume({"emptyDir": {"medium": "Memory"}}),
]  # fmt: skip

TOLD: list[tuple[pods.Pod, str]] = [
    (a_pod(ephemeralContainers=[{"name": "debug"}]), "spec.ephemeralContainers[0]"),
    (a_pod(dnsConfig={"nameservers": ["1.1.1.1"]}), "spec.dnsConfig"),
    (a_pod({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
     "spec.containers[0].securityContext.seccompProfile.type"),
    (a_pod(securityContext={"seccompProfile": {"type": "Localhost"}}), "spec.securityContext.seccompProfile.type"),
    (a_pod({"livenessProbe": {"grpc": {"port": "none"}}}), "spec.containers[0].livenessProbe.grpc.port"),
    (a_pod({"restartPolicyRules": [{"action": "Restart"}]}), "spec.containers[0].restartPolicyRules"),
    (a_pod(securityContext={"supplementalGroupsPolicy": "Strict"}), "spec.securityContext.supplementalGroupsPolicy"),
]  # fmt: skip


@pytest.mark.parametrize(("pod", "field", "word"), REFUSED)
def test_refusal_names_the_field_and_what_to_do(pod: pods.Pod, field: str, word: str) -> None:
    (only,) = support.refusals(pod, SSH)
    assert (only.field, only.fatal) == (field, True)
    assert word in only.why
    assert "{" not in only.why


@pytest.mark.parametrize("pod", TAKEN)
def test_what_is_honoured_or_emulated_is_taken_without_a_word(pod: pods.Pod) -> None:
    assert support.check(pod, SSH) == ()


@pytest.mark.parametrize(("pod", "field"), TOLD)
def test_what_is_left_out_is_told_and_the_pod_runs(pod: pods.Pod, field: str) -> None:
    assert [(each.field, each.fatal) for each in support.check(pod, SSH)] == [(field, False)]


def test_restricted_profile_is_a_refusal_in_no_way_of_access() -> None:
    assert support.refusals(TAKEN[1], SSH) == support.refusals(TAKEN[1], PLAIN) == ()


def test_field_of_the_address_is_taken_where_there_is_a_true_one() -> None:
    pod = with_env({"fieldRef": {"fieldPath": "status.podIP"}})
    assert support.refusals(pod, SSH, pod_ips=("10.1.2.3",)) == ()
    assert access.choose(pod, pod_ips=("10.1.2.3",)) == access.Choice(SSH)


def test_simplest_access_is_the_one_that_is_needed() -> None:
    assert support.access_needed(a_pod()) is PLAIN
    assert support.access_needed(with_volume({"secret": {}})) is SSH
    assert support.access_needed(a_pod(hostNetwork=True)) is None


FILES = {"configMap": {"name": "c"}}
NO_SSH = "the cloud vast gives no shell to this image"


@pytest.mark.parametrize(
    ("pod", "default", "obstacles", "expected", "words"),
    [
        (a_pod(), SSH, (), SSH, ""),
        (a_pod(), PLAIN, (), PLAIN, ""),
        (a_pod(asks="plain"), SSH, (), PLAIN, ""),
        (a_pod(asks="ssh"), PLAIN, (), SSH, ""),
        (a_pod(), SSH, (NO_SSH,), PLAIN, NO_SSH),
        (a_pod(), PLAIN, (NO_SSH,), PLAIN, ""),
        (with_volume(FILES), PLAIN, (), SSH, "configMap volume"),
    ],
)
def test_default_gives_way_with_a_reason_and_the_annotation_does_not(
    pod: pods.Pod, default: support.Access, obstacles: tuple[str, ...], expected: support.Access, words: str
) -> None:
    choice = access.choose(pod, default, obstacles=obstacles)
    assert choice.access is expected
    assert words in choice.why
    assert bool(choice.why) is bool(words)
    assert choice.refused == ""


@pytest.mark.parametrize(
    ("pod", "default", "words"),
    [
        (a_pod(asks="ssh"), SSH, ("annotation bareboat.dev/access asks for ssh", NO_SSH)),
        (a_pod(asks="plain", hostPID=True), SSH, ("asks for plain", "spec.hostPID")),
        (with_volume(FILES), SSH, (NO_SSH, "configMap volume 'v'")),
        (a_pod(hostNetwork=True), PLAIN, ("spec.hostNetwork",)),
    ],
)
def test_pod_that_no_access_can_run_is_refused_with_all_reasons(
    pod: pods.Pod, default: support.Access, words: tuple[str, ...]
) -> None:
    choice = access.choose(pod, default, obstacles=(NO_SSH,))
    assert all(word in choice.refused for word in words)


def test_same_reason_is_not_said_twice() -> None:
    assert access.choose(a_pod(hostNetwork=True)).refused.count("spec.hostNetwork") == 1


def test_annotation_that_makes_no_sense_says_what_is_allowed() -> None:
    with pytest.raises(annotations.Invalid, match="'telnet'; allowed: ssh, plain"):
        access.choose(a_pod(asks="telnet"))


@settings(deadline=None)
@given(
    st.sampled_from([pod for pod, *_ in [*REFUSED, *TOLD]] + TAKEN),
    st.sampled_from(list(support.Access)),
    st.sampled_from([(), (NO_SSH,)]),
)
def test_access_that_was_chosen_refuses_nothing(
    pod: pods.Pod, default: support.Access, obstacles: tuple[str, ...]
) -> None:
    choice = access.choose(pod, default, obstacles=obstacles)
    if not choice.refused:
        assert support.refusals(pod, choice.access) == ()
        assert not (choice.access is SSH and obstacles)
    elif not obstacles:
        assert support.access_needed(pod) is None
