"""`POST /provision` one after the other, then 50 clients at once: how long, at what cost.

Real control plane; `bareboat provision` as a process of its own, whose memory is the figure. Each client is new, and
all are removed in the end. Last line: one JSON object.
"""

import argparse
import asyncio
import base64
import json
import os
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

from bareboat.sandbox import controlplane

IMAGE = "docker.io/looogarithm/mock-inference:latest"
AT_ONCE = 50
START_S = 30.0


def a_body(number: int) -> dict[str, Any]:
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + os.urandom(32)
    key = f"ssh-ed25519 {base64.b64encode(blob).decode()} client-{number}@example"
    return {"container_img_url": IMAGE, "ssh_public_key": key, "port": 22}


async def post(session: aiohttp.ClientSession, number: int) -> tuple[int, float, str]:
    started_s = time.monotonic()
    async with session.post("/provision", json=a_body(number)) as answer:
        told = await answer.json()
        return answer.status, time.monotonic() - started_s, told.get("pod_name", "")


async def remove(session: aiohttp.ClientSession, name: str) -> int:
    async with session.delete(f"/provision/{name}") as answer:
        return answer.status


async def measure(url: str, count: int, pid: int) -> dict[str, float]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        await until_up(session)
        await post(session, -1)
        alone = [await post(session, number) for number in range(count)]
        started_s = time.monotonic()
        together = await asyncio.gather(*(post(session, count + number) for number in range(AT_ONCE)))
        took_s = time.monotonic() - started_s
        rss_mib = resident_mib(pid)
        made = [name for _, _, name in (*alone, *together) if name]
        gone = await asyncio.gather(*(remove(session, name) for name in made))
    times_ms = sorted(1000 * seconds for _, seconds, _ in alone)
    return {
        "requests": count,
        "p50_ms": round(statistics.median(times_ms), 1),
        "p95_ms": round(times_ms[int(0.95 * (len(times_ms) - 1))], 1),
        "at_once": AT_ONCE,
        "at_once_errors": sum(status != 200 for status, _, _ in together),
        "at_once_all_s": round(took_s, 2),
        "at_once_p50_ms": round(1000 * statistics.median(seconds for _, seconds, _ in together), 1),
        "errors": sum(status != 200 for status, _, _ in alone) + sum(status != 200 for status in gone),
        "rss_mib": round(rss_mib, 1),
    }


async def until_up(session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(START_S):
        while True:
            try:
                async with session.get("/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


async def main(count: int) -> None:
    async with controlplane.ControlPlane() as sandbox:
        port = free_port()
        settings = {
            "KUBECONFIG": str(sandbox.kubeconfig_path),
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "NAMESPACE": "default",
            "PROVISION_REQUESTS_PER_MINUTE": "0",
            "BAREBOAT_LOG_LEVEL": "warning",
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bareboat", "provision"), env={**os.environ, **settings}
        )
        try:
            figures = await measure(f"http://127.0.0.1:{port}", count, process.pid)
        finally:
            process.terminate()
            await process.wait()
    for name, value in figures.items():
        print(f"{name:<16}{value:>10}")
    print(json.dumps({"benchmark": "provision", **figures}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100, help="requests one after the other")
    asyncio.run(main(parser.parse_args().n))
