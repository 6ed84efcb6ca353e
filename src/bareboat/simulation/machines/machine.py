"""What a simulated cloud needs of a machine: what to run, where its ports are, how it ended, what it printed.

Owns the two protocols (`Machines` starts, `Machine` is one of them) and their data; `forked` is the implementation that
runs real processes, and a cloud that only wants states may bring one that runs nothing.
"""

import signal as signals
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bareboat.simulation import images
from bareboat.simulation.machines import logs

LogLine = logs.LogLine
Port = tuple[int, str]
"""Port number in the container and its protocol, "tcp" or "udp"."""

IDENTITY_PORT = 70_000
"""A container port from here on is no port: it asks for one whose number is the same inside and on the host."""


class MachineError(Exception):
    """The machine could not be made; nothing of it is left. `reason` is a sentence for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unavailable(MachineError):
    """This computer runs no machines at all (not Linux); no later start can succeed."""


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """What `nvidia-smi` in the machine reports. `memory_mib` is per GPU."""

    name: str
    count: int = 1
    memory_mib: int = 24_576
    driver_version: str = "550.127.05"
    cuda_version: str = "12.4"


@dataclass(frozen=True, slots=True)
class File:
    """One file laid into the machine before the workload starts; its parent folders are made."""

    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Ssh:
    """An ssh server on `port`, which is mapped like the machine's other ports.

    `host_key` is a private key in OpenSSH's format. `authorized_keys` are the lines that root's file has at the first
    start. With `opens_after_s`, callers are refused as if no server listened, until whoever starts the machine opens it
    so many seconds of their clock later (`Machine.set_ssh`). `banner` comes before the login, `motd` before a shell
    with a terminal, where `tmux` then takes over the screen unless root's home has a `.no_auto_tmux`. `max_sessions`
    counts commands and shells of one connection. `accept_env` are patterns of variable names that a client may set.
    """

    host_key: str = field(repr=False)
    authorized_keys: Sequence[str] = ()
    port: int = 22
    opens_after_s: float = 0.0
    sftp: bool = True
    banner: str = ""
    motd: str = ""
    tmux: bool = False
    max_sessions: int = 10
    accept_env: Sequence[str] = ("LANG", "LC_*")


def _no_env(_: Mapping[Port, int]) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """What to run. `entrypoint` and `args` follow docker: an entrypoint drops the image's CMD, args replace CMD alone.

    `env` goes over the image's; `env_of_ports` is called once the host ports are known, with what was asked → host port
    (an identity port under the number it was asked by), and its variables go over all others.
    `files` are absolute paths. `memory_mib` is enforced where cgroups allow it (see `Machines.losses`).
    `disk_gib` bounds what the machine can write; it is kept over a stop and start and gone after `remove`. The disk
    lies in this computer's memory, and what is written counts against `memory_mib`.
    """

    image: images.Image
    entrypoint: Sequence[str] | None = None
    args: Sequence[str] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    env_of_ports: Callable[[Mapping[Port, int]], Mapping[str, str]] = _no_env
    ports: Sequence[Port] = ()
    disk_gib: float = 10.0
    memory_mib: int | None = None
    hostname: str = "machine"
    gpu: GpuSpec | None = None
    files: Mapping[str, File] = field(default_factory=dict)
    workdir: str | None = None
    user: str | None = None
    ssh: Ssh | None = None

    def argv(self) -> list[str]:
        if self.entrypoint is not None:
            return [*self.entrypoint, *(self.args or ())]
        return [*self.image.entrypoint, *(self.image.cmd if self.args is None else self.args)]


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How one run ended, in docker's words: 128 + n for signal n, 127 no such command, 126 not executable.

    `reason` is empty unless the command could not be started.
    """

    code: int
    oom_killed: bool = False
    reason: str = ""

    @property
    def signal(self) -> int | None:
        """The signal a code above 128 stands for, when there is one of that number."""
        number = self.code - 128
        return number if number in signals.valid_signals() else None


class Machine(Protocol):
    """One rented machine: made running, may end and be started again with the same disk and ports, then removed."""

    @property
    def host_ports(self) -> Mapping[Port, int]:
        """Container port → port on the loopback address. The same over a stop and start. UDP ports lead nowhere."""
        ...

    @property
    def exit_status(self) -> ExitStatus | None:
        """How the last run ended; None while it runs."""
        ...

    async def wait(self) -> ExitStatus:
        """Returns when the present run has ended (at once if it has); any number of tasks may wait."""
        ...

    async def start(self) -> None:
        """Runs the same command again with the same disk, ports and log; nothing happens while it runs.

        Raises `MachineError` once removed.
        """
        ...

    async def stop(self, grace_s: float = 10.0) -> ExitStatus:
        """TERM, and KILL after `grace_s` real seconds. The main process has to handle TERM itself, as under docker."""
        ...

    async def kill(self, *, oom: bool = False) -> ExitStatus:
        """KILL to everything in the machine. With `oom` the end is reported as the kernel's for want of memory."""
        ...

    def set_ssh(self, *, is_open: bool, drop: bool = False) -> None:
        """Opens or shuts the door of the ssh server; `drop` ends the server and all its connections first, and the
        next caller gets a new one, which reads its host key again. Nothing happens without `MachineSpec.ssh`."""
        ...

    def write_files(self, files: Mapping[str, File], *, append: bool = False) -> None:
        """Has files written, or added to, while the machine runs; nothing happens while it doesn't."""
        ...

    async def remove(self) -> None:
        """Kills what runs, frees disk, ports and log. Idempotent; every other call then finds the machine ended."""
        ...

    async def log_lines(self, tail: int | None = None) -> list[LogLine]:
        """Standard output and error in order of arrival over all runs; the last `tail` lines, or all that is kept."""
        ...

    async def log_text(self, tail: int | None = None) -> str:
        """The same as plain text, one line each."""
        ...


class Machines(Protocol):
    """Starts machines and ends them all when it is closed or dies."""

    @property
    def rung(self) -> str:
        """One sentence: how machines are kept apart on this computer."""
        ...

    @property
    def losses(self) -> Sequence[str]:
        """What machines can't do here, one sentence each; empty when nothing is lost."""
        ...

    async def start(self, spec: MachineSpec) -> Machine:
        """Returns once the command has been started (or could not be: then `exit_status` says 126 or 127).

        Raises `MachineError`; cancelling it leaves nothing behind.
        """
        ...
