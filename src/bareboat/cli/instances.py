"""`bareboat instances`: what is rented for this cluster now."""

import sys
from typing import Any

from bareboat.cli import looking
from bareboat.node import inventory


def command(
    output: looking.Output = looking.Format.TABLE,
    clouds: looking.Clouds = None,
    kubeconfig: looking.Kubeconfig = None,
    context: looking.Context = None,
) -> None:
    """Show what is rented for this cluster now: pod, machine, price, age, what it has cost, state."""

    async def work() -> int:
        async with looking.opened(kubeconfig, context, clouds) as view:
            found = await view.inventory()
        if output is looking.Format.JSON:
            looking.write(as_json(found))
        else:
            _show(found)
        for trouble in found.troubles.values():
            looking.tell("instances", trouble)
        return 1 if found.troubles else 0

    looking.run("instances", work)


def as_json(found: inventory.Inventory) -> dict[str, Any]:
    """Keys are only ever added."""
    return {
        "cluster_id": found.cluster_id,
        "usd_per_hour": round(sum(each.instance.usd_per_hour or 0.0 for each in found.held), 6),
        "foreign": found.foreign,
        "unknown": dict(found.troubles),
        "instances": [one(each) for each in found.held],
    }


def one(each: inventory.Held) -> dict[str, Any]:
    """One of them, for programs."""
    instance, pod = each.instance, each.pod
    return {
        "cloud": instance.cloud,
        "id": instance.id,
        "owner_uid": each.owner_uid,
        "namespace": pod.metadata.namespace if pod is not None else None,
        "pod": pod.metadata.name if pod is not None else None,
        "node": (pod.spec.node_name or None) if pod is not None else None,
        "gpu": instance.gpu_name,
        "gpu_count": instance.gpu_count,
        "region": instance.region,
        "machine_id": instance.machine_id,
        "usd_per_hour": instance.usd_per_hour,
        "age_s": each.age_s,
        "usd": round(each.usd, 6),
        "state": instance.state.value,
        "message": instance.message,
    }


def nothing(found: inventory.Inventory) -> str:
    """How that is said: what a silent cloud holds is unknown, not nothing."""
    return "what is rented is not known" if found.troubles else "nothing is rented"


def price(each: inventory.Held) -> str:
    usd_per_hour = each.instance.usd_per_hour
    return "?" if usd_per_hour is None else f"{usd_per_hour:.3f}"


def _gpu(each: inventory.Held) -> str:
    count, name = each.instance.gpu_count, each.instance.gpu_name or "?"
    return name if count in (None, 1) else f"{count}× {name}"


def _show(found: inventory.Inventory) -> None:
    if found.held:
        made = looking.table("INSTANCE", "POD", "GPU", "$/H", "AGE", "SPENT", "STATE", right=("$/H", "AGE", "SPENT"))
        for each in found.held:
            made.add_row(
                f"{each.instance.cloud}/{each.instance.id}",
                each.owner or "(its pod is gone)",
                _gpu(each),
                price(each),
                looking.age(each.age_s),
                looking.usd(each.usd),
                each.instance.state.value,
            )
        looking.show(made)
    sums = sum(each.instance.usd_per_hour or 0.0 for each in found.held)
    told = f"{len(found.held)} rented for this cluster, {sums:.3f} $/h" if found.held else nothing(found)
    others = f"; {found.foreign} more on the account" if found.foreign else ""
    sys.stdout.write(f"{told}{others}\n")
