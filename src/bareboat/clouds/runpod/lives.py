"""What several reads of one pod tell together and one read doesn't: whether its container has run, and run again.

RunPod starts a container again whenever it ends, whatever its exit code, and calls that RUNNING: no field tells of the
end. But the container's uptime then begins anew. A pod whose uptime went back has EXITED, for us, for good: it still
bills, and its work must not be done twice.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from bareboat.clouds.runpod import wire

MARGIN_S = 2.0
"""Uptimes are whole seconds."""


@dataclass(slots=True)
class Life:
    """`uptime_s` is the last one seen."""

    uptime_s: float | None = None
    ran: bool = False
    ended: bool = False


class Lives:
    """By pod id; what a complete listing lacks is forgotten."""

    def __init__(self) -> None:
        self._lives: dict[str, Life] = {}

    def seen(self, pod: wire.Pod) -> Life:
        """Takes in one read of a pod. Telemetry that is late shows an older uptime twice, never a smaller one."""
        life = self._lives.setdefault(pod.id, Life())
        if pod.status != "RUNNING" or pod.uptime_s is None:
            return life
        went_back = life.uptime_s is not None and pod.uptime_s < life.uptime_s - MARGIN_S
        if life.ran and (went_back or pod.uptime_s < 0):
            life.ended = True
        life.uptime_s = pod.uptime_s
        life.ran = life.ran or pod.uptime_s >= 0
        return life

    def only(self, ids: Iterable[str]) -> None:
        """Forgets all others."""
        present = set(ids)
        for pod_id in [each for each in self._lives if each not in present]:
            del self._lives[pod_id]
