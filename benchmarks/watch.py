"""What a cache of many pods costs: memory once it is full, CPU per change. Against a real API server.

The cache lives in a process of its own, so that the figures are its alone; this one makes the pods and changes them.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks import watch_cache

from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import errors, patches, resources
from bareboat.plumbing import logs
from bareboat.sandbox import controlplane
from bareboat.workload import pod as pods

NAMESPACE = "watch-benchmark"
NODE = "watch-benchmark"
PARALLEL = 24
ANSWER_S = 300


def a_pod(number: int) -> dict[str, Any]:
    """A pod as big as those of a real cluster: about 6 KiB once the API server has filled it in."""
    env: list[dict[str, Any]] = [
        {"name": f"SETTING_{n}", "value": f"value number {n} of pod {number}"} for n in range(20)
    ]
    env.append({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
    labels = {"app": "trainer", "team": f"team-{number % 7}", "run": str(number), "pod-template-hash": "7d5f8b6c9"}
    annotations = {f"example.com/note-{n}": f"pod {number}: {'words ' * 10}" for n in range(5)}
    container = {
        "name": "main",
        "image": "registry.example.com/team/trainer:1.2.3",
        "command": ["python", "-m", "train"],
        "args": ["--epochs", "3", "--seed", str(number)],
        "env": env,
        "ports": [{"containerPort": 8000, "name": "http"}],
        "resources": {"limits": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8000}, "periodSeconds": 10},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    return {
        "metadata": {"name": f"pod-{number}", "labels": labels, "annotations": annotations},
        "spec": {
            "nodeName": NODE,
            "containers": [container],
            "volumes": [{"name": "data", "emptyDir": {}}],
            "tolerations": [{"operator": "Exists"}],
        },
    }


def a_status(number: int) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": now, "observedGeneration": 1}
        for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    container = {
        "name": "main",
        "image": "registry.example.com/team/trainer:1.2.3",
        "imageID": "registry.example.com/team/trainer@sha256:" + "0" * 64,
        "containerID": f"bareboat://{number}",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": now}},
    }
    return {"phase": "Running", "startTime": now, "conditions": conditions, "containerStatuses": [container]}


async def in_parallel(count: int, call: Callable[[int], Awaitable[object]]) -> float:
    """CPU seconds of this process per call."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await call(number)

    started_s = watch_cache.cpu_s()
    await asyncio.gather(*(worker() for _ in range(PARALLEL)))
    return (watch_cache.cpu_s() - started_s) / count


async def make_pods(client: clients.Client, count: int) -> int:
    """Bytes of one pod as the API server sends it."""
    await client.create(resources.NODES.path(), {"metadata": {"name": NODE}})
    await client.create(resources.NAMESPACES.path(), {"metadata": {"name": NAMESPACE}})
    async with asyncio.timeout(30):
        while True:
            try:
                await client.get(resources.SERVICE_ACCOUNTS.path(NAMESPACE, "default"))
                break
            except errors.NotFound:
                await asyncio.sleep(0.1)
    await in_parallel(count, lambda number: client.create(resources.PODS.path(NAMESPACE), a_pod(number)))
    return len(await client.get(resources.PODS.path(NAMESPACE, "pod-0")))


async def measure(count: int) -> dict[str, float]:
    async with controlplane.ControlPlane() as sandbox, clients.Client(configs.load(sandbox.kubeconfig_path)) as client:
        size = await make_pods(client, count)
        page = await client.list(resources.PODS.path(NAMESPACE), item=pods.Pod)
        uids = {pod.metadata.name: pod.metadata.uid for pod in page.items or []}
        del page
        cache = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "benchmarks.watch_cache", str(sandbox.kubeconfig_path), NODE, str(count)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert cache.stdout is not None
        try:
            async with asyncio.timeout(ANSWER_S):
                figures = json.loads(await cache.stdout.readline())

                async def patch(number: int) -> None:
                    name = f"pod-{number}"
                    path = resources.PODS.path(NAMESPACE, name, "status")
                    await client.patch(path, patches.status(uids[name], a_status(number)))

                patch_cpu_s = await in_parallel(count, patch)
                figures |= json.loads(await cache.stdout.readline())
                await cache.wait()
        finally:
            if cache.returncode is None:
                cache.kill()
                await cache.wait()
    return {"pods": count, "pod_bytes": size, **figures, "cpu_us_per_patch": patch_cpu_s * 1e6}


def show(figures: dict[str, float]) -> None:
    rows = [
        ("pods in the cache", "{pods:.0f} of {pod_bytes:.0f} bytes"),
        ("memory: before, after the list, most", "{empty_mib:.0f}, {full_mib:.0f}, {peak_mib:.0f} MiB"),
        ("first list", "{list_wall_s:.2f} s, {list_cpu_s:.2f} s of CPU"),
        (
            "CPU per watch event",
            "{cpu_us_per_event:.0f} us ({events:.0f} events, {reconnects:.0f} watches closed by the server)",
        ),
        ("CPU per status patch", "{cpu_us_per_patch:.0f} us (the process that writes)"),
    ]
    for name, text in rows:
        print(f"{name:40} {text.format(**figures)}")
    keys = ("pods", "peak_mib", "cpu_us_per_event", "cpu_us_per_patch", "list_cpu_s", "list_wall_s")
    print(json.dumps({"benchmark": "watch", **{key: round(figures[key], 2) for key in keys}}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=5000, help="pods in the cache")
    options = parser.parse_args()
    logs.configure()
    show(asyncio.run(measure(options.n)))


if __name__ == "__main__":
    main()
