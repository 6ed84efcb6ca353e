"""exec, cp and port-forward through the whole path but the ssh hop: real kubectl, real API server, the kubelet API.

What runs in the pod are processes of this machine. Both of kubectl's ways (WebSocket to the API server, which
translates to SPDY; SPDY all the way), the time to the first byte of an exec for a client that is up already, and the
lag of followed logs. Everything shares this machine's cores. Last line: one JSON object.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import ssl
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.fakes import local_containers
from tests.integration.kubelet import conftest

from bareboat.kubelet import logs as kubelet_logs
from bareboat.plumbing import logs
from bareboat.sandbox import controlplane

POD = "bench"
MB = 1_000_000
FOLLOWED = 50
LINES = 20
SERVE = """
import socket, sys
size, chunk = int(sys.argv[1]), bytes(1 << 18)
with socket.create_server(("127.0.0.1", 0)) as listening:
    print(listening.getsockname()[1], flush=True)
    while True:
        peer, _ = listening.accept()
        with peer:
            if peer.recv(1) == b"d":
                left = size
                while left > 0:
                    left -= peer.send(chunk[:left])
            else:
                while peer.recv_into(bytearray(1 << 18)):
                    pass
                peer.sendall(b"k")
"""
FETCH = """
import socket, sys, time
port, size, way = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
started, room, chunk = time.monotonic(), bytearray(1 << 18), bytes(1 << 18)
with socket.create_connection(("127.0.0.1", port)) as peer:
    peer.sendall(way.encode())
    if way == "u":
        left = size
        while left > 0:
            left -= peer.send(chunk[:left])
        peer.shutdown(socket.SHUT_WR)
        assert peer.recv(1) == b"k"
    else:
        got = 0
        while count := peer.recv_into(room):
            got += count
        assert got == size, got
print(time.monotonic() - started)
"""


class Kubectl:
    """kubectl in one of its ways."""

    def __init__(self, sandbox: controlplane.ControlPlane, websockets: bool) -> None:
        self._sandbox = sandbox
        text = str(websockets).lower()
        self._environment = {
            **os.environ,
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": text,
            "KUBECTL_PORT_FORWARD_WEBSOCKETS": text,
        }

    async def start(
        self, *arguments: str, stdin: int | None = None, stdout: int | None = None
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            str(self._sandbox.kubectl_path),
            f"--kubeconfig={self._sandbox.kubeconfig_path}",
            *arguments,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
            stdout=asyncio.subprocess.DEVNULL if stdout is None else stdout,
        )

    async def seconds(self, *arguments: str, stdin: int | None = None) -> float:
        """Of a whole command, which has to succeed."""
        started_s = time.monotonic()
        process = await self.start(*arguments, stdin=stdin)
        code = await process.wait()
        if code != 0:
            raise SystemExit(f"kubectl {' '.join(arguments)} ended with exit code {code}")
        return time.monotonic() - started_s


async def measure_way(path: Kubectl, folder: str, megabytes: int, rounds: int) -> dict[str, float]:
    """`folder` holds the file `sent`."""
    size = megabytes * MB
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    for _ in range(rounds):
        note("exec_true_ms", 1000 * await path.seconds("exec", POD, "--", "true"))
        taken_s = await path.seconds("exec", POD, "--", "head", "-c", str(size), "/dev/zero")
        note("exec_out_mb_s", megabytes / taken_s)
        file = os.open(f"{folder}/sent", os.O_RDONLY)
        taken_s = await path.seconds("exec", "-i", POD, "--", "sh", "-c", "cat >/dev/null", stdin=file)
        os.close(file)
        note("exec_in_mb_s", megabytes / taken_s)
        note("cp_up_mb_s", megabytes / await path.seconds("cp", f"{folder}/sent", f"{POD}:{folder}/there"))
        note("cp_down_mb_s", megabytes / await path.seconds("cp", f"{POD}:{folder}/there", f"{folder}/back"))
        await done("cmp", f"{folder}/sent", f"{folder}/back")
        async with forwarded(path, size) as port:
            for name, way in (("forward_down_mb_s", "d"), ("forward_up_mb_s", "u")):
                note(name, megabytes / await fetched(port, size, way))
    return {name: round(statistics.median(values), 1) for name, values in figures.items()}


async def done(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait() != 0:
        raise SystemExit(f"{command[0]} failed: {' '.join(command)}")


@contextlib.asynccontextmanager
async def forwarded(path: Kubectl, size: int) -> AsyncIterator[int]:
    command = (sys.executable, "-c", SERVE, str(size))
    server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    remote = int(await server.stdout.readline())
    kubectl = await path.start("port-forward", POD, f":{remote}", stdout=asyncio.subprocess.PIPE)
    assert kubectl.stdout is not None
    try:
        line = await kubectl.stdout.readline()
        yield int(line.split(b"127.0.0.1:")[1].split()[0])
    finally:
        for process in (kubectl, server):
            process.terminate()
            await process.wait()


async def fetched(port: int, size: int, way: str) -> float:
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FETCH, str(port), str(size), way, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await client.communicate()
    return float(out)


async def first_bytes(sandbox: controlplane.ControlPlane, protocol: str, count: int) -> dict[str, float]:
    """Of `exec echo` by a client that is up already, a new connection each, TLS included; milliseconds."""
    url = f"{sandbox.url}/api/v1/namespaces/default/pods/{POD}/exec?command=echo&command=hi&stdout=true"
    times_ms = []
    connector = aiohttp.TCPConnector(ssl=as_administrator(sandbox), force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        for _ in range(count):
            started_s = time.monotonic()
            async with session.ws_connect(url, protocols=[protocol]) as socket:
                while (await socket.receive()).data == b"\x01":
                    pass
                times_ms.append(1000 * (time.monotonic() - started_s))
    times_ms.sort()
    return {"p50_ms": round(statistics.median(times_ms), 1), "p95_ms": round(times_ms[int(0.95 * (count - 1))], 1)}


async def follow_lag(sandbox: controlplane.ControlPlane, kubelet: conftest.Kubelet) -> dict[str, float]:
    """From a line's being written to its arrival at a client of the API server, with `FOLLOWED` pods followed."""
    pods = {f"followed-{number}": conftest.Log(coming=asyncio.Queue()) for number in range(FOLLOWED)}
    for name, log in pods.items():
        await kubelet.run_pod(name, log)
    lags_ms: list[float] = []

    async def follow(session: aiohttp.ClientSession, name: str, log: conftest.Log) -> None:
        url = f"{sandbox.url}/api/v1/namespaces/default/pods/{name}/log?follow=true"
        async with session.get(url) as answer, asyncio.TaskGroup() as group:
            group.create_task(write(log))
            async for line in answer.content:
                lags_ms.append((time.time_ns() - int(line)) / 1e6)

    async def write(log: conftest.Log) -> None:
        assert log.coming is not None
        for _ in range(LINES):
            await asyncio.sleep(random.uniform(0.1, 0.3))
            now_ns = time.time_ns()
            log.coming.put_nowait(kubelet_logs.LogLine(now_ns, str(now_ns).encode()))
        log.coming.put_nowait(None)

    connector = aiohttp.TCPConnector(ssl=as_administrator(sandbox), limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for name, log in pods.items():
            group.create_task(follow(session, name, log))
    lags_ms.sort()
    return {
        "lines": len(lags_ms),
        "p50_ms": round(statistics.median(lags_ms), 1),
        "p99_ms": round(lags_ms[int(0.99 * (len(lags_ms) - 1))], 1),
    }


def as_administrator(sandbox: controlplane.ControlPlane) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=sandbox.authority_path)
    context.load_cert_chain(sandbox.admin.certificate_path, sandbox.admin.key_path)
    return context


async def main(megabytes: int, rounds: int) -> None:
    logs.configure("text", "error")
    local = local_containers.LocalContainers()
    result: dict[str, dict[str, float]] = {}
    async with (
        controlplane.ControlPlane() as sandbox,
        conftest.a_kubelet(sandbox, "bench", local) as kubelet,
    ):
        await kubelet.run_pod(POD, conftest.Log())
        folder = str(sandbox.folder)
        await done("sh", "-c", f"head -c {megabytes * MB} /dev/urandom >{folder}/sent")
        for way, websockets in (("websocket", True), ("spdy", False)):
            before = resource.getrusage(resource.RUSAGE_SELF)
            result[way] = await measure_way(Kubectl(sandbox, websockets), folder, megabytes, rounds)
            after = resource.getrusage(resource.RUSAGE_SELF)
            moved = 6 * rounds * megabytes / 100
            cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            result[way]["our_cpu_s_per_100_mb"] = round(cpu_s / moved, 2)
        for name, protocol in (("first_byte_v4", "v4.channel.k8s.io"), ("first_byte_v5", "v5.channel.k8s.io")):
            result[name] = await first_bytes(sandbox, protocol, 30)
        result["logs_follow"] = await follow_lag(sandbox, kubelet)
    await local.close()
    for name, figures in result.items():
        for what, value in figures.items():
            print(f"{name:<14}{what:<22}{value:>8}")
    print(json.dumps({"benchmark": "streams", "megabytes": megabytes, "rounds": rounds, **result}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200, help="megabytes in each transfer")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many")
    given = parser.parse_args()
    asyncio.run(main(given.n, given.rounds))
