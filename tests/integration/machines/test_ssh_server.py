"""The ssh server in a machine, seen by a stock client: where its commands live, what they inherit, when it answers."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest
from tests.integration.machines import conftest as parts
from tests.integration.machines import test_rungs

from bareboat.simulation.machines import forked, machine

KEY = asyncssh.generate_private_key("ssh-ed25519")
HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")
FOREVER = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"


def a_server(
    image: str = "debian", *, script: str = FOREVER, memory_mib: int | None = None, **ssh: object
) -> machine.MachineSpec:
    told: dict[str, object] = {
        "host_key": HOST_KEY.export_private_key().decode(),
        "authorized_keys": [KEY.export_public_key().decode()],
    }
    return machine.MachineSpec(
        image=parts.an_image(image),
        entrypoint=["sh", "-c", script],
        env={"SECRET_OF_MAIN": "1"},
        memory_mib=memory_mib,
        ssh=machine.Ssh(**(told | ssh)),  # type: ignore[arg-type]
    )


@contextlib.asynccontextmanager
async def logged_in(made: machine.Machine) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A connection that trusts exactly the host key that the machine was given."""
    hosts: tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]] = (
        [HOST_KEY.convert_to_public()],
        [],
        [],
    )
    async with (
        asyncio.timeout(30),
        asyncssh.connect(
            "127.0.0.1",
            made.host_ports[22, "tcp"],
            username="root",
            client_keys=[KEY],
            known_hosts=hosts,
            config=None,
            agent_path=None,
        ) as connection,
    ):
        yield connection


async def out(connection: asyncssh.SSHClientConnection, command: str, **more: object) -> list[str]:
    done = await connection.run(command, **more)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    return str(done.stdout).split()


@pytest.mark.parametrize("image", ["debian", "busybox"])
async def test_commands_are_processes_of_the_machine_with_the_environment_of_a_login(
    machines: forked.ForkedMachines, image: str
) -> None:
    made = await machines.start(a_server(image))
    async with logged_in(made) as connection:
        assert await out(connection, "hostname; pwd; echo $HOME $USER; id -u") == [
            "machine",
            "/root",
            "/root",
            "root",
            "0",
        ]
        assert "SECRET_OF_MAIN=1" not in await out(connection, "env")
        assert "SECRET_OF_MAIN=1" in await out(connection, "tr '\\0' '\\n' < /proc/1/environ")
        assert await out(connection, "echo $LC_X $OTHER", env={"LC_X": "told", "OTHER": "dropped"}) == ["told"]
        await out(connection, "echo NAME='\"a b\"' > /etc/environment")
        assert await out(connection, "echo $NAME") == ["a", "b"]
        assert int((await out(connection, "ls /proc | grep -c '^[0-9]'"))[0]) < 9
        assert (await connection.run("exit 3")).exit_status == 3
        assert (await connection.run("nosuch")).exit_status == 127


@pytest.mark.parametrize("terminal", [None, "xterm"])
async def test_short_commands_are_heard_to_their_last_byte(
    machines: forked.ForkedMachines, terminal: str | None
) -> None:
    async with logged_in(await machines.start(a_server())) as connection:
        for number in range(20):
            assert await out(connection, f"echo {number}; echo end", term_type=terminal) == [str(number), "end"]


async def test_a_command_outlives_its_connection_and_nothing_outlives_the_machine(
    machines: forked.ForkedMachines,
) -> None:
    made = await machines.start(a_server())
    tag = f"sleep 98765{os.getpid()}"
    async with logged_in(made) as connection:
        await connection.create_process(f"setsid {tag}")
        with_terminal = await connection.create_process(f"{tag}1", term_type="xterm")
        await parts.until(lambda: _running(tag) == 2)
        assert with_terminal.exit_status is None
    await parts.until(lambda: _running(f"{tag}1") == 0)
    assert _running(tag) == 1
    async with logged_in(made) as dropped:
        made.set_ssh(is_open=True, drop=True)
        await dropped.wait_closed()
    async with logged_in(made):
        assert _running(tag) == 1
        status = await made.stop()
    assert status.code == 0
    await parts.until(lambda: _running(tag) == 0)
    with pytest.raises(OSError):
        async with logged_in(made):
            pass


async def test_a_shut_door_refuses_until_it_is_opened_and_is_shut_again_by_a_start(
    machines: forked.ForkedMachines,
) -> None:
    made = await machines.start(a_server(opens_after_s=1e9))
    for _ in range(2):
        with pytest.raises((OSError, asyncssh.Error)):
            async with logged_in(made):
                pass
        made.set_ssh(is_open=True)
        assert await _in_time(made, "echo in") == ["in"]
        await made.stop()
        await made.start()


async def test_eleven_sessions_are_one_too_many(machines: forked.ForkedMachines) -> None:
    async with logged_in(await machines.start(a_server())) as connection:
        held = [await connection.create_process("cat") for _ in range(10)]
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.run("true")
        held[0].stdin.write_eof()
        await held[0].wait()
        async with asyncio.timeout(10):  # the server hears of the end a moment later
            while True:
                with contextlib.suppress(asyncssh.ChannelOpenError):
                    assert await out(connection, "echo again") == ["again"]
                    return


async def test_memory_limits_hold_for_commands_too(machines: forked.ForkedMachines) -> None:
    if any("memory limits are not enforced" in loss for loss in machines.losses):
        pytest.skip(f"no memory limits here: {'; '.join(machines.losses)}")
    made = await machines.start(a_server("python", memory_mib=300))
    async with logged_in(made) as connection:
        done = await connection.run("python3 -c 'x = bytearray(900 << 20); print(len(x))'")
        assert (done.returncode in (-9, 137), done.stdout) == (True, ""), (done.returncode, done.stdout, done.stderr)
        assert await out(connection, "echo alive") == ["alive"]


async def test_a_key_file_of_nonsense_lets_nobody_in_and_is_no_end_of_the_server(
    machines: forked.ForkedMachines,
) -> None:
    made = await machines.start(a_server(authorized_keys=["hello", "ssh-ed25519 notbase64"]))
    with pytest.raises(asyncssh.PermissionDenied):
        async with logged_in(made):
            pass
    good = machine.File(KEY.export_public_key(), 0o600)
    made.write_files({"/root/.ssh/authorized_keys": good}, append=True)
    assert await _in_time(made, "echo in") == ["in"]


async def test_a_tree_of_many_files_goes_both_ways(machines: forked.ForkedMachines, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(30):
        (tree / f"d{number % 3}").mkdir(parents=True, exist_ok=True)
        (tree / f"d{number % 3}" / f"f{number}").write_bytes(os.urandom(number * 100))
    async with logged_in(await machines.start(a_server())) as connection, connection.start_sftp_client() as client:
        await client.put(str(tree), "/root/tree", recurse=True)
        await client.get("/root/tree", str(tmp_path / "back"), recurse=True)
        assert await client.realpath("/var/run") == "/run"
    for file in tree.rglob("*"):
        if file.is_file():
            assert (tmp_path / "back" / file.relative_to(tree)).read_bytes() == file.read_bytes()


async def test_an_ordinary_user_has_a_server_too(open_folder: Path) -> None:
    zygote = test_rungs.less_able(*test_rungs.AS_NOBODY)
    async with forked.ForkedMachines(folder=open_folder, interpreter=zygote) as machines:
        if machines.rung.startswith("Rung 4 "):
            pytest.skip(f"ordinary users may make no user namespaces here: {'; '.join(machines.losses)}")
        try:
            made = await machines.start(a_server())
        except machine.MachineError as lack:
            assert "no ssh server for machines" in str(lack)
            pytest.skip(f"the system's Python can't import what the server needs: {lack}")
        async with logged_in(made) as connection:
            assert await out(connection, "id -u; hostname; tty", term_type="xterm") == ["0", "machine", "/dev/pts/0"]


async def test_without_namespaces_commands_run_in_the_private_folder(open_folder: Path) -> None:
    zygote = test_rungs.less_able(*test_rungs.AS_NOBODY, "unshare", "--user", "--")
    async with forked.ForkedMachines(folder=open_folder, interpreter=zygote) as machines:
        assert machines.rung.startswith("Rung 4 of 4")
        try:
            made = await machines.start(a_server())
        except machine.MachineError as lack:
            assert "no ssh server for machines" in str(lack)
            pytest.skip(f"the system's Python can't import what the server needs: {lack}")
        async with logged_in(made) as connection:
            [home] = await out(connection, "pwd")
            assert home.startswith(str(open_folder))


async def _in_time(made: machine.Machine, command: str) -> list[str]:
    """The command's output, once the machine has done what it was told a moment ago and lets us in."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(asyncssh.Error, OSError):
                async with logged_in(made) as connection:
                    return await out(connection, command)
            await asyncio.sleep(0.02)


def _running(command: str) -> int:
    """How many processes of this computer have exactly this command line, or one that ends so."""
    found = 0
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal():
                words = (folder / "cmdline").read_bytes().decode(errors="replace").strip("\0").split("\0")
                found += " ".join(words).startswith(command)
    return found
