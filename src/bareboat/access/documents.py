"""What Bareboat and the runner tell each other: the launch document, and the runner's state.

JSON, written by msgspec, read by the runner's Go structs of the same field names; `docs/runner-protocol.md` is the
description for people. Everything is resolved before it gets here: no reference, no image default, no Kubernetes word
that needs a lookup.
"""

from typing import Literal

import msgspec

VERSION = 1


class Mount(msgspec.Struct, frozen=True, omit_defaults=True):
    volume: str
    path: str
    sub_path: str = ""
    read_only: bool = False


class Header(msgspec.Struct, frozen=True):
    name: str
    value: str


class Action(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a probe or a hook does: exactly one of the kinds."""

    kind: Literal["exec", "http", "tcp", "grpc", "sleep"]
    command: tuple[str, ...] = ()
    host: str = ""
    """Empty: loopback."""
    port: int = 0
    path: str = ""
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    headers: tuple[Header, ...] = ()
    service: str = ""
    """gRPC's service name."""
    seconds: int = 0


class Probe(msgspec.Struct, frozen=True, omit_defaults=True):
    action: Action
    initial_delay_s: int = 0
    period_s: int = 10
    timeout_s: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    grace_s: int | None = None
    """For a failed liveness or startup probe, in place of the pod's."""


class Container(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    argv: tuple[str, ...]
    """Entry point and command with the image's defaults in place and references expanded; never empty."""
    env: tuple[tuple[str, str], ...] = ()
    """The whole environment in order: the image's, then the pod's. The runner adds HOME and PATH where they lack."""
    working_dir: str = ""
    user: str = ""
    """`uid`, `uid:gid`, `name` or `name:group` as an image's USER; empty: the user whom the runner runs as."""
    groups: tuple[int, ...] = ()
    """Supplementary group ids, fsGroup among them."""
    mounts: tuple[Mount, ...] = ()
    restart: Literal["Always", "OnFailure", "Never"] = "Always"
    """A sidecar's is Always; an init step's is that of its pod, but OnFailure where the pod says Always."""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    startup: Probe | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None
    post_start: Action | None = None
    pre_stop: Action | None = None
    stop_signal: str = "SIGTERM"
    termination_message_path: str = "/dev/termination-log"
    termination_message_from_log: bool = False
    """FallbackToLogsOnError."""
    memory_limit_bytes: int | None = None
    cpu_limit_millis: int | None = None
    no_new_privileges: bool = False
    drop_capabilities: tuple[str, ...] = ()
    """Kernel names without CAP_, or ALL. Dropped from the bounding set too, so that nothing gets them back."""
    read_only_root: bool = False
    """Honoured where the machine lets the runner mount, else left out with an Occurrence that says so."""


class Volume(msgspec.Struct, frozen=True, omit_defaults=True):
    """A directory of the pod. Its files, if any, are uploaded to `incoming/<name>` before the start, and again before
    an `update`; the runner puts them in place as a whole, atomically."""

    name: str
    in_memory: bool = False
    size_limit_bytes: int | None = None
    mode: int = 0o755
    group: int | None = None


class HostAlias(msgspec.Struct, frozen=True):
    address: str
    names: tuple[str, ...]


class Launch(msgspec.Struct, frozen=True, omit_defaults=True):
    """One pod on one machine."""

    pod_uid: str
    attempt: str
    """A launch document of another attempt is refused: a machine runs one pod once."""
    namespace: str
    pod_name: str
    hostname: str
    init: tuple[Container, ...] = ()
    """In order; those with restart Always are sidecars and stay."""
    containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    host_aliases: tuple[HostAlias, ...] = ()
    subdomain: str = ""
    grace_s: int = 30
    version: int = VERSION


class Waiting(msgspec.Struct, frozen=True, omit_defaults=True):
    reason: str
    """Kubernetes' word: PodInitializing, ContainerCreating, CrashLoopBackOff, RunContainerError …"""
    message: str = ""


class Running(msgspec.Struct, frozen=True):
    started_at: float
    """Seconds since 1970 by the machine's clock, as everywhere in this file."""
    pid: int


class Terminated(msgspec.Struct, frozen=True, omit_defaults=True):
    exit_code: int
    """128 + n for signal n, as a container runtime tells it."""
    reason: str
    """Completed, Error, OOMKilled, ContainerCannotRun, StartError …"""
    started_at: float
    finished_at: float
    signal: int = 0
    message: str = ""
    id: str = ""
    """Of the run that ended."""


class ContainerState(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    restarts: int = 0
    ready: bool = False
    started: bool = False
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None
    last: Terminated | None = None
    """How the run before the present state ended."""
    id: str = ""
    """Of the present or last run, new with each."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one running container."""

    name: str
    at: float
    cpu_ns: int
    """Used since the container's start, its ended processes included."""
    memory_bytes: int
    working_set_bytes: int = 0


class Gpu(msgspec.Struct, frozen=True, omit_defaults=True):
    index: int
    model: str
    id: str
    memory_total_bytes: int
    memory_used_bytes: int
    busy_percent: int = 0


class UsageReport(msgspec.Struct, frozen=True, omit_defaults=True):
    at: float
    containers: tuple[Usage, ...] = ()
    """The running ones, sidecars and a running init step among them."""
    gpus: tuple[Gpu, ...] = ()
    """As nvidia-smi tells them; empty where there is none."""


class Occurrence(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that a kubelet would record as an Event."""

    number: int
    """Rises by one; a reader that was away goes on after the last that it has seen."""
    at: float
    container: str
    reason: str
    """Unhealthy, Killing, BackOff, Started, Created, FailedPostStartHook, FailedPreStopHook, ProbeWarning …"""
    message: str
    warning: bool = False


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that the runner knows; told whole, at each change, one JSON line each."""

    pod_uid: str
    attempt: str
    number: int
    """Rises with each change, over the runner's own restarts too."""
    at: float
    boot_id: str
    """Of the machine: another one means that the machine was started anew and every process of before is gone."""
    init: tuple[ContainerState, ...] = ()
    containers: tuple[ContainerState, ...] = ()
    occurrences: tuple[Occurrence, ...] = ()
    """The newest, at most 50."""
    stopping: bool = False
    ended: bool = False
    """Nothing of the pod runs and nothing will: by restart policies, or because it was told to stop."""
    failure: str = ""
    """Why the pod cannot run at all (full disk, unreadable document …); with `ended`."""
    version: int = VERSION


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line to `runner follow`. Every command is answered once, under its id; none needs to be sent twice, and all
    may be."""

    id: int
    do: Literal["stop", "usage", "update"]
    grace_s: float | None = None
    """For stop; None: the pod's. A later, shorter one shortens; a longer one changes nothing."""
    volume: str = ""
    """For update: puts what is in `incoming/<volume>` in place."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    id: int
    error: str = ""
    """Why the command was not followed; empty: it was. A stop is answered when it begins; its end is a State."""
    usage: UsageReport | None = None


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line from `runner follow`: either of the two."""

    state: State | None = None
    answer: Answer | None = None


class Started(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one line that `runner start` prints when it exits with 0."""

    outcome: Literal["started", "running", "ended"]
    """running: this attempt was running already. ended: it had ended already (`follow` tells how)."""
    pid: int = 0


class Unreadable(ValueError):
    """Not a document of this protocol: another version of the runner, or a broken channel."""


_encoder = msgspec.json.Encoder()
_lines = msgspec.json.Decoder(Line)
_states = msgspec.json.Decoder(State)
_started = msgspec.json.Decoder(Started)


def encode_launch(launch: Launch) -> bytes:
    """The content of `launch.json`."""
    return _encoder.encode(launch)


def decode_launch(content: bytes) -> Launch:
    """Raises Unreadable."""
    try:
        return msgspec.json.decode(content, type=Launch)
    except msgspec.DecodeError as problem:
        raise Unreadable(f"launch document: {problem}") from problem


def encode_command(command: Command) -> bytes:
    """A line, its end included."""
    return _encoder.encode(command) + b"\n"


def decode_line(line: bytes) -> State | Answer:
    """What `runner follow` printed. Raises Unreadable."""
    try:
        told = _lines.decode(line)
    except msgspec.DecodeError as problem:
        raise Unreadable(f"line of the runner: {problem}: {line[:200]!r}") from problem
    if told.state is not None:
        return told.state
    if told.answer is not None:
        return told.answer
    raise Unreadable(f"line of the runner: neither a state nor an answer: {line[:200]!r}")


def decode_state(content: bytes) -> State:
    """The content of `state.json`. Raises Unreadable."""
    try:
        return _states.decode(content)
    except msgspec.DecodeError as problem:
        raise Unreadable(f"state of the runner: {problem}: {content[:200]!r}") from problem


def decode_started(line: bytes) -> Started:
    """What `runner start` printed. Raises Unreadable."""
    try:
        return _started.decode(line)
    except msgspec.DecodeError as problem:
        raise Unreadable(f"answer of the runner's start: {problem}: {line[:200]!r}") from problem
