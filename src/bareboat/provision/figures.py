"""The service's own metrics, in a registry of their own."""

import prometheus_client

from bareboat.kube import client as clients

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Figures:
    """`route` is the pattern (`/provision/{name}`), so that names don't become series."""

    def __init__(self, client: clients.Client) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        self._requests = prometheus_client.Counter(
            "bareboat_provision_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = prometheus_client.Histogram(
            "bareboat_provision_request_seconds",
            "From a request to its answer.",
            ("method", "route"),
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._client = client
        self._calls = prometheus_client.Gauge(
            "bareboat_provision_kubernetes_requests",
            "Requests sent to the Kubernetes API so far, by verb.",
            ("verb",),
            registry=self._registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def page(self) -> bytes:
        """In the text format of Prometheus."""
        for verb, count in self._client.sent.items():
            self._calls.labels(verb).set(count)
        return prometheus_client.generate_latest(self._registry)
