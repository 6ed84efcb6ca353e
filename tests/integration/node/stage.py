"""What a whole installation consists of, as real processes: `bareboat simulate vast`, `bareboat node`, a namespace.

Everything here blocks; the tests of this folder are plain functions that wait on conditions with a deadline.
"""

import collections
import contextlib
import datetime
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml

from bareboat.sandbox import controlplane

T = TypeVar("T")
Json = dict[str, Any]

BAREBOAT = (sys.executable, "-m", "bareboat")
START_S = 30.0
SPEED = 60.0
QUICK = {
    "BAREBOAT_WATCH_IDLE_S": "1",
    "BAREBOAT_WATCH_BUSY_S": "0.3",
    "BAREBOAT_START_TIMEOUT_S": "25",
    "BAREBOAT_GUARD_AGE_S": "3",
    "VAST_RATE_LIMIT": "off",
    "VAST_VISIBILITY_WINDOW_S": "4",
    "VAST_TIMEOUT_S": "2",
    "VAST_PATIENCE_S": "5",
    "VAST_LATENCY_CHECK_ENABLED": "false",
}
"""The node's clock is real time while the simulated cloud's runs many times faster, and so may the node's patience."""


def until(wanted: Callable[[], T], what: str | Callable[[], object], deadline_s: float = 30.0) -> T:
    """The first true answer of `wanted`; fails with what was waited for when there is none in time."""
    give_up_s = time.monotonic() + deadline_s
    while True:
        answer = wanted()
        if answer:
            return answer
        if time.monotonic() > give_up_s:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {deadline_s:g} s: {told}")
        time.sleep(0.1)


class Vast:
    """A simulated Vast.ai in a process of its own; other clouds have the same controls."""

    cloud = "vast"

    def __init__(self, folder: Path, *, speed: float, seed: int = 7, script: Json | None = None) -> None:
        self._folder = folder
        self._speed = speed
        self._arguments = ["--speed", str(speed), "--seed", str(seed), "--no-rate-limits", "--no-churn", "--json"]
        if script is not None:
            path = folder / "faults.yaml"
            path.write_text(yaml.safe_dump(script))
            self._arguments += ["--faults", str(path)]
        self._process: subprocess.Popen[str] | None = None
        self.url = self.key = self.registry_url = ""

    def __enter__(self) -> Self:
        log_path = self._folder / f"{self.cloud}.log"
        with log_path.open("w") as log:
            self._process = subprocess.Popen(
                [*BAREBOAT, "simulate", self.cloud, "--exit-with-stdin", *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the simulator did not start: {log_path.read_text()}")
        announced = json.loads(line)
        self.url, self.key = announced["url"], announced["api_key"]
        self.registry_url = announced["registry_url"]
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        self.resume()
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError("the simulator did not end when its standard input was closed") from None

    def suspend(self) -> None:
        """Connections are accepted by the kernel and never answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def let_pass(self, seconds: float) -> None:
        """That much of the nodes' time, read off the cloud's clock: for what must not happen meanwhile."""
        until_s = self.ledger()["now_s"] + seconds * self._speed
        until(lambda: self.ledger()["now_s"] >= until_s, f"{seconds:g} seconds to pass", seconds + 20)

    def control(self, action: str, **arguments: Any) -> Json:
        return self._ask("POST", f"/control/{action}", arguments)

    def ledger(self) -> Json:
        return self._ask("GET", "/control/ledger")

    def world(self) -> Json:
        return self._ask("GET", "/control/world")

    def requests(self) -> dict[str, int]:
        """How many requests came in, by route."""
        return self._ask("GET", "/control/requests")

    def instances(self, pod: Json | None = None) -> list[Json]:
        """Every instance ever rented (for a pod), as the ledger tells; phantoms left out."""
        found = [each for each in self.ledger()["instances"] if each["stage"] != "phantom"]
        return [each for each in found if pod is None or owner(each) == uid(pod)]

    def alive(self, pod: Json | None = None) -> list[Json]:
        return [each for each in self.instances(pod) if each["gone_s"] is None]

    def rent_by_hand(self, label: str | None = None) -> int:
        """An instance that has nothing to do with us, on the same account."""
        found = self._ask("POST", "/api/v0/bundles/", {"limit": 1, "order": [["dph_total", "asc"]]})
        body = {"image": "busybox:latest", "disk": 8, "runtype": "args", "args": ["sleep", "100000"], "label": label}
        bought = self._ask("PUT", f"/api/v0/asks/{found['offers'][0]['id']}/", body)
        return int(bought["new_contract"])

    def _ask(self, method: str, path: str, body: Json | None = None) -> Json:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", "User-Agent": "tests"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            answer: Json = json.load(response)
        return answer


class Node:
    """`bareboat node` in a process of its own, which may be killed and started again."""

    door = "node"
    arguments: Sequence[str] = ()

    def __init__(self, cluster: "Cluster", name: str, log_path: Path, environment: dict[str, str]) -> None:
        self.name = name
        self._cluster = cluster
        self._log_path = log_path
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log_path.read_text() if self._log_path.exists() else ""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*BAREBOAT, self.door, *self.arguments],
                env=clean_environment() | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            until(self._is_ready, lambda: f"node {self.name} registered; its log:\n{self.log[-3000:]}", START_S)

    def _is_ready(self) -> bool:
        assert self.running, f"bareboat {self.door} ended:\n{self.log[-3000:]}"
        node = self._cluster.find("nodes", self.name)
        return node is not None and condition(node, "Ready") == "True"

    def kill(self) -> None:
        """No last words."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """As the kubelet of its own pod would; returns the exit code."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"bareboat {self.door} did not end on SIGTERM:\n{self.log[-3000:]}") from None


class Cluster:
    """The sandbox's API as its administrator, one namespace of it."""

    def __init__(self, sandbox: controlplane.ControlPlane, namespace: str) -> None:
        self.namespace = namespace
        self.kubeconfig = sandbox.kubeconfig_path
        self._kubectl = str(sandbox.kubectl_path)
        self._tls = ssl.create_default_context(cafile=str(sandbox.authority_path))
        self._tls.load_cert_chain(sandbox.admin.certificate_path, sandbox.admin.key_path)
        self._host = urllib.parse.urlsplit(sandbox.url).netloc
        self._connection: http.client.HTTPSConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Standard output; with `check` off, what it said on standard error too."""
        command = [self._kubectl, f"--kubeconfig={self.kubeconfig}", "-n", self.namespace, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr.strip()}"
            return done.stdout
        return done.stdout + done.stderr

    def apply(self, *manifests: Json) -> None:
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def create(self, manifest: Json) -> Json:
        """As it stands once created; faster than kubectl."""
        kind = {"Pod": "pods", "ConfigMap": "configmaps", "Job": "jobs"}[manifest["kind"]]
        status, answer = self._ask("POST", self._path(kind), json.dumps(manifest))
        assert status == 201, answer
        return answer

    def find(self, kind: str, name: str) -> Json | None:
        """None when there is none. `kind` as in URLs: nodes, pods, …"""
        status, answer = self._ask("GET", self._path(kind, name))
        assert status in (200, 404), answer
        return answer if status == 200 else None

    def pod(self, name: str) -> Json:
        found = self.find("pods", name)
        assert found is not None, f"there is no pod {name}"
        return found

    def pods(self) -> list[Json]:
        items: list[Json] = self._ask("GET", self._path("pods"))[1]["items"]
        return items

    def events(self, name: str) -> list[Json]:
        query = urllib.parse.urlencode({"fieldSelector": f"involvedObject.name={name}"})
        items: list[Json] = self._ask("GET", f"{self._path('events')}?{query}")[1]["items"]
        return items

    def event(self, name: str, reason: str, deadline_s: float = 20.0) -> str:
        """The message of the pod's event with this reason, once there is one."""

        def found() -> str:
            return next((each["message"] for each in self.events(name) if each["reason"] == reason), "")

        return until(
            found, lambda: f"event {reason} of {name}; there are {[e['reason'] for e in self.events(name)]}", deadline_s
        )

    def until(self, name: str, wanted: Callable[[Json], T], what: str, deadline_s: float = 30.0) -> T:
        """The first true answer of `wanted(pod)`."""
        return until(
            lambda: wanted(self.pod(name)), lambda: f"{what}; {name} is {told(self.find('pods', name))}", deadline_s
        )

    def until_phase(self, name: str, phase: str, deadline_s: float = 30.0) -> Json:
        def reached(pod: Json) -> Json | None:
            return pod if pod["status"].get("phase") == phase else None

        found = self.until(name, reached, phase, deadline_s)
        assert found is not None
        return found

    def until_gone(self, name: str, deadline_s: float = 30.0) -> None:
        until(
            lambda: self.find("pods", name) is None,
            lambda: f"{name} gone; it is {told(self.find('pods', name))}",
            deadline_s,
        )

    def delete(self, kind: str, name: str, *, grace_s: int | None = None) -> None:
        query = "" if grace_s is None else f"?gracePeriodSeconds={grace_s}"
        status, answer = self._ask("DELETE", self._path(kind, name) + query)
        assert status in (200, 202, 404), answer

    def _path(self, kind: str, name: str = "") -> str:
        place = "" if kind in ("nodes", "namespaces") else f"/namespaces/{self.namespace}"
        group = "/apis/batch/v1" if kind == "jobs" else "/api/v1"
        return f"{group}{place}/{kind}{'/' if name else ''}{name}"

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, Json]:
        for again in (True, False):
            if self._connection is None:
                self._connection = http.client.HTTPSConnection(self._host, context=self._tls, timeout=20)
            try:
                self._connection.request(method, path, body, {"Content-Type": "application/json"})
                response = self._connection.getresponse()
                return response.status, json.loads(response.read())
            except (http.client.HTTPException, OSError):
                # A connection kept alive may have been closed by the server meanwhile.
                self.close()
                if not again:
                    raise
        raise AssertionError("unreachable")


class Stage:
    """One test's installation: a cluster's namespace, a simulated cloud, nodes by name."""

    def __init__(self, cluster: Cluster, vast: Vast, folder: Path) -> None:
        self.cluster = cluster
        self.vast = vast
        self._folder = folder
        self.nodes: list[Node] = []

    def node(self, *, start: bool = True, named: str = "", **settings: str) -> Node:
        """Another node of the cluster, on the same account of the cloud; `named` makes it one more process of a node
        that is there."""
        name = named or f"{self.cluster.namespace}-{len(self.nodes)}"
        environment = {
            **QUICK,
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "NODENAME": name,
            "KUBELET_PORT": "0",
            "VAST_URL": self.vast.url,
            "VAST_API_KEY": self.vast.key,
            "BAREBOAT_REGISTRY_MIRRORS": f"*={self.vast.registry_url}",
            "BAREBOAT_ACCESS": "plain",
            **settings,
        }
        made = Node(self.cluster, name, self._folder / f"{len(self.nodes)}.log", environment)
        self.nodes.append(made)
        if start:
            made.start()
        return made

    def close(self) -> None:
        """The nodes end first; what they have left is removed by hand, so that nothing waits for them."""
        for node in self.nodes:
            if node.running:
                node.stop()
            sys.stdout.write(f"--- log of {node.name}\n{node.log[-12_000:]}\n")
        for pod in self.cluster.pods():
            self.cluster.delete("pods", pod["metadata"]["name"], grace_s=0)
        for node in self.nodes:
            self.cluster.delete("nodes", node.name)
        self.cluster.delete("namespaces", self.cluster.namespace)
        self.cluster.close()

    def assert_money_was_kept(self, cap_usd: float = 5.0) -> None:
        """Nothing runs any more, nothing was rented twice at one time for one owner, every instance carried a mark."""
        until(lambda: not self.vast.alive(), lambda: f"all ended; alive are {self.vast.alive()}")
        assert_no_double_rent(self.vast)
        ledger = self.vast.ledger()
        assert ledger["usd"]["total"] <= cap_usd
        strays = [each["id"] for each in self.vast.instances() if not _first_label(each).startswith("bareboat/")]
        assert strays == [], f"instances without our mark: {strays}"


def assert_no_double_rent(vast: Vast) -> None:
    """By the cloud's own books: no moment at which two instances of one owner were both wanted."""
    ledger = vast.ledger()
    by_id = {each["id"]: each for each in ledger["instances"]}
    doubles = [[told_instance(by_id[each]) for each in pair] for pair in ledger["double_rents"]]
    assert doubles == [], f"rented twice at one time: {doubles}"


def config_map(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str, node: Node, command: str = "sleep 100000", *, image: str = "busybox:1.36", **spec: Any) -> Json:
    """A pod for that node alone, by way of the scheduler. `command` runs in a shell."""
    annotations = spec.pop("annotations", {})
    container: Json = {"name": "main", "image": image, **spec.pop("container", {})}
    if command:
        container["command"] = ["sh", "-c", command]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "nodeSelector": {"kubernetes.io/hostname": node.name},
            "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}],
            "containers": [container],
            **spec,
        },
    }


def uid(pod: Json) -> str:
    return str(pod["metadata"]["uid"])


def container(pod: Json) -> Json:
    """The status of its one container, empty before there is one."""
    return next(iter(pod["status"].get("containerStatuses") or ()), {})


def waiting(pod: Json) -> Json:
    found: Json = container(pod).get("state", {}).get("waiting") or {}
    return found


def terminated(pod: Json) -> Json:
    found: Json = container(pod).get("state", {}).get("terminated") or {}
    return found


def instance_id(pod: Json) -> str:
    """Of what is rented for the pod now, as the pod tells; empty when nothing is."""
    told_id = (pod["metadata"].get("annotations") or {}).get("bareboat.dev/instance", "")
    return str(told_id).removeprefix("vast/")


def condition(thing: Json, kind: str) -> str:
    """Status of a condition; empty when it is not there."""
    return next((each["status"] for each in thing["status"].get("conditions") or () if each["type"] == kind), "")


def why(thing: Json, kind: str) -> str:
    """Reason and message of a condition."""
    found = [each for each in thing["status"].get("conditions") or () if each["type"] == kind]
    return f"{found[0].get('reason', '')}: {found[0].get('message', '')}" if found else ""


def told(pod: Json | None) -> str:
    if pod is None:
        return "not there"
    status = pod["status"]
    return json.dumps(
        {
            "phase": status.get("phase"),
            "reason": status.get("reason"),
            "deleted": pod["metadata"].get("deletionTimestamp"),
            "container": container(pod),
            "annotations": pod["metadata"].get("annotations"),
        }
    )[:1500]


def told_instance(instance: Json) -> str:
    times = {key: instance[key] for key in ("created_s", "destroy_asked_s", "gone_s")}
    return f"{instance['id']} {_first_label(instance)} {times}"


def phases(cluster: Cluster) -> dict[str, int]:
    return dict(collections.Counter(each["status"].get("phase", "") for each in cluster.pods()))


def owner(instance: Json) -> str:
    """The uid in the mark that it was rented with; empty for what is not ours."""
    return next(iter(_first_label(instance).split("/")[2:3]), "")


def _first_label(instance: Json) -> str:
    return instance["labels"][0][1] or ""


def unix_s(stamp: str) -> float:
    return datetime.datetime.fromisoformat(stamp).timestamp()


def clean_environment() -> dict[str, str]:
    """Without whatever the person who runs the tests has set for their own."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BAREBOAT_", "VAST_", "RUNPOD_", "KUBE"))
    }


@contextlib.contextmanager
def opened(
    sandbox: controlplane.ControlPlane,
    folder: Path,
    namespace: str,
    *,
    speed: float = SPEED,
    script: Json | None = None,
) -> Iterator[Stage]:
    """Namespace and simulated cloud; all gone when left. Nodes are the test's to start."""
    cluster = Cluster(sandbox, namespace)
    cluster.kubectl("create", "namespace", namespace)
    until(lambda: cluster.find("serviceaccounts", "default"), "the namespace's default ServiceAccount")
    with Vast(folder, speed=speed, script=script) as vast:
        stage = Stage(cluster, vast, folder)
        try:
            yield stage
        finally:
            stage.close()
