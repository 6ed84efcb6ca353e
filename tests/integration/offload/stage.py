"""A whole installation of the offload door: a simulated RunPod, `bareboat offload`, a namespace of the control plane.

The parts are those of the node's stage; what is here is RunPod's and the Jobs'.
"""

import contextlib
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.integration.node import stage as parts

from bareboat.sandbox import controlplane

Json = parts.Json
QUICK = {
    "BAREBOAT_WATCH_IDLE_S": "1",
    "BAREBOAT_WATCH_BUSY_S": "0.3",
    "BAREBOAT_START_TIMEOUT_S": "60",
    "BAREBOAT_GUARD_AGE_S": "3",
    "RUNPOD_RATE_LIMIT": "off",
    "RUNPOD_VISIBILITY_WINDOW_S": "4",
    "RUNPOD_TIMEOUT_S": "3",
    "RUNPOD_PATIENCE_S": "6",
    "KUBELET_PORT": "0",
}
EXAMPLE = """
apiVersion: batch/v1
kind: Job
metadata:
  name: my-gpu-job
  annotations:
    runpod.io/managed: "true"
    runpod.io/offload: "true"
    runpod.io/required-gpu-memory: "16"
spec:
  template:
    spec:
      containers:
      - name: my-container
        image: my-gpu-image:latest
        resources:
          requests:
            nvidia.com/gpu: 1
          limits:
            nvidia.com/gpu: 1
      restartPolicy: Never
"""
"""As in the document, image and all."""


class RunPod(parts.Vast):
    """A simulated RunPod in a process of its own."""

    cloud = "runpod"


class Offload(parts.Node):
    """`bareboat offload` in a process of its own."""

    door = "offload"

    def health(self, path: str) -> tuple[int, str]:
        """Status and words of /healthz or /readyz; (0, …) when nobody answers."""
        lines = [line for line in self.log.splitlines() if "health_port=" in line]
        if not lines:
            return 0, "not started"
        port = lines[-1].rpartition("health_port=")[2].split()[0]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return int(answer.status), answer.read().decode().strip()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode().strip()
        except OSError as nobody:
            return 0, str(nobody)


class Stage:
    """One test's installation; `doors` are the offload processes by order of start."""

    def __init__(self, cluster: parts.Cluster, runpod: RunPod, folder: Path) -> None:
        self.cluster = cluster
        self.runpod = runpod
        self.folder = folder
        self.doors: list[Offload] = []

    def offload(self, *, start: bool = True, named: str = "", **settings: str) -> Offload:
        name = named or f"{self.cluster.namespace}-{len(self.doors)}"
        environment = {
            **QUICK,
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "NODENAME": name,
            "RUNPOD_URL": self.runpod.url,
            "RUNPOD_KEY": self.runpod.key,
            "BAREBOAT_REGISTRY_MIRRORS": f"*={self.runpod.registry_url}",
            "BAREBOAT_OFFLOAD_HEALTH_SERVER_ADDRESS": "127.0.0.1:0",
            # The control plane is one for all tests: only this one's Jobs are looked at.
            "BAREBOAT_OFFLOAD_NAMESPACES": self.cluster.namespace,
            **settings,
        }
        made = Offload(self.cluster, name, self.folder / f"{len(self.doors)}.log", environment)
        self.doors.append(made)
        if start:
            made.start()
        return made

    def explain(self, *flags: str) -> str:
        """What `bareboat offload --explain` prints of this namespace's Jobs, for the node of the first door."""
        done = subprocess.run(
            [
                *(*parts.BAREBOAT, "offload", "--explain", "--kubeconfig", str(self.cluster.kubeconfig)),
                *("--nodename", self.doors[0].name, "--namespaces", self.cluster.namespace, *flags),
            ],
            env=parts.clean_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def job(self, name: str) -> Json:
        found = self.cluster.find("jobs", name)
        assert found is not None, f"there is no Job {name}"
        return found

    def pods_of(self, job: str) -> list[Json]:
        found = [each for each in self.cluster.pods() if each["metadata"]["labels"].get("job-name") == job]
        return sorted(found, key=lambda each: str(each["metadata"]["creationTimestamp"]))

    def until_over(self, name: str, condition: str, deadline_s: float = 60.0) -> Json:
        """The Job once it is Complete or Failed."""

        def over() -> Json | None:
            found = self.job(name)
            return found if parts.condition(found, condition) == "True" else None

        def told() -> str:
            return f"Job {name} {condition}; it is {self.job(name)['status']}, its pods " + "; ".join(
                parts.told(each) for each in self.pods_of(name)
            )

        found = parts.until(over, told, deadline_s)
        assert found is not None
        return found

    def assert_clean(self) -> None:
        """Nothing runs any more, and nothing was rented twice at one time for one pod."""
        parts.until(lambda: not self.alive(), lambda: f"all ended; alive are {self.alive()}")
        parts.assert_no_double_rent(self.runpod)

    def rented(self) -> list[Json]:
        """Every instance of ours that ever was; there are foreign ones on the account."""
        return [each for each in self.runpod.instances() if not each.get("foreign")]

    def alive(self) -> list[Json]:
        return [each for each in self.rented() if each["gone_s"] is None]

    def close(self) -> None:
        for door in self.doors:
            if door.running:
                door.stop()
            sys.stdout.write(f"--- log of {door.name}\n{door.log[-12_000:]}\n")
        self.cluster.kubectl("delete", "jobs", "--all", "--wait=false", check=False)
        for pod in self.cluster.pods():
            self.cluster.delete("pods", pod["metadata"]["name"], grace_s=0)
        for door in self.doors:
            self.cluster.delete("nodes", door.name)
        self.cluster.delete("namespaces", self.cluster.namespace)
        self.cluster.close()


def annotations(thing: Json) -> dict[str, str]:
    found: dict[str, str] = thing["metadata"].get("annotations") or {}
    return found


@contextlib.contextmanager
def opened(
    sandbox: controlplane.ControlPlane,
    folder: Path,
    namespace: str,
    *,
    speed: float = parts.SPEED,
    script: Json | None = None,
) -> Iterator[Stage]:
    """Namespace and simulated RunPod; all gone when left."""
    cluster = parts.Cluster(sandbox, namespace)
    cluster.kubectl("create", "namespace", namespace)
    parts.until(lambda: cluster.find("serviceaccounts", "default"), "the namespace's default ServiceAccount")
    with RunPod(folder, speed=speed, script=script) as runpod:
        stage = Stage(cluster, runpod, folder)
        try:
            yield stage
        finally:
            stage.close()
