"""The measured side of the ssh benchmark, in a process that does nothing else. Prints one line of JSON."""

import argparse
import asyncio
import json
import resource
import time
from pathlib import Path

from bareboat.access import connections, handshakes, keys, machine
from bareboat.plumbing import clock as clocks
from bareboat.plumbing import logs

PATIENCE_S = 120.0


def resident_mib() -> float:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


async def hold(port: int, count: int) -> dict[str, float]:
    """Opens that many connections, each with a command that has said a line and goes on."""
    ring = keys.Ring(keys.make())
    settings = connections.Settings(login=handshakes.Settings(timeout_s=60.0))
    before_mib, began_s, cpu_s = resident_mib(), time.perf_counter(), time.process_time()
    address = connections.Address("127.0.0.1", port)
    async with connections.Connections(lambda: ring, clocks.SystemClock(), settings=settings) as known:

        async def one(number: int) -> None:
            reached = machine.Machine(known.open(f"i-{number}", [address]), patience_s=PATIENCE_S)
            process = await reached.start("hold")
            assert await process.read_line() == b"up\n"

        await asyncio.gather(*(one(number) for number in range(count)))
        took_s, used_s, after_mib = time.perf_counter() - began_s, time.process_time() - cpu_s, resident_mib()
        idle_s = time.process_time()
        await asyncio.sleep(20.0)
        idle_s = time.process_time() - idle_s
        return {
            "connections": count,
            "seconds": round(took_s, 2),
            "cpu_ms_each": round(used_s / count * 1000, 2),
            "mib_before": round(before_mib, 1),
            "mib": round(after_mib, 1),
            "mib_most": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "kib_each": round((after_mib - before_mib) * 1024 / count, 1),
            "idle_cpu_percent": round(idle_s / 20.0 * 100, 2),
        }


async def move(port: int, mib: int, cipher: str, packet_bytes: int) -> dict[str, float]:
    """Bytes in one channel, down and up."""
    handshakes.CIPHERS = (cipher,)  # type: ignore[assignment]
    ring = keys.Ring(keys.make())
    async with connections.Connections(lambda: ring, clocks.SystemClock()) as known:
        way = known.open("i-1", [connections.Address("127.0.0.1", port)])
        reached = machine.Machine(way, patience_s=PATIENCE_S)
        await way.ready(PATIENCE_S)
        async with await reached.start(f"send {mib << 20} {packet_bytes}") as process:
            began_s, cpu_s, got = time.perf_counter(), time.process_time(), 0
            while data := await process.read_stdout(1 << 20):
                got += len(data)
            down_s, down_cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
            assert got == mib << 20
        chunk = bytes(1 << 17)
        async with await reached.start("take") as process:
            began_s, cpu_s = time.perf_counter(), time.process_time()
            for _ in range(mib * 8):
                await process.write(chunk)
            process.end_input()
            await process.wait()
            up_s, up_cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    moved_mb = mib * 1.048576
    return {
        "down_mb_per_s": round(moved_mb / down_s),
        "up_mb_per_s": round(moved_mb / up_s),
        # Steadier than the speed where the computer has other things to do.
        "down_cpu_ms_per_mb": round(down_cpu_s / moved_mb * 1000, 2),
        "up_cpu_ms_per_mb": round(up_cpu_s / moved_mb * 1000, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("hold", "move"))
    parser.add_argument("port", type=int)
    parser.add_argument("amount", type=int)
    parser.add_argument("--cipher", default="")
    parser.add_argument("--packet-bytes", type=int, default=1 << 17)
    given = parser.parse_args()
    logs.configure("json", "warning")
    if given.what == "hold":
        told = asyncio.run(hold(given.port, given.amount))
    else:
        told = asyncio.run(move(given.port, given.amount, given.cipher, given.packet_bytes))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
