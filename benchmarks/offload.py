"""Jobs that burst to the virtual node: how long from many Jobs at once to the allowed ones bound, and who wins races.

Real control plane; a simulated RunPod (nothing really runs) and `bareboat offload` as processes of their own. `--races`
counts pods for which another binder competes with ours at the same moment. Last line: one JSON object.
"""

import argparse
import asyncio
import contextlib
import json
import random
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks import burst, offload_races

from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import errors, informer, objects, resources
from bareboat.offload import jobs as offload_jobs
from bareboat.sandbox import controlplane

NODE = "offload-bench"
PATIENCE_S = 600.0
SETTLE_S = 30.0
IDLE_S = 120.0


def a_job(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"bench-{number}", "annotations": {"runpod.io/managed": "true"}},
        "spec": {
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "containers": [
                        {
                            "name": "main",
                            "image": "nvidia/cuda:12.4.1-base-ubuntu22.04",
                            "command": ["sleep", "infinity"],
                            "resources": {"limits": {"nvidia.com/gpu": "1"}},
                        }
                    ],
                }
            }
        },
    }


class Seen:
    """When pods were given up by the scheduler, and when they stood on the virtual node (monotonic)."""

    def __init__(self) -> None:
        self.given_up_s: dict[str, float] = {}
        self.bound_s: dict[str, float] = {}
        self.changed = asyncio.Event()

    def __call__(self, key: tuple[str, str], _old: offload_jobs.Pod | None, new: offload_jobs.Pod | None) -> None:
        if new is None:
            return
        if new.waits_since() is not None:
            self.given_up_s.setdefault(key[1], time.monotonic())
        if new.spec.node_name == NODE:
            self.bound_s.setdefault(key[1], time.monotonic())
        self.changed.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.bound_s) < count:
                self.changed.clear()
                await self.changed.wait()


async def bursts(count: int, allowed: int, folder: Path) -> dict[str, float]:
    """`count` Jobs at once, of which the virtual node has room for `allowed`."""
    async with contextlib.AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(controlplane.ControlPlane())
        simulator = await stack.enter_async_context(
            burst.program(
                *("simulate", "runpod", "--machines", "none", "--boot", "instant", "--no-rate-limits", "--no-churn"),
                *("--credit", "1e9", "--profile", "none", "--api-key", burst.KEY, "--json", "--foreign", "0"),
                log=folder / "simulator.log",
            )
        )
        assert simulator.stdout is not None
        cloud_url = json.loads(await simulator.stdout.readline())["url"]
        door = await stack.enter_async_context(
            burst.program(
                *("offload", "--nodename", NODE, "--kubeconfig", str(sandbox.kubeconfig_path)),
                *("--address", "127.0.0.1", "--kubelet-port", "0", "--health-server-address", "127.0.0.1:0"),
                *("--gpus", str(allowed), "--pods", "100000", "--log-level", "info"),
                log=folder / "offload.log",
                RUNPOD_URL=cloud_url,
                RUNPOD_KEY=burst.KEY,
                RUNPOD_RATE_LIMIT="off",
                BAREBOAT_ACCESS="plain",
            )
        )
        client = await stack.enter_async_context(
            clients.Client(configs.load(sandbox.kubeconfig_path), connections=burst.PARALLEL + 4)
        )
        seen = Seen()
        watching = informer.Informer(client, resources.PODS, offload_jobs.Pod, namespace=burst.NAMESPACE)
        watching.add_handler(seen)
        watch = asyncio.create_task(watching.run())
        stack.callback(watch.cancel)
        await watching.synced.wait()
        await _until_ready(client, folder / "offload.log")
        found = await _figures(count, allowed, client, seen, door.pid)
        return found | await _idle(cloud_url, door.pid)


async def _until_ready(client: clients.Client, log: Path) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(errors.NotFound):
                await client.get(resources.NODES.path(None, NODE), type=objects.Metadata)
                await client.get(resources.SERVICE_ACCOUNTS.path(burst.NAMESPACE, "default"))
                if await asyncio.to_thread(_is_ready, log):
                    return
            await asyncio.sleep(0.2)


def _is_ready(log: Path) -> bool:
    ports = [line for line in log.read_text().splitlines() if "health_port=" in line]
    port = ports[-1].rpartition("health_port=")[2].split()[0] if ports else "1"
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


async def _figures(count: int, allowed: int, client: clients.Client, seen: Seen, pid: int) -> dict[str, float]:
    path = resources.JOBS.path(burst.NAMESPACE)
    cpu_before = burst.cpu_s(pid)
    began_s = time.monotonic()
    await burst.in_parallel(count, lambda number: client.create(path, a_job(number)))
    made_s = time.monotonic()
    await seen.until(allowed)
    all_bound_s = max(seen.bound_s.values())
    # The rest of the pods come as fast as the Job controller makes them; none of them may leave.
    await asyncio.sleep(SETTLE_S)
    delays = sorted(seen.bound_s[name] - seen.given_up_s[name] for name in seen.bound_s if name in seen.given_up_s)
    standing = (
        await client.list(resources.PODS.path(burst.NAMESPACE), item=offload_jobs.Pod, timeout_s=60)
    ).items or []
    out = [pod for pod in standing if pod.spec.node_name]
    told = (await client.list(path, item=offload_jobs.Job, timeout_s=60)).items or []
    touched = [job for job in told if "runpod.io/offloaded" in (job.metadata.annotations or {})]
    if len(out) != allowed or len(touched) > allowed:
        raise SystemExit(f"{allowed} were allowed out; {len(out)} pods are, and {len(touched)} Jobs are told so")
    return {
        "jobs": count,
        "allowed": allowed,
        "created_s": made_s - began_s,
        "all_bound_s": all_bound_s - began_s,
        "given_up_to_bound_p50_s": delays[len(delays) // 2] if delays else 0.0,
        "given_up_to_bound_p99_s": delays[int(len(delays) * 0.99)] if delays else 0.0,
        "pods_made": len(standing),
        "peak_mib": burst.peak_mib(pid),
        "cpu_s": burst.cpu_s(pid) - cpu_before,
    }


async def _idle(cloud_url: str, pid: int) -> dict[str, float]:
    """What a minute costs in which nothing happens, with all that was let out running."""
    calls_before, cpu_before, began_s = await burst.calls_to(cloud_url), burst.cpu_s(pid), time.monotonic()
    await asyncio.sleep(IDLE_S)
    took_s = time.monotonic() - began_s
    calls = sum((await burst.calls_to(cloud_url)).values()) - sum(calls_before.values())
    return {
        "cloud_calls_per_min": calls * 60 / took_s,
        "idle_cpu_pct": (burst.cpu_s(pid) - cpu_before) * 100 / took_s,
        "peak_mib": burst.peak_mib(pid),
    }


async def races(count: int) -> dict[str, float]:
    async with controlplane.ControlPlane() as sandbox:
        began_s = time.monotonic()
        told = await offload_races.race(sandbox.kubeconfig_path, burst.NAMESPACE, count, random.Random(7))
        twice = abs(told.ours_won - told.on_ours) + abs(told.theirs_won - told.on_theirs) + told.nowhere
        if twice or told.other_outcomes or told.ours_won + told.theirs_won != count:
            raise SystemExit(f"races went wrong: {told}")
        return {
            "races": count,
            "won_by_ours": told.ours_won,
            "won_by_theirs": told.theirs_won,
            "in_two_places": twice,
            "race_s": time.monotonic() - began_s,
        }


def show(found: dict[str, float]) -> None:
    rows = [
        ("jobs", "Jobs at once, allowed out", "{jobs:.0f}, {allowed:.0f}"),
        ("jobs", "first creation to last of them bound", "{all_bound_s:.1f} s (created within {created_s:.1f} s)"),
        (
            "jobs",
            "given up by the scheduler to bound",
            "{given_up_to_bound_p50_s:.2f} s median, {given_up_to_bound_p99_s:.2f} s 99 %",
        ),
        ("jobs", "process: memory at most, CPU", "{peak_mib:.0f} MiB, {cpu_s:.1f} s"),
        ("jobs", "idle: calls to the cloud, CPU", "{cloud_calls_per_min:.1f} a minute, {idle_cpu_pct:.1f} % of a core"),
        ("races", "races with another binder", "{races:.0f}: {won_by_ours:.0f} ours, {won_by_theirs:.0f} theirs"),
        ("races", "in two places", "{in_two_places:.0f}"),
    ]
    for needs, name, text in rows:
        if needs in found:
            print(f"{name:40} {text.format(**found)}")
    print(json.dumps({"benchmark": "offload", **{name: round(value, 3) for name, value in found.items()}}))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000, help="Jobs created at once; 0: leave that out")
    parser.add_argument("--allowed", type=int, default=100, help="of which may leave")
    parser.add_argument("--races", type=int, default=10_000, help="pods raced for; 0: leave that out")
    parser.add_argument("--logs", type=Path, default=Path("/tmp"), help="folder for the processes' logs")
    options = parser.parse_args()
    found: dict[str, float] = {}
    if options.n:
        found |= await bursts(options.n, options.allowed, options.logs)
    if options.races:
        found |= await races(options.races)
    show(found)


if __name__ == "__main__":
    asyncio.run(main())
