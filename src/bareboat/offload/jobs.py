"""The parts of Jobs, pods and Nodes that the policy reads, small enough to hold thousands. Never written back."""

from datetime import datetime

import msgspec

from bareboat.kube import objects
from bareboat.workload import needs
from bareboat.workload import pod as pods

OWN_SCHEDULER = "bareboat"
"""Pods with this `schedulerName` are left by every scheduler: their Jobs never compete with it."""


class Condition(objects.Partial, frozen=True):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class Container(objects.Partial, frozen=True):
    resources: pods.Resources = msgspec.field(default_factory=pods.Resources)
    restart_policy: str = ""


class TemplateSpec(objects.Partial, frozen=True):
    containers: list[Container] = msgspec.field(default_factory=list)
    init_containers: list[Container] = msgspec.field(default_factory=list)


class TemplateMeta(objects.Partial, frozen=True):
    annotations: dict[str, str] | None = None


class Template(objects.Partial, frozen=True):
    metadata: TemplateMeta = TemplateMeta()
    spec: TemplateSpec = TemplateSpec()


class JobSpec(objects.Partial, frozen=True):
    suspend: bool | None = None
    template: Template = Template()


class JobStatus(objects.Partial, frozen=True):
    conditions: list[Condition] | None = None


class Job(objects.Partial, frozen=True):
    metadata: objects.ObjectMeta
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()

    @property
    def key(self) -> tuple[str, str]:
        return self.metadata.namespace, self.metadata.name

    @property
    def is_finished(self) -> bool:
        return any(
            each.type in ("Complete", "Failed") and each.status == "True" for each in self.status.conditions or ()
        )

    def gpus(self) -> int:
        """Of one pod. Raises `annotations.Invalid` for what is no count."""
        spec = self.spec.template.spec
        parts = [
            [pods.Container(resources=each.resources, restart_policy=each.restart_policy) for each in several]
            for several in (spec.containers, spec.init_containers)
        ]
        return needs.gpu_count(
            pods.Pod(objects.ObjectMeta(), pods.PodSpec(containers=parts[0], init_containers=parts[1]))
        )


class PodSpec(objects.Partial, frozen=True):
    node_name: str = ""
    scheduler_name: str = ""
    containers: list[Container] = msgspec.field(default_factory=list)


class PodStatus(objects.Partial, frozen=True):
    phase: str = ""
    conditions: tuple[Condition, ...] | None = None


class Pod(objects.Partial, frozen=True):
    """A pod of any Job, or one on the virtual node."""

    metadata: objects.ObjectMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def key(self) -> tuple[str, str]:
        return self.metadata.namespace, self.metadata.name

    @property
    def is_over(self) -> bool:
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def job_uid(self) -> str | None:
        """Of the Job that controls it."""
        for owner in self.metadata.owner_references or ():
            if owner.kind == "Job" and owner.controller:
                return owner.uid
        return None

    def gpus(self) -> int:
        """That it holds on its node; what is no count holds none."""
        held = 0
        for each in self.spec.containers:
            count = each.resources.limits.get(needs.GPU_RESOURCE, each.resources.requests.get(needs.GPU_RESOURCE, 0))
            held += int(count) if str(count).isdigit() else 0
        return held

    def waits_since(self) -> datetime | None:
        """Since when the scheduler has no place for it; None when it does not wait for that.

        A pod that nobody has looked at yet does not wait: the scheduler may be about to place it.
        """
        if self.spec.node_name or self.metadata.deletion_timestamp is not None or self.is_over:
            return None
        for each in self.status.conditions or ():
            if each.type == "PodScheduled" and each.status == "False":
                return each.last_transition_time or self.created if each.reason == "Unschedulable" else None
        return self.created if self.spec.scheduler_name == OWN_SCHEDULER else None

    @property
    def created(self) -> datetime | None:
        return self.metadata.creation_timestamp


_NEVER = "-"
"""The name of no field: what bears it is skipped when an object is read."""


class LeanMeta(objects.ObjectMeta, frozen=True):
    generate_name: str | None = msgspec.field(name=_NEVER + "generateName", default=None)
    labels: dict[str, str] | None = msgspec.field(name=_NEVER + "labels", default=None)
    annotations: dict[str, str] | None = msgspec.field(name=_NEVER + "annotations", default=None)
    finalizers: list[str] | None = msgspec.field(name=_NEVER + "finalizers", default=None)


class LeanCondition(Condition, frozen=True):
    message: str = msgspec.field(name=_NEVER + "message", default="")


class LeanSpec(PodSpec, frozen=True):
    containers: list[Container] = msgspec.field(name=_NEVER + "containers", default_factory=list)


class LeanStatus(PodStatus, frozen=True):
    conditions: tuple[LeanCondition, ...] | None = None


class LeanPod(Pod, frozen=True):
    """A pod that waits, without what only its own Job and a fresh read have to tell: there may be thousands."""

    metadata: LeanMeta
    spec: LeanSpec = LeanSpec()
    status: LeanStatus = LeanStatus()


class Taint(objects.Partial, frozen=True):
    key: str = ""
    effect: str = ""


class NodeSpec(objects.Partial, frozen=True):
    taints: list[Taint] | None = None


class NodeStatus(objects.Partial, frozen=True):
    allocatable: dict[str, str] | None = None
    conditions: list[Condition] | None = None


class Node(objects.Partial, frozen=True):
    metadata: objects.ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    def trouble(self) -> str | None:
        """Why nothing should be bound to it now; None when all is well."""
        if self.metadata.deletion_timestamp is not None:
            return f"Node {self.metadata.name} is being deleted"
        conditions = {each.type: each for each in self.status.conditions or ()}
        ready = conditions.get("Ready")
        if ready is None or ready.status != "True":
            return f"Node {self.metadata.name} is not ready: {ready.message if ready else 'it never was'}"
        cloud = conditions.get("CloudReachable")
        if cloud is not None and cloud.status == "False":
            return f"{cloud.reason}: {cloud.message}"
        return None
