"""A folder with the real runner in it, as Bareboat would leave it on a machine, and what a test needs to look at it.

Run as a program it is the box itself: a mount namespace whose /etc/hosts is a copy, so that nothing on this computer
changes, and optionally without the right to mount, or as another user.
"""

import contextlib
import ctypes
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bareboat.access import binaries, documents

PATIENCE_S = 15.0
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18
PR_CAPBSET_DROP, CAP_SYS_ADMIN = 24, 21


def a_container(*argv: str, name: str = "main", script: str = "", **more: Any) -> documents.Container:
    """One that runs `argv`, or `script` with sh."""
    more.setdefault("restart", "Never")
    return documents.Container(name=name, argv=argv or ("sh", "-c", script), **more)


def a_launch(*containers: documents.Container, **more: Any) -> documents.Launch:
    named: dict[str, Any] = {
        "pod_uid": "0b5f6a2e-pod", "attempt": "first", "namespace": "default", "pod_name": "web", "hostname": "web",
        "grace_s": 5,
    }  # fmt: skip
    return documents.Launch(**{**named, "containers": containers, **more})


class Follower:
    """`runner follow`, read by a thread so that a test can wait for what it wants to see, with a deadline."""

    def __init__(self, box: "Box") -> None:
        self.process = subprocess.Popen(box.command("follow"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.states: list[documents.State] = []
        self.seen_at: list[float] = []
        self.answers: dict[int, documents.Answer] = {}
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._read, name="follower")
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            told = documents.decode_line(text)
            with self._news:
                if isinstance(told, documents.State):
                    self.states.append(told)
                    self.seen_at.append(time.time())
                else:
                    self.answers[told.id] = told
                self._news.notify_all()
        with self._news:
            self._closed = True
            self._news.notify_all()

    def until(self, wanted: Callable[[documents.State], bool], within_s: float = PATIENCE_S) -> documents.State:
        """The first state, of those told so far or to come, for which `wanted` holds."""
        looked_at = 0

        def found() -> documents.State | None:
            nonlocal looked_at
            for state in self.states[looked_at:]:
                looked_at += 1
                if wanted(state):
                    return state
            return None

        deadline = time.monotonic() + within_s
        with self._news:
            while (state := found()) is None:
                left = deadline - time.monotonic()
                if left <= 0 or self._closed:
                    last = msgspec.json.encode(self.states[-1]).decode() if self.states else "none"
                    raise AssertionError(f"no such state within {within_s} s; the last: {last}")
                self._news.wait(left)
        return state

    def ended(self, within_s: float = PATIENCE_S) -> documents.State:
        return self.until(lambda state: state.ended, within_s)

    def running(self, name: str = "main") -> documents.State:
        return self.until(lambda state: container(state, name).running is not None)

    def ask(self, do: Any, **more: Any) -> documents.Answer:
        assert self.process.stdin is not None
        number = len(self.answers) + 1
        self.process.stdin.write(documents.encode_command(documents.Command(id=number, do=do, **more)))
        self.process.stdin.flush()
        with self._news:
            assert self._news.wait_for(lambda: number in self.answers, PATIENCE_S), f"no answer to {do}"
        return self.answers[number]

    def close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(PATIENCE_S)
        self._thread.join(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Box:
    """One machine's folder."""

    def __init__(self, folder: Path, *, mounting: bool = True, user: int | None = None) -> None:
        self.root = folder / "root"
        self.root.mkdir()
        self.files = folder / "files"
        self.files.mkdir()
        self.hosts = folder / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n10.9.8.7 of-the-cloud\n")
        self.mounting, self.user = mounting, user
        self.environment = {**os.environ, "RUNNER_TIME_SCALE": "1"}
        self.program = self.root / "runner"
        self.program.write_bytes(binaries.content(os.uname().machine))
        self.program.chmod(0o755)
        if user is not None:
            for each in (folder, self.root, self.files):
                os.chown(each, user, user)
        self._followers: list[Follower] = []

    def command(self, do: str, *arguments: str) -> list[str]:
        return [str(self.program), do, "--root", str(self.root), *arguments]

    def upload(self, launch: documents.Launch | bytes) -> None:
        path = self.root / "launch.json"
        path.write_bytes(launch if isinstance(launch, bytes) else documents.encode_launch(self._kept(launch)))
        path.chmod(0o600 if self.user is None else 0o644)

    def _kept(self, launch: documents.Launch) -> documents.Launch:
        """Keeps termination messages of containers that name no path off this computer's /dev."""

        def moved(each: documents.Container) -> documents.Container:
            if each.termination_message_path != "/dev/termination-log":
                return each
            return msgspec.structs.replace(each, termination_message_path=str(self.files / f"message-{each.name}"))

        return msgspec.structs.replace(
            launch, init=tuple(map(moved, launch.init)), containers=tuple(map(moved, launch.containers))
        )

    def start(self, launch: documents.Launch | bytes | None = None) -> documents.Started:
        done = self.try_start(launch)
        assert done.returncode == 0, done.stderr
        return documents.decode_started(done.stdout.encode())

    def try_start(
        self, launch: documents.Launch | bytes | None = None, limit: str = ""
    ) -> subprocess.CompletedProcess[str]:
        if launch is not None:
            self.upload(launch)
        inside = [sys.executable, __file__, str(self.hosts), str(int(self.mounting)), str(self.user or 0), limit]
        return subprocess.run(
            [*inside, *self.command("start")], env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S
        )

    def follow(self) -> Follower:
        follower = Follower(self)
        self._followers.append(follower)
        return follower

    def run(self, launch: documents.Launch) -> Follower:
        self.start(launch)
        return self.follow()

    def run_to_end(self, launch: documents.Launch, within_s: float = PATIENCE_S) -> documents.State:
        return self.run(launch).ended(within_s)

    def call(self, do: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(self.command(do, *arguments), input=stdin, capture_output=True, timeout=PATIENCE_S)

    def exec(self, *argv: str, container: str = "main", stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return self.call("exec", "--container", container, "--", *argv, stdin=stdin)

    def log(self, name: str = "main", restart: int = 0) -> str:
        """The text of a run, both streams, without the log's own words; empty before it begins."""
        path = self.root / "logs" / name / f"{restart}.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return "".join(
            fields[3] + ("\n" if fields[2] == "F" else "") for fields in (text.split(" ", 3) for text in lines)
        )

    def state(self) -> documents.State:
        return documents.decode_state((self.root / "state.json").read_bytes())

    def supervisor(self) -> int:
        """The pid of the process that supervises."""
        wanted = f"runner\0supervise\0--root\0{self.root}\0"
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and (folder / "cmdline").read_text().startswith(wanted):
                    return int(folder.name)
        raise AssertionError("nobody supervises")

    def close(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.call("stop", "--grace", "0")
        for follower in self._followers:
            follower.close()
        eventually(lambda: not self.is_supervised(), "the supervising process has ended")

    def is_supervised(self) -> bool:
        with contextlib.suppress(AssertionError):
            return alive(self.supervisor())
        return False


def container(state: documents.State, name: str = "main") -> documents.ContainerState:
    return next(each for each in (*state.init, *state.containers) if each.name == name)


def terminated(state: documents.State, name: str = "main") -> documents.Terminated:
    found = container(state, name).terminated
    assert found is not None, f"{name} has not terminated: {container(state, name)}"
    return found


def reasons(state: documents.State, name: str = "main") -> list[str]:
    return [each.reason for each in state.occurrences if each.container == name]


def messages(state: documents.State, reason: str) -> list[str]:
    return [each.message for each in state.occurrences if each.reason == reason]


def eventually(true: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        select.select([], [], [], 0.005)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def attached(box: Box, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        box.command("attach", *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdin = None
        process.communicate()


def _enter(arguments: Sequence[str]) -> None:
    hosts, mounting, user, limit, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True)

    def must(result: int) -> None:
        if result != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    if os.getuid() == 0:
        must(libc.unshare(CLONE_NEWNS))
        must(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
        must(libc.mount(hosts.encode(), b"/etc/hosts", None, MS_BIND, None))
        if mounting == "0":
            must(libc.prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0))
        if user != "0":
            os.setgroups([])
            os.setgid(int(user))
            os.setuid(int(user))
    for name, value in json.loads(limit or "{}").items():
        import resource

        resource.setrlimit(getattr(resource, name), (value, value))
    os.execv(command[0], command)


if __name__ == "__main__":
    _enter(sys.argv[1:])
