"""What became of a Job's pods, told on the Job: annotations that other programs read, and an Event for each machine.

The list in `bareboat.dev/instances` is the whole record; the other annotations are made from it. It outlives pods that
are removed, and restarts of this program.
"""

from collections.abc import Callable, Iterable

import msgspec
import structlog

from bareboat.kube import client as clients
from bareboat.kube import errors, events, informer, patches, resources, workqueue
from bareboat.offload import jobs, telling, wishes
from bareboat.plumbing import clock as clocks
from bareboat.workload import annotations as notes
from bareboat.workload import runpod_asks

log = structlog.get_logger()

INSTANCES = notes.OURS + "instances"
OFFLOADED = "offloaded"
POD_ID = runpod_asks.PREFIX + "pod-id"
COST = runpod_asks.PREFIX + "cost-per-hr"
MOST = 100
"""Machines told of one Job, the newest: annotations have 256 KiB in all."""


class Entry(msgspec.Struct, rename="camel", omit_defaults=True):
    """One pod's machine; prices in US dollars."""

    pod: str
    cloud: str = ""
    id: str = ""
    gpu: str = ""
    region: str = ""
    usd_per_hour: float = 0.0
    spent_usd: float = 0.0


def told(job: jobs.Job) -> list[Entry]:
    """What stands on the Job; annotations can be edited, so what can't be read is none."""
    try:
        return msgspec.json.decode((job.metadata.annotations or {}).get(INSTANCES, "[]"), type=list[Entry])
    except msgspec.DecodeError:
        return []


def merged(known: list[Entry], pods: Iterable[jobs.Pod]) -> list[Entry]:
    """With what the pods tell now. Pods that rented nothing yet have no entry. Pure."""
    entries = {each.pod: each for each in known}
    for pod in sorted(pods, key=lambda each: (str(each.metadata.creation_timestamp), each.metadata.name)):
        own = pod.metadata.annotations or {}
        cloud, _, instance_id = own.get(notes.INSTANCE, "").partition("/")
        entry = entries.get(pod.metadata.name)
        if instance_id and (entry is None or entry.id != instance_id):
            entry = Entry(pod.metadata.name, cloud, instance_id)
            entries.pop(entry.pod, None)
            entries[entry.pod] = entry
        if entry is None:
            continue
        if instance_id:
            entry.gpu, entry.region = own.get(notes.GPU, ""), own.get(notes.REGION, "")
            entry.usd_per_hour = _usd(own.get(notes.PRICE))
        entry.spent_usd = max(entry.spent_usd, _usd(own.get(notes.SPENT)))
    return list(entries.values())[-MOST:]


def annotations(entries: list[Entry]) -> dict[str, str]:
    """Of a Job of which a pod was sent out. Pure."""
    found = {prefix + OFFLOADED: "true" for prefix in wishes.PREFIXES}
    if not entries:
        return found
    prices = ",".join(f"{each.usd_per_hour:.4f}" for each in entries)
    distinct = {
        notes.CLOUD: [each.cloud for each in entries],
        notes.GPU: [each.gpu for each in entries],
        notes.REGION: [each.region for each in entries],
    }
    return {
        **found,
        POD_ID: ",".join(each.id for each in entries),
        COST: prices,
        notes.PRICE: prices,
        notes.SPENT: f"{sum(each.spent_usd for each in entries):.6f}",
        INSTANCES: msgspec.json.encode(entries).decode(),
        **{name: ",".join(dict.fromkeys(filter(None, words))) for name, words in distinct.items()},
    }


class Results:
    """Writes them, a patch for each change of a Job's machines. `job` looks a Job up by uid."""

    def __init__(
        self,
        client: clients.Client,
        recorder: events.Recorder,
        clock: clocks.Clock,
        placed: informer.Informer[jobs.Pod],
        job: Callable[[str], jobs.Job | None],
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._job = job
        self._pods: dict[str, dict[str, jobs.Pod]] = {}
        self._written: dict[str, dict[str, str]] = {}
        self._announced: dict[str, set[str]] = {}
        self.queue: workqueue.WorkQueue[str] = workqueue.WorkQueue(
            "offload.results", self._pass, workers=8, clock=clock, first_retry_s=0.5
        )
        placed.add_handler(self._noticed)

    async def run(self) -> None:
        await self.queue.run()

    def forget(self, job_uid: str) -> None:
        """The Job is gone."""
        self._written.pop(job_uid, None)
        self._announced.pop(job_uid, None)

    def _noticed(self, _key: informer.Key, old: jobs.Pod | None, new: jobs.Pod | None) -> None:
        pod = new or old
        job_uid = pod.job_uid if pod is not None else None
        if pod is None or job_uid is None or (pod.metadata.labels or {}).get(wishes.MANAGED_LABEL) != "true":
            return
        if new is None:
            several = self._pods.get(job_uid, {})
            several.pop(pod.metadata.uid, None)
            if not several:
                self._pods.pop(job_uid, None)
            return
        self._pods.setdefault(job_uid, {})[pod.metadata.uid] = new
        if old is None or _said(old) != _said(new):
            self.queue.add(job_uid)

    async def _pass(self, job_uid: str) -> float | None:
        job = self._job(job_uid)
        pods = self._pods.get(job_uid)
        if job is None or not pods:
            return None
        written = self._written.get(job_uid)
        known = told(job) if written is None else msgspec.json.decode(written.get(INSTANCES, "[]"), type=list[Entry])
        announced = self._announced.setdefault(job_uid, {each.id for each in known})
        entries = merged(known, pods.values())
        wanted = annotations(entries)
        if written == wanted or wanted.items() <= (job.metadata.annotations or {}).items():
            return None
        namespace, name = job.key
        try:
            await self._client.patch(
                resources.JOBS.path(namespace, name),
                patches.metadata(job_uid, annotations=wanted),
                clients.Patch.MERGE,
            )
        except (errors.NotFound, errors.OtherObject):
            return None
        self._written[job_uid] = wanted
        for each in entries:
            if each.id not in announced:
                announced.add(each.id)
                said = telling.rented(each.pod, each.cloud, each.id, each.gpu, each.region, each.usd_per_hour)
                self._recorder.normal(telling.about(job), "Rented", said)
        return None


def _said(pod: jobs.Pod) -> tuple[str | None, ...]:
    """What of a pod the results are made of."""
    own = pod.metadata.annotations or {}
    return tuple(own.get(name) for name in (notes.INSTANCE, notes.PRICE, notes.SPENT, notes.GPU, notes.REGION))


def _usd(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
