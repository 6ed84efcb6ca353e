"""Words for Events about pods: what happened, what it costs, what came closest, what happens next."""

from bareboat.fleet import broker
from bareboat.kube import events
from bareboat.workload import pod as pods


def about(pod: pods.Pod, *, container: bool = False, field_path: str = "") -> events.Reference:
    """The pod, its first container, or the part that `field_path` names."""
    first = f"spec.containers{{{pod.spec.containers[0].name}}}" if container and pod.spec.containers else ""
    path = field_path or first
    namespace, name = pod.key
    return events.Reference("v1", "Pod", name, namespace, pod.metadata.uid, pod.metadata.resource_version, path)


def rented(choice: broker.Choice, instance_id: str) -> str:
    """`Rented 1x RTX 4090 (Sweden, machine 52033) as vast/123 at $0.336/h: best of 12 fitting offers, 312 seen`."""
    offer = choice.offer
    place = ", ".join(part for part in (offer.region, offer.machine_id and f"machine {offer.machine_id}") if part)
    return (
        f"Rented {offer.gpu_count}x {offer.gpu_name} ({place}) as {offer.cloud}/{instance_id} "
        f"at ${choice.usd_per_hour:.3f}/h with disk: best of {choice.fitted} fitting offers, {choice.seen} seen"
    )


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
