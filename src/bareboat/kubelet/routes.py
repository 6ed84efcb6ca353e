"""The paths of the kubelet API and what each answers. Handed functions, it knows nothing of nodes, clouds or caches.

Who may call was settled before (`server`). Bodies are one line for people: kubectl shows them as they are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from bareboat.kubelet import containers as seam
from bareboat.kubelet import log_stream, logs, stats
from bareboat.kubelet.streams import service
from bareboat.plumbing import clock as clocks

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_NO_CHECKPOINT = "a rented container can't be checkpointed"


async def _nothing() -> Sequence[Any]:
    return ()


def _well() -> str | None:
    return None


@dataclass(frozen=True)
class Handlers:
    """All that the API serves. Each is called for each request and should answer from memory where it can.

    `pods` and `running_pods` give whole Pod objects of this node (dicts, structs or raw JSON that msgspec encodes),
    `has_pod` says whether (namespace, name, uid or None) is one of them, `stats_summary` raises nothing (None when no
    figures can be had at the moment; left out where nothing is ever measured), `metrics` and `probe_metrics` are
    Prometheus text (nothing is a valid one), `trouble` is a sentence when the pod loop is stuck (else None).
    `containers` is where exec, attach, port-forward, run and figures of use come from.
    """

    container_logs: logs.ContainerLogs
    has_pod: Callable[[str, str, str | None], bool]
    pods: Callable[[], Awaitable[Sequence[Any]]] = _nothing
    running_pods: Callable[[], Awaitable[Sequence[Any]]] = _nothing
    stats_summary: Callable[[], Awaitable[stats.Summary | None]] | None = None
    metrics: Callable[[], bytes] = bytes
    probe_metrics: Callable[[], bytes] = bytes
    configuration: Mapping[str, Any] = field(default_factory=dict)
    trouble: Callable[[], str | None] = _well
    containers: seam.Containers = field(default_factory=seam.Plain)


@dataclass(frozen=True)
class Settings:
    """Named after the fields of the kubelet's configuration."""

    enable_debugging_handlers: bool = True
    """False turns off logs, exec, attach, port-forward, run and the list of running pods."""


class Routes:
    """One server's answers."""

    def __init__(
        self,
        node_name: str,
        handlers: Handlers,
        settings: Settings,
        clock: clocks.Clock,
        stopping: asyncio.Event,
        streams: service.Streams,
    ) -> None:
        self._node_name = node_name
        self._handlers = handlers
        self._settings = settings
        self._clock = clock
        self._stopping = stopping
        self._streams = streams
        self._meter = stats.Meter()

    def add_to(self, router: web.UrlDispatcher) -> None:
        for path in ("/healthz", "/healthz/ping", "/healthz/log"):
            _add(router, "GET", path, _ok)
        _add(router, "GET", "/healthz/syncloop", self._syncloop)
        _add(router, "GET", "/pods", self._pods)
        for method in ("GET", "POST"):
            _add(router, method, "/stats/summary", self._summary)
        _add(router, "GET", "/metrics", self._metrics)
        _add(router, "GET", "/metrics/resource", self._resource_metrics)
        _add(router, "GET", "/metrics/cadvisor", self._cadvisor_metrics)
        _add(router, "GET", "/metrics/probes", self._probe_metrics)
        _add(router, "GET", "/configz", self._configz)
        _add(router, "GET", "/logs", _no_node_logs, tree=True)
        _add(router, "GET", "/debug/pprof", _no_profiling, tree=True)
        _add(router, "PUT", "/debug/flags/v", _no_profiling)
        router.add_post("/checkpoint/{namespace}/{pod}/{container}", self._no_checkpoint)
        self._add_debugging(router)

    def _add_debugging(self, router: web.UrlDispatcher) -> None:
        on = self._settings.enable_debugging_handlers
        paths: list[tuple[tuple[str, ...], str, Handler]] = [
            (("GET",), "/containerLogs/{namespace}/{pod}/{container}", self._container_logs),
            (("GET",), "/runningpods", self._running_pods),
            (("GET",), "/runningpods/", self._running_pods),
        ]
        both = ("GET", "POST")
        for uid in ("", "/{uid}"):
            pod = f"{{namespace}}/{{pod}}{uid}"
            paths.append((both, f"/exec/{pod}/{{container}}", self._streams.http))
            paths.append((both, f"/attach/{pod}/{{container}}", self._streams.http))
            paths.append((("POST",), f"/run/{pod}/{{container}}", self._streams.http))
            paths.append((both, f"/portForward/{pod}", self._streams.http))
        for methods, path, handler in paths:
            for method in methods:
                router.add_route(method, path, handler if on else _debugging_is_off)

    async def _container_logs(self, request: web.Request) -> web.StreamResponse:
        where = request.match_info
        try:
            options = logs.parse(list(request.query.items()), self._clock.now_s())
            lines = await self._handlers.container_logs(where["namespace"], where["pod"], where["container"], options)
        except (logs.BadQuery, logs.LogsError) as error:
            body = error.body if isinstance(error, logs.BadQuery) else str(error)
            return _text(body, status=error.status)
        return await log_stream.respond(request, lines, options, self._stopping)

    async def _no_checkpoint(self, request: web.Request) -> web.StreamResponse:
        where = request.match_info
        if not self._handlers.has_pod(where["namespace"], where["pod"], None):
            return _text(seam.NO_POD, status=404)
        return _text(_NO_CHECKPOINT, status=501)

    async def _pods(self, _request: web.Request) -> web.StreamResponse:
        return _pod_list(await self._handlers.pods())

    async def _running_pods(self, _request: web.Request) -> web.StreamResponse:
        return _pod_list(await self._handlers.running_pods())

    async def _figures(self) -> stats.Summary | None:
        measured = self._handlers.stats_summary
        if measured is not None:
            return await measured()
        running = await self._handlers.running_pods()
        return self._meter.of_node(stats.of_pods(self._node_name, running, self._handlers.containers.usage))

    async def _summary(self, request: web.Request) -> web.StreamResponse:
        summary = await self._figures()
        if summary is None:
            return _text("no figures can be had at the moment", status=500)
        if request.query.get("only_cpu_and_memory", "").lower() in ("true", "1", "t"):
            summary = stats.cpu_and_memory_only(summary)
        return _json(summary)

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._handlers.metrics(), headers={"Content-Type": stats.PLAIN_TEXT})

    async def _probe_metrics(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._handlers.probe_metrics(), headers={"Content-Type": stats.PLAIN_TEXT})

    async def _resource_metrics(self, _request: web.Request) -> web.StreamResponse:
        return _exposition(stats.resource_text(await self._figures()))

    async def _cadvisor_metrics(self, _request: web.Request) -> web.StreamResponse:
        return _exposition(stats.cadvisor_text(await self._figures()))

    async def _configz(self, _request: web.Request) -> web.StreamResponse:
        return _json({"kubeletconfig": self._handlers.configuration})

    async def _syncloop(self, _request: web.Request) -> web.StreamResponse:
        trouble = self._handlers.trouble()
        return _text("ok" if trouble is None else trouble, status=200 if trouble is None else 500)


def _add(router: web.UrlDispatcher, method: str, path: str, handler: Handler, *, tree: bool = False) -> None:
    router.add_route(method, path, handler)
    if tree:
        router.add_route(method, path + "/{rest:.*}", handler)


async def _ok(_request: web.Request) -> web.StreamResponse:
    return _text("ok")


async def _no_node_logs(_request: web.Request) -> web.StreamResponse:
    return _text("logs endpoint is disabled: a virtual node has no logs of a machine", status=405)


async def _no_profiling(_request: web.Request) -> web.StreamResponse:
    return _text("profiling endpoint is disabled.", status=405)


async def _debugging_is_off(_request: web.Request) -> web.StreamResponse:
    return _text("Debug endpoints are disabled.", status=405)


def _text(body: str, *, status: int = 200) -> web.Response:
    return web.Response(text=body, status=status)


def _exposition(body: str) -> web.Response:
    return web.Response(body=body.encode(), headers={"Content-Type": stats.PLAIN_TEXT})


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _pod_list(pods: Sequence[Any]) -> web.Response:
    return _json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods})
