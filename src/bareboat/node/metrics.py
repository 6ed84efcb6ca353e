"""Figures of the node for Prometheus, read off the parts when somebody asks: nothing is counted twice."""

from collections.abc import Callable, Iterator, Mapping

import prometheus_client
from prometheus_client import core as families
from prometheus_client import registry as registries

from bareboat.node import controller, parts


class Figures(registries.Collector):
    """All `bareboat_*` metrics of one node."""

    def __init__(self, use: parts.Parts, pods: controller.Pods, sent: Mapping[str, Mapping[str, int]]) -> None:
        self._use = use
        self._pods = pods
        self._sent = sent

    def collect(self) -> Iterator[families.Metric]:
        yield from self._requests()
        yield from self._clouds()
        yield self._gauge("pods", "Pods that the node looks after.", len(self._pods.records))
        yield self._gauge("queue_depth", "Pods that wait for a worker.", self._pods.queue.depth)
        yield self._counter("pod_status_writes", "Patches of pod status sent.", self._pods.writes)
        yield self._counter("events_written", "Events written to the API server.", self._use.recorder.written)
        spend = self._use.broker.ledger.spend(self._use.clock.now_s())
        yield self._gauge("usd_per_hour", "Dollars an hour of all that is rented.", spend.usd_per_hour)
        yield self._counter("spent_usd", "Dollars spent since the start of this process, by its own ledger.", spend.usd)

    def _requests(self) -> Iterator[families.Metric]:
        family = families.CounterMetricFamily(
            "bareboat_kubernetes_requests", "Requests to the API server.", labels=["client", "verb"]
        )
        for client, verbs in self._sent.items():
            for verb, count in verbs.items():
                family.add_metric([client, verb], count)
        yield family

    def _clouds(self) -> Iterator[families.Metric]:
        readings: tuple[tuple[str, str, Callable[[str], float]], ...] = (
            ("instances", "Instances with a mark of ours.", lambda name: len(self._instances(name))),
            (
                "cloud_reachable",
                "1 while the cloud answers.",
                lambda name: self._use.accounts[name].watcher.trouble is None,
            ),
            ("cloud_listings", "Complete listings taken.", lambda name: self._use.accounts[name].watcher.listings),
            (
                "instances_ending",
                "Instances whose end is not proven yet.",
                lambda name: self._use.accounts[name].reaper.pending,
            ),
        )
        for name, text, read in readings:
            family = families.GaugeMetricFamily(f"bareboat_{name}", text, labels=["cloud"])
            for cloud in self._use.accounts:
                family.add_metric([cloud], float(read(cloud)))
            yield family

    def _instances(self, cloud: str) -> list[object]:
        return [
            each
            for each in self._use.accounts[cloud].watcher.known
            if each.mark is not None and each.mark.cluster_id == self._use.cluster_id
        ]

    @staticmethod
    def _gauge(name: str, text: str, value: float) -> families.Metric:
        return families.GaugeMetricFamily(f"bareboat_{name}", text, value=value)

    @staticmethod
    def _counter(name: str, text: str, value: float) -> families.Metric:
        return families.CounterMetricFamily(f"bareboat_{name}", text, value=value)


def registry(figures: Figures) -> prometheus_client.CollectorRegistry:
    """The node's figures and those of its process."""
    made = prometheus_client.CollectorRegistry()
    made.register(figures)
    prometheus_client.ProcessCollector(registry=made)
    prometheus_client.PlatformCollector(registry=made)
    return made
