"""What of a pod can't be honoured in a way of access, and why. Pure; the table of fields has the rules.

Owns what is said and whether a pod with such a field may rent at all; leaves values (prices, quantities, references)
to those who read them. Silent on purpose: the service account token that the API server mounts into every pod by
itself (`kube-api-access-…`: in plain access the file is missing, nobody asked for it), volumes that no container
mounts, and whatever the API server or the scheduler does alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bareboat.workload import pod as pods
from bareboat.workload.fields import finders, rows, table

Access = rows.Access
TOKEN_VOLUME = finders.TOKEN_VOLUME
LONGEST_SENTENCE = 1000
RULES = table.rules(Access.PLAIN)

_RULES = {access: table.rules(access) for access in Access}


@dataclass(frozen=True, slots=True)
class Unsupported:
    """`field` is the full path. With `fatal` the pod never rents; else it runs, and its user is told once."""

    field: str
    why: str
    fatal: bool

    def __str__(self) -> str:
        return f"{self.field}: {self.why}"


def check(pod: pods.Pod, access: Access = Access.PLAIN, *, pod_ips: Sequence[str] = ()) -> tuple[Unsupported, ...]:
    """Everything that can't be honoured, the fatal first. With `pod_ips` the pod has addresses that are true."""
    found = [
        Unsupported(field, rule.why.replace("{value}", value), rule.fatal)
        for rule in _RULES[access]
        if not (rule.unless_addressed and pod_ips)
        for field, value in rule.hits(pod)
    ]
    return tuple(sorted(found, key=lambda each: not each.fatal))


def refusals(pod: pods.Pod, access: Access, *, pod_ips: Sequence[str] = ()) -> tuple[Unsupported, ...]:
    """Why the pod never rents in this way of access; empty when it may."""
    return tuple(each for each in check(pod, access, pod_ips=pod_ips) if each.fatal)


def access_needed(pod: pods.Pod, *, pod_ips: Sequence[str] = ()) -> Access | None:
    """The simplest way of access that refuses nothing; None when each refuses something."""
    for access in (Access.PLAIN, Access.SSH):
        if not refusals(pod, access, pod_ips=pod_ips):
            return access
    return None


def sentence(found: Iterable[Unsupported], longest: int = LONGEST_SENTENCE) -> str:
    """All of it as the text of one Event; what does not fit is counted."""
    texts = [str(each) for each in found]
    joined = "; ".join(texts)
    shown = len(texts)
    while len(joined) > longest and shown > 1:
        shown -= 1
        joined = "; ".join(texts[:shown]) + f"; and {len(texts) - shown} more"
    return joined
