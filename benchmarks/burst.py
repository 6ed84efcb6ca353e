"""N pods bound to the virtual node at once, until all run, then idle, then all deleted: how long, at what cost.

Real control plane; the simulated cloud served from a process of its own (instant boots, no rate limits, no machines);
`bareboat node` as a process of its own, whose CPU and memory are the figures. Last line: one JSON object.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import errors, informer, objects, resources
from bareboat.sandbox import controlplane
from bareboat.workload import pod as pods

NODE = "burst"
NAMESPACE = "default"
KEY = "benchmark-key"
PARALLEL = 48
PATIENCE_S = 300.0
IDLE_S = 60.0
ALONE = 10
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Seen:
    """When each pod was made, ran and went, on this process's monotonic clock."""

    made_s: dict[str, float] = field(default_factory=dict)
    ran_s: dict[str, float] = field(default_factory=dict)
    went_s: dict[str, float] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, key: tuple[str, str], _old: pods.Pod | None, new: pods.Pod | None) -> None:
        now_s = time.monotonic()
        if new is None:
            self.went_s[key[1]] = now_s
        elif new.status.phase == "Running" and key[1] not in self.ran_s:
            self.ran_s[key[1]] = now_s
        self.changed.set()

    async def until(self, times: dict[str, float], count: int, what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while len(times) < count:
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise SystemExit(f"after {PATIENCE_S:.0f} s only {len(times)} of {count} pods {what}") from None


def a_pod(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"burst-{number}"},
        "spec": {
            "nodeName": NODE,
            "terminationGracePeriodSeconds": 30,
            "tolerations": [{"operator": "Exists"}],
            "containers": [
                {
                    "name": "main",
                    "image": "nvidia/cuda:12.4.1-base-ubuntu22.04",
                    "command": ["sleep", "infinity"],
                    "resources": {"limits": {"nvidia.com/gpu": "1"}},
                }
            ],
        },
    }


def cpu_s(pid: int) -> float:
    """User and system time of a process, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def peak_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"process {pid} tells no VmHWM")


@contextlib.asynccontextmanager
async def program(*arguments: str, log: Path, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A `bareboat` command of this checkout as a process of its own, ended on leaving."""
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bareboat", *arguments),
            env={**os.environ, **env},
            stdout=asyncio.subprocess.PIPE,
            stderr=sink,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    await asyncio.wait_for(process.wait(), 10)
                except TimeoutError:
                    process.kill()
                    await process.wait()


async def in_parallel(count: int, call: Any) -> None:
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await call(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(PARALLEL):
            group.create_task(worker())


async def calls_to(cloud_url: str) -> dict[str, int]:
    async with aiohttp.ClientSession() as session, session.get(f"{cloud_url}/control/requests") as answer:
        counts: dict[str, int] = await answer.json()
        return counts


async def ledger_of(cloud_url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{cloud_url}/control/ledger") as answer:
        told: dict[str, Any] = await answer.json()
        return told


async def writes_of(client: clients.Client) -> float:
    """Writes that the node sent to the API server, by its own count."""
    node = json.loads(await client.get(resources.NODES.path(None, NODE)))
    port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    # Not through the API server: its proxy refuses loopback addresses.
    connector = aiohttp.TCPConnector(ssl=client.config.ssl or False)
    async with aiohttp.ClientSession(connector=connector) as session:
        answer = await session.get(f"https://127.0.0.1:{port}/metrics", raise_for_status=True)
        text = await answer.text()
    rows = [line.split() for line in text.splitlines() if line.startswith("bareboat_kubernetes_requests_total")]
    return sum(float(value) for name, value in rows if 'verb="GET"' not in name and 'verb="WATCH"' not in name)


async def measure(count: int, folder: Path) -> dict[str, float]:
    async with contextlib.AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(controlplane.ControlPlane())
        simulator = await stack.enter_async_context(
            program(
                *("simulate", "vast", "--machines", "none", "--boot", "instant", "--no-rate-limits", "--no-churn"),
                *("--offers", str(count * 8), "--credit", "1e9", "--profile", "none", "--api-key", KEY, "--json"),
                *("--switch", "hard_cap=0", "--switch", "default_limit=0"),
                log=folder / "simulator.log",
            )
        )
        assert simulator.stdout is not None
        cloud_url = json.loads(await simulator.stdout.readline())["url"]
        node = await stack.enter_async_context(
            program(
                *("node", "--nodename", NODE, "--kubeconfig", str(sandbox.kubeconfig_path), "--address", "127.0.0.1"),
                *("--kubelet-port", "0", "--pods", str(2 * count), "--gpus", str(2 * count), "--log-level", "warning"),
                log=folder / "node.log",
                VAST_URL=cloud_url,
                # The cloud of this benchmark has no machines, so there is nothing to reach by ssh.
                BAREBOAT_ACCESS="plain",
                VAST_API_KEY=KEY,
                VAST_RATE_LIMIT="off",
                VAST_SEARCH_PAGES="20",
                VAST_LATENCY_CHECK_ENABLED="false",
                BAREBOAT_WATCH_BUSY_S="0.5",
                BAREBOAT_MAX_USD_PER_HOUR="100",
                BAREBOAT_VERIFIED_ONLY="false",
            )
        )
        client = await stack.enter_async_context(
            clients.Client(configs.load(sandbox.kubeconfig_path), connections=PARALLEL + 4)
        )
        seen = Seen()
        watching = informer.Informer(client, resources.PODS, pods.Pod, field_selector=f"spec.nodeName={NODE}")
        watching.add_handler(seen)
        watch = asyncio.create_task(watching.run())
        stack.callback(watch.cancel)
        await watching.synced.wait()
        await until_ready(client)
        return await figures(count, node.pid, client, seen, cloud_url)


async def until_ready(client: clients.Client) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(errors.NotFound, aiohttp.ClientError):  # no Node, or no certificate yet
                await client.get(resources.NODES.path(None, NODE), type=objects.Metadata)
                await client.get(resources.SERVICE_ACCOUNTS.path(NAMESPACE, "default"))
                await writes_of(client)
                return
            await asyncio.sleep(0.2)


async def alone(client: clients.Client, seen: Seen, cloud_url: str) -> float:
    """Median seconds from the creation of a pod that is by itself to its rent; each is gone before the next comes."""
    delays = []
    for number in range(ALONE):
        name = f"alone-{number}"
        made_s = time.time()
        pod = a_pod(number)
        pod["metadata"]["name"] = name
        made = await client.create(resources.PODS.path(NAMESPACE), pod, type=objects.Metadata)
        await seen.until(seen.ran_s, number + 1, "run")
        rented = [each for each in (await ledger_of(cloud_url))["instances"] if made.metadata.uid in each["label"]]
        delays.append(rented[0]["created_s"] - made_s)
        await client.delete(resources.PODS.path(NAMESPACE, name))
        await seen.until(seen.went_s, number + 1, "are gone")
    seen.ran_s.clear()
    seen.went_s.clear()
    return float(statistics.median(delays))


async def figures(count: int, pid: int, client: clients.Client, seen: Seen, cloud_url: str) -> dict[str, float]:
    idle_mib = peak_mib(pid)
    alone_s = await alone(client, seen, cloud_url)
    cpu_before, writes_before = cpu_s(pid), await writes_of(client)

    async def make(number: int) -> None:
        seen.made_s[f"burst-{number}"] = time.monotonic()
        await client.create(resources.PODS.path(NAMESPACE), a_pod(number))

    await in_parallel(count, make)
    await seen.until(seen.ran_s, count, "run")
    cpu_running, writes_running = cpu_s(pid), await writes_of(client)
    began_s, all_ran_s = min(seen.made_s.values()), max(seen.ran_s.values())
    waited = sorted(seen.ran_s[name] - seen.made_s[name] for name in seen.ran_s)
    ledger = await ledger_of(cloud_url)
    ledger["instances"] = ledger["instances"][ALONE:]
    # What the burst left behind (events that wait, the last listings) is not idleness.
    await asyncio.sleep(20)
    calls_before, cpu_idle, idle_began_s = await calls_to(cloud_url), cpu_s(pid), time.monotonic()
    await asyncio.sleep(IDLE_S)
    idle_s = time.monotonic() - idle_began_s
    idle_cpu = cpu_s(pid) - cpu_idle
    calls_after = await calls_to(cloud_url)
    cpu_full, peak_full = cpu_s(pid), peak_mib(pid)
    drain_began_s = time.monotonic()
    await in_parallel(count, lambda number: client.delete(resources.PODS.path(NAMESPACE, f"burst-{number}")))
    await seen.until(seen.went_s, count, "are gone")
    drain_s = max(seen.went_s.values()) - drain_began_s
    left = await ledger_of(cloud_url)
    if left["running"] or left["double_rents"]:
        raise SystemExit(f"the ledger is not clean: {left['running']} run, {left['double_rents']} rented twice")
    bound_to_rent = rent_delays(ledger, seen)
    return {
        "pods": count,
        "pods_per_s": count / (all_ran_s - began_s),
        "p50_s": statistics.median(waited),
        "p99_s": waited[int(len(waited) * 0.99)],
        "bound_to_rent_p50_s": alone_s,
        "bound_to_rent_in_burst_p50_s": bound_to_rent,
        "drain_s": drain_s,
        "cpu_ms_per_pod": (cpu_running - cpu_before) * 1000 / count,
        "drain_cpu_ms_per_pod": (cpu_s(pid) - cpu_full) * 1000 / count,
        "peak_mib": peak_full,
        "start_mib": idle_mib,
        "idle_cpu_pct": idle_cpu * 100 / idle_s,
        "api_writes_per_pod": (writes_running - writes_before) / count,
        "cloud_calls_per_min": (sum(calls_after.values()) - sum(calls_before.values())) * 60 / idle_s,
    }


def rent_delays(ledger: dict[str, Any], seen: Seen) -> float:
    """Median seconds from the creation of a pod to its rent, both in order of time (which pod is whose is not told)."""
    offset_s = time.time() - time.monotonic()
    rented = sorted(each["created_s"] - offset_s for each in ledger["instances"])
    made = sorted(seen.made_s.values())
    return float(statistics.median(late - early for early, late in zip(made, rented, strict=False)))


def show(found: dict[str, float]) -> None:
    rows = [
        ("pods to Running", "{pods_per_s:.0f} pods/s"),
        ("creation to Running, median and 99 %", "{p50_s:.2f} s, {p99_s:.2f} s"),
        ("creation to rent call, a pod alone", "{bound_to_rent_p50_s:.3f} s"),
        ("creation to rent call, in the burst", "{bound_to_rent_in_burst_p50_s:.2f} s"),
        ("all deleted and every instance gone", "{drain_s:.1f} s"),
        ("CPU of the node's process", "{cpu_ms_per_pod:.1f} ms a pod up, {drain_cpu_ms_per_pod:.1f} down"),
        ("memory: at start, most", "{start_mib:.0f}, {peak_mib:.0f} MiB"),
        ("idle", "{idle_cpu_pct:.1f} % of a core"),
        ("writes to the API server", "{api_writes_per_pod:.2f} a pod"),
        ("calls to the cloud when idle", "{cloud_calls_per_min:.1f} a minute"),
    ]
    for name, text in rows:
        print(f"{name:40} {text.format(**found)}")
    print(json.dumps({"benchmark": "burst", **{name: round(value, 3) for name, value in found.items()}}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000, help="pods")
    parser.add_argument("--logs", type=Path, default=Path("/tmp"), help="folder for the processes' logs")
    options = parser.parse_args()
    show(asyncio.run(measure(options.n, options.logs)))


if __name__ == "__main__":
    main()
