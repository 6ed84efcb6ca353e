"""A virtual node's reconcile in one process on a clock that stands still, over fakes: started, killed, started anew."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, cast

from tests.fakes import clouds as fake_clouds
from tests.fakes import crashes
from tests.fakes import pods as fake_pods

from bareboat.core import budget, criteria, offers, scoring
from bareboat.fleet import accounts, broker, reaper, watcher
from bareboat.kube import client as clients
from bareboat.kube import events
from bareboat.kube import informer as informers
from bareboat.node import controller, decide, orphans, parts, pod_inputs
from bareboat.plumbing import clock as clocks
from bareboat.plumbing import supervise
from bareboat.workload import needs, sources
from bareboat.workload import pod as pods

CLUSTER = "cluster-1"
RULES = criteria.Criteria(min_reliability=None, min_inet_down_mbps=None, min_duration_s=None, latency_check=False)


def an_offer(number: int, **changes: Any) -> offers.Offer:
    """Good enough for any pod, the dearer the higher its number, each on a machine of its own."""
    told = {"cloud": "vast", "machine_id": f"m{number}", "usd_per_hour": 0.1 + number / 1000, **changes}
    return offers.Offer(
        id=told.pop("id", str(number)),
        gpu_name="RTX 4090",
        gpu_count=told.pop("gpu_count", 0),
        reliability=0.99,
        disk_gib=500.0,
        **told,
    )


class Installation:
    """The world (clouds, API, clock), which outlives each process of the node, and the present process if any."""

    def __init__(
        self, clock: clocks.ManualClock, several: Sequence[fake_clouds.FakeCloud], limits: budget.Limits | None = None
    ) -> None:
        self.clock = clock
        self.clouds = {each.name: each for each in several}
        self.api = fake_pods.FakeApi(clock)
        self.recorder = fake_pods.FakeRecorder()
        self.limits = limits or budget.Limits(least_run_s=0.0)
        self.pods: controller.Pods
        self.use: parts.Parts
        self._task: asyncio.Task[None] | None = None
        self._informer: fake_pods.FakeInformer | None = None

    @property
    def cloud(self) -> fake_clouds.FakeCloud:
        return next(iter(self.clouds.values()))

    def start(self, crash: crashes.CrashPoint | None = None) -> None:
        """A new process that knows nothing but what API and clouds tell."""
        crash = crash or crashes.CrashPoint()
        self.api.crash = crash
        for each in self.clouds.values():
            each.crash = crash
        self.use = self._parts()
        self._informer = fake_pods.FakeInformer(self.api)
        self._informer.synced.set()
        self.pods = controller.Pods(self.use, cast(informers.Informer[pods.Pod], self._informer), workers=4)
        sweeper = orphans.Orphans(self.use, self.pods.records, guard_age_s=30.0)
        for name, account in self.use.accounts.items():
            account.watcher.on_change.append(self.pods.changed)
            account.watcher.on_listing.append(self.pods.listed)
            account.watcher.on_listing.append(sweeper.listed)
            account.reaper.on_ended.append(lambda id_, name=name: self.pods.ended(name, id_))  # type: ignore[misc]
        self._task = asyncio.create_task(self._run(sweeper), name="node")

    async def kill(self) -> None:
        """Nothing of the process is left; nothing is tidied away outside it."""
        dead = crashes.CrashPoint(0)
        dead.happened.set()
        self.api.crash = dead
        for each in self.clouds.values():
            each.crash = dead
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._informer is not None:
            self._informer.stop()
        self._task = self._informer = None

    async def run(self, seconds: float, *, until: Callable[[], bool] = lambda: False, step_s: float = 1.0) -> bool:
        """Lets the time pass; whether `until` came true."""
        for _ in range(int(seconds / step_s)):
            await self._settle()
            if until():
                return True
            await self.clock.advance(step_s)
        await self._settle()
        return until()

    def phase(self, name: str) -> str:
        pod = self.api.pods.get(("t", name))
        return "gone" if pod is None else str(pod["status"]["phase"])

    async def _settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    async def _run(self, sweeper: orphans.Orphans) -> None:
        running = {"pods": self.pods.run, "orphans": sweeper.run}
        for name, account in self.use.accounts.items():
            running |= {f"{name}.watcher": account.watcher.run, f"{name}.reaper": account.reaper.run}
        async with asyncio.TaskGroup() as group:
            for name, part in running.items():
                group.create_task(supervise.supervise(name, part, clock=self.clock), name=name)

    def _parts(self) -> parts.Parts:
        client = cast(clients.Client, self.api)
        selection = broker.Selection(RULES, scoring.Weights())
        several: dict[str, accounts.Account] = {}
        for name, cloud in self.clouds.items():
            watching = watcher.Watcher(cloud, self.clock)
            several[name] = accounts.Account(cloud, watching, reaper.Reaper(cloud, watching, self.clock))
        window_s = max(each.visibility_window_s for each in self.clouds.values())
        return parts.Parts(
            cluster_id=CLUSTER,
            node_name="node-1",
            host_ip="10.0.0.1",
            client=client,
            recorder=cast(events.Recorder, self.recorder),
            clock=self.clock,
            broker=broker.Broker(self.clouds, self.clock, budget.Ledger(self.limits), selection=lambda: selection),
            accounts=several,
            inputs=pod_inputs.PodInputs(client, clock=self.clock),
            defaults=needs.Defaults(verified_only=False),
            policy=decide.Policy(start_timeout_s=120.0, visibility_window_s=window_s),
            facts=sources.NodeFacts(("10.0.0.1",)),
        )


@contextlib.asynccontextmanager
async def installation(
    cloud_kind: type[fake_clouds.FakeCloud] = fake_clouds.FakeCloud,
    *,
    offer_count: int = 40,
    limits: budget.Limits | None = None,
) -> Any:
    """One cloud with some offers; the node is not started yet, and killed at the end."""
    clock = clocks.ManualClock()
    cloud = cloud_kind(clock, offers_=[an_offer(number) for number in range(1, offer_count + 1)])
    made = Installation(clock, [cloud], limits)
    try:
        yield made
    finally:
        await made.kill()
