"""deploy/ applied to the control plane, and the node run as the Deployment says, as its ServiceAccount."""

import base64
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.deploy import recording
from tests.integration.node import stage

from bareboat.sandbox import controlplane, kubeconfigs

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
EXAMPLES = [f"--filename={DEPLOY / 'examples' / name}" for name in ("gpu-pod.yaml", "june-gpu-services.yaml")]
TOTAL_CAPS = DEPLOY / "examples" / "total-caps-rights.yaml"
NODE = "vast-gpu-node-na-1"
Json = dict[str, Any]


def manifests(*paths: Path) -> list[Json]:
    """Of these files, else of deploy/."""
    return [
        each for path in paths or sorted(DEPLOY.glob("[0-9]*.yaml")) for each in yaml.safe_load_all(path.read_text())
    ]


@dataclass
class Installation:
    """One that `make deploy` has made. `requests` are those of the node to the API server so far."""

    cluster: stage.Cluster
    vast: stage.Vast
    node: stage.Node
    folder: Path
    settings: dict[str, str]
    kubectl: str
    requests: list[recording.Request] = field(default_factory=list)

    def start_again(self, **settings: str) -> None:
        """Another process of the same node, with other settings."""
        self.node = stage.Node(self.cluster, NODE, self.folder / "node.log", self.settings | settings)
        self.node.start()

    @property
    def refused(self) -> list[str]:
        return [str(each) for each in self.requests if each.status in (401, 403)]


def make(*arguments: str, kubectl: str, home: Path, api_key: str = "") -> str:
    """The Makefile's own targets, on this control plane; what they print."""
    done = subprocess.run(
        ["make", *arguments, f"KUBECTL={kubectl}", "REGISTRY=registry.example.com", "WAIT=no"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(home), "VAST_API_KEY": api_key},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(cluster: stage.Cluster, name: str = "virtual-kubelet-vast") -> dict[str, str]:
    """What the kubelet would give the container of the Deployment, on a machine with the address 127.0.0.1."""
    deployment = _read(cluster, f"deployment/{name}")
    found: dict[str, str] = {}
    for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]:
        source = each.get("valueFrom", {})
        if "secretKeyRef" in source:
            reference = source["secretKeyRef"]
            secret = _read(cluster, f"secret/{reference['name']}")
            found[each["name"]] = base64.b64decode(secret["data"][reference["key"]]).decode()
        elif "fieldRef" in source:
            assert source["fieldRef"]["fieldPath"] == "status.podIP"
            found[each["name"]] = "127.0.0.1"
        else:
            found[each["name"]] = each["value"]
    return found


def _read(cluster: stage.Cluster, what: str) -> Json:
    found: Json = yaml.safe_load(cluster.kubectl("-n", "kube-system", "get", what, "-o", "yaml"))
    return found


@pytest.fixture
def deployed(sandbox: controlplane.ControlPlane, tmp_path: Path) -> Iterator[Installation]:
    """Applied twice, as people do; the node not started yet. All taken back at the end."""
    cluster = stage.Cluster(sandbox, "default")
    kubectl = f"{sandbox.kubectl_path} --kubeconfig={sandbox.kubeconfig_path}"
    with (
        stage.Vast(tmp_path, speed=stage.SPEED, script={"profile": "none"}) as vast,
        recording.recorded(sandbox) as (url, requests),
    ):
        try:
            # As on a cluster that has never seen a node: other tests share this one.
            cluster.kubectl("-n", "kube-system", "delete", "secret", "bareboat-ssh", "--ignore-not-found")
            make("deploy", kubectl=kubectl, home=tmp_path, api_key=vast.key)
            make("deploy", kubectl=kubectl, home=tmp_path)
            token = cluster.kubectl("-n", "kube-system", "create", "token", "virtual-kubelet-vast").strip()
            kubeconfig = tmp_path / "service-account.kubeconfig"
            kubeconfigs.for_token(kubeconfig, url=url, authority_path=sandbox.authority_path, token=token, name="test")
            settings = {
                **stage.QUICK,
                **environment(cluster),
                "KUBECONFIG": str(kubeconfig),
                "KUBELET_PORT": "0",
                "VAST_URL": vast.url,
                "VAST_LATENCY_CHECK_ENABLED": "false",
                "BAREBOAT_REGISTRY_MIRRORS": f"*={vast.registry_url}",
            }
            node = stage.Node(cluster, NODE, tmp_path / "node.log", settings)
            installation = Installation(cluster, vast, node, tmp_path, settings, kubectl, requests)
            try:
                yield installation
            finally:
                _take_down(installation)
        finally:
            for path in (DEPLOY, TOTAL_CAPS):
                command = [*kubectl.split(), "delete", "-f", str(path), "--ignore-not-found", "--wait=false"]
                subprocess.run(command, check=True)
            cluster.kubectl("delete", *EXAMPLES, "--ignore-not-found", "--wait=false")
            cluster.close()


def _take_down(installation: Installation) -> None:
    cluster, node = installation.cluster, installation.node
    if node.running:
        node.stop()
    for pod in cluster.pods():
        if pod["spec"].get("nodeName") == NODE:
            cluster.delete("pods", pod["metadata"]["name"], grace_s=0)
    cluster.delete("nodes", NODE)
