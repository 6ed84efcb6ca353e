"""What a workload finds in its machine, how it ends, and what is left of it."""

import asyncio
import shutil
import time
from pathlib import Path

import aiohttp
import pytest
from tests.integration.machines import conftest as parts

from bareboat.simulation.machines import forked, machine, plans


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        (["sh", "-c", "exit 3"], 3, ""),
        (["sh", "-c", "true"], 0, ""),
        (["python3", "-c", "import ctypes; ctypes.string_at(0)"], 139, ""),
        (["no-such-program"], 127, 'exec: "no-such-program": executable file not found in $PATH'),
        (["/no/such/program"], 127, 'exec: "/no/such/program": stat /no/such/program: no such file or directory'),
        (["/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied'),
        (["/tmp"], 126, 'exec: "/tmp": permission denied'),
    ],
)
async def test_exit_codes_are_dockers(
    machines: forked.ForkedMachines, command: list[str], code: int, reason: str
) -> None:
    status, _ = await parts.output_of(machines, machine.MachineSpec(image=parts.an_image(), entrypoint=command))
    assert (status.code, status.reason, status.oom_killed) == (code, reason, False)


async def test_command_is_process_one_with_the_environment_of_the_spec(machines: forked.ForkedMachines) -> None:
    spec = machine.MachineSpec(
        image=parts.an_image("python:3.12"),
        entrypoint=["sh", "-c", 'echo $$ "$0" "$1"; env | sort; hostname'],
        args=["zero", "one"],
        env={"A": "1 2", "PYTHON_VERSION": "mine"},
        hostname="box-7",
    )
    status, text = await parts.output_of(machines, spec)
    assert status.code == 0
    lines = text.splitlines()
    assert lines[0] == "1 zero one"
    assert lines[-1] == "box-7"
    assert {"A=1 2", "PYTHON_VERSION=mine", "HOME=/root", "HOSTNAME=box-7", "LANG=C.UTF-8"} <= set(lines)


async def test_files_are_at_their_absolute_paths_and_nothing_of_the_hosts_is(
    machines: forked.ForkedMachines, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("of the host")
    script = (
        "cat /etc/config/a /var/run/secrets/token /usr/share/new/b /usr/bin/hello; stat -c %a /usr/bin/hello; hello;"
        f"cat {tmp_path}/secret; ls /proc | grep -c '^[0-9]'"
    )
    spec = parts.a_shell(
        script,
        files={
            "/etc/config/a": machine.File(b"config\n"),
            "/var/run/secrets/token": machine.File(b"token\n", 0o400),
            "/usr/share/new/b": machine.File(b"shared\n"),
            "/usr/bin/hello": machine.File(b"#!/bin/sh\necho hi\n", 0o755),
        },
    )
    _, text = await parts.output_of(machines, spec)
    lines = text.splitlines()
    assert lines[:7] == ["config", "token", "shared", "#!/bin/sh", "echo hi", "755", "hi"]
    assert "No such file or directory" in lines[7]
    assert int(lines[8]) <= 4  # the shell, ls and grep: no process of anyone else
    assert shutil.which("hello", path="/usr/bin") is None


async def test_two_machines_listen_on_one_port(machines: forked.ForkedMachines) -> None:
    first, second = await asyncio.gather(*(machines.start(parts.a_web_server(name)) for name in (b"first", b"second")))
    assert await parts.fetch(parts.url_of(first)) == "first"
    assert await parts.fetch(parts.url_of(second)) == "second"
    assert first.host_ports != second.host_ports


async def test_port_on_which_nothing_listens_resets(machines: forked.ForkedMachines) -> None:
    made = await machines.start(parts.a_shell("sleep 1000", ports=[(80, "tcp")]))
    with pytest.raises(OSError, match=r"reset|refused|closed"):
        reader, writer = await asyncio.open_connection("127.0.0.1", made.host_ports[80, "tcp"])
        writer.write(b"hello")
        if await reader.read() == b"":
            raise ConnectionError("closed")


async def test_host_ports_are_known_to_the_environment_and_identity_ports_are_the_same_inside(
    machines: forked.ForkedMachines,
) -> None:
    spec = parts.a_shell(
        'echo "$P_80 $P_70000"',
        ports=[(80, "tcp"), (70_000, "tcp")],
        env_of_ports=lambda bound: {f"P_{number}": str(host) for (number, _), host in bound.items()},
    )
    made = await machines.start(spec)
    await made.wait()
    web, identity = map(int, (await made.log_text()).split())
    assert made.host_ports == {(80, "tcp"): web, (identity, "tcp"): identity}


async def test_large_answers_pass_whole_through_a_mapped_port(machines: forked.ForkedMachines) -> None:
    page = b"0123456789abcdef" * 500_000
    made = await machines.start(parts.a_web_server(page))
    assert await parts.fetch(parts.url_of(made)) == page.decode()


async def test_stop_gives_the_grace_time_and_then_kills(machines: forked.ForkedMachines) -> None:
    kind = await machines.start(parts.a_shell("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done"))
    deaf = await machines.start(parts.a_shell("trap '' TERM; echo up; while :; do sleep 0.05; done"))
    for made in (kind, deaf):
        await parts.printed(made, "up\n")
    assert await kind.stop(10) == machine.ExitStatus(7)
    assert (await kind.log_text()).endswith("bye\n")
    started = time.monotonic()
    status = await deaf.stop(0.3)
    assert (status.code, status.signal) == (137, 9)
    assert 0.3 <= time.monotonic() - started < 5


async def test_disk_ports_and_log_stay_over_a_stop_and_start(machines: forked.ForkedMachines) -> None:
    script = "echo run >> /workspace/runs; echo x >> /usr/marks 2>/dev/null; wc -l < /workspace/runs; exec sleep 1000"
    made = await machines.start(parts.a_shell(script, ports=[(80, "tcp")], memory_mib=64))
    ports = dict(made.host_ports)
    await parts.printed(made, "1\n")
    assert (await made.kill()).code == 137
    await made.start()
    assert made.exit_status is None
    await parts.printed(made, "1\n2\n")
    assert made.host_ports == ports
    await made.kill()


async def test_server_answers_again_after_a_start_and_not_in_between(machines: forked.ForkedMachines) -> None:
    made = await machines.start(parts.a_web_server(b"here"))
    assert await parts.fetch(parts.url_of(made)) == "here"
    await made.kill()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(parts.url_of(made))
    await made.start()
    assert await parts.fetch(parts.url_of(made)) == "here"


async def test_removed_machine_leaves_no_process_port_or_log(machines: forked.ForkedMachines) -> None:
    made = await machines.start(parts.a_web_server(b"here"))
    await parts.fetch(parts.url_of(made))
    await made.remove()
    await made.remove()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", made.host_ports[8000, "tcp"])
    assert (await made.wait()).code == 137
    assert await made.log_lines() == []
    with pytest.raises(machine.MachineError, match="removed"):
        await made.start()


async def test_cancelled_start_leaves_nothing_behind(machines: forked.ForkedMachines) -> None:
    task = asyncio.create_task(machines.start(parts.a_shell("exec sleep 98761234")), name="start")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await parts.until(lambda: not any(b"98761234" in line for line in _command_lines()))


def _command_lines() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return found


async def test_log_tells_streams_and_times_apart(machines: forked.ForkedMachines) -> None:
    made = await machines.start(parts.a_shell("echo out; echo err >&2; printf 'no newline'"))
    await made.wait()
    lines = await made.log_lines()
    assert {(line.stream, line.text) for line in lines} == {
        ("stdout", "out"),
        ("stderr", "err"),
        ("stdout", "no newline"),
    }
    assert all(line.at.endswith("Z") and len(line.at) == len("2026-01-01T00:00:00.000000000Z") for line in lines)
    assert len(await made.log_lines(tail=1)) == 1


async def test_nvidia_smi_prints_what_the_offer_promised(machines: forked.ForkedMachines) -> None:
    script = "nvidia-smi; nvidia-smi -L; nvidia-smi --query-gpu=name,memory.total --format=csv,noheader"
    gpu = machine.GpuSpec("RTX 3060", count=2, memory_mib=12_288, driver_version="555.42.02", cuda_version="12.5")
    spec = machine.MachineSpec(image=parts.an_image("nvidia/cuda:12.4.1"), args=["sh", "-c", script], gpu=gpu)
    status, text = await parts.output_of(machines, spec)
    assert status.code == 0
    assert "Driver Version: 555.42.02" in text
    assert "CUDA Version: 12.5" in text
    assert "GPU 1: NVIDIA GeForce RTX 3060 (UUID: GPU-" in text
    assert text.endswith("NVIDIA GeForce RTX 3060, 12288 MiB\nNVIDIA GeForce RTX 3060, 12288 MiB\n")


async def test_common_programs_work_in_a_machine(machines: forked.ForkedMachines) -> None:
    script = (
        "python3 -c 'import json, ssl, socket; print(socket.gethostbyname(\"localhost\"))' && cat /etc/hostname && date"
    )
    status, text = await parts.output_of(machines, parts.a_shell(script))
    assert status.code == 0
    assert text.startswith("127.0.0.1\nmachine\n")


@pytest.mark.parametrize(
    ("reference", "port", "path", "answer"),
    [
        ("nginx:1.27", 80, "/", "Welcome to nginx!"),
        ("ozzuworld/june-gpu-multi:latest", 8001, "/healthz", '"service": "stt"'),
        ("ozzuworld/june-gpu-multi:latest", 8000, "/healthz", '"service": "tts"'),
        ("vllm/vllm-openai:v0.6.3", 8000, "/v1/models", '"owned_by": "vllm"'),
    ],
)
async def test_images_that_serve_answer(
    machines: forked.ForkedMachines, reference: str, port: int, path: str, answer: str
) -> None:
    made = await machines.start(machine.MachineSpec(image=parts.an_image(reference), ports=[(port, "tcp")]))
    assert answer in await parts.fetch(parts.url_of(made, port, path))
    assert (await made.stop(5)).code == 0


async def test_computer_without_a_system_python_lends_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "_SYSTEM_PYTHONS", ())
    async with forked.ForkedMachines() as machines:
        status, text = await parts.output_of(machines, parts.a_shell("/opt/sim/bin/python3 -c 'import ssl; print(42)'"))
    assert (status.code, text) == (0, "42\n")


async def test_busybox_image_has_busybox_and_nothing_else(machines: forked.ForkedMachines) -> None:
    script = "ls /usr/share/python3 2>/dev/null; which python3; cat /etc/os-release; echo $((6 * 7)); id -u"
    spec = machine.MachineSpec(image=parts.an_image("busybox"), args=["sh", "-c", script])
    status, text = await parts.output_of(machines, spec)
    assert status.code == 0
    assert text.endswith("42\n0\n")
    assert "ID=busybox" in text
    said = any("no static busybox" in loss for loss in machines.losses)
    assert said == ("python3\n" in text)


async def test_machine_over_its_memory_is_killed_where_cgroups_allow(machines: forked.ForkedMachines) -> None:
    spec = machine.MachineSpec(
        image=parts.an_image("python"), args=["python3", "-c", "print(len(bytearray(300 << 20)))"], memory_mib=100
    )
    status, text = await parts.output_of(machines, spec)
    if any("memory limits are not enforced" in loss for loss in machines.losses):
        assert (status.code, status.oom_killed, text) == (0, False, "314572800\n")
    else:
        assert (status.code, status.oom_killed) == (137, True)


async def test_injected_oom_is_reported_as_one(machines: forked.ForkedMachines) -> None:
    made = await machines.start(parts.a_shell("exec sleep 1000"))
    assert await made.kill(oom=True) == machine.ExitStatus(137, oom_killed=True)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (machine.MachineSpec(image=parts.an_image("vllm/vllm-openai"), entrypoint=[]), "no command specified"),
        (parts.a_shell("true", files={"etc/config": machine.File(b"")}), "absolute path"),
        (parts.a_shell("true", env={"A=B": "c"}), "could not be made: illegal environment variable name"),
    ],
)
async def test_specs_that_make_no_sense_are_refused_in_words(
    machines: forked.ForkedMachines, spec: machine.MachineSpec, words: str
) -> None:
    with pytest.raises(machine.MachineError, match=words):
        await machines.start(spec)
