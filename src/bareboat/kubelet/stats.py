"""Figures of the node and its pods: `stats/v1alpha1` for `/stats/summary`, and Prometheus text made from the same.

A figure that nobody measured is left out; nothing is invented. Times are Unix seconds inside, RFC 3339 on the wire.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import prometheus_client

from bareboat.kubelet import containers

PLAIN_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class _Part(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    pass


def _when(time_s: float) -> datetime:
    return datetime.fromtimestamp(int(time_s), UTC)


def _exactly(time_s: float) -> datetime:
    """Rates are made of two figures and the time between them: whole seconds would be too coarse."""
    return datetime.fromtimestamp(time_s, UTC)


class Cpu(_Part, frozen=True):
    """`usage_core_nano_seconds` only ever grows while a container lives."""

    time: datetime
    usage_nano_cores: int | None = None
    usage_core_nano_seconds: int | None = None

    @classmethod
    def at(cls, time_s: float, *, nano_cores: int | None = None, core_nano_seconds: int | None = None) -> "Cpu":
        return cls(time=_exactly(time_s), usage_nano_cores=nano_cores, usage_core_nano_seconds=core_nano_seconds)


class Memory(_Part, frozen=True):
    """Bytes."""

    time: datetime
    available_bytes: int | None = None
    usage_bytes: int | None = None
    working_set_bytes: int | None = None
    rss_bytes: int | None = None

    @classmethod
    def at(cls, time_s: float, *, working_set_bytes: int, usage_bytes: int | None = None) -> "Memory":
        return cls(time=_exactly(time_s), working_set_bytes=working_set_bytes, usage_bytes=usage_bytes)


class Accelerator(_Part, frozen=True):
    """One GPU; memory in bytes, `duty_cycle` in percent over the last 10 s."""

    make: str
    model: str
    id: str
    memory_total: int
    memory_used: int
    duty_cycle: int


class Container(_Part, frozen=True):
    name: str
    start_time: datetime | None = None
    cpu: Cpu | None = None
    memory: Memory | None = None
    accelerators: list[Accelerator] = []


class PodReference(_Part, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""


class Pod(_Part, frozen=True):
    pod_ref: PodReference
    start_time: datetime | None = None
    containers: list[Container] = []
    cpu: Cpu | None = None
    memory: Memory | None = None


class Node(_Part, frozen=True):
    node_name: str
    start_time: datetime | None = None
    cpu: Cpu | None = None
    memory: Memory | None = None


class Summary(msgspec.Struct, frozen=True):
    """What `/stats/summary` answers, and where the Prometheus texts below come from."""

    node: Node
    pods: list[Pod] = []


class _Running(_Part, frozen=True):
    started_at: datetime | None = None


class _State(_Part, frozen=True):
    running: _Running | None = None


class _ContainerStatus(_Part, frozen=True):
    name: str = ""
    state: _State = _State()


class _PodStatus(_Part, frozen=True):
    start_time: datetime | None = None
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None


class _PodObject(msgspec.Struct, frozen=True):
    """The few fields of a Pod that a summary needs."""

    metadata: PodReference
    status: _PodStatus = _PodStatus()


Usages = Callable[[containers.PodRef], Sequence[containers.Usage]]


class Meter:
    """The node's CPU time: what all its containers have ever used. A sum over those that are there would go back when
    a pod ends, and a counter that goes back is read as a restart of the node."""

    def __init__(self) -> None:
        self._total_ns = 0
        self._seen_ns: dict[tuple[str, str], int] = {}

    def of_node(self, summary: Summary) -> Summary:
        """`summary` with the node's CPU time in it."""
        present = {pod.pod_ref.uid for pod in summary.pods}
        seen_ns = {key: used_ns for key, used_ns in self._seen_ns.items() if key[0] in present}
        for pod, container in _containers(summary):
            if container.cpu is None or container.cpu.usage_core_nano_seconds is None:
                continue
            key = (pod.pod_ref.uid, container.name)
            now_ns = seen_ns[key] = container.cpu.usage_core_nano_seconds
            before_ns = self._seen_ns.get(key, 0)
            # Less than before: the container was started anew.
            self._total_ns += now_ns - before_ns if now_ns >= before_ns else now_ns
        self._seen_ns = seen_ns
        cpu = summary.node.cpu
        if cpu is None:
            return summary
        cpu = msgspec.structs.replace(cpu, usage_core_nano_seconds=self._total_ns)
        return Summary(msgspec.structs.replace(summary.node, cpu=cpu), summary.pods)


def of_pods(node_name: str, pods: Sequence[Any], usage: Usages | None = None) -> Summary:
    """Which containers run, since when, and what `usage` says of each; the node's figures are the sums over its pods.

    `pods` are Pod objects in any shape that msgspec encodes; takes about 10 µs for each.
    """
    listed = msgspec.json.decode(msgspec.json.encode(pods), type=list[_PodObject])
    summaries = [_of_pod(pod, () if usage is None else usage(_reference(pod.metadata))) for pod in listed]
    known = [pod for pod in summaries if pod.containers]
    return Summary(
        Node(
            node_name=node_name,
            cpu=_total_cpu([pod.cpu for pod in known]),
            memory=_total_memory([pod.memory for pod in known]),
        ),
        known,
    )


def _reference(pod: PodReference) -> containers.PodRef:
    return containers.PodRef(pod.namespace, pod.name, pod.uid or None)


def _of_pod(pod: _PodObject, usage: Sequence[containers.Usage]) -> Pod:
    by_name = {each.container: each for each in usage}
    # Sidecars are init containers that go on running.
    statuses = [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]
    figures = [
        _of_container(status.name, status.state.running, by_name.get(status.name))
        for status in statuses
        if status.state.running is not None
    ]
    return Pod(
        pod_ref=pod.metadata,
        start_time=pod.status.start_time,
        containers=figures,
        cpu=_total_cpu([each.cpu for each in figures]),
        memory=_total_memory([each.memory for each in figures]),
    )


def _of_container(name: str, running: _Running, usage: containers.Usage | None) -> Container:
    if usage is None:
        return Container(name=name, start_time=running.started_at)
    return Container(
        name=name,
        start_time=running.started_at if usage.started_s is None else _when(usage.started_s),
        cpu=Cpu.at(usage.at_s, core_nano_seconds=usage.cpu_ns, nano_cores=usage.cpu_nano_cores),
        memory=Memory.at(usage.at_s, working_set_bytes=usage.working_set_bytes, usage_bytes=usage.memory_bytes),
    )


def _total_cpu(parts: Sequence[Cpu | None]) -> Cpu | None:
    """Of what is known; its time is the newest of them."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    cores = [part.usage_nano_cores for part in known if part.usage_nano_cores is not None]
    return Cpu(
        time=max(part.time for part in known),
        usage_nano_cores=sum(cores) if len(cores) == len(known) else None,
        usage_core_nano_seconds=sum(part.usage_core_nano_seconds or 0 for part in known),
    )


def _total_memory(parts: Sequence[Memory | None]) -> Memory | None:
    known = [part for part in parts if part is not None]
    if not known:
        return None
    return Memory(
        time=max(part.time for part in known),
        usage_bytes=sum(part.usage_bytes or 0 for part in known),
        working_set_bytes=sum(part.working_set_bytes or 0 for part in known),
    )


def cpu_and_memory_only(summary: Summary) -> Summary:
    """`?only_cpu_and_memory=true`."""
    pods = [
        msgspec.structs.replace(
            pod, containers=[msgspec.structs.replace(container, accelerators=[]) for container in pod.containers]
        )
        for pod in summary.pods
    ]
    return Summary(summary.node, pods)


def registry_text(registry: prometheus_client.CollectorRegistry) -> bytes:
    """`/metrics`: all that the program counts about itself."""
    return prometheus_client.generate_latest(registry)


@dataclass(frozen=True)
class _Family:
    name: str
    kind: str
    help: str
    samples: list[str]

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        yield from self.samples


def resource_text(summary: Summary | None) -> str:
    """`/metrics/resource`, as metrics-server reads it: samples carry their own times, in milliseconds.

    None when the figures could not be had: then `resource_scrape_error` is 1. Families without a figure are left out.
    """
    families = _resource_families(summary) if summary is not None else []
    failed = f"{int(summary is None)}"
    families = [
        *families,
        _Family(
            "resource_scrape_error",
            "gauge",
            "1 if there was an error while getting container metrics, 0 otherwise",
            [f"resource_scrape_error {failed}"],
        ),
        _Family(
            "scrape_error",
            "gauge",
            "(Deprecated) 1 if there was an error while getting container metrics, 0 otherwise",
            [f"scrape_error {failed}"],
        ),
    ]
    return _text(families)


def cadvisor_text(summary: Summary | None) -> str:
    """`/metrics/cadvisor`: the two families that dashboards join on, for containers whose figures are known."""
    if summary is None:
        return ""
    cpu, memory = [], []
    for pod, container in _containers(summary):
        labels = _labels(container=container.name, namespace=pod.pod_ref.namespace, pod=pod.pod_ref.name)
        cpu += _cpu_sample("container_cpu_usage_seconds_total", labels, container.cpu)
        memory += _memory_sample("container_memory_working_set_bytes", labels, container.memory)
    return _text(
        [
            _Family("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", cpu),
            _Family("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", memory),
        ]
    )


def _resource_families(summary: Summary) -> list[_Family]:
    container_cpu, container_memory, container_start, pod_cpu, pod_memory = [], [], [], [], []
    for pod, container in _containers(summary):
        labels = _labels(container=container.name, namespace=pod.pod_ref.namespace, pod=pod.pod_ref.name)
        container_cpu += _cpu_sample("container_cpu_usage_seconds_total", labels, container.cpu)
        container_memory += _memory_sample("container_memory_working_set_bytes", labels, container.memory)
        if container.start_time is not None:
            started_s = container.start_time.timestamp()
            container_start.append(f"container_start_time_seconds{labels} {started_s:.0f} {started_s * 1000:.0f}")
    for pod in summary.pods:
        labels = _labels(namespace=pod.pod_ref.namespace, pod=pod.pod_ref.name)
        pod_cpu += _cpu_sample("pod_cpu_usage_seconds_total", labels, pod.cpu)
        pod_memory += _memory_sample("pod_memory_working_set_bytes", labels, pod.memory)
    node = summary.node
    node_cpu = _cpu_sample("node_cpu_usage_seconds_total", "", node.cpu)
    node_memory = _memory_sample("node_memory_working_set_bytes", "", node.memory)
    cpu_help, memory_help = (
        "Cumulative cpu time consumed by the {} in core-seconds",
        "Current working set of the {} in bytes",
    )
    return [
        _Family("container_cpu_usage_seconds_total", "counter", cpu_help.format("container"), container_cpu),
        _Family("container_memory_working_set_bytes", "gauge", memory_help.format("container"), container_memory),
        _Family(
            "container_start_time_seconds",
            "gauge",
            "Start time of the container since unix epoch in seconds",
            container_start,
        ),
        _Family("node_cpu_usage_seconds_total", "counter", cpu_help.format("node"), node_cpu),
        _Family("node_memory_working_set_bytes", "gauge", memory_help.format("node"), node_memory),
        _Family("pod_cpu_usage_seconds_total", "counter", cpu_help.format("pod"), pod_cpu),
        _Family("pod_memory_working_set_bytes", "gauge", memory_help.format("pod"), pod_memory),
    ]


def _containers(summary: Summary) -> Iterator[tuple[Pod, Container]]:
    for pod in summary.pods:
        for container in pod.containers:
            yield pod, container


def _cpu_sample(name: str, labels: str, cpu: Cpu | None) -> list[str]:
    if cpu is None or cpu.usage_core_nano_seconds is None:
        return []
    return [f"{name}{labels} {cpu.usage_core_nano_seconds / 1e9:.9f} {_milliseconds(cpu.time)}"]


def _memory_sample(name: str, labels: str, memory: Memory | None) -> list[str]:
    if memory is None or memory.working_set_bytes is None:
        return []
    return [f"{name}{labels} {memory.working_set_bytes} {_milliseconds(memory.time)}"]


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _labels(**labels: str) -> str:
    # Names of Kubernetes objects need no escaping; sorted by label name as the kubelet writes them.
    return "{" + ",".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}"


def _text(families: Iterable[_Family]) -> str:
    return "".join(f"{line}\n" for family in families if family.samples for line in family.lines())
