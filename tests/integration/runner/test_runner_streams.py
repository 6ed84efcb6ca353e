"""exec and attach: standard streams, terminals, exit codes, and clients that vanish."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest
from tests.integration.runner import boxes
from tests.integration.runner.boxes import a_container, a_launch, container, terminated

from bareboat.access.documents import Mount, Volume


@pytest.fixture
def resting(box: boxes.Box) -> boxes.Box:
    box.run(a_launch(a_container("sleep", "60"))).running()
    return box


class Terminal:
    """A command on a terminal of ours, as sshd would give it one."""

    def __init__(self, command: list[str], rows: int = 24, columns: int = 80, term: str = "xterm-256color") -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = term
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execv(command[0], command)
        self.seen = b""

    def until(self, wanted: bytes, within_s: float = boxes.PATIENCE_S) -> None:
        deadline = time.monotonic() + within_s
        while wanted not in self.seen:
            readable, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"{wanted!r} is not in {self.seen!r}"
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                data = b""
            assert data, f"{wanted!r} is not in {self.seen!r}, which is all"
            self.seen += data

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self) -> int:
        """The exit code, after the last of the output."""
        while True:
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                break
            if not data:
                break
            self.seen += data
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_exec_passes_output_errors_and_exit_code(resting: boxes.Box) -> None:
    done = resting.exec("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)


def test_exec_passes_input_and_its_end(resting: boxes.Box) -> None:
    data = os.urandom(3_000_000)
    assert resting.exec("cat", stdin=data).stdout == data


def test_exec_tells_a_signal_as_128_and_its_number(resting: boxes.Box) -> None:
    assert resting.exec("sh", "-c", "kill -TERM $$").returncode == 143


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("no-such-program",), 127, b'exec: "no-such-program": executable file not found in $PATH'),
        (("/etc/passwd",), 126, b'exec: "/etc/passwd": permission denied'),
    ],
)
def test_exec_of_what_cannot_be_run(resting: boxes.Box, argv: tuple[str, ...], code: int, said: bytes) -> None:
    done = resting.exec(*argv)
    assert done.returncode == code and said in done.stderr


def test_exec_is_as_the_container_is(box: boxes.Box) -> None:
    at = box.files / "data"
    main = a_container(
        script=f"touch {at}/mine; echo up; sleep 60", env=(("COLOUR", "blue"),), user="1234:5678", groups=(42,),
        working_dir="/usr", mounts=(Mount("data", str(at)),), drop_capabilities=("ALL",), no_new_privileges=True,
    )  # fmt: skip
    box.run(a_launch(main, volumes=(Volume("data", mode=0o777),)))
    boxes.eventually(lambda: "up" in box.log(), "it is up")
    script = f"echo $COLOUR $(id -u) $(id -G) $PWD $(hostname) $(ls {at}) $(grep -c 'CapBnd:.0*$' /proc/self/status)"
    assert box.exec("sh", "-c", script).stdout == b"blue 1234 5678 42 /usr web mine 1\n"


def test_exec_takes_more_environment(resting: boxes.Box) -> None:
    done = resting.call("exec", "--container", "main", "--env", "LINES=5", "--", "sh", "-c", "echo $LINES")
    assert done.stdout == b"5\n"


def test_exec_where_nothing_runs(box: boxes.Box) -> None:
    assert box.exec("true").returncode == 125
    box.run_to_end(a_launch(a_container("true")))
    done = box.exec("true")
    assert done.returncode == 125 and b'container "main" is not running' in done.stderr


def test_exec_in_a_container_that_is_not_there(resting: boxes.Box) -> None:
    done = resting.exec("true", container="other")
    assert done.returncode == 125 and b'container "other" is not in the pod' in done.stderr


def test_exec_with_very_long_arguments(resting: boxes.Box) -> None:
    word = "x" * 100_000
    assert resting.exec("sh", "-c", "echo ${#1}", "sh", word).stdout == b"100000\n"


def test_exec_with_a_terminal(resting: boxes.Box) -> None:
    terminal = Terminal(resting.command("exec", "--container", "main", "--", "sh"), rows=33, columns=101)
    os.write(terminal.fd, b"stty size; echo $TERM; tty | cut -c1-9\n")
    terminal.until(b"33 101\r\n")
    terminal.until(b"xterm-256color\r\n")
    terminal.until(b"/dev/pts/\r\n")
    terminal.resize(50, 120)
    os.write(terminal.fd, b"sleep 0.1; stty size\n")
    terminal.until(b"50 120\r\n")
    os.write(terminal.fd, b"sleep 60\n")
    terminal.until(b"sleep 60\r\n")
    time.sleep(0.1)  # the shell reads a line at a time: ^C is to meet the sleep
    os.write(terminal.fd, b"\x03")
    os.write(terminal.fd, b"echo still $((40 + 2)); exit 6\n")
    terminal.until(b"still 42\r\n")
    assert terminal.end() == 6


def test_the_last_output_of_a_short_command_on_a_terminal_is_not_lost(resting: boxes.Box) -> None:
    for n in range(20):
        terminal = Terminal(resting.command("exec", "--container", "main", "--", "echo", f"all of {n}"))
        assert terminal.end() == 0 and terminal.seen == f"all of {n}\r\n".encode()


def test_exec_dies_with_its_client(resting: boxes.Box) -> None:
    pid = resting.files / "pid"
    client = subprocess.Popen(
        resting.command("exec", "--container", "main", "--", "sh", "-c", f"echo $$ >{pid}; sleep 60; true"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    boxes.eventually(lambda: pid.exists() and pid.read_text() != "", "it runs")
    client.kill()
    client.communicate()
    boxes.eventually(lambda: not boxes.alive(int(pid.read_text())), "it is gone")


def test_exec_ends_when_the_channel_closes(resting: boxes.Box) -> None:
    client = subprocess.Popen(
        resting.command("exec", "--container", "main", "--", "sleep", "60"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert client.stdout is not None and client.stdin is not None
    client.stdin.close()
    client.stdout.close()
    assert client.wait(5) == 125


def test_exec_dies_with_its_container(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container("sleep", "60")))
    follower.running()
    client = subprocess.Popen(box.command("exec", "--container", "main", "--", "sleep", "60"), stdin=subprocess.DEVNULL)
    boxes.eventually(lambda: b"sleep\00060" in _everything(box), "it runs")
    follower.ask("stop", grace_s=1)
    follower.ended()
    assert client.wait(5) == 137


def _everything(box: boxes.Box) -> bytes:
    """The command lines of the supervising process's children but the container's own."""
    main = container(box.state()).running
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(box.supervisor())], capture_output=True, text=True)
    found = b""
    for pid in children.stdout.split():
        if main and int(pid) != main.pid:
            found += Path(f"/proc/{pid}/cmdline").read_bytes()
    return found


def test_what_exec_leaves_in_the_background_lives_on_in_the_container(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container("sleep", "60")))
    follower.running()
    done = box.exec("sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!")
    pid = int(done.stdout)
    assert boxes.alive(pid)
    follower.ask("stop", grace_s=1)
    follower.ended()
    assert not boxes.alive(pid)


def test_attach_reads_and_writes(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container(script="while read x; do echo got $x; echo err $x >&2; done", stdin=True,
                                            stdin_once=True)))  # fmt: skip
    follower.running()
    with boxes.attached(box, "--container", "main", "--stdin") as client:
        assert client.stdin and client.stdout and client.stderr
        client.stdin.write(b"one\n")
        client.stdin.flush()
        assert (client.stdout.readline(), client.stderr.readline()) == (b"got one\n", b"err one\n")
        client.stdin.close()
        assert client.wait(5) == 0, "stdin_once: the end of input ends the container, and that ends us"
    assert terminated(follower.ended()).exit_code == 0


def test_without_stdin_once_input_stays_open_for_the_next(box: boxes.Box) -> None:
    box.run(a_launch(a_container(script="while read x; do echo got $x; done", stdin=True))).running()
    for word in (b"one", b"two"):
        with boxes.attached(box, "--container", "main", "--stdin") as client:
            assert client.stdin and client.stdout
            client.stdin.write(word + b"\n")
            client.stdin.flush()
            assert client.stdout.readline() == b"got " + word + b"\n"


def test_several_may_attach(box: boxes.Box) -> None:
    box.run(a_launch(a_container(script="read x; echo all of you", stdin=True))).running()
    with (
        boxes.attached(box, "--container", "main") as listener,
        boxes.attached(box, "--container", "main", "--stdin") as c,
    ):
        assert c.stdin and c.stdout and listener.stdout
        time.sleep(0.2)  # the listener shows nothing by which to know that it has joined
        c.stdin.write(b"\n")
        c.stdin.flush()
        assert c.stdout.read() == listener.stdout.read() == b"all of you\n"


def test_a_container_without_stdin_reads_an_end(box: boxes.Box) -> None:
    assert terminated(box.run_to_end(a_launch(a_container("cat")))).exit_code == 0


def test_attach_where_nothing_runs(box: boxes.Box) -> None:
    box.run_to_end(a_launch(a_container("true")))
    done = box.call("attach", "--container", "main")
    assert done.returncode == 125 and b"not running" in done.stderr


def test_an_attached_client_that_takes_nothing_does_not_stop_the_container_for_ever(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container(script="read x; head -c 3000000 /dev/zero", stdin=True)))
    follower.running()
    with boxes.attached(box, "--container", "main", "--stdin") as client:
        assert client.stdin
        client.stdin.write(b"\n")
        client.stdin.flush()
        follower.ended()


def test_a_containers_terminal(box: boxes.Box) -> None:
    follower = box.run(a_launch(a_container("sh", stdin=True, tty=True)))
    follower.running()
    terminal = Terminal(box.command("attach", "--container", "main", "--stdin"), rows=40, columns=90)
    os.write(terminal.fd, b"sleep 0.1; stty size\n")
    terminal.until(b"40 90\r\n")
    terminal.resize(41, 91)
    os.write(terminal.fd, b"sleep 0.1; stty size\n")
    terminal.until(b"41 91\r\n")
    os.write(terminal.fd, b"exit 3\n")
    assert terminal.end() == 0, "attach tells no exit code; the state does"
    assert terminated(follower.ended()).exit_code == 3
    assert "41 91" in box.log()


def test_a_terminal_of_another_user_is_its_own(box: boxes.Box) -> None:
    box.run_to_end(a_launch(a_container(script="echo hello >$(tty); stat -c %u $(tty)", tty=True, user="1234")))
    assert box.log().split() == ["hello", "1234"]
