"""Probes and hooks as the runner performs them: handlers with numbers instead of port names. Pure.

A handler whose port has no number (an unknown name) becomes an action on port 0, which fails in words.
"""

from collections.abc import Mapping
from typing import Any, Literal

from bareboat.access import documents
from bareboat.workload import pod as pods
from bareboat.workload import probing


def probe(container: pods.Container, raw: Mapping[str, Any] | None) -> documents.Probe | None:
    """None for no probe, and for one without a handler."""
    made = action(container, raw)
    if raw is None or made is None:
        return None
    grace_s = raw.get("terminationGracePeriodSeconds")
    return documents.Probe(
        action=made,
        initial_delay_s=probing.number(raw, "initialDelaySeconds", 0, least=0),
        period_s=probing.number(raw, "periodSeconds", 10),
        timeout_s=probing.number(raw, "timeoutSeconds", 1),
        success_threshold=probing.number(raw, "successThreshold", 1),
        failure_threshold=probing.number(raw, "failureThreshold", 3),
        grace_s=grace_s if isinstance(grace_s, int) else None,
    )


def action(container: pods.Container, raw: Mapping[str, Any] | None) -> documents.Action | None:
    """The one handler of a probe or hook; None when there is none."""
    for key, make in _MAKERS.items():
        handler = (raw or {}).get(key)
        if isinstance(handler, dict):
            return make(container, handler)
    return None


def _exec(_: pods.Container, handler: Mapping[str, Any]) -> documents.Action:
    return documents.Action("exec", command=tuple(str(word) for word in handler.get("command") or ()))


def _http(container: pods.Container, handler: Mapping[str, Any]) -> documents.Action:
    path = str(handler.get("path") or "/")
    scheme: Literal["HTTP", "HTTPS"] = "HTTPS" if str(handler.get("scheme", "")).upper() == "HTTPS" else "HTTP"
    return documents.Action(
        "http",
        host=str(handler.get("host") or ""),
        port=probing.port(container, handler.get("port")) or 0,
        path=path if path.startswith("/") else f"/{path}",
        scheme=scheme,
        headers=tuple(
            documents.Header(str(header.get("name", "")), str(header.get("value", "")))
            for header in handler.get("httpHeaders") or ()
        ),
    )


def _tcp(container: pods.Container, handler: Mapping[str, Any]) -> documents.Action:
    port = probing.port(container, handler.get("port")) or 0
    return documents.Action("tcp", host=str(handler.get("host") or ""), port=port)


def _grpc(container: pods.Container, handler: Mapping[str, Any]) -> documents.Action:
    port = probing.port(container, handler.get("port")) or 0
    return documents.Action("grpc", port=port, service=str(handler.get("service") or ""))


def _sleep(_: pods.Container, handler: Mapping[str, Any]) -> documents.Action:
    return documents.Action("sleep", seconds=probing.number(handler, "seconds", 0, least=0))


_MAKERS = {"exec": _exec, "httpGet": _http, "tcpSocket": _tcp, "grpc": _grpc, "sleep": _sleep}
