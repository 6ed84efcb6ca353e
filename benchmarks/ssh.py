"""Ssh to many machines from one process: memory, CPU and time of 1,000 connections with a live channel each; and what
one channel moves, by cipher, beside the OpenSSH client. The server is a process of its own."""

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bareboat.access import handshakes, keys, processes

OPENSSH_PACKET_BYTES = 1 << 15
"""What an OpenSSH server takes; a larger packet is of use where the other end is no OpenSSH."""


async def measured(port: int, *words: str) -> dict[str, Any]:
    """What the measured process prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.ssh_client", words[0], str(port), *words[1:], stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise SystemExit("the measured process failed")
    told: dict[str, Any] = json.loads(out)
    return told


def a_key(folder: str) -> Path:
    path = Path(folder, "key")
    path.write_text(keys.make().private)
    path.chmod(0o600)
    return path


async def openssh(port: int, mib: int, cipher: str, key: Path) -> dict[str, Any]:
    """The same channel through the ssh command."""
    options = ["-i", str(key), "-F", "none", "-c", cipher, "-p", str(port), "-o", "LogLevel=ERROR"]
    options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "root@127.0.0.1"]
    speeds = {}
    for name, shell in (
        ("down", f"ssh {{}} send {mib << 20} 32768 > /dev/null"),
        ("up", "head -c {} /dev/zero | ssh {} take"),
    ):
        line = shell.format(" ".join(options)) if name == "down" else shell.format(mib << 20, " ".join(options))
        began_s = time.perf_counter()
        process = await asyncio.create_subprocess_shell(line)
        if await process.wait() != 0:
            raise SystemExit(f"ssh failed: {line}")
        speeds[f"{name}_mb_per_s"] = round(mib * 1.048576 / (time.perf_counter() - began_s))
    return speeds


@contextlib.asynccontextmanager
async def server(packet_bytes: int) -> AsyncIterator[int]:
    """A server in a process of its own; its port."""
    words = ("-m", "benchmarks.ssh_server", str(packet_bytes))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


async def bench(count: int, mib: int) -> None:
    async with server(processes.PACKET_BYTES) as port:
        print(json.dumps(await measured(port, "hold", str(count))))
    for packet_bytes in (processes.PACKET_BYTES, OPENSSH_PACKET_BYTES):
        async with server(packet_bytes) as port:
            with tempfile.TemporaryDirectory() as folder:
                for cipher in handshakes.CIPHERS[:3]:
                    flags = ("--cipher", cipher, "--packet-bytes", str(packet_bytes))
                    row = {
                        "cipher": cipher,
                        "packet_bytes": packet_bytes,
                        **await measured(port, "move", str(mib), *flags),
                    }
                    if shutil.which("ssh"):
                        row["openssh"] = await openssh(port, mib, cipher, a_key(folder))
                    print(json.dumps(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--mib", type=int, default=256, help="moved in each direction")
    given = parser.parse_args()
    asyncio.run(bench(given.connections, given.mib))


if __name__ == "__main__":
    main()
