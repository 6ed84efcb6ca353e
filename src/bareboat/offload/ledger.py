"""Who is on the virtual node, as far as known and as far as under way: the API server checks neither room nor existence
of a binding's node. Invariant: what was reserved counts until the node's own pods show it, or it is given back."""

from bareboat.offload import jobs, policy, wishes
from bareboat.plumbing import clock as clocks
from bareboat.workload import annotations as notes
from bareboat.workload import needs, quantities

FORGET_S = 120.0
"""A binding that was accepted and whose pod never showed was of a pod that went in the same moment."""


class Ledger:
    """Of one node. All calls are synchronous, so no two can take the same room."""

    def __init__(self, clock: clocks.Clock, dearest_usd_per_hour: float) -> None:
        self.node: jobs.Node | None = None
        self._clock = clock
        self._dearest = dearest_usd_per_hour
        self._pods: dict[str, jobs.Pod] = {}
        self._reserved: dict[str, tuple[str, int, float, float]] = {}

    def __contains__(self, pod_uid: str) -> bool:
        return pod_uid in self._reserved or pod_uid in self._pods

    def shown(self, pod: jobs.Pod) -> None:
        """The pod is on the node."""
        self._pods[pod.metadata.uid] = pod
        self._reserved.pop(pod.metadata.uid, None)

    def gone(self, pod_uid: str) -> None:
        self._pods.pop(pod_uid, None)
        self._reserved.pop(pod_uid, None)

    def reserve(self, pod: jobs.Pod, gpus: int, usd_per_hour: float) -> None:
        namespace, _ = pod.key
        self._reserved[pod.metadata.uid] = (namespace, gpus, usd_per_hour, self._clock.monotonic_s())

    def give_back(self, pod_uid: str) -> None:
        """It was not bound after all."""
        self._reserved.pop(pod_uid, None)

    def room(self, trouble: str | None) -> policy.Room:
        """A copy to plan with. Without a Node, or with one in trouble, there is room for nothing."""
        self._forget_old()
        allocatable = {} if self.node is None else self.node.status.allocatable or {}
        most_gpus = _whole(allocatable.get(needs.GPU_RESOURCE))
        room = policy.Room(_whole(allocatable.get("pods")), most_gpus, most_gpus, trouble or self.trouble())
        for pod in self._pods.values():
            if pod.is_over:
                continue
            gpus = pod.gpus()
            room.pods -= 1
            room.gpus -= gpus
            if (pod.metadata.labels or {}).get(wishes.MANAGED_LABEL) == "true":
                _count(room, pod.metadata.namespace, self._usd_per_hour(pod))
        for namespace, gpus, usd_per_hour, _ in self._reserved.values():
            room.pods -= 1
            room.gpus -= gpus
            _count(room, namespace, usd_per_hour)
        return room

    def trouble(self) -> str | None:
        """Why nothing may be bound to the node."""
        return "the virtual node does not exist" if self.node is None else self.node.trouble()

    def _usd_per_hour(self, pod: jobs.Pod) -> float:
        """What it costs, else what it may cost."""
        known = pod.metadata.annotations or {}
        for name in (notes.PRICE, notes.OURS + notes.MAX_PRICE):
            try:
                return float(known[name])
            except (KeyError, ValueError):
                continue
        return self._dearest

    def _forget_old(self) -> None:
        old_s = self._clock.monotonic_s() - FORGET_S
        for uid in [uid for uid, entry in self._reserved.items() if entry[3] < old_s]:
            del self._reserved[uid]


def _count(room: policy.Room, namespace: str, usd_per_hour: float) -> None:
    room.out += 1
    room.out_by_namespace[namespace] = room.out_by_namespace.get(namespace, 0) + 1
    room.usd_by_namespace[namespace] = room.usd_by_namespace.get(namespace, 0.0) + usd_per_hour


def _whole(text: str | None) -> int:
    """A count that cannot be read is none."""
    try:
        return int(quantities.parse(text or "0"))
    except ValueError:
        return 0
