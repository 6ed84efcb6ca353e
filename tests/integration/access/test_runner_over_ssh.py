"""The runner on a real machine, through its client: brought, started, heard over drops, asked, stopped."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from tests.integration.access import conftest as parts

from bareboat.access import binaries, documents, failures, files, machine, processes, runner
from bareboat.plumbing import clock as clocks


@pytest.fixture(autouse=True)
def built() -> None:
    try:
        binaries.path("x86_64")
    except binaries.NoRunner as lack:
        pytest.skip(str(lack))


def a_launch(script: str, *, attempt: str = "1", **more: object) -> documents.Launch:
    container = documents.Container("main", ("/bin/sh", "-c", script), restart="Never", **more)  # type: ignore[arg-type]
    return documents.Launch("uid-1", attempt, "default", "web-0", "web-0", containers=(container,), grace_s=5)


async def heard(told: AsyncIterator[documents.State], enough: Callable[[documents.State], bool]) -> documents.State:
    """The first state that is `enough`."""
    async with asyncio.timeout(parts.DEADLINE_S):
        async for state in told:
            if enough(state):
                return state
    raise AssertionError("the states ended without it")


def ready(reached: machine.Machine) -> runner.Runner:
    return runner.Runner(reached, clocks.SystemClock())


async def test_a_pod_is_brought_started_and_heard_to_its_end(yard: parts.Yard) -> None:
    on = ready(await yard.reach(await yard.boot()))
    started = await on.start(a_launch("echo out; echo err >&2; exit 3"))
    assert started.outcome == "started"
    last = await heard(on.states(), lambda state: state.ended)
    terminated = last.containers[0].terminated
    assert terminated is not None
    assert terminated.exit_code == 3
    async with await on.logs(runner.Log("main")) as process:
        lines = [line.split(b" ", 3)[1:] for line in (await _everything(process)).splitlines()]
    assert sorted(lines) == [[b"stderr", b"F", b"err"], [b"stdout", b"F", b"out"]]
    assert (await on.start(a_launch("echo out; echo err >&2; exit 3"))).outcome == "ended"


async def test_a_second_client_finds_the_program_there_and_the_pod_running(yard: parts.Yard) -> None:
    made = await yard.boot()
    first = ready(await yard.reach(made))
    await first.start(a_launch("sleep 1000"))
    before = await heard(first.states(), lambda state: state.containers[0].running is not None)
    reached = await yard.reach(made)
    again = ready(reached)
    stamp = "stat -c %Y.%i /var/lib/bareboat/runner"
    old = (await reached.run(stamp, timeout_s=20)).stdout
    assert (await again.start(a_launch("sleep 1000"))).outcome == "running"
    assert (await reached.run(stamp, timeout_s=20)).stdout == old
    after = await heard(again.states(), lambda state: state.containers[0].running is not None)
    assert after.containers[0].running == before.containers[0].running
    with pytest.raises(runner.OtherAttempt, match="attempt 2"):
        await again.start(a_launch("sleep 1000", attempt="2"))


async def test_states_go_on_over_a_drop_without_one_doubled_or_lost(yard: parts.Yard) -> None:
    made = await yard.boot()
    reached = await yard.reach(made)
    on = ready(reached)
    await on.start(a_launch("while [ ! -e /go ]; do sleep 0.02; done; exit 5"))
    numbers: list[int] = []
    running = asyncio.Event()

    async def listen() -> documents.State:
        async for state in on.states():
            numbers.append(state.number)
            if state.containers[0].running is not None:
                running.set()
            if state.ended:
                return state
        raise AssertionError("no end was told")

    async with asyncio.timeout(parts.DEADLINE_S):
        listening = asyncio.create_task(listen())
        await running.wait()
        made.set_ssh(is_open=False, drop=True)
        await parts.until(lambda: not reached.connection.is_up)
        made.set_ssh(is_open=True)
        await reached.run("touch /go", timeout_s=20)
        last = await listening
    terminated = last.containers[0].terminated
    assert terminated is not None
    assert terminated.exit_code == 5
    assert numbers == sorted(set(numbers))


async def test_it_is_asked_beside_its_states_and_without_them(yard: parts.Yard) -> None:
    on = ready(await yard.reach(await yard.boot()))
    mounts = (documents.Mount("conf", "/etc/conf"),)
    launch = a_launch("trap 'exit 9' TERM; while :; do sleep 0.05; done", mounts=mounts)
    launch = msgspec.structs.replace(launch, volumes=(documents.Volume("conf"),))
    await on.start(launch, {"conf": [files.File("a", b"one", 0o444)]})
    await _runs(on)
    apart = await on.usage()
    assert [usage.name for usage in apart.containers] == ["main"]
    told = on.states()
    await heard(told, lambda state: state.containers[0].running is not None)

    async def to_the_end() -> documents.State:
        return await heard(told, lambda state: state.ended)

    ending = asyncio.create_task(to_the_end())
    assert (await on.usage()).containers[0].memory_bytes > 0
    await on.update("conf", [files.File("a", b"two", 0o444), files.File("sub/b", b"three")])
    async with await on.execute("main", ["sh", "-c", "cat /etc/conf/a /etc/conf/sub/b; exit 4"]) as process:
        assert await _everything(process) == b"twothree"
        assert await process.wait() == processes.Exit(4)
    await on.stop(grace_s=3)
    last = await ending
    terminated = last.containers[0].terminated
    assert terminated is not None
    assert terminated.exit_code == 9


async def _runs(on: runner.Runner) -> None:
    """Once the pod's container does; nothing follows it afterwards."""
    async with contextlib.aclosing(on.states()) as told:
        await heard(told, lambda state: state.containers[0].running is not None)


async def test_a_machine_without_a_pod_says_so(yard: parts.Yard) -> None:
    on = ready(await yard.reach(await yard.boot()))
    await on.prepare()
    with pytest.raises(runner.NothingHere):
        await heard(on.states(), lambda state: True)
    with pytest.raises(failures.RemoteFailed):
        await on.stop()


async def test_it_runs_where_there_is_nothing_but_busybox(yard: parts.Yard) -> None:
    on = ready(await yard.reach(await yard.boot("busybox", sftp=False)))
    await on.start(a_launch("exit 6"))
    last = await heard(on.states(), lambda state: state.ended)
    terminated = last.containers[0].terminated
    assert terminated is not None
    assert terminated.exit_code == 6


async def _everything(process: processes.Process) -> bytes:
    parts_of = []
    while data := await process.read_stdout():
        parts_of.append(data)
    return b"".join(parts_of)
