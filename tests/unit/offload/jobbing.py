"""Builders of Jobs, pods and what waits."""

from datetime import UTC, datetime

from bareboat.kube import objects
from bareboat.offload import jobs, policy, wishes
from bareboat.workload import pod as pods

NOW_S = 1_790_000_000.0
MANAGED = {"runpod.io/managed": "true"}
FORCED = {**MANAGED, "runpod.io/offload": "true"}


def at(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)


def a_job(
    name: str = "train",
    annotations: dict[str, str] | None = None,
    *,
    namespace: str = "team-a",
    gpus: int | str | None = 1,
    template: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    suspend: bool | None = None,
    deleted: bool = False,
    over: str = "",
) -> jobs.Job:
    limits: dict[str, str | int | float] = {} if gpus is None else {"nvidia.com/gpu": gpus}
    return jobs.Job(
        metadata=objects.ObjectMeta(
            name=name,
            namespace=namespace,
            uid=f"uid-{namespace}-{name}",
            resource_version="1",
            annotations=MANAGED if annotations is None else annotations,
            labels=labels,
            deletion_timestamp=at(NOW_S) if deleted else None,
        ),
        spec=jobs.JobSpec(
            suspend=suspend,
            template=jobs.Template(
                metadata=jobs.TemplateMeta(annotations=template),
                spec=jobs.TemplateSpec(containers=[jobs.Container(resources=pods.Resources(limits=limits))]),
            ),
        ),
        status=jobs.JobStatus(conditions=[jobs.Condition(type=over, status="True")] if over else None),
    )


def a_pod(job: jobs.Job, number: int = 0, *, waits_s: float | None = 60.0, **spec: str) -> jobs.Pod:
    """`waits_s`: since when the scheduler has given it up; None: it has not looked yet."""
    owner = objects.OwnerReference(kind="Job", name=job.metadata.name, uid=job.metadata.uid, controller=True)
    given_up = jobs.Condition(
        type="PodScheduled",
        status="False",
        reason="Unschedulable",
        message="0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
        last_transition_time=at(NOW_S - (waits_s or 0.0)),
    )
    return jobs.Pod(
        metadata=objects.ObjectMeta(
            name=f"{job.metadata.name}-{number}",
            namespace=job.metadata.namespace,
            uid=f"{job.metadata.uid}-{number}",
            owner_references=[owner],
            creation_timestamp=at(NOW_S - 100 + number),
        ),
        spec=jobs.PodSpec(node_name=spec.get("node", ""), scheduler_name=spec.get("scheduler", "")),
        status=jobs.PodStatus(phase="Pending", conditions=None if waits_s is None else (given_up,)),
    )


def waiting(job: jobs.Job, count: int = 1, *, waits_s: float = 60.0) -> policy.Waiting:
    wish = wishes.read(job)
    assert wish is not None
    several = tuple(a_pod(job, number, waits_s=waits_s) for number in range(count))
    return policy.Waiting(job, wish, several, NOW_S - waits_s)


def room(pods: int = 100, gpus: int = 100, **more: object) -> policy.Room:
    return policy.Room(pods, gpus, gpus, **more)  # type: ignore[arg-type]
