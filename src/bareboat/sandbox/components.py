"""The command line of each control-plane component: one function, one component. Nothing is started here.

Paths and flags are for a throw-away control plane on loopback: nothing is synced to disk, one replica leads without an
election, request limits are far above what a person's cluster has. What decides who may do what is as strict as there.
"""

import dataclasses
from pathlib import Path

from bareboat.sandbox import binaries, pki

ADDRESS = "127.0.0.1"
SERVICE_RANGE = "10.96.0.0/16"
# The first address of the range belongs to the Service `kubernetes`, hence to the API server's certificate.
SERVICE_ADDRESS = "10.96.0.1"
ISSUER = "https://kubernetes.default.svc.cluster.local"
# etcd and its client take a Unix socket as `unix://name:port`, relative to their working folder: short enough for any
# folder (the kernel allows 107 bytes) and open to nobody who may not enter the folder.
ETCD_URL = "unix://etcd.sock:1"
ETCD_PEER_URL = "unix://etcd-peer.sock:1"


@dataclasses.dataclass(frozen=True)
class Ports:
    """Where the components listen on loopback."""

    apiserver: int
    controller_manager: int
    scheduler: int


@dataclasses.dataclass(frozen=True)
class Credentials:
    """Every key and certificate of the control plane, as files."""

    authority: pki.Authority
    front_proxy_authority: pki.Authority
    front_proxy: pki.KeyPair
    server: pki.KeyPair
    token_key: pki.KeyPair
    kubelet_client: pki.KeyPair
    admin: pki.KeyPair
    controller_manager: pki.KeyPair
    scheduler: pki.KeyPair


def create_credentials(folder: Path) -> Credentials:
    """Makes the PKI in `folder`. Names and groups are those that the built-in RBAC rules are bound to."""
    authority = pki.create_authority(folder, "ca")
    front_proxy_authority = pki.create_authority(folder, "front-proxy-ca")
    hosts = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        ADDRESS,
        "::1",
        SERVICE_ADDRESS,
    ]
    return Credentials(
        authority=authority,
        front_proxy_authority=front_proxy_authority,
        front_proxy=front_proxy_authority.issue_client("front-proxy", "front-proxy-client"),
        server=authority.issue_server("server", "kube-apiserver", hosts),
        token_key=pki.create_token_key(folder, "service-account"),
        kubelet_client=authority.issue_client("kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"]),
        admin=authority.issue_client("admin", "kubernetes-admin", ["system:masters"]),
        controller_manager=authority.issue_client("controller-manager", "system:kube-controller-manager"),
        scheduler=authority.issue_client("scheduler", "system:kube-scheduler"),
    )


def etcd(found: binaries.Binaries) -> list[str | Path]:
    return [
        found.etcd,
        "--data-dir=etcd",
        f"--listen-client-urls={ETCD_URL}",
        f"--advertise-client-urls={ETCD_URL}",
        f"--listen-peer-urls={ETCD_PEER_URL}",
        f"--initial-advertise-peer-urls={ETCD_PEER_URL}",
        f"--initial-cluster=default={ETCD_PEER_URL}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver(found: binaries.Binaries, ports: Ports, credentials: Credentials) -> list[str | Path]:
    return [
        found.kube_apiserver,
        f"--etcd-servers={ETCD_URL}",
        f"--bind-address={ADDRESS}",
        f"--advertise-address={ADDRESS}",
        f"--secure-port={ports.apiserver}",
        # An Endpoints object for 127.0.0.1 is refused by validation, and nothing routes to it here.
        "--endpoint-reconciler-type=none",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--tls-cert-file={credentials.server.certificate_path}",
        f"--tls-private-key-file={credentials.server.key_path}",
        f"--client-ca-file={credentials.authority.certificate_path}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--enable-bootstrap-token-auth=true",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={credentials.token_key.certificate_path}",
        f"--service-account-signing-key-file={credentials.token_key.key_path}",
        f"--kubelet-certificate-authority={credentials.authority.certificate_path}",
        f"--kubelet-client-certificate={credentials.kubelet_client.certificate_path}",
        f"--kubelet-client-key={credentials.kubelet_client.key_path}",
        "--kubelet-preferred-address-types=InternalIP,Hostname,ExternalIP",
        f"--requestheader-client-ca-file={credentials.front_proxy_authority.certificate_path}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={credentials.front_proxy.certificate_path}",
        f"--proxy-client-key-file={credentials.front_proxy.key_path}",
        "--allow-privileged=true",
        "--max-requests-inflight=3000",
        "--max-mutating-requests-inflight=2000",
        "--profiling=false",
    ]


def controller_manager(found: binaries.Binaries, ports: Ports, credentials: Credentials) -> list[str | Path]:
    return [
        found.kube_controller_manager,
        "--kubeconfig=controller-manager.kubeconfig",
        "--authentication-kubeconfig=controller-manager.kubeconfig",
        "--authorization-kubeconfig=controller-manager.kubeconfig",
        f"--bind-address={ADDRESS}",
        f"--secure-port={ports.controller_manager}",
        f"--tls-cert-file={credentials.server.certificate_path}",
        f"--tls-private-key-file={credentials.server.key_path}",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={credentials.token_key.key_path}",
        f"--root-ca-file={credentials.authority.certificate_path}",
        f"--cluster-signing-cert-file={credentials.authority.certificate_path}",
        f"--cluster-signing-key-file={credentials.authority.key_path}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--controllers=*,bootstrap-signer-controller,token-cleaner-controller",
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
        "--profiling=false",
    ]


def scheduler(found: binaries.Binaries, ports: Ports, credentials: Credentials) -> list[str | Path]:
    return [
        found.kube_scheduler,
        "--kubeconfig=scheduler.kubeconfig",
        "--authentication-kubeconfig=scheduler.kubeconfig",
        "--authorization-kubeconfig=scheduler.kubeconfig",
        f"--bind-address={ADDRESS}",
        f"--secure-port={ports.scheduler}",
        f"--tls-cert-file={credentials.server.certificate_path}",
        f"--tls-private-key-file={credentials.server.key_path}",
        "--leader-elect=false",
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
        "--profiling=false",
    ]
