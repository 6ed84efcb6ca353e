"""Which way a pod is run: over ssh, with a runner beside its processes, or plain, by the cloud alone. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from bareboat.workload import annotations, support
from bareboat.workload import pod as pods

Access = support.Access

_CHOICES = {"ssh": "ssh", "plain": "plain"}


@dataclass(frozen=True, slots=True)
class Choice:
    """`why` says what an Event should when it is not what was asked for or set as default; empty otherwise. With
    `refused` nothing is rented at all, and that is the reason; it is a sentence for people."""

    access: Access
    why: str = ""
    refused: str = ""


def asked(pod: pods.Pod) -> Access | None:
    """What the pod's annotation says; raises annotations.Invalid for anything but `ssh` and `plain`."""
    found = annotations.Annotations(pod.metadata.annotations).choice(annotations.ACCESS, _CHOICES)
    return Access(found) if found is not None else None


def choose(
    pod: pods.Pod, default: Access = Access.SSH, *, obstacles: Sequence[str] = (), pod_ips: Sequence[str] = ()
) -> Choice:
    """How to run the pod. `obstacles` are why ssh is impossible for it (the cloud can't, the image can't), each a
    sentence without a full stop. What the annotation names is taken or refused, never replaced; the default gives way
    to the other where that can run the pod. Raises annotations.Invalid."""
    wish = asked(pod)
    hindered = {Access.SSH: tuple(obstacles), Access.PLAIN: ()}
    first = default if wish is None else wish
    other = Access.PLAIN if first is Access.SSH else Access.SSH
    against = hindered[first] or _refusals(pod, first, pod_ips)
    if not against:
        return Choice(first)
    if wish is not None:
        where = f"annotation {annotations.OURS}{annotations.ACCESS} asks for {first} access"
        return Choice(first, refused=f"{where}, which this pod can't have: {'; '.join(against)}")
    beside = hindered[other] or _refusals(pod, other, pod_ips)
    if not beside:
        return Choice(other, why=f"{other} access instead of {first}: {'; '.join(against)}")
    if set(against) == set(beside):
        return Choice(first, refused="; ".join(against))
    return Choice(first, refused=f"{'; '.join(against)}; and {other} access can't run it: {'; '.join(beside)}")


def _refusals(pod: pods.Pod, access: Access, pod_ips: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(each) for each in support.refusals(pod, access, pod_ips=pod_ips if access is Access.SSH else ()))
