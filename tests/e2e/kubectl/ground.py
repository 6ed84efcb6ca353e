"""What all rows of the table share: one control plane, one node without a taint, a simulated Vast.ai, a few pods.

Each pod of `PODS` is there in both access modes; the plain one's name ends with `-plain`. A row may write into their
logs, and leaves them running.
"""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration.node import stage

from bareboat.sandbox import controlplane

NAMESPACE = "table"
ACCESS = "bareboat.dev/access"
TIMEOUT_S = 60.0
SAY = "/tmp/say"
"""A pipe in `web`: what is written there is in its log."""
TALK = "for n in 1 2 3 4; do echo line $n; done; echo to stderr >&2; "
WEB = (
    f"{TALK} mkfifo {SAY}; mkdir -p /srv; echo hello > /srv/index.html; httpd -p 8080 -h /srv; httpd -p 8081 -h /srv;"
    f" while true; do cat {SAY}; done"
)
ECHO = "while read word; do echo got $word; echo heard $word >&2; done"


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str


class Ground:
    """The installation, seen by one who types kubectl."""

    def __init__(self, on: stage.Stage, sandbox: controlplane.ControlPlane, folder: Path) -> None:
        self.stage = on
        self.folder = folder
        self._kubectl = str(sandbox.kubectl_path)
        self._kubeconfig = str(sandbox.kubeconfig_path)
        self._namespace = on.cluster.namespace

    @property
    def node(self) -> stage.Node:
        return self.stage.nodes[0]

    def command(self, words: Sequence[str]) -> list[str]:
        return [self._kubectl, f"--kubeconfig={self._kubeconfig}", f"--namespace={self._namespace}", *words]

    def run(self, words: Sequence[str], stdin: str = "", timeout_s: float = TIMEOUT_S) -> Said:
        """To its end."""
        done = subprocess.run(
            self.command(words), input=stdin.encode(), capture_output=True, timeout=timeout_s, check=False
        )
        return Said(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def must(self, *words: str, stdin: str = "") -> str:
        """The output of a command that is no row itself, and has to work."""
        said = self.run(words, stdin)
        assert said.code == 0, f"kubectl {' '.join(words)}: {said.err.strip()}"
        return said.out

    @contextlib.contextmanager
    def running(self, words: Sequence[str]) -> Iterator["Running"]:
        """While the block lasts; with pipes."""
        with subprocess.Popen(
            self.command(words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                yield Running(process)
            finally:
                process.kill()

    @contextlib.contextmanager
    def terminal(self, words: Sequence[str], columns: int = 100, rows: int = 30) -> Iterator["Typed"]:
        """The same on a terminal of its own."""
        primary, secondary = pty.openpty()
        termios.tcsetwinsize(secondary, (rows, columns))
        process = subprocess.Popen(
            self.command(words), stdin=secondary, stdout=secondary, stderr=secondary, start_new_session=True
        )
        os.close(secondary)
        try:
            yield Typed(process, primary)
        finally:
            process.kill()
            process.wait()
            os.close(primary)


class Running:
    """A kubectl that runs."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.seen = ""

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def until(self, pattern: str, timeout_s: float = 20.0) -> "re.Match[str]":
        """Reads its standard output until this is found in it."""
        assert self.process.stdout is not None
        return self._until(self.process.stdout.fileno(), pattern, timeout_s)

    def end(self, timeout_s: float = 20.0) -> Said:
        """Waits for its end, with the rest of what it says."""
        out, err = self.process.communicate(timeout=timeout_s)
        return Said(self.process.returncode, self.seen + out.decode(errors="replace"), err.decode(errors="replace"))

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def _until(self, descriptor: int, pattern: str, timeout_s: float) -> "re.Match[str]":
        give_up_s = time.monotonic() + timeout_s
        while (found := re.search(pattern, self.seen)) is None:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, give_up_s - time.monotonic()))
            assert ready, f"no {pattern!r} within {timeout_s:g} s; it said {self.seen!r}"
            try:
                data = os.read(descriptor, 65536)
            except OSError:  # how a terminal ends
                data = b""
            assert data, f"it ended without {pattern!r}; it said {self.seen!r}"
            self.seen += data.decode(errors="replace")
        return found


class Typed(Running):
    """A kubectl on a terminal."""

    def __init__(self, process: "subprocess.Popen[bytes]", primary: int) -> None:
        super().__init__(process)
        self._primary = primary

    def type(self, text: str) -> None:
        os.write(self._primary, text.encode())

    def until(self, pattern: str, timeout_s: float = 20.0) -> "re.Match[str]":
        return self._until(self._primary, pattern, timeout_s)

    def end(self, timeout_s: float = 20.0) -> Said:
        give_up_s = time.monotonic() + timeout_s
        with contextlib.suppress(OSError):
            while select.select([self._primary], [], [], max(0.0, give_up_s - time.monotonic()))[0]:
                data = os.read(self._primary, 65536)
                if not data:
                    break
                self.seen += data.decode(errors="replace")
        return Said(self.process.wait(max(0.1, give_up_s - time.monotonic())), self.seen, "")


def pods(node: stage.Node) -> list[stage.Json]:
    """All that the rows share."""
    made = []
    for mode, end in (("ssh", ""), ("plain", "-plain")):
        about: stage.Json = {"annotations": {ACCESS: mode}}
        web = stage.pod(f"web{end}", node, WEB, **about, terminationGracePeriodSeconds=1)
        if mode == "ssh":
            _furnish(web["spec"])
        made += [
            web,
            stage.pod(f"done{end}", node, f"{TALK} exit 0", **about),
            stage.pod(f"unlucky{end}", node, "true", image="bareboat/missing:1", **about),
        ]
    crash = stage.pod("crash", node, "echo attempt; exit 3", annotations={ACCESS: "ssh"}, restartPolicy="Always")
    return [*made, crash]


def _furnish(spec: stage.Json) -> None:
    image = spec["containers"][0]["image"]
    spec["restartPolicy"] = "Always"
    spec["containers"] += [
        {"name": "talk", "image": image, "stdin": True, "command": ["sh", "-c", ECHO]},
        {"name": "term", "image": image, "stdin": True, "tty": True, "command": ["sh"]},
    ]
    spec["initContainers"] = [{"name": "before", "image": image, "command": ["echo", "first of all"]}]


@contextlib.contextmanager
def opened(sandbox: controlplane.ControlPlane, folder: Path) -> Iterator[Ground]:
    """All pods in the state that the rows want them in."""
    with stage.opened(sandbox, folder, NAMESPACE, script={"profile": "none"}) as on:
        on.node(BAREBOAT_ACCESS="ssh", VKUBELET_TAINT_KEY="", BAREBOAT_START_TIMEOUT_S="120")
        cluster = on.cluster
        for each in pods(on.nodes[0]):
            cluster.create(each)
        for end in ("", "-plain"):
            cluster.until_phase(f"web{end}", "Running", 60)
            cluster.until_phase(f"done{end}", "Succeeded", 60)
        cluster.until(
            "crash", lambda pod: stage.container(pod).get("restartCount", 0) >= 1, "crash has been restarted", 60
        )
        yield Ground(on, sandbox, folder)
