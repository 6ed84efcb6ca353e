"""Commands, terminals, files and ports of a real machine, over a connection as the product makes it."""

import asyncio
import hashlib
import os
import random
import shlex

import asyncssh
import pytest
from tests.integration.access import conftest as parts

from bareboat.access import failures, files, machine, processes


async def test_a_command_gives_output_errors_and_its_exit_code(yard: parts.Yard) -> None:
    reached = await yard.reach(await yard.boot())
    done = await reached.run("echo out; echo err >&2; exit 7", timeout_s=20)
    assert (done.exit, done.stdout, done.stderr) == (processes.Exit(7), b"out\n", b"err\n")
    words = await reached.run(["printf", "%s|", "a b", "$HOME", "it's"], timeout_s=20, env={"A": "x y"})
    assert words.stdout == b"a b|$HOME|it's|"
    shown = await reached.run(["sh", "-c", 'echo "$A"'], timeout_s=20, env={"A": "x y"})
    assert shown.stdout == b"x y\n"


async def test_a_signal_ends_a_command_and_is_named(yard: parts.Yard) -> None:
    reached = await yard.reach(await yard.boot())
    async with await reached.start("exec sleep 1000") as process:
        process.signal("SIGTERM")
        assert await process.wait() == processes.Exit(143, "TERM")


async def test_input_and_output_of_any_bytes_come_through_whole(yard: parts.Yard) -> None:
    reached = await yard.reach(await yard.boot())
    data = random.Random(1).randbytes(20_000_000)
    done = await reached.run("cat", input=data, timeout_s=60)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


async def test_output_that_nobody_reads_stops_the_command_instead_of_filling_memory(yard: parts.Yard) -> None:
    reached = await yard.reach(await yard.boot())
    async with await reached.start(
        "head -c 200000000 /dev/zero | tee /dev/stderr 2>/root/count >&1; echo end"
    ) as process:
        sizes = []
        for _ in range(3):
            await asyncio.sleep(0.3)
            sizes.append(int((await reached.run("stat -c %s /root/count", timeout_s=20)).stdout))
        assert sizes[0] < 30_000_000
        assert sizes[1] == sizes[2]
        while await process.read_stdout():
            pass
        assert (await process.wait()).code == 0
    assert int((await reached.run("stat -c %s /root/count", timeout_s=20)).stdout) == 200_000_000


async def test_a_terminal_has_a_size_that_changes_and_takes_control_c(yard: parts.Yard) -> None:
    reached = await yard.reach(await yard.boot())
    script = "trap 'echo size $(stty size)' WINCH; trap 'echo bye; exit 3' INT; stty size; while :; do sleep 0.05; done"
    async with await reached.start(["sh", "-c", script], terminal=processes.Terminal(100, 40)) as process:
        assert await process.read_line() == b"40 100\r\n"
        process.resize(120, 50)
        assert await process.read_line() == b"size 50 120\r\n"
        await process.write(b"\x03")
        assert (await process.read_line()).endswith(b"bye\r\n")
        assert (await process.wait()).code == 3


async def test_more_commands_than_one_connection_takes_get_further_ones_that_go_again(yard: parts.Yard) -> None:
    reached = await yard.reach(await yard.boot(max_sessions=3))
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(reached.start("read line; echo $line")) for _ in range(10)]
    count = "ls /proc/*/fd -l 2>/dev/null | grep -c ."
    assert (await reached.run(count, timeout_s=20)).exit.code == 0
    for number, task in enumerate(running):
        process = task.result()
        await process.write(f"{number}\n".encode())
        assert await process.read_stdout() == f"{number}\n".encode()
        assert (await process.wait()).code == 0
    assert reached.connection.links == 1


@pytest.mark.parametrize("sftp", [True, False])
async def test_files_come_whole_with_their_modes_over_sftp_and_without(yard: parts.Yard, sftp: bool) -> None:
    reached = await yard.reach(await yard.boot(sftp=sftp))
    small = [files.File(f"/var/lib/pod/vol {i % 7}/it's-{i}", os.urandom(i * 37), 0o600 | i % 8) for i in range(60)]
    large = files.File("/usr/local/bin/tool", random.Random(2).randbytes(6_000_000), 0o755)
    await files.Files(reached).upload([*small, large])
    script = f"cd /var/lib/pod; find . -type f | wc -l; stat -c %a {shlex.quote(small[3].path)} /usr/local/bin/tool"
    shown = await reached.run(script, timeout_s=20)
    assert shown.stdout.decode().split() == ["60", "603", "755"]
    assert await files.Files(reached).read(small[59].path) == small[59].content
    assert await files.Files(reached).read(large.path) == large.content


async def test_a_file_that_has_no_room_leaves_nothing_behind_and_says_so(yard: parts.Yard) -> None:
    reached = await yard.reach(await yard.boot())
    await reached.run("mkdir /small && mount -t tmpfs -o size=1m none /small; echo old > /small/a", timeout_s=20)
    for size in (1_000_000, 3_000_000):
        fill = [files.File("/small/b", bytes(90_000)), files.File("/small/a", bytes(size))]
        with pytest.raises(failures.RemoteFailed, match=r"/small/a: .*(No space|Failure)"):
            await files.Files(reached).upload(fill)
    shown = await reached.run("cat /small/a; ls -A /small", timeout_s=20)
    assert shown.stdout.decode().split() == ["old", "a", "b"]


async def test_100_mb_arrive_intact_by_sftp_of_other_clients_too(yard: parts.Yard) -> None:
    reached = await yard.reach(await yard.boot())
    content = random.Random(3).randbytes(100_000_000)
    wanted = hashlib.sha256(content).hexdigest()
    await files.Files(reached).upload([files.File("/root/big", content)])
    shown = await reached.run("sha256sum /root/big", timeout_s=60)
    assert shown.stdout.decode().split()[0] == wanted
    connection = await reached.connection.ready(20)
    async with connection.start_sftp_client() as client, client.open("/root/big", "rb") as source:
        back = await source.read()
        assert isinstance(back, bytes)
        assert hashlib.sha256(back).hexdigest() == wanted


async def test_a_port_of_the_machine_is_reached_both_halves_closing_in_turn(yard: parts.Yard) -> None:
    reached = await yard.reach(await yard.boot("python"))
    server = (
        "import socket\ns = socket.create_server(('127.0.0.1', 8000))\nprint('up', flush=True)\nwhile True:\n"
        " c, _ = s.accept()\n d = b''\n while m := c.recv(65536): d += m\n c.sendall(d[::-1])\n c.close()\n"
    )
    async with await reached.start(["python3", "-c", server]) as process:
        assert await process.read_line() == b"up\n"
        for size in (0, 1, 3_000_000):
            data = random.Random(size).randbytes(size)
            async with await reached.dial(8000, "localhost" if size else "127.0.0.1") as channel:
                await channel.write(data)
                channel.end_writing()
                back = b""
                while more := await channel.read():
                    back += more
            assert back == data[::-1]
    with pytest.raises(failures.NotListening, match=r"127\.0\.0\.1:9"):
        await reached.dial(9)


async def test_callers_in_the_machine_reach_us_over_reconnections(yard: parts.Yard) -> None:
    made = await yard.boot("python")
    reached = await yard.reach(made)

    async def greet(reader: "asyncssh.SSHReader[bytes]", writer: "asyncssh.SSHWriter[bytes]") -> None:
        writer.write(b"hello " + await reader.readline())
        writer.close()

    forward = await reached.listen(7777, greet)
    assert forward.problem == ""
    call = "import socket; c = socket.create_connection(('127.0.0.1', 7777)); c.sendall(b'me\\n'); print(c.recv(99))"
    assert (await reached.run(["python3", "-c", call], timeout_s=20)).stdout == b"b'hello me\\n'\n"
    made.set_ssh(is_open=True, drop=True)
    await parts.until(lambda: not reached.connection.is_up)
    await reached.connection.ready(parts.DEADLINE_S)
    assert (await reached.run(["python3", "-c", call], timeout_s=20)).stdout == b"b'hello me\\n'\n"
    forward.close()
    refused = await reached.run(["python3", "-c", call], timeout_s=20)
    assert b"ConnectionRefusedError" in refused.stderr


async def test_a_port_that_is_taken_is_told_and_breaks_nothing(yard: parts.Yard) -> None:
    reached = await yard.reach(await yard.boot("python"))

    async def never(reader: "asyncssh.SSHReader[bytes]", writer: "asyncssh.SSHWriter[bytes]") -> None:
        raise AssertionError("nobody calls")

    first = await reached.listen(7777, never)
    second = await reached.listen(7777, never)
    assert first.problem == ""
    assert "7777" in second.problem
    assert (await reached.run("true", timeout_s=20)).exit.code == 0


async def test_a_command_that_takes_too_long_is_told_without_its_arguments(yard: parts.Yard) -> None:
    reached: machine.Machine = await yard.reach(await yard.boot())
    with pytest.raises(failures.RemoteFailed, match=r"sh took longer than 0\.2 s"):
        await reached.run(["sh", "-c", "sleep 1000", "secret"], timeout_s=0.2)
