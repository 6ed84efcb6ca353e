"""One component as a process with a log file, under a keeper that ends it with us. Free ports. The end of a log."""

import dataclasses
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from bareboat.sandbox import keeper

LOG_LINES_SHOWN = 20
LOG_BYTES_READ = 64 * 1024
# Below the range from which the kernel takes ports for outgoing connections, so that none of those can come in between
# our look and the component's bind.
PORTS = range(20000, 32000)


@dataclasses.dataclass
class ComponentDied(Exception):
    """A component ended by itself. Nothing mends it; stop the control plane and show this to the user."""

    component: str
    exit_code: int
    log_path: Path
    log_end: str

    def __str__(self) -> str:
        return f"{self.component} {_how_ended(self.exit_code)}; the end of its log:\n{self.log_end}"


class Component:
    """A running command. Its process group is its own; it dies with this process, however this process ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        folder: Path,
        log_path: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts `command` in `folder`; its output is appended to `log_path`, by default `name`.log in `folder`."""
        self.name = name
        self.log_path = log_path or folder / f"{name}.log"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, *(os.fspath(word) for word in command)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
            )

    @property
    def pid(self) -> int | None:
        """Of the command itself, where the system tells (Linux)."""
        try:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return int(children[0]) if children else None

    @property
    def exit_code(self) -> int | None:
        """None while the component runs; 128 + signal when one ended it."""
        return self._process.poll()

    def check(self) -> None:
        """Raises `ComponentDied` when the component has ended; else does nothing, and costs next to nothing."""
        code = self.exit_code
        if code is not None:
            raise ComponentDied(self.name, code, self.log_path, log_end(self.log_path))

    def stop(self) -> None:
        """Ends the component at once and waits until it is gone. May be called again."""
        lifeline: IO[bytes] | None = self._process.stdin
        if lifeline is not None and not lifeline.closed:
            lifeline.close()
        # A process that was forked from this one and never called exec may still hold the other end of the lifeline.
        self._process.terminate()
        self._process.wait()


def log_end(path: Path, lines: int = LOG_LINES_SHOWN) -> str:
    """The last lines of a log, or a remark that there are none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - LOG_BYTES_READ))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return f"(no log at {path})"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"


def _how_ended(exit_code: int) -> str:
    try:
        return f"was ended by {signal.Signals(exit_code - 128).name}"
    except ValueError:
        return f"ended by itself with exit code {exit_code}"


def free_ports(count: int, *, address: str = "127.0.0.1") -> list[int]:
    """Ports that nobody listens on now. Somebody else may take one before the caller does: try again with new ones."""
    found: list[int] = []
    give_up_s = time.monotonic() + 5
    while len(found) < count:
        port = random.choice(PORTS)
        if time.monotonic() > give_up_s:
            raise OSError(f"no free port on {address} between {PORTS.start} and {PORTS.stop - 1}")
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
