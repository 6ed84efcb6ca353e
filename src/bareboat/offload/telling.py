"""Words for Events about Jobs: which rule sent a pod out, at what price, what it would have waited for."""

from bareboat.kube import events
from bareboat.offload import binder, jobs, policy


def about(job: jobs.Job) -> events.Reference:
    namespace, name = job.key
    return events.Reference("batch/v1", "Job", name, namespace, job.metadata.uid, job.metadata.resource_version)


def offloaded(pod: jobs.Pod, leave: policy.Leave, bound: binder.Bound, node_name: str) -> str:
    """`Pod x goes to virtual node n by rule time (pending for 31 s …) for at most $0.5/h; it waited for: …`"""
    waited = bound.waited_for.rstrip(".") or "its own scheduler, which is this program"
    return (
        f"Pod {pod.metadata.name} goes to virtual node {node_name} by rule {leave.rule.value} ({leave.why}) for "
        f"at most ${bound.usd_per_hour:g}/h; here it would have gone on waiting: {waited}"
    )


def kept(why: str) -> str:
    return f"The Job stays here and nothing is rented for it: {why}"


def no_offer(why: str) -> str:
    return f"The Job goes on waiting here, since there is nothing to rent for it now: {why}"


def rented(pod_name: str, cloud: str, instance_id: str, gpu: str, region: str, usd_per_hour: float) -> str:
    place = f" in {region}" if region else ""
    return f"Pod {pod_name} has {gpu or 'a machine'}{place} as {cloud}/{instance_id} at ${usd_per_hour:.3f}/h"
