"""Binds one pod to the virtual node, or finds out why not. The pod's own object moves; nothing is imitated.

The API server makes a binding atomic: whoever comes second is refused, so no pod is ever in two places. Only pods that
the scheduler has given up are bound, from a fresh read, with its uid and resourceVersion as conditions.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from bareboat.core import needs as needs_
from bareboat.kube import client as clients
from bareboat.kube import errors, objects, resources
from bareboat.offload import jobs, policy, wishes
from bareboat.workload import access as accesses
from bareboat.workload import annotations as notes
from bareboat.workload import launch, needs
from bareboat.workload import pod as pods

RULE = notes.OURS + "offload-rule"


@dataclass(frozen=True, slots=True)
class Bound:
    """`waited_for` is what the scheduler had said."""

    usd_per_hour: float
    waited_for: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """Somebody else has it, or it is gone or changed: nothing is to be done about this pod now."""

    why: str


@dataclass(frozen=True, slots=True)
class Unfit:
    """It can't run on a rented machine; only a change of its Job helps. A sentence without a full stop."""

    why: str


@dataclass(frozen=True, slots=True)
class NoOffer:
    """Nothing that it could run on is to be had now: it waits here as well as there. A sentence."""

    why: str


Outcome = Bound | Taken | Unfit | NoOffer
Fits = Callable[[needs_.Needs, str], Awaitable[str | None]]
"""Why nothing can be rented now for these needs of a pod of this namespace; None when something can."""


class Binder:
    """To one node. `default_access` is how that node runs pods that ask for no way, `defaults` what it takes a pod to
    need that says nothing. Without `fits` nobody is asked what is to be had."""

    def __init__(
        self,
        client: clients.Client,
        node_name: str,
        default_access: accesses.Access,
        *,
        defaults: needs.Defaults | None = None,
        fits: Fits | None = None,
    ) -> None:
        self._client = client
        self._node_name = node_name
        self._default_access = default_access
        self._defaults = defaults or needs.Defaults()
        self._fits = fits

    async def bind(self, pod: jobs.Pod, leave: policy.Leave, rules: policy.Rules) -> Outcome:
        """Two calls: a read and the binding; what is to be had was mostly asked a moment ago.

        Raises `errors.KubeError` when the outcome is not known: the pod's next state will tell, and a second try is
        refused if the first went through.
        """
        namespace, name = pod.key
        try:
            seen = await self._client.get(resources.PODS.path(namespace, name), type=pods.Pod)
        except errors.NotFound:
            return Taken("the pod is gone")
        waits = waited_for(seen)
        if seen.metadata.uid != pod.metadata.uid or waits is None:
            return Taken("the pod does not wait any more")
        added = _added(seen, leave, rules)
        try:
            wanted = judged(seen, added, self._capped(rules), self._default_access)
        except notes.Invalid as nonsense:
            return Unfit(str(nonsense))
        if isinstance(wanted, Unfit):
            return wanted
        none_fits = await self._fits(wanted, namespace) if self._fits is not None else None
        if none_fits is not None:
            return NoOffer(none_fits)
        price = wanted.max_usd_per_hour or rules.max_usd_per_hour
        added[notes.OURS + notes.MAX_PRICE] = f"{price:g}"
        try:
            await self._client.bind(
                namespace,
                name,
                self._node_name,
                uid=seen.metadata.uid,
                resource_version=seen.metadata.resource_version,
                annotations=added,
                labels={wishes.MANAGED_LABEL: "true"},
            )
        except (errors.Conflict, errors.NotFound) as taken:
            return Taken(getattr(taken, "detail", str(taken)))
        return Bound(price, waits)

    def _capped(self, rules: policy.Rules) -> needs.Defaults:
        most = rules.max_usd_per_hour
        return dataclasses.replace(self._defaults, max_usd_per_hour=most, pod_cap_usd_per_hour=most)


def waited_for(pod: pods.Pod) -> str | None:
    """What the scheduler says that a pod lacks; None for one that is placed, ends, or may yet be placed."""
    if pod.spec.node_name or pod.metadata.deletion_timestamp is not None or pod.status.phase in ("Succeeded", "Failed"):
        return None
    for each in pod.status.conditions:
        if each.type == "PodScheduled" and each.status == "False":
            return each.message if each.reason == "Unschedulable" else None
    return "" if pod.spec.scheduler_name == jobs.OWN_SCHEDULER else None


def _added(pod: pods.Pod, leave: policy.Leave, rules: policy.Rules) -> dict[str, str]:
    """Annotations that the pod is given with the binding; its own stay as they are."""
    own = pod.metadata.annotations or {}
    added = {name: text for name, text in leave.wish.handed_down.items() if name not in own}
    if rules.clouds and notes.Annotations({**own, **added}).find(notes.CLOUDS) is None:
        added[notes.OURS + notes.CLOUDS] = ",".join(rules.clouds)
    added[RULE] = leave.rule.value
    return added


def judged(
    pod: pods.Pod, added: Mapping[str, str], defaults: needs.Defaults, default_access: accesses.Access
) -> needs_.Needs | Unfit:
    """What the pod needs once it has these annotations too, or why no machine can run it. Pure; raises
    `annotations.Invalid`."""
    metadata = objects.ObjectMeta(
        name=pod.metadata.name,
        namespace=pod.metadata.namespace,
        annotations={**(pod.metadata.annotations or {}), **added},
    )
    together = pods.Pod(metadata, pod.spec)
    wanted = needs.from_pod(together, defaults)
    launch.reports_exit_code(together)
    choice = accesses.choose(together, default_access)
    if choice.refused:
        return Unfit(f"its pods can't run on a rented machine: {choice.refused}")
    return wanted
