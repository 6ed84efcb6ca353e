"""exec, attach, cp and port-forward as real kubectl has them, through the real API server, in both of its ways."""

import asyncio
import contextlib
import hashlib
import os
import pty
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fakes import local_containers
from tests.integration.kubelet import conftest

from bareboat.sandbox import controlplane

WAYS = pytest.mark.parametrize("websockets", ["true", "false"])
POD = "busy"
FILE_BYTES = 100_000_000


@dataclass
class Done:
    code: int
    out: bytes
    error: bytes


@dataclass
class Machine:
    """A node with one pod whose container is this machine."""

    kubelet: conftest.Kubelet
    local: local_containers.LocalContainers

    async def start(self, *arguments: str, websockets: str = "true", **pipes: int) -> asyncio.subprocess.Process:
        environment = {
            **os.environ,
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets,
            "KUBECTL_PORT_FORWARD_WEBSOCKETS": websockets,
        }
        sandbox = self.kubelet.sandbox
        given = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        return await asyncio.create_subprocess_exec(
            sandbox.kubectl_path,
            f"--kubeconfig={sandbox.kubeconfig_path}",
            *arguments,
            env=environment,
            **{**given, **pipes},  # type: ignore[arg-type]
        )

    async def run(self, *arguments: str, websockets: str = "true", stdin: bytes = b"", timeout_s: float = 60) -> Done:
        process = await self.start(*arguments, websockets=websockets)
        try:
            async with asyncio.timeout(timeout_s):
                out, error = await process.communicate(stdin)
        except TimeoutError:
            process.kill()
            out, error = await process.communicate()
            pytest.fail(f"kubectl {arguments} hung; it said {out[-300:]!r} {error[-300:]!r}")
        assert process.returncode is not None
        return Done(process.returncode, out, error)


@pytest.fixture(scope="module")
def node_name() -> str:
    return "kubelet-streams"


@pytest.fixture
async def machine(sandbox: controlplane.ControlPlane, node_name: str) -> AsyncIterator[Machine]:
    local = local_containers.LocalContainers()
    before = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    async with conftest.a_kubelet(sandbox, node_name, local) as kubelet:
        await kubelet.run_pod(POD, conftest.Log())
        yield Machine(kubelet, local)
        async with asyncio.timeout(10):
            for process in local.started:
                await process.closed.wait()
    await local.close()
    left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
    assert not left, f"tasks that outlived the server: {left}"


@WAYS
@pytest.mark.parametrize("code", [0, 4, 137])
async def test_exec_returns_the_commands_exit_code(machine: Machine, websockets: str, code: int) -> None:
    script = "kill -9 $$" if code == 137 else f"echo out; echo err >&2; exit {code}"
    done = await machine.run("exec", POD, "--", "sh", "-c", script, websockets=websockets)
    assert done.code == code
    if code != 137:
        assert done.out == b"out\n"
        assert done.error.startswith(b"err\n")


@WAYS
async def test_many_execs_at_once_keep_their_exit_codes_and_outputs_apart(machine: Machine, websockets: str) -> None:
    async def one(number: int) -> tuple[int, bytes]:
        script = f"echo {number}; exit {number % 4}"
        done = await machine.run("exec", POD, "--", "sh", "-c", script, websockets=websockets)
        return done.code, done.out

    assert await asyncio.gather(*(one(number) for number in range(24))) == [
        (number % 4, b"%d\n" % number) for number in range(24)
    ]


@WAYS
async def test_a_command_that_can_not_start_says_why(machine: Machine, websockets: str) -> None:
    done = await machine.run("exec", POD, "--", "no-such-program", websockets=websockets)
    assert done.code == 1
    assert b"no-such-program" in done.error


@WAYS
async def test_stdin_of_100_mb_arrives_intact(machine: Machine, websockets: str) -> None:
    content = os.urandom(FILE_BYTES)
    done = await machine.run("exec", "-i", POD, "--", "sha256sum", stdin=content, websockets=websockets)
    assert (done.code, done.out.split()[0].decode()) == (0, hashlib.sha256(content).hexdigest())


@WAYS
async def test_a_terminal_has_a_size_signals_and_an_exit_code(machine: Machine, websockets: str) -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    try:
        process = await machine.start(
            "exec", "-it", POD, "--", "sh", "-i", websockets=websockets, stdin=theirs, stdout=theirs, stderr=theirs
        )
        terminal = local_containers.Inlet(os.dup(ours))
        seen = bytearray()

        async def until(text: bytes) -> None:
            async with asyncio.timeout(20):
                while text not in seen:
                    seen.extend(await terminal.read(4096))

        os.write(ours, b"echo si''ze; stty size; tty\n")
        await until(b"/dev/pts/")
        assert b"0 0" in seen or b"24 80" in seen
        local_process = machine.local.started[-1]
        local_containers.set_size(ours, columns=101, rows=42)
        process.send_signal(28)
        async with asyncio.timeout(20):
            while local_process.sizes[-1:] != [(101, 42)]:
                await local_process.resized()
        os.write(ours, b"stty size\n")
        await until(b"42 101")
        os.write(ours, b"sleep 100; echo interr''upted\n\x03")
        await until(b"^C")
        os.write(ours, b"exit 5\n")
        async with asyncio.timeout(20):
            assert await process.wait() == 5
        terminal.close()
    finally:
        os.close(ours)
        os.close(theirs)


@WAYS
async def test_cp_carries_100_mb_both_ways_intact(machine: Machine, websockets: str, tmp_path: Path) -> None:
    sent, there, back = tmp_path / "sent", tmp_path / "there", tmp_path / "back"
    content = os.urandom(FILE_BYTES)
    await asyncio.to_thread(sent.write_bytes, content)
    up = await machine.run("cp", str(sent), f"{POD}:{there}", websockets=websockets)
    assert up.code == 0, up.error
    down = await machine.run("cp", f"{POD}:{there}", str(back), websockets=websockets)
    assert down.code == 0, down.error
    returned = await asyncio.to_thread(back.read_bytes)
    assert hashlib.sha256(returned).digest() == hashlib.sha256(content).digest()


@WAYS
async def test_attach_shows_both_streams_and_ends_with_the_container(machine: Machine, websockets: str) -> None:
    main = await local_containers.start(
        ["sh", "-c", "read line; echo got $line; echo err >&2; exit 3"], stdin=True, tty=False
    )
    machine.local.main[POD] = main
    done = await machine.run("attach", "-i", POD, stdin=b"hello\n", websockets=websockets)
    assert done.out == b"got hello\n"
    assert b"err\n" in done.error


@contextlib.asynccontextmanager
async def forwarding(
    machine: Machine, *ports: int, websockets: str, pod: str = POD
) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[int]]]:
    process = await machine.start("port-forward", pod, *(f":{port}" for port in ports), websockets=websockets)
    assert process.stdout is not None
    try:
        opened: list[int] = []
        async with asyncio.timeout(20):
            while len(opened) < len(ports):
                line = await process.stdout.readline()
                assert line, (await process.communicate())[1]
                if b"127.0.0.1:" in line:
                    opened.append(int(line.split(b"127.0.0.1:")[1].split()[0]))
        yield process, opened
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


@WAYS
async def test_port_forward_carries_many_connections_and_half_closes(machine: Machine, websockets: str) -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers only when the client has ended its half."""
        writer.write((await reader.read()).upper())
        await writer.drain()
        writer.close()

    async def once(port: int, number: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"connection %d " % number * 1000)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    async with await asyncio.start_server(upper, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with forwarding(machine, port, websockets=websockets) as (_process, (local,)), asyncio.timeout(60):
            answers = await asyncio.gather(*(once(local, number) for number in range(100)))
    assert answers == [b"CONNECTION %d " % number * 1000 for number in range(100)]


@WAYS
async def test_a_refused_connection_leaves_the_other_ports_alone(machine: Machine, websockets: str) -> None:
    async def hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async def read_all(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async with await asyncio.start_server(hello, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with forwarding(machine, 1, port, websockets=websockets) as (process, (dead, alive)), asyncio.timeout(30):
            assert await read_all(dead) == b""
            assert await read_all(alive) == b"hello"
            assert await read_all(dead) == b""
            assert await read_all(alive) == b"hello"
            assert process.returncode is None


@WAYS
@pytest.mark.parametrize("number", [9, 2])
async def test_a_killed_kubectl_takes_the_remote_process_along(machine: Machine, websockets: str, number: int) -> None:
    process = await machine.start("exec", "-i", POD, "--", "sh", "-c", "echo up; sleep 1000", websockets=websockets)
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert await process.stdout.readline() == b"up\n"
        process.send_signal(number)
        await process.communicate()
        await machine.local.started[-1].closed.wait()


@WAYS
async def test_a_server_that_stops_never_lets_kubectl_exit_0(
    sandbox: controlplane.ControlPlane, websockets: str
) -> None:
    """Trap 1: a session cut off without a status looks like success."""
    local = local_containers.LocalContainers()
    async with conftest.a_kubelet(sandbox, f"kubelet-stopping-{websockets}", local) as kubelet:
        await kubelet.run_pod("cut", conftest.Log())
        process = await Machine(kubelet, local).start(
            "exec", "-i", "cut", "--", "sh", "-c", "echo half; sleep 1000", websockets=websockets
        )
        assert process.stdout is not None
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b"half\n"
        await kubelet.served.__aexit__(None, None, None)
        _out, error = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 1
        assert b"the node agent is shutting down" in error
        assert all(started.closed.is_set() for started in local.started)
