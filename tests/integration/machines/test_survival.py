"""No machine outlives its simulator, however it dies; and a hundred come up at once."""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

from tests.integration.machines import conftest as parts

from bareboat.simulation.machines import forked, ns

_SIMULATOR = """
import asyncio, contextlib, json
from bareboat.simulation.machines import forked
from tests.integration.machines import conftest as parts

STUBBORN = '''
trap "" TERM HUP INT
setsid sleep 76543210 &
nohup sleep 76543210 >/dev/null 2>&1 &
(setsid sh -c "trap '' TERM HUP; sleep 76543210 & wait" &)
python3 -c "
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
time.sleep(76543210)
"
echo ready
wait
'''

async def main():
    async with forked.ForkedMachines() as machines:
        made = await asyncio.gather(*(machines.start(parts.a_shell(STUBBORN, ports=[(80, "tcp")])) for _ in range(10)))
        for one in made:
            while "ready" not in await one.log_text():
                await asyncio.sleep(0.02)
        with contextlib.suppress(ConnectionResetError):  # nobody listens inside, which the relay says by a reset
            await asyncio.open_connection("127.0.0.1", made[0].host_ports[80, "tcp"])
        print(json.dumps([one.host_ports[80, "tcp"] for one in made]), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_no_machine_survives_a_sigkill_of_its_simulator() -> None:
    simulator = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SIMULATOR, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert simulator.stdout is not None
    try:
        async with asyncio.timeout(60):
            ports = json.loads(await simulator.stdout.readline())
        below = list(ns.descendants(simulator.pid))
        assert len(below) >= 1 + 10 * 6  # the zygote; a monitor, a shell and its stubborn children for each machine
    finally:
        simulator.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    await simulator.wait()
    while left := [pid for pid in below if _alive(pid)]:
        assert time.monotonic() - killed < 1.0, f"{len(left)} of {len(below)} processes are left after a second"
        await asyncio.sleep(0.01)
    print(f"{len(below)} processes gone after {(time.monotonic() - killed) * 1000:.0f} ms")  # noqa: T201
    for port in ports:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            continue
        writer.close()
        raise AssertionError(f"port {port} of a machine is still open")


async def test_closing_ends_every_machine() -> None:
    before = set(ns.descendants(_own_pid()))  # a session's control plane, say
    async with forked.ForkedMachines() as machines:
        made = [await machines.start(parts.a_shell("trap '' TERM; sleep 76543211 & wait")) for _ in range(3)]
        below = [pid for pid in ns.descendants(_own_pid()) if pid not in before]
        assert len(below) >= 1 + 3 * 2
    assert [pid for pid in below if _alive(pid)] == []
    assert [(await one.wait()).code for one in made] == [137] * 3


def _own_pid() -> int:
    return int(Path("/proc/self").readlink().name)


async def test_a_hundred_machines_start_in_seconds(machines: forked.ForkedMachines) -> None:
    started = time.monotonic()
    made = await asyncio.gather(*(machines.start(parts.a_shell("exec sleep 1000")) for _ in range(100)))
    took_s = time.monotonic() - started
    print(f"100 machines in {took_s:.2f} s")  # noqa: T201
    assert all(one.exit_status is None for one in made)
    assert took_s < 10
