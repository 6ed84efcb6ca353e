"""The seam to what runs in a pod: start a command, attach, connect to a port, tell what is used.

Owns the shapes, the errors and their words for people. How it is done (over ssh, by a local process) belongs to those
who implement it; how it reaches kubectl belongs to `streams`. Invariant: whoever got a `Process` or `Connection` closes
it, whatever happens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Verb = Literal["exec", "attach", "port-forward", "run"]

NO_POD = "pod does not exist"
_PLAIN = (
    "plain access has no {}: the cloud starts the pod's image, keeps its log and ends it, and offers nothing else;"
    " a new pod with the annotation bareboat.dev/access: ssh has every verb"
)


@dataclass(frozen=True)
class PodRef:
    """`uid` None: whichever pod has that name now."""

    namespace: str
    name: str
    uid: str | None = None


class ContainersError(Exception):
    """It can't be done. The text is one line that reaches the user of kubectl, `status` what a request is answered."""

    status = 500


class NoSuchPod(ContainersError):
    """No pod of that name and uid is on this node."""

    status = 404

    def __init__(self, message: str = NO_POD) -> None:
        super().__init__(message)


class NotRunning(ContainersError):
    """The pod has no such container, or it doesn't run now; `not_found` has the kubelet's words."""

    status = 400


class PlainOnly(ContainersError):
    """The pod's machine offers no such power; the text tells what to do."""

    status = 501

    def __init__(self, verb: Verb) -> None:
        super().__init__(_PLAIN.format(verb))


class MachineAway(ContainersError):
    """The machine can't be reached at the moment, or the connection to it was lost; the text says which machine."""

    status = 503


class CannotStart(ContainersError):
    """The command could not be started (not found, not executable); the text is the machine's."""


class Refused(ContainersError):
    """Nothing listens at the port. Ends this one connection of a port-forward, not the session."""


class StdinClosed(Exception):
    """The process reads no more input; what is still written may be dropped."""


def not_found(container: str) -> NotRunning:
    """The kubelet's own words for a container that doesn't exist or doesn't run."""
    return NotRunning(f'container not found ("{container}")')


class Process(Protocol):
    """A running command, or a container that is attached to. Each stream is read or written by one task at a time."""

    async def read_stdout(self, limit: int) -> bytes:
        """At least one and at most `limit` bytes as soon as there are any; empty at the end (a pty's EIO is an end).
        What isn't read holds the process back. Raises `MachineAway`."""
        ...

    async def read_stderr(self, limit: int) -> bytes:
        """As `read_stdout`; empty at once with a tty."""
        ...

    async def write_stdin(self, data: bytes) -> None:
        """Returns when the process (or a bounded buffer before it) took it. Raises `StdinClosed`, `MachineAway`."""
        ...

    async def close_stdin(self) -> None:
        """End of input: what was written before is still read. Idempotent, raises nothing. With a tty: as Ctrl-D."""
        ...

    def resize(self, columns: int, rows: int) -> None:
        """The terminal's new size; without a tty nothing."""
        ...

    async def wait(self) -> int:
        """Exit code, 128 + n after signal n; may be called while output is still read. For an attached container:
        when it has ended. Raises `MachineAway` when nobody can tell."""
        ...

    async def close(self) -> None:
        """Lets go: a command that still runs is killed, an attached container runs on. Idempotent; raises nothing;
        after it every pending call ends."""
        ...


class Connection(Protocol):
    """A TCP connection to a port of the pod."""

    async def read(self, limit: int) -> bytes:
        """At least one and at most `limit` bytes; empty when the peer has ended its half. Raises `MachineAway`; a
        connection that the peer reset ends as one that it closed."""
        ...

    async def write(self, data: bytes) -> None:
        """Returns when the peer (or a bounded buffer before it) has taken it. Raises `StdinClosed`, `MachineAway`."""
        ...

    async def close_write(self) -> None:
        """Ends our half; reading goes on. Idempotent, raises nothing."""
        ...

    async def close(self) -> None:
        """Both halves, at once. Idempotent, raises nothing."""
        ...


@dataclass(frozen=True)
class Usage:
    """One container's figures: `cpu_ns` used since its start (only ever grows), bytes, `at_s` in Unix seconds.
    `cpu_nano_cores` is the rate over the last while, where somebody keeps two figures to know it."""

    container: str
    at_s: float
    cpu_ns: int
    memory_bytes: int
    working_set_bytes: int
    started_s: float | None = None
    cpu_nano_cores: int | None = None


class Containers(Protocol):
    """All containers of this node. Every method may raise a `ContainersError`, and is called by many at once. A call
    that is cancelled, because the client left, leaves nothing running or open."""

    async def check(self, pod: PodRef, container: str | None, verb: Verb) -> None:
        """Whether `verb` can be tried now, answered from memory: what it raises becomes the HTTP answer, while what
        comes later can only be told inside the stream. `container` is None for port-forward."""
        ...

    async def exec(self, pod: PodRef, container: str, argv: Sequence[str], *, stdin: bool, tty: bool) -> Process:
        """Starts `argv` in the container's environment. Without `stdin` its input is empty."""
        ...

    async def attach(self, pod: PodRef, container: str, *, stdin: bool, tty: bool) -> Process:
        """The running container's own streams, from now on."""
        ...

    async def connect(self, pod: PodRef, port: int) -> Connection:
        """A new connection to the pod's loopback. Raises `Refused` when nothing listens there."""
        ...

    def usage(self, pod: PodRef) -> Sequence[Usage]:
        """The newest figures of each container that has any, from memory. Raises nothing."""
        ...


class Plain:
    """A node of pods in plain access: each verb is refused in words, nothing is measured."""

    async def check(self, pod: PodRef, container: str | None, verb: Verb) -> None:
        raise PlainOnly(verb)

    async def exec(self, pod: PodRef, container: str, argv: Sequence[str], *, stdin: bool, tty: bool) -> Process:
        raise PlainOnly("exec")

    async def attach(self, pod: PodRef, container: str, *, stdin: bool, tty: bool) -> Process:
        raise PlainOnly("attach")

    async def connect(self, pod: PodRef, port: int) -> Connection:
        raise PlainOnly("port-forward")

    def usage(self, pod: PodRef) -> Sequence[Usage]:
        return ()
