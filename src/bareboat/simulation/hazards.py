"""What will happen to an instance that has just begun to run, drawn once from the fault script."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from bareboat.simulation import faults, rentals

FOREVER_S = 1e12


class Hazards(NamedTuple):
    """Waits in seconds from the start of the run, each with what follows; None for what never happens.

    `exit` comes with the code, `offline` and `silence` with how long they last, `outbid` with when it resumes, if ever.
    """

    exit: tuple[float, int] | None
    offline: tuple[float, float] | None
    silence: tuple[float, float] | None
    outbid: tuple[float, float | None] | None
    move_s: float | None


def draw(script: faults.Faults, rental: rentals.Rental, at_s: float, subject: Mapping[str, Any]) -> Hazards:
    """A host goes offline the more often the less reliable it is; only bids are outbid, only loose addresses change."""
    exits = script.strikes("process_exits", at_s, subject)
    unsteady = max(0.0, 1 - rental.host.reliability) / 0.01
    offline = script.hazard_s("host_offline", at_s, subject, weight=unsteady)
    silence = script.hazard_s("heartbeat_lost", at_s, subject)
    outbid = None if rental.bid_usd_per_hour is None else script.hazard_s("outbid", at_s, subject)
    moves = None if rental.host.static_ip else script.hazard_s("ip_changes", at_s, subject)
    return Hazards(
        exit=(exits.number("after_s"), int(exits.number("code"))) if exits is not None else None,
        offline=(offline[0], _lasts_s(offline[1])) if offline is not None else None,
        silence=(silence[0], silence[1].number("for_s")) if silence is not None else None,
        outbid=(outbid[0], _resumes_s(outbid[1])) if outbid is not None else None,
        move_s=moves[0] if moves is not None else None,
    )


def _lasts_s(offline: faults.Strike) -> float:
    return FOREVER_S if offline.chance("forever") else offline.number("for_s")


def _resumes_s(outbid: faults.Strike) -> float | None:
    return outbid.number("resume_after_s") if outbid.chance("resume") else None
