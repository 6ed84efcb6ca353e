"""The process that serves, started by `bareboat proxy` in its own place (see `process`)."""

import asyncio
import signal
import sys

from bareboat.plumbing import clock as clocks
from bareboat.plumbing import logs
from bareboat.proxy import process, program


async def _serve(handed: process.Handed) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await program.Program(handed.plan, handed.cloud, clocks.SystemClock()).run(stop)
    finally:
        await handed.cloud.close()


def main() -> int:
    handed = process.taken(int(sys.argv[1]))
    logs.configure(handed.log_format, handed.log_level)
    return process.exit_code(lambda: asyncio.run(_serve(handed)))


if __name__ == "__main__":
    sys.exit(main())
