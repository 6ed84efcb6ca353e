"""What becomes of the demo's pods: their events as kubectl tells them, and where each of them stands."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Self

from bareboat.cli.demo import stage, terminal
from bareboat.workload import pod as pods

EVENTS = ("kubectl", "get", "events", "-w", "--no-headers", "--field-selector", "involvedObject.kind!=Node")
ON_ITS_WAY = frozenset({"", "Renting", "Pulling", "ContainerCreating", "CrashLoopBackOff"})
TAINTED = "untolerated taint"
NO_TOLERATION = "the node keeps ordinary pods away by a taint, which this one does not tolerate"
TOLERATION = """\
spec:
  tolerations:
  - {key: virtual-kubelet.io/provider, operator: Exists}"""


class Events:
    """`kubectl get events --watch`, shown as it comes or, while something else has the screen, later."""

    def __init__(self, teller: terminal.Teller) -> None:
        self._teller = teller
        self._held: list[str] = []
        self._shown = False

    @contextlib.asynccontextmanager
    async def watched(self, on: stage.Stage, command: Sequence[str]) -> AsyncIterator[Self]:
        async with on.running(command) as process:
            reading = asyncio.create_task(self._read(process), name="demo.events")
            try:
                yield self
            finally:
                reading.cancel()
                await asyncio.wait({reading})

    def show(self) -> None:
        self._shown = True
        for line in self._held:
            self._teller.event(line)
        self._held.clear()

    def hold(self) -> None:
        self._shown = False

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip("\n")
            if self._shown:
                self._teller.event(line)
            else:
                self._held.append(line)


class Patience:
    """How long a pod may stand still before the demo says that it won't get further; `speed` is the cloud's clock's."""

    UNMADE_S = 15.0
    UNSCHEDULED_S = 3.0
    UNRENTED_S = 7.0

    def __init__(self, speed: float) -> None:
        self.all_s = 60.0 + 900.0 / speed
        self._since: dict[tuple[str, str], tuple[str, float]] = {}
        self._started_s = time.monotonic()

    def stuck(self, pod: pods.Pod) -> str:
        """Why this pod won't run, once it is certain enough; else empty."""
        where, why, limit_s = _standing(pod, self.all_s)
        before, since_s = self._since.get(pod.key, ("", 0.0))
        if before != where:
            since_s = time.monotonic()
            self._since[pod.key] = (where, since_s)
        return why if time.monotonic() - since_s > limit_s else ""

    def none_made(self) -> bool:
        return time.monotonic() - self._started_s > self.UNMADE_S


def _standing(pod: pods.Pod, all_s: float) -> tuple[str, str, float]:
    """Where a pod is that doesn't run: a word that changes as it gets on, why, and how long that may last."""
    if pod.status.phase != "Pending":
        return pod.status.phase, "", all_s
    if not pod.spec.node_name:
        told = next((each.message for each in pod.status.conditions if each.type == "PodScheduled"), "")
        why = NO_TOLERATION if TAINTED in told else told or "the scheduler has not looked at it"
        return "unscheduled", why, Patience.UNSCHEDULED_S
    if pod.spec.node_name != stage.NODE_NAME:
        why = f"its nodeName is {pod.spec.node_name!r}; the only node here is {stage.NODE_NAME}"
        return "elsewhere", why, Patience.UNSCHEDULED_S
    waiting = next((each.state.waiting for each in pod.status.container_statuses if each.state.waiting), None)
    if waiting is None or waiting.reason in ON_ITS_WAY:
        why = f"{waiting.reason}: {waiting.message}" if waiting else "the node has not looked at it"
        return "on its way", f"it takes longer than {all_s:.0f} s; {why}", all_s
    return "not rented", f"{waiting.reason}: {waiting.message}", Patience.UNRENTED_S
