"""The ladder: each way of keeping machines apart, with a zygote that can do no better, and what it says is lost."""

import os
import shutil
from pathlib import Path

import pytest
from tests.integration.machines import conftest as parts

from bareboat.simulation.machines import forked, machine

AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
_FORBID = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'


def less_able(*command: str) -> tuple[str, ...]:
    """The command that starts a zygote with less rights."""
    if os.geteuid() != 0 or shutil.which(command[0]) is None or parts.SYSTEM_PYTHON is None:
        pytest.skip(
            f"needs root, {command[0]} and a Python that every user may run, to start a zygote with less rights"
        )
    return (*command, parts.SYSTEM_PYTHON)


def _spec() -> machine.MachineSpec:
    script = "id -u; cat /etc/config/a /usr/share/new/b; nvidia-smi -L; python3 -c 'print(6 * 7)'; exit 3"
    return parts.a_shell(
        script,
        gpu=machine.GpuSpec("RTX 3060"),
        user="1000",
        memory_mib=64,
        files={"/etc/config/a": machine.File(b"config\n"), "/usr/share/new/b": machine.File(b"shared\n")},
    )


async def _runs_and_serves(machines: forked.ForkedMachines, uid: str) -> None:
    made = await machines.start(_spec())
    assert (await made.wait()).code == 3
    await made.start()
    assert (await made.wait()).code == 3
    lines = (await made.log_text()).splitlines()
    assert lines[:3] == lines[5:8] == [uid, "config", "shared"]
    assert lines[3].startswith("GPU 0: NVIDIA GeForce RTX 3060")
    assert lines[4] == "42"
    first, second = [await machines.start(parts.a_web_server(name)) for name in (b"first", b"second")]
    assert await parts.fetch(parts.url_of(first)) == "first"
    assert await parts.fetch(parts.url_of(second)) == "second"


async def test_first_rung_has_users_of_its_own(machines: forked.ForkedMachines) -> None:
    if not machines.rung.startswith("Rung 1 "):
        pytest.skip(f"this computer and user have: {machines.rung} Lost: {'; '.join(machines.losses)}")
    await _runs_and_serves(machines, "1000")


async def test_root_without_user_namespaces_has_the_second_rung(open_folder: Path) -> None:
    zygote = less_able("unshare", "--user", "--map-root-user", "sh", "-c", _FORBID, "sh")
    async with forked.ForkedMachines(folder=open_folder, interpreter=zygote) as machines:
        assert machines.rung.startswith("Rung 2 of 4")
        assert any("No space left on device" in loss for loss in machines.losses)
        assert any("root in its machine is root here" in loss for loss in machines.losses)
        await _runs_and_serves(machines, "0")


async def test_ordinary_user_has_the_third_rung(open_folder: Path) -> None:
    async with forked.ForkedMachines(folder=open_folder, interpreter=less_able(*AS_NOBODY)) as machines:
        if machines.rung.startswith("Rung 4 "):
            pytest.skip(f"ordinary users may make no user namespaces here: {'; '.join(machines.losses)}")
        assert machines.rung.startswith("Rung 3 of 4")
        assert any("no other user exists" in loss for loss in machines.losses)
        assert any("/usr of a machine can't be changed" in loss for loss in machines.losses)
        assert any("memory limits are not enforced" in loss for loss in machines.losses)
        await _runs_and_serves(machines, "0")


async def test_without_namespaces_machines_are_plain_processes_and_say_so(open_folder: Path) -> None:
    # A user without a name in its own user namespace may make no further one.
    zygote = less_able(*AS_NOBODY, "unshare", "--user", "--")
    async with forked.ForkedMachines(folder=open_folder, interpreter=zygote) as machines:
        assert machines.rung.startswith("Rung 4 of 4")
        assert any("two machines can't listen on one port" in loss for loss in machines.losses)
        status, text = await parts.output_of(machines, parts.a_shell("cat etc/config/a; exit 3", files=_spec().files))
        assert (status.code, text) == (3, "config\n")
        status, text = await parts.output_of(machines, parts.a_shell("nvidia-smi -L", gpu=machine.GpuSpec("RTX 3060")))
        assert text.startswith("GPU 0: NVIDIA GeForce RTX 3060")


async def test_zygote_that_can_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(machine.MachineError, match="did not start: nothing here"):
        async with forked.ForkedMachines(folder=tmp_path, interpreter=("sh", "-c", "echo nothing here; exit 1")):
            pass
