"""The process that `benchmarks.watch` measures: holds a cache, says each figure as one line of JSON."""

import asyncio
import json
import os
import re
import sys
import time
from pathlib import Path

from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import informer as informers
from bareboat.kube import resources
from bareboat.plumbing import logs
from bareboat.workload import pod as pods


def cpu_s() -> float:
    used = os.times()
    return used.user + used.system


def memory_mib() -> tuple[float, float]:
    """Resident now, and the most so far."""
    text = Path("/proc/self/status").read_text()
    kib = {name: int(value) for name, value in re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", text)}
    return kib["VmRSS"] / 1024, kib["VmHWM"] / 1024


def say(**facts: float) -> None:
    print(json.dumps(facts), flush=True)


async def hold(kubeconfig: Path, node: str, count: int) -> None:
    """Fills the cache with the pods of `node`, then waits for `count` changes of them."""
    async with clients.Client(configs.load(kubeconfig)) as client, asyncio.TaskGroup() as group:
        informer = informers.Informer(client, resources.PODS, pods.Pod, field_selector=f"spec.nodeName={node}")
        empty_mib, _ = memory_mib()
        started_s, began_s = cpu_s(), time.monotonic()
        task = group.create_task(informer.run(), name="informer")
        await informer.wait_synced(60)
        list_cpu_s, list_wall_s = cpu_s() - started_s, time.monotonic() - began_s
        full_mib, peak_mib = memory_mib()
        say(empty_mib=empty_mib, full_mib=full_mib, peak_mib=peak_mib, list_cpu_s=list_cpu_s, list_wall_s=list_wall_s)
        seen, started_s = informer.changes, cpu_s()
        while informer.changes < seen + count:  # noqa: ASYNC110 - a callback per event would be measured along
            await asyncio.sleep(0.25)
        events, used_s = informer.changes - seen, cpu_s() - started_s
        now_mib, peak_mib = memory_mib()
        say(
            events=events,
            cpu_us_per_event=used_s / events * 1e6,
            reconnects=informer.reconnects,
            now_mib=now_mib,
            peak_mib=peak_mib,
        )
        task.cancel()


def main() -> None:
    logs.configure()
    kubeconfig, node, count = sys.argv[1:]
    asyncio.run(hold(Path(kubeconfig), node, int(count)))


if __name__ == "__main__":
    main()
