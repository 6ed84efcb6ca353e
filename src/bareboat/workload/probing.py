"""Startup and readiness probes of a pod's container: what to ask, when, and what the answers mean. Pure.

Follows the kubelet: thresholds count answers in a row, readiness starts as failed and waits until startup has
succeeded. Liveness, exec and grpc are not here (`support` says so to the user), and there is nothing to restart: a
startup probe that has failed is reported, and goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bareboat.core import launches
from bareboat.workload import pod as pods


class Role(StrEnum):
    STARTUP = "Startup"
    READINESS = "Readiness"


@dataclass(frozen=True, slots=True)
class Http:
    """`headers` may hold a Host, and several of one name. `scheme` is http or https."""

    path: str = "/"
    scheme: str = "http"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One probe. `http` is None for a plain connection; `port` is inside the container, None if its name is unknown."""

    role: Role
    port: int | None
    port_name: str = ""
    http: Http | None = None
    initial_delay_s: float = 0.0
    period_s: float = 10.0
    timeout_s: float = 1.0
    failures: int = 3
    successes: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """The probes of one container; at least one is set."""

    startup: Check | None = None
    readiness: Check | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What one try gave; `message` is empty for a success."""

    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the container counts as. `message` says why it is not ready, in words for a person."""

    started: bool
    ready: bool
    message: str = ""
    startup_failed: bool = False


def plan(pod: pods.Pod) -> Plan | None:
    """What to probe; None when nothing takes effect, and then a container that runs is ready."""
    if not pod.spec.containers:
        return None
    container = pod.spec.containers[0]
    startup = _check(container, Role.STARTUP, container.startup_probe)
    readiness = _check(container, Role.READINESS, container.readiness_probe)
    return None if startup is None and readiness is None else Plan(startup, readiness)


def ports(pod: pods.Pod) -> tuple[launches.Port, ...]:
    """Ports that probes need, to be mapped like declared ones: Kubernetes does not ask for a declaration."""
    planned = plan(pod)
    checks = (planned.startup, planned.readiness) if planned is not None else ()
    numbers = dict.fromkeys(check.port for check in checks if check is not None and check.port is not None)
    return tuple(launches.Port(number) for number in numbers)


def port(container: pods.Container, wanted: Any) -> int | None:
    """A probe's port: a number, a number as text, or the name of a declared port; None if it is none of these."""
    for declared in container.ports:
        if isinstance(wanted, str) and wanted and declared.name == wanted:
            return declared.container_port
    if isinstance(wanted, str) and wanted.isascii() and wanted.isdigit():
        wanted = int(wanted)
    return wanted if isinstance(wanted, int) and 0 < wanted < 65536 else None


class Probe:
    """The state of one container's probes since it began to run at `started_s`.

    `resumed` is what the API says of it when the node itself was started anew: a container that was ready stays so
    until its probe fails often enough.
    """

    def __init__(self, planned: Plan, started_s: float, *, resumed: Verdict | None = None) -> None:
        self._plan = planned
        self._started = planned.startup is None or (resumed is not None and resumed.started)
        self._ready = self._started and (planned.readiness is None or (resumed is not None and resumed.ready))
        self._startup_failed = False
        self._ok: bool | None = None
        self._run = 0
        self._message = "not probed yet"
        self._begun_s = started_s
        self._due_s = started_s
        self.hurry(started_s)

    @property
    def verdict(self) -> Verdict:
        if self._ready:
            return Verdict(self._started, True)
        role = Role.READINESS if self._started else Role.STARTUP
        return Verdict(self._started, False, f"{role.value} probe: {self._message}", self._startup_failed)

    @property
    def check(self) -> Check | None:
        """What to ask next; None when nothing is left to ask."""
        return self._plan.readiness if self._started else self._plan.startup

    @property
    def due_s(self) -> float:
        """When to ask it, on the scale of `started_s`."""
        return self._due_s

    def hurry(self, now_s: float) -> None:
        """Asks now instead of at the next beat, unless the initial delay still runs."""
        check = self.check
        if check is not None:
            self._due_s = max(now_s, self._begun_s + check.initial_delay_s)

    def step(self, answer: Answer, now_s: float) -> None:
        """Counts the answer to `check`, which was asked at `now_s`; `verdict`, `check` and `due_s` follow."""
        check = self.check
        if check is None:
            return
        self._run = self._run + 1 if self._ok is answer.ok else 1
        self._ok = answer.ok
        if not answer.ok:
            self._message = answer.message
        # A fixed beat from the first try, as a ticker gives it: a slow answer does not shift the next one.
        self._due_s = max(self._due_s + check.period_s, now_s)
        if self._run >= (check.successes if answer.ok else check.failures):
            self._settle(check, answer.ok, now_s)

    def _settle(self, check: Check, ok: bool, now_s: float) -> None:
        if check.role is Role.READINESS:
            self._ready = ok
            return
        self._startup_failed = not ok
        if ok:
            self._started, self._ok, self._run, self._message = True, None, 0, "not probed yet"
            self._ready = self._plan.readiness is None
            self.hurry(now_s)


def _check(container: pods.Container, role: Role, probe: Mapping[str, Any] | None) -> Check | None:
    if probe is None:
        return None
    http, tcp = probe.get("httpGet"), probe.get("tcpSocket")
    action = http if http is not None else tcp
    if not isinstance(action, dict):
        return None
    return Check(
        role=role,
        port=port(container, action.get("port")),
        port_name=str(action.get("port", "")),
        http=_http(http) if isinstance(http, dict) else None,
        initial_delay_s=number(probe, "initialDelaySeconds", 0, least=0),
        period_s=number(probe, "periodSeconds", 10),
        timeout_s=number(probe, "timeoutSeconds", 1),
        failures=number(probe, "failureThreshold", 3),
        successes=number(probe, "successThreshold", 1),
    )


def _http(action: Mapping[str, Any]) -> Http:
    headers = tuple(
        (str(header.get("name", "")), str(header.get("value", ""))) for header in action.get("httpHeaders") or ()
    )
    path = str(action.get("path") or "/")
    return Http(path if path.startswith("/") else f"/{path}", str(action.get("scheme") or "HTTP").lower(), headers)


def number(probe: Mapping[str, Any], name: str, default: int, least: int = 1) -> int:
    """A whole number of a probe. The API server fills these in and checks them; a pod that came another way gets the
    default."""
    value = probe.get(name)
    return value if isinstance(value, int) and value >= least else default
