"""What the sandbox's control plane really does: schedule, issue tokens, sign certificates, hold nodes to their own."""

import base64
import json
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.integration import conftest

from bareboat.sandbox import controlplane

DEADLINE_S = 30.0


def a_node(name: str) -> str:
    status = {"capacity": {"nvidia.com/gpu": "2", "pods": "10", "cpu": "8", "memory": "16Gi"}}
    return json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status})


def a_pod(name: str, *, gpus: int) -> str:
    container = {"name": "main", "image": "busybox", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    spec = {"containers": [container], "tolerations": [{"operator": "Exists"}]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def test_the_programs_are_of_the_wanted_version(sandbox: controlplane.ControlPlane, kubectl: conftest.Kubectl) -> None:
    version = json.loads(kubectl("version", "-o", "json"))
    assert version["serverVersion"]["minor"] == version["clientVersion"]["minor"] == "36"
    assert set(sandbox.component_pids()) == {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}


def test_it_is_ready_within_fifteen_seconds(sandbox: controlplane.ControlPlane) -> None:
    started = {stage: seconds for stage, seconds in sandbox.stages.items() if stage != "binaries"}
    assert list(started) == ["certificates", "apiserver", "controllers"]
    assert sum(started.values()) < 15, started


def test_the_scheduler_gives_a_gpu_pod_to_the_node_that_has_gpus(kubectl: conftest.Kubectl) -> None:
    kubectl("create", "namespace", "scheduling")
    kubectl("create", "-f", "-", stdin=a_node("with-gpus"))
    try:
        kubectl("-n", "scheduling", "create", "-f", "-", stdin=a_pod("fits", gpus=2))
        kubectl("-n", "scheduling", "wait", "--for=condition=PodScheduled", "pod/fits", f"--timeout={DEADLINE_S:g}s")
        assert kubectl("-n", "scheduling", "get", "pod", "fits", "-o", "jsonpath={.spec.nodeName}") == "with-gpus"
        kubectl("-n", "scheduling", "create", "-f", "-", stdin=a_pod("too-big", gpus=3))
        unscheduled = "--for=jsonpath={.status.conditions[0].reason}=Unschedulable"
        kubectl("-n", "scheduling", "wait", unscheduled, "pod/too-big", f"--timeout={DEADLINE_S:g}s")
    finally:
        kubectl("delete", "node", "with-gpus")
        kubectl("-n", "scheduling", "delete", "pod", "--all", "--force")
        kubectl("delete", "namespace", "scheduling", "--wait=false")


def test_a_service_account_works_with_its_token(
    sandbox: controlplane.ControlPlane, kubectl: conftest.Kubectl, tmp_path: Path
) -> None:
    path = sandbox.kubeconfig_for_token(kubectl("create", "token", "default").strip(), path=tmp_path / "kubeconfig")
    who = json.loads(kubectl("auth", "whoami", "-o", "json", kubeconfig=path))
    assert who["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"


def test_a_node_is_held_to_its_own_object_and_to_harmless_labels(
    sandbox: controlplane.ControlPlane, kubectl: conftest.Kubectl
) -> None:
    path = sandbox.kubeconfig_for_user("system:node:mine", ["system:nodes"])
    kubectl("create", "-f", "-", stdin=a_node("mine"), kubeconfig=path)
    try:
        kubectl("label", "node", "mine", "bareboat.dev/harmless=yes", kubeconfig=path)
        with pytest.raises(pytest.fail.Exception, match="is not allowed to modify labels"):
            kubectl("label", "node", "mine", "node-restriction.kubernetes.io/trusted=yes", kubeconfig=path)
        with pytest.raises(pytest.fail.Exception, match="node 'mine' cannot read 'other'"):
            kubectl("get", "node", "other", kubeconfig=path)
    finally:
        kubectl("delete", "node", "mine")


def test_an_approved_kubelet_serving_certificate_is_signed_by_the_sandboxs_authority(
    sandbox: controlplane.ControlPlane, kubectl: conftest.Kubectl
) -> None:
    user = "system:node:signed"
    names = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, user),
    ]
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(names))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("signed")]), critical=False)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    spec = {
        "request": base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode(),
        "signerName": "kubernetes.io/kubelet-serving",
        "usages": ["digital signature", "server auth"],
    }
    api_version = "certificates.k8s.io/v1"
    content = {
        "apiVersion": api_version,
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "signed"},
        "spec": spec,
    }
    as_node = sandbox.kubeconfig_for_user(user, ["system:nodes"])
    kubectl("create", "-f", "-", stdin=json.dumps(content), kubeconfig=as_node)
    kubectl("certificate", "approve", "signed")
    give_up_s = time.monotonic() + DEADLINE_S
    issued = ""
    while not issued:
        assert time.monotonic() < give_up_s, kubectl("describe", "csr", "signed")
        issued = kubectl("get", "csr", "signed", "-o", "jsonpath={.status.certificate}")
    certificate = x509.load_pem_x509_certificate(base64.b64decode(issued))
    certificate.verify_directly_issued_by(sandbox.credentials.authority.certificate)


def test_the_api_server_answers_nobody_without_credentials(
    sandbox: controlplane.ControlPlane, kubectl: conftest.Kubectl
) -> None:
    with pytest.raises(pytest.fail.Exception, match="cannot list resource"):
        kubectl("get", "secrets", "-A", kubeconfig=sandbox.kubeconfig_for_user("nobody-special"))
