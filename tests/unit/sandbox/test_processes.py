"""No component outlives the process that started it, whichever way that one ends; its end is told with its log."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bareboat.sandbox import processes

DEADLINE_S = 10.0
# Stands for our program: starts a shell that starts a child of its own, tells the pids of both, and waits.
OWNER = """
import sys, time
from pathlib import Path
from bareboat.sandbox import processes
folder = Path(sys.argv[1])
script = "sleep 600 & echo $$ $! > pids.part; mv pids.part pids; wait"
component = processes.Component("shell", ["/bin/sh", "-c", script], folder=folder)
while not (folder / "pids").exists():
    component.check()
    time.sleep(0.01)
print(component._process.pid, *(folder / "pids").read_text().split(), flush=True)
sys.stdin.read()
"""


def a_component(folder: Path, script: str) -> processes.Component:
    return processes.Component("part", ["/bin/sh", "-c", script], folder=folder)


def wait_for(path: Path, component: processes.Component) -> None:
    give_up_s = time.monotonic() + DEADLINE_S
    while not path.exists():
        component.check()
        assert time.monotonic() < give_up_s, f"{path.name} was not made"
        time.sleep(0.01)


def finish(component: processes.Component) -> None:
    component._process.wait(DEADLINE_S)
    component.stop()


def wait_until_gone(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        ready, _, _ = select.select([descriptor], [], [], DEADLINE_S)
        os.close(descriptor)
        assert ready, "a process has outlived its owner"


def start_owner(folder: Path) -> tuple[subprocess.Popen[str], int, list[int]]:
    """The owner, the keeper's pid, and descriptors that become readable when keeper, shell and its child are gone."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 3
    return owner, pids[0], [os.pidfd_open(pid) for pid in pids]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_everything_goes_when_the_owner_is_ended_by_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    owner, _, others = start_owner(tmp_path)
    owner.send_signal(number)
    owner.communicate()
    wait_until_gone(others)


def test_everything_goes_when_the_owner_just_returns(tmp_path: Path) -> None:
    owner, _, others = start_owner(tmp_path)
    owner.communicate()
    assert owner.returncode == 0
    wait_until_gone(others)


def test_the_command_goes_when_its_keeper_is_killed(tmp_path: Path) -> None:
    owner, keeper, (keeper_gone, shell_gone, child_gone) = start_owner(tmp_path)
    try:
        os.kill(keeper, signal.SIGKILL)
        wait_until_gone([keeper_gone, shell_gone])
    finally:
        signal.pidfd_send_signal(child_gone, signal.SIGKILL)  # a grandchild is beyond what the kernel promises
        os.close(child_gone)
        owner.communicate()


def test_stop_ends_a_command_that_ignores_polite_signals_and_may_be_called_again(tmp_path: Path) -> None:
    component = a_component(tmp_path, "trap '' TERM INT HUP; touch up; while :; do sleep 1; done")
    wait_for(tmp_path / "up", component)
    component.stop()
    component.stop()
    assert component.exit_code == 128 + signal.SIGKILL


def test_stop_works_while_a_forked_process_still_holds_the_lifeline(tmp_path: Path) -> None:
    component = a_component(tmp_path, "touch up; sleep 600")
    wait_for(tmp_path / "up", component)
    lifeline = component._process.stdin
    assert lifeline is not None
    held = os.dup(lifeline.fileno())
    component.stop()
    os.close(held)
    assert component.exit_code == 128 + signal.SIGKILL


def test_death_is_told_with_exit_code_and_the_end_of_the_log(tmp_path: Path) -> None:
    component = a_component(tmp_path, "for n in 1 2 3 4 5 6 7 8 9; do echo line $n; done; echo no more >&2; exit 3")
    finish(component)
    with pytest.raises(processes.ComponentDied, match="part ended by itself with exit code 3") as death:
        component.check()
    assert death.value.log_end.splitlines()[-2:] == ["line 9", "no more"]


def test_death_by_a_signal_names_the_signal(tmp_path: Path) -> None:
    component = a_component(tmp_path, "kill -KILL $$")
    finish(component)
    with pytest.raises(processes.ComponentDied, match="part was ended by SIGKILL"):
        component.check()


def test_a_command_that_is_not_there_is_told_like_a_death(tmp_path: Path) -> None:
    component = processes.Component("part", [tmp_path / "nothing"], folder=tmp_path)
    finish(component)
    with pytest.raises(processes.ComponentDied, match="can't be started: No such file or directory"):
        component.check()


def test_the_pid_is_that_of_the_command(tmp_path: Path) -> None:
    component = a_component(tmp_path, "echo $$ > pid.part; mv pid.part pid; sleep 600")
    try:
        wait_for(tmp_path / "pid", component)
        assert component.pid == int((tmp_path / "pid").read_text())
    finally:
        component.stop()


def test_only_the_last_lines_of_a_long_log_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {n}\n" for n in range(100_000)))
    assert processes.log_end(log, lines=2) == "line 99998\nline 99999"
    assert "no log" in processes.log_end(tmp_path / "nothing")


def test_free_ports_are_distinct_and_can_be_bound() -> None:
    ports = processes.free_ports(5)
    assert len(set(ports)) == 5
    for port in ports:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
