"""Races of our binding against another binder's, on a real API server."""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import errors, resources
from bareboat.offload import binder, jobs, policy, wishes
from bareboat.workload import access

OURS, THEIRS = "race-ours", "race-theirs"
PARALLEL = 32


@dataclass
class Told:
    """Who was told that they won, and where the pods stand in the end."""

    pods: int = 0
    ours_won: int = 0
    theirs_won: int = 0
    on_ours: int = 0
    on_theirs: int = 0
    nowhere: int = 0
    other_outcomes: list[str] = field(default_factory=list)


def a_pod(number: int) -> dict[str, Any]:
    """Nobody's node has what it asks for, so the scheduler gives it up."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"race-{number}"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [{"name": "main", "image": "busybox:1.36", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
        },
    }


async def race(kubeconfig: Path, namespace: str, count: int, dice: random.Random) -> Told:
    """Makes `count` pods, waits until the scheduler has given them up, and has both sides bind each of them."""
    config = configs.load(kubeconfig)
    async with (
        clients.Client(config, connections=PARALLEL) as ours,
        clients.Client(config, connections=PARALLEL) as theirs,
    ):
        await _ready(ours, namespace)
        for name in (OURS, THEIRS):
            # Pods on a node that does not exist would be removed while the others are still raced for.
            with contextlib.suppress(errors.Conflict):
                node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
                await ours.create(resources.NODES.path(), node)
        await _several(count, lambda number: ours.create(resources.PODS.path(namespace), a_pod(number)))
        waiting = await _given_up(ours, namespace, count)
        told = Told(len(waiting))
        side = _Sides(ours, theirs, namespace, told, dice)
        await _several(count, lambda number: side.both(waiting[number]))
        for pod in await _listed(ours, namespace):
            told.on_ours += pod.spec.node_name == OURS
            told.on_theirs += pod.spec.node_name == THEIRS
            told.nowhere += not pod.spec.node_name
        return told


class _Sides:
    def __init__(
        self, ours: clients.Client, theirs: clients.Client, namespace: str, told: Told, dice: random.Random
    ) -> None:
        self._binder = binder.Binder(ours, OURS, access.Access.PLAIN)
        self._theirs = theirs
        self._namespace = namespace
        self._told = told
        self._dice = dice

    async def both(self, pod: jobs.Pod) -> None:
        await asyncio.gather(self._ours(pod), self._other(pod, self._dice.uniform(0.0, 0.005)))

    async def _ours(self, pod: jobs.Pod) -> None:
        job = jobs.Job(metadata=pod.metadata)
        leave = policy.Leave(job, wishes.Wish(gpus=1), policy.Rule.FORCE, "a race", (pod,))
        outcome = await self._binder.bind(pod, leave, policy.Rules())
        if isinstance(outcome, binder.Bound):
            self._told.ours_won += 1
        elif not isinstance(outcome, binder.Taken):
            self._told.other_outcomes.append(str(outcome))

    async def _other(self, pod: jobs.Pod, after_s: float) -> None:
        """Reads the pod first, as ours does: neither has a start over the other."""
        await self._theirs.get(resources.PODS.path(self._namespace, pod.metadata.name))
        await asyncio.sleep(after_s)
        try:
            await self._theirs.bind(self._namespace, pod.metadata.name, THEIRS, uid=pod.metadata.uid)
        except errors.Conflict:
            return
        self._told.theirs_won += 1


async def _ready(client: clients.Client, namespace: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await client.get(resources.SERVICE_ACCOUNTS.path(namespace, "default"))
                return
            except errors.NotFound:
                await asyncio.sleep(0.05)


async def _listed(client: clients.Client, namespace: str) -> list[jobs.Pod]:
    page = await client.list(resources.PODS.path(namespace), item=jobs.Pod, timeout_s=60)
    return page.items or []


async def _given_up(client: clients.Client, namespace: str, count: int) -> list[jobs.Pod]:
    async with asyncio.timeout(120 + count * 0.05):
        while True:
            found = await _listed(client, namespace)
            if len(found) == count and all(pod.waits_since() is not None for pod in found):
                return found
            await asyncio.sleep(0.5)


async def _several(count: int, call: Any) -> None:
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await call(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(PARALLEL):
            group.create_task(worker())
