"""Control planes come up side by side and go without a trace, whichever way they end."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bareboat.sandbox import controlplane, folders, processes, reports
from bareboat.sandbox import settings as sandbox_settings

DEADLINE_S = 60.0
# A program that holds a control plane, tells its components' pids, and waits to be ended.
OWNER = """
import asyncio, sys
from bareboat.sandbox import controlplane
async def main():
    async with controlplane.ControlPlane("box") as control:
        print(*control.component_pids().values(), flush=True)
        await control.watch()
asyncio.run(main())
"""


@pytest.fixture
def settings(tmp_path: Path) -> sandbox_settings.Settings:
    return sandbox_settings.Settings(state_folder=tmp_path / "state")


def watched(pids: list[int]) -> list[int]:
    """Descriptors that become readable when the processes end; proof against pids that come round again."""
    return [os.pidfd_open(pid) for pid in pids]


def assert_all_end(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        ready, _, _ = select.select([descriptor], [], [], DEADLINE_S)
        os.close(descriptor)
        assert ready, "a component has outlived its owner"


def kubectl(control: controlplane.ControlPlane, *arguments: str) -> str:
    command: list[str | Path] = [control.kubectl_path, f"--kubeconfig={control.kubeconfig_path}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout


def bareboat(settings: sandbox_settings.Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BAREBOAT_SANDBOX_STATE_FOLDER": str(settings.state_folder)}
    command = [sys.executable, "-m", "bareboat", "sandbox", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, env=environment, check=False)


def start_bareboat(settings: sandbox_settings.Settings, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "BAREBOAT_SANDBOX_STATE_FOLDER": str(settings.state_folder),
        "PYTHONUNBUFFERED": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "bareboat", "sandbox", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on; what ends meanwhile is left out."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [*children, *(deeper for child in children for deeper in descendants(child))]


def wait_for_api_server(settings: sandbox_settings.Settings) -> list[int]:
    """Waits until a start is half way; returns descriptors of the supervisor and everything below it."""
    give_up_s = time.monotonic() + DEADLINE_S
    while not list(settings.state_folder.glob("*/kube-apiserver.log")):
        assert time.monotonic() < give_up_s, "the start did not get as far as the API server"
        time.sleep(0.02)
    supervisor = the_report(settings).owner_pid
    assert supervisor is not None
    return watched([supervisor, *descendants(supervisor)])


def the_report(settings: sandbox_settings.Settings) -> reports.Report:
    (report,) = reports.read_all(settings.state_folder)
    return report


async def test_two_control_planes_side_by_side_know_nothing_of_each_other(settings: sandbox_settings.Settings) -> None:
    async with controlplane.ControlPlane(settings=settings) as one, controlplane.ControlPlane(settings=settings) as two:
        await asyncio.to_thread(kubectl, one, "create", "namespace", "only-in-one")
        assert "only-in-one" in await asyncio.to_thread(kubectl, one, "get", "namespaces")
        assert "only-in-one" not in await asyncio.to_thread(kubectl, two, "get", "namespaces")
        gone = watched([*one.component_pids().values(), *two.component_pids().values()])
    assert_all_end(gone)
    assert reports.read_all(settings.state_folder) == []


async def test_a_component_that_dies_is_told_with_the_end_of_its_log(settings: sandbox_settings.Settings) -> None:
    async with controlplane.ControlPlane(settings=settings) as control:
        os.kill(control.component_pids()["kube-scheduler"], signal.SIGKILL)
        with pytest.raises(processes.ComponentDied, match="kube-scheduler was ended by SIGKILL") as death:
            await asyncio.wait_for(control.watch(), DEADLINE_S)
        assert "Caches are synced" in death.value.log_end


async def test_a_port_that_somebody_took_meanwhile_is_replaced(
    settings: sandbox_settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = processes.free_ports
    with socket.create_server(("127.0.0.1", 0)) as taken:
        chosen = iter([[taken.getsockname()[1], *choose(2)]])
        monkeypatch.setattr(processes, "free_ports", lambda count: next(chosen, None) or choose(count))
        async with controlplane.ControlPlane(settings=settings) as control:
            assert control.url != f"https://127.0.0.1:{taken.getsockname()[1]}"


async def test_a_start_that_is_cancelled_half_way_leaves_nothing(settings: sandbox_settings.Settings) -> None:
    control = controlplane.ControlPlane(settings=settings)
    work = asyncio.create_task(control.start())
    while "kube-apiserver" not in control.component_pids():
        assert not work.done()
        await asyncio.sleep(0.01)
    gone = watched(list(control.component_pids().values()))
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert_all_end(gone)
    assert reports.read_all(settings.state_folder) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_end_of_the_owner_ends_the_control_plane(
    settings: sandbox_settings.Settings, number: signal.Signals
) -> None:
    environment = {**os.environ, "BAREBOAT_SANDBOX_STATE_FOLDER": str(settings.state_folder)}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as owner:
        assert owner.stdout is not None
        gone = watched([int(pid) for pid in owner.stdout.readline().split()])
        assert len(gone) == 4
        owner.send_signal(number)
    assert_all_end(gone)
    assert [report.state for report in reports.read_all(settings.state_folder)] == (
        ["stale"] if number == signal.SIGKILL else []
    )
    folders.release(folders.claim(settings.state_folder, "another"))
    assert reports.read_all(settings.state_folder) == []


def test_up_detaches_and_down_leaves_nothing(settings: sandbox_settings.Settings) -> None:
    up = bareboat(settings, "up")
    assert up.returncode == 0, up.stderr
    report = the_report(settings)
    assert (report.name, report.state) == ("default", "running")
    assert report.owner_pid is not None
    assert f"export KUBECONFIG={report.kubeconfig_path}" in up.stdout
    assert bareboat(settings, "kubeconfig").stdout == f"{report.kubeconfig_path}\n"
    assert "already up" in bareboat(settings, "up").stdout
    gone = watched([report.owner_pid, *report.pids.values()])
    down = bareboat(settings, "down")
    assert (down.returncode, down.stdout) == (0, "Sandbox 'default' is down.\n")
    assert_all_end(gone)
    assert reports.read_all(settings.state_folder) == []


def test_a_killed_supervisor_takes_everything_along_and_status_clears_up(settings: sandbox_settings.Settings) -> None:
    assert bareboat(settings, "up", "--name", "box").returncode == 0
    report = the_report(settings)
    assert report.owner_pid is not None
    gone = watched([report.owner_pid, *report.pids.values()])
    os.kill(report.owner_pid, signal.SIGKILL)
    assert_all_end(gone)
    assert "box: its process was killed; what it left has been removed." in bareboat(settings, "status").stdout
    assert reports.read_all(settings.state_folder) == []


def test_a_detached_sandbox_reports_the_component_that_ended_it(settings: sandbox_settings.Settings) -> None:
    assert bareboat(settings, "up", "--name", "box").returncode == 0
    report = the_report(settings)
    assert report.owner_pid is not None
    gone = watched([report.owner_pid, *report.pids.values()])
    os.kill(report.pids["etcd"], signal.SIGKILL)
    assert_all_end(gone)
    status = bareboat(settings, "status")
    assert status.returncode == 1
    assert "box: etcd was ended by SIGKILL; the end of its log:" in status.stdout
    assert bareboat(settings, "down", "--name", "box").stdout == "Sandbox 'box' had ended; what it left is removed.\n"
    assert reports.read_all(settings.state_folder) == []


def test_ctrl_c_ends_a_sandbox_in_the_foreground(settings: sandbox_settings.Settings) -> None:
    with start_bareboat(settings, "up", "--foreground") as shown:
        assert shown.stdout is not None
        while "Ctrl-C takes it down." not in (line := shown.stdout.readline()):
            assert line, "ended before it was up"
        gone = watched(list(the_report(settings).pids.values()))
        shown.send_signal(signal.SIGINT)
        assert shown.stdout.read() == "Sandbox 'default' is down.\n"
    assert shown.returncode == 0
    assert_all_end(gone)
    assert reports.read_all(settings.state_folder) == []


def test_ctrl_c_while_it_starts_leaves_nothing(settings: sandbox_settings.Settings) -> None:
    with start_bareboat(settings, "up") as shown:
        gone = wait_for_api_server(settings)
        shown.send_signal(signal.SIGINT)
        assert shown.stdout is not None
        assert "interrupted; nothing was left running" in shown.stdout.read()
    assert shown.returncode == 130
    assert_all_end(gone)
    assert reports.read_all(settings.state_folder) == []


def test_a_start_whose_starter_is_killed_is_undone(settings: sandbox_settings.Settings) -> None:
    with start_bareboat(settings, "up") as shown:
        gone = wait_for_api_server(settings)
        shown.kill()
    assert_all_end(gone)
    assert reports.read_all(settings.state_folder) == []


def test_of_two_starts_of_one_name_one_wins(settings: sandbox_settings.Settings) -> None:
    with start_bareboat(settings, "up") as one, start_bareboat(settings, "up") as other:
        said = [starter.communicate(timeout=DEADLINE_S)[0] for starter in (one, other)]
    try:
        assert sorted([one.returncode, other.returncode]) == [0, 1], said
        assert sum("sandbox 'default' is already up, owned by process" in text for text in said) == 1
        assert the_report(settings).state == "running"
    finally:
        assert bareboat(settings, "down").returncode == 0
