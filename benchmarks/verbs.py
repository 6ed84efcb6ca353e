"""kubectl's verbs through the whole path: real kubectl and API server, `bareboat node`, ssh, the runner, the process.

The machine is of the simulated Vast.ai, on this computer; everything shares its cores. What pods do is timed by the
kernel's clock since boot, which they share with us. Last line: one JSON object.
"""

import argparse
import asyncio
import contextlib
import json
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import streams
from tests.integration.node import stage

from bareboat.sandbox import controlplane

NAMESPACE = "verbs"
POD = "bench"
FOLLOWED = 50
LINES = 20
ENDING = 10
SSH = {"bareboat.dev/access": "ssh"}
UPTIME = "read t rest < /proc/uptime"
TELL_END = f"sleep 3; {UPTIME}; echo $t > /dev/termination-log"


class Kubectl(streams.Kubectl):
    """In the namespace of the benchmark."""

    async def start(
        self, *arguments: str, stdin: int | None = None, stdout: int | None = None
    ) -> asyncio.subprocess.Process:
        return await super().start("-n", NAMESPACE, *arguments, stdin=stdin, stdout=stdout)


class Figures:
    """Values by name, the median of each in the end."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def note(self, name: str, value: float) -> None:
        self._values.setdefault(name, []).append(value)

    @property
    def medians(self) -> dict[str, float]:
        return {name: round(statistics.median(values), 1) for name, values in self._values.items()}


async def moved(path: Kubectl, folder: Path, megabytes: int, rounds: int, port: int) -> dict[str, float]:
    """Megabytes a second; `port` is of `streams.SERVE` in the pod."""
    size, figures = megabytes * streams.MB, Figures()
    sent, back = folder / "sent", folder / "back"
    for _ in range(rounds):
        figures.note("exec_true_ms", 1000 * await path.seconds("exec", POD, "--", "true"))
        taken_s = await path.seconds("exec", POD, "--", "head", "-c", str(size), "/dev/zero")
        figures.note("exec_out_mb_s", megabytes / taken_s)
        with sent.open("rb") as file:
            into = ("exec", "-i", POD, "--", "sh", "-c", "cat >/dev/null")
            figures.note("exec_in_mb_s", megabytes / await path.seconds(*into, stdin=file.fileno()))
        figures.note("cp_up_mb_s", megabytes / await path.seconds("cp", str(sent), f"{POD}:/tmp/there"))
        figures.note("cp_down_mb_s", megabytes / await path.seconds("cp", f"{POD}:/tmp/there", str(back)))
        await streams.done("cmp", str(sent), str(back))
        async with forwarded(path, port) as local:
            for name, way in (("forward_down_mb_s", "d"), ("forward_up_mb_s", "u")):
                figures.note(name, megabytes / await streams.fetched(local, size, way))
    return figures.medians


@contextlib.asynccontextmanager
async def forwarded(path: Kubectl, remote: int) -> AsyncIterator[int]:
    kubectl = await path.start("port-forward", POD, f":{remote}", stdout=asyncio.subprocess.PIPE)
    assert kubectl.stdout is not None
    try:
        line = await kubectl.stdout.readline()
        yield int(line.split(b"127.0.0.1:")[1].split()[0])
    finally:
        kubectl.terminate()
        await kubectl.wait()


def session(sandbox: controlplane.ControlPlane) -> aiohttp.ClientSession:
    context = ssl.create_default_context(cafile=sandbox.authority_path)
    context.load_cert_chain(sandbox.admin.certificate_path, sandbox.admin.key_path)
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    return aiohttp.ClientSession(f"{sandbox.url}/api/v1/namespaces/{NAMESPACE}/", connector=connector)


async def first_bytes(sandbox: controlplane.ControlPlane, protocol: str, count: int) -> dict[str, float]:
    """Of `exec echo`, by a client that is up already, over an ssh connection that is; milliseconds."""
    times_ms = []
    async with session(sandbox) as client:
        for _ in range(count):
            began_s = time.monotonic()
            query = "container=main&command=echo&command=hi&stdout=true"
            async with client.ws_connect(f"pods/{POD}/exec?{query}", protocols=[protocol]) as socket:
                while (await socket.receive()).data == b"\x01":
                    pass
                times_ms.append(1000 * (time.monotonic() - began_s))
    return spread(times_ms)


def spread(times_ms: Sequence[float]) -> dict[str, float]:
    ordered = sorted(times_ms)
    ranks = {f"p{rank}_ms": round(ordered[rank * (len(ordered) - 1) // 100], 1) for rank in (50, 95, 99)}
    return {"count": len(ordered), **ranks}


def since_boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def follow_lag(sandbox: controlplane.ControlPlane) -> dict[str, float]:
    """From a line's being written in the pod to its arrival, with all pods followed at once. Good to 10 ms, the grain
    of /proc/uptime."""
    lags_ms: list[float] = []

    async def follow(client: aiohttp.ClientSession, number: int) -> None:
        left = LINES
        async with client.get(f"pods/followed-{number}/log?follow=true&tailLines=0") as answer:
            async for line in answer.content:
                lags_ms.append(1000 * (since_boot_s() - float(line)))
                left -= 1
                if left == 0:
                    return

    async with session(sandbox) as client, asyncio.TaskGroup() as group:
        for number in range(FOLLOWED):
            group.create_task(follow(client, number))
    return spread(lags_ms)


async def ends(sandbox: controlplane.ControlPlane) -> dict[str, float]:
    """From just before a container's exit to the watch event that tells it. Good to 10 ms, too."""
    lags_ms: dict[str, float] = {}
    async with session(sandbox) as client, client.get("pods?watch=true&labelSelector=ends=soon") as answer:
        async for line in answer.content:
            pod = json.loads(line)["object"]
            name = pod["metadata"]["name"]
            ended = stage.terminated(pod)
            if ended and name not in lags_ms:
                lags_ms[name] = 1000 * (since_boot_s() - float(ended["message"]))
            if len(lags_ms) == ENDING:
                break
    return spread(list(lags_ms.values()))


def bench_pod(node: stage.Node, size: int) -> stage.Json:
    made = stage.pod(POD, node, "", image="python:3.12", annotations=SSH)
    made["spec"]["containers"][0]["command"] = ["python3", "-uc", streams.SERVE, str(size)]
    return made


def fill(on: stage.Stage, megabytes: int) -> int:
    """Makes the pod that all transfers use; the port at which it serves."""
    on.cluster.create(bench_pod(on.nodes[0], megabytes * streams.MB))
    on.cluster.until_phase(POD, "Running", 60)
    return int(stage.until(lambda: on.cluster.kubectl("logs", POD).strip(), "the port it serves at"))


def fill_followed(on: stage.Stage) -> None:
    for number in range(FOLLOWED):
        chatter = f"while true; do {UPTIME}; echo $t; sleep 0.{10 + number % 20}; done"
        on.cluster.create(stage.pod(f"followed-{number}", on.nodes[0], chatter, annotations=SSH))
    stage.until(lambda: _running(on) == FOLLOWED, "all followed pods run", 120)


def _running(on: stage.Stage) -> int:
    followed = [pod for pod in on.cluster.pods() if pod["metadata"]["name"].startswith("followed-")]
    return sum(pod["status"].get("phase") == "Running" for pod in followed)


def fill_ending(on: stage.Stage) -> None:
    for number in range(ENDING):
        made = stage.pod(f"ends-{number}", on.nodes[0], TELL_END, annotations=SSH)
        made["metadata"]["labels"] = {"ends": "soon"}
        on.cluster.create(made)


def measure(on: stage.Stage, sandbox: controlplane.ControlPlane, folder: Path, given: argparse.Namespace) -> stage.Json:
    result: stage.Json = {}
    if "moved" in given.parts:
        port = fill(on, given.n)
        with (folder / "sent").open("wb") as file, Path("/dev/urandom").open("rb") as random:
            for _ in range(given.n):
                file.write(random.read(streams.MB))
        for way, websockets in (("websocket", True), ("spdy", False)):
            result[way] = asyncio.run(moved(Kubectl(sandbox, websockets), folder, given.n, given.rounds, port))
        for name in ("v4", "v5"):
            result[f"first_byte_{name}"] = asyncio.run(first_bytes(sandbox, f"{name}.channel.k8s.io", 30))
    if "ends" in given.parts:
        fill_ending(on)
        result["exit_to_status"] = asyncio.run(ends(sandbox))
    if "follow" in given.parts:
        fill_followed(on)
        result["logs_follow"] = asyncio.run(follow_lag(sandbox))
    return result


def main(given: argparse.Namespace) -> None:
    sandbox = controlplane.ControlPlane()
    asyncio.run(sandbox.start())
    try:
        with (
            tempfile.TemporaryDirectory() as name,
            contextlib.redirect_stdout(sys.stderr),
            stage.opened(sandbox, Path(name), NAMESPACE, script={"profile": "none"}) as on,
        ):
            on.node(BAREBOAT_ACCESS="ssh", BAREBOAT_START_TIMEOUT_S="120")
            result = measure(on, sandbox, Path(name), given)
    finally:
        asyncio.run(sandbox.stop())
    for name, figures in sorted(result.items()):
        for what, value in figures.items():
            print(f"{name:<16}{what:<20}{value:>9}")
    print(json.dumps({"benchmark": "verbs", "megabytes": given.n, "rounds": given.rounds, **result}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200, help="megabytes in each transfer")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many")
    parser.add_argument("--parts", nargs="+", default=["moved", "ends", "follow"], help="moved, ends, follow")
    main(parser.parse_args())
