"""Runs one exec or attach: bytes both ways between a `Wire` and a `containers.Process`, then the outcome.

The process is closed whatever happens. Nothing here ends the wire: that is done with the outcome, in one place, so that
no path ends without a status.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from bareboat.kubelet import containers
from bareboat.kubelet.streams import remotecommand, wires

Start = Callable[[], Awaitable[containers.Process]]
log = structlog.get_logger()

CLOSE_S = 10.0
LOST = "the connection to the container was lost"


async def run(
    wire: wires.Wire, asked: remotecommand.Asked, start: Start, *, attach: bool = False
) -> remotecommand.Outcome:
    """Until the process has ended and all its output is written. An attached container's exit code is told by the
    pod's status, not here. A background child that keeps stdout open keeps the session, as with a kubelet."""
    outcome = remotecommand.Outcome()
    try:
        process = await start()
        try:
            exit_code = await _carry(wire, asked, process)
        finally:
            await _close(process)
        if not attach:
            outcome = remotecommand.Outcome(exit_code)
    except* containers.ContainersError as several:
        outcome = remotecommand.Outcome(failure=_first_text(several))
    return outcome


async def _carry(wire: wires.Wire, asked: remotecommand.Asked, process: containers.Process) -> int:
    async with asyncio.TaskGroup() as group:
        feeding = [group.create_task(_resize(wire, process), name="kubelet.streams.sizes")]
        if asked.stdin:
            feeding.append(group.create_task(_feed(wire, process), name="kubelet.streams.stdin"))
        out = _copy(wire, remotecommand.Channel.STDOUT, process.read_stdout, wanted=asked.stdout)
        error = _copy(wire, remotecommand.Channel.STDERR, process.read_stderr, wanted=asked.stderr)
        copying = [
            group.create_task(out, name="kubelet.streams.stdout"),
            group.create_task(error, name="kubelet.streams.stderr"),
        ]
        await asyncio.wait(copying)
        exit_code = await process.wait()
        for task in feeding:
            task.cancel()
    return exit_code


async def _close(process: containers.Process) -> None:
    """A machine that doesn't answer any more must not keep the session, whose client waits for its status."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await process.close()
    except TimeoutError:
        log.warning("kubelet.process_not_closed", after_s=CLOSE_S)


async def _copy(
    wire: wires.Wire, channel: remotecommand.Channel, read: Callable[[int], Awaitable[bytes]], *, wanted: bool
) -> None:
    while chunk := await read(remotecommand.CHUNK_BYTES):
        if wanted:
            await wire.write(channel, chunk)


async def _feed(wire: wires.Wire, process: containers.Process) -> None:
    try:
        while chunk := await wire.read_stdin():
            await process.write_stdin(chunk)
    except containers.StdinClosed:
        wire.drop_input()
        return
    # A client that vanished is no end of input: what it wanted to send may be half there.
    if not wire.over.is_set():
        await process.close_stdin()


async def _resize(wire: wires.Wire, process: containers.Process) -> None:
    while sizes := await wire.read_sizes():
        process.resize(sizes[-1].columns, sizes[-1].rows)


def _first_text(several: BaseExceptionGroup[BaseException]) -> str:
    first: BaseException = several
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return " ".join(str(first).split()) or LOST
