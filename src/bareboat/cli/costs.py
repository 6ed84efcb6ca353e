"""`bareboat costs`: what pods have cost so far, and what everything costs an hour."""

import sys
from typing import Any

from bareboat.cli import instances, looking
from bareboat.core import cloud as clouds_
from bareboat.core import errors
from bareboat.kube import errors as kube_errors
from bareboat.node import costing, inventory

_INCOMPLETE = """\
Pods that are gone are not counted: the node keeps their sum where a cap on
total dollars is set (BAREBOAT_INSTALLATION_USD_CAP)."""


def command(
    output: looking.Output = looking.Format.TABLE,
    clouds: looking.Clouds = None,
    kubeconfig: looking.Kubeconfig = None,
    context: looking.Context = None,
) -> None:
    """Show what pods have cost so far, by namespace, what all that is rented costs an hour, and how long it lasts."""

    async def work() -> int:
        async with looking.opened(kubeconfig, context, clouds) as view:
            found = await view.inventory()
            told = costing.costs(found, await _kept(view))
            left_usd = await _credit(view)
        if output is looking.Format.JSON:
            looking.write(as_json(told, left_usd, found.troubles))
        else:
            _show(found, told, left_usd)
        for trouble in found.troubles.values():
            looking.tell("costs", trouble)
        return 1 if found.troubles else 0

    looking.run("costs", work)


async def _kept(view: looking.View) -> dict[str, float] | None:
    try:
        return await costing.kept(view.client, view.about.lease_namespace)
    except kube_errors.Forbidden as refused:
        looking.tell("costs", f"pods that are gone are not counted: {refused}")
        return None


async def _credit(view: looking.View) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, cloud in view.clouds.items():
        if isinstance(cloud, clouds_.HasBilling):
            try:
                found[name] = await cloud.credit_usd()
            except errors.CloudError as trouble:
                looking.tell("costs", f"the balance is unknown: {trouble}")
    return found


def as_json(told: costing.Costs, left_usd: dict[str, float], unknown: Any) -> dict[str, Any]:
    """Keys are only ever added."""
    return {
        "usd": round(told.usd, 6),
        "usd_per_hour": round(told.usd_per_hour, 6),
        "ended_pods_counted": told.complete,
        "balance_usd": left_usd,
        "unknown": dict(unknown),
        "namespaces": [
            {
                "namespace": each.namespace or None,
                "usd": round(each.usd, 6),
                "usd_per_hour": round(each.usd_per_hour, 6),
            }
            for each in told.totals
        ],
        "pods": [
            {
                "namespace": line.namespace or None,
                "pod": line.pod or None,
                "phase": line.phase or None,
                "usd": round(line.usd, 6),
                "usd_per_hour": round(line.usd_per_hour, 6),
            }
            for line in told.lines
        ],
    }


def _show(found: inventory.Inventory, told: costing.Costs, left_usd: dict[str, float]) -> None:
    if not told.totals:
        sys.stdout.write(f"nothing was spent on pods that exist, and {instances.nothing(found)}\n")
    else:
        pods = looking.table("NAMESPACE", "POD", "SO FAR $", "$/H", "PHASE", right=("SO FAR $", "$/H"))
        for line in told.lines:
            name = line.pod or "(their pods are gone)"
            pods.add_row(line.namespace, name, looking.usd(line.usd), f"{line.usd_per_hour:.3f}", line.phase)
        looking.show(pods)
        sums = looking.table("NAMESPACE", "SO FAR $", "$/H", right=("SO FAR $", "$/H"))
        for each in told.totals:
            sums.add_row(each.namespace or "(none)", looking.usd(each.usd), f"{each.usd_per_hour:.3f}")
        sums.add_row("in all", looking.usd(told.usd), f"{told.usd_per_hour:.3f}")
        looking.show(sums)
    if not told.complete:
        sys.stdout.write(f"{_INCOMPLETE}\n")
    for name, usd in left_usd.items():
        lasts = f", which lasts {looking.age(usd / told.usd_per_hour * 3600)}" if told.usd_per_hour and usd > 0 else ""
        sys.stdout.write(f"{usd:.2f} $ are left on {name}{lasts}.\n")
