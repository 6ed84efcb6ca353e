"""Which instances of this cluster have lost their owner, and may be ended on somebody's word. Pure.

Provably ours: the mark names this cluster; no pod of a fresh, complete list has the owner's uid; older than the guard
age. What can't be known keeps an instance.
"""

from dataclasses import dataclass

from bareboat.node import inventory


@dataclass(frozen=True, slots=True)
class Finding:
    """`keep` says why it is left alone; empty: its owner is gone, and it may be ended."""

    held: inventory.Held
    keep: str = ""


def judge(found: inventory.Inventory, guard_age_s: float) -> list[Finding]:
    """All of this cluster's instances, each with its verdict."""
    return [Finding(each, _why_kept(each, guard_age_s)) for each in found.held]


def _why_kept(held: inventory.Held, guard_age_s: float) -> str:
    if held.pod is not None:
        return "its pod exists"
    if held.age_s is None:
        return "its cloud does not tell how old it is"
    if held.age_s < guard_age_s:
        return f"it is younger than {guard_age_s:g} s (BAREBOAT_GUARD_AGE_S)"
    return ""
