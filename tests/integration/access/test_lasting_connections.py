"""One connection through what happens to it: drops, late keys, other hosts behind an address, dead servers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.integration.access import conftest as parts

from bareboat.access import connections, failures, handshakes, host_keys, keys, machine, processes
from bareboat.plumbing import clock as clocks
from bareboat.simulation.machines import machine as machines
from bareboat.simulation.machines import plans


async def test_it_comes_back_by_itself_after_a_drop_and_says_what_broke(yard: parts.Yard) -> None:
    made = await yard.boot()
    reached = await yard.reach(made)
    process = await reached.start("echo up; sleep 0.1; echo alive >> /root/trace; exec sleep 1000")
    assert await process.read_line() == b"up\n"
    waiting = asyncio.create_task(process.wait())
    made.set_ssh(is_open=True, drop=True)
    with pytest.raises(failures.Dropped, match="before the command's end was known"):
        await waiting
    await reached.connection.ready(parts.DEADLINE_S)
    assert reached.connection.problem is None
    async with asyncio.timeout(parts.DEADLINE_S):
        while (await reached.run("cat /root/trace", timeout_s=20)).stdout != b"alive\n":  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_server_that_is_not_up_yet_is_waited_for(yard: parts.Yard) -> None:
    made = await yard.boot(opens_after_s=1.0)
    way = yard.way_to(made)
    with pytest.raises(failures.Unreachable, match=r"127\.0\.0\.1:"):
        await way.ready(0.3)
    assert not way.is_up
    made.set_ssh(is_open=True)
    await way.ready(parts.DEADLINE_S)


async def test_a_key_that_is_on_its_way_is_waited_for_and_refused_meanwhile(yard: parts.Yard) -> None:
    made = await yard.boot(authorized_keys=[])
    way = yard.way_to(made)
    with pytest.raises(failures.KeyRefused, match="takes none of our keys"):
        await way.ready(0.5)
    line = machines.File(f"{yard.rings[-1].current.public}\n".encode(), 0o600)
    made.write_files({plans.AUTHORIZED_KEYS: line}, append=True)
    await way.ready(parts.DEADLINE_S)


async def test_a_rotated_key_opens_new_machines_and_the_one_before_it_older_ones(yard: parts.Yard) -> None:
    old = await yard.boot()
    yard.rings.append(yard.rings[-1].rotated(keys.make()))
    new = await yard.boot()
    for made in (old, new):
        await yard.way_to(made).ready(parts.DEADLINE_S)
    yard.rings.append(keys.Ring(yard.rings[-1].current))
    with pytest.raises(failures.KeyRefused):
        await yard.way_to(old).ready(0.5)


async def test_another_host_key_is_refused_until_the_pin_is_removed(yard: parts.Yard) -> None:
    made = await yard.boot()
    way = yard.way_to(made, instance_id="i-pinned")
    await way.ready(parts.DEADLINE_S)
    pinned = yard.pins.of("i-pinned")
    made.write_files({plans.SSH_HOST_KEY: machines.File(parts.a_host_key().encode(), 0o600)})
    made.set_ssh(is_open=True, drop=True)
    await parts.until(lambda: isinstance(way.problem, failures.HostKeyChanged))
    assert not way.is_up
    with pytest.raises(failures.HostKeyChanged, match="has changed: it was SHA256:"):
        await way.ready(parts.DEADLINE_S)
    assert yard.pins.of("i-pinned") == pinned
    yard.pins.forget("i-pinned")
    await parts.until(lambda: way.is_up)
    assert yard.pins.of("i-pinned") != pinned


async def test_a_pin_from_before_a_restart_holds(yard: parts.Yard) -> None:
    good, other = await yard.boot(), await yard.boot()
    way = yard.way_to(good, instance_id="i-1")
    await way.ready(parts.DEADLINE_S)
    note = yard.pins.of("i-1")
    assert note is not None
    pins = host_keys.Pins()
    pins.pin("i-1", note)
    async with connections.Connections(lambda: yard.rings[-1], clocks.SystemClock(), pins=pins) as known:
        again = known.open("i-1", [parts.address_of(other)])
        with pytest.raises(failures.HostKeyChanged):
            await again.ready(parts.DEADLINE_S)
        again.follow([parts.address_of(good)])
        await parts.until(lambda: again.is_up)


async def test_who_answers_at_an_old_address_does_not_hide_the_machine_at_the_next(yard: parts.Yard) -> None:
    stranger, made = await yard.boot(), await yard.boot()
    way = yard.way_to(made, instance_id="i-1")
    await way.ready(parts.DEADLINE_S)
    way.follow([parts.address_of(stranger), parts.address_of(made)])
    made.set_ssh(is_open=True, drop=True)
    await parts.until(lambda: not way.is_up)
    connection = await way.ready(parts.DEADLINE_S)
    assert connection.get_extra_info("peername")[1] == made.host_ports[22, "tcp"]


async def test_the_second_address_is_used_when_the_first_is_dead_and_remembered(yard: parts.Yard) -> None:
    made = await yard.boot()
    with closed_port() as port:
        dead = connections.Address("127.0.0.1", port)
        way = yard.known.open("i-1", [dead, parts.address_of(made)])
        await way.ready(parts.DEADLINE_S)
        assert way.address == parts.address_of(made)


async def test_a_machine_that_moves_is_followed(yard: parts.Yard) -> None:
    made = await yard.boot()
    with closed_port() as port:
        way = yard.known.open("i-1", [connections.Address("127.0.0.1", port)])
        await parts.until(lambda: way.problem is not None)
        way.follow([parts.address_of(made)])
        await way.ready(parts.DEADLINE_S)


async def test_a_peer_that_falls_silent_is_given_up_and_found_again(yard: parts.Yard) -> None:
    made = await yard.boot()
    async with silenceable(made.host_ports[22, "tcp"]) as (port, silence):
        way = yard.known.open("i-1", [connections.Address("127.0.0.1", port)])
        first = await way.ready(parts.DEADLINE_S)
        silence.set()
        await parts.until(lambda: not way.is_up)
        silence.clear()
        assert await way.ready(parts.DEADLINE_S) is not first


async def test_a_port_that_speaks_no_ssh_or_nothing_at_all_is_unreachable(yard: parts.Yard) -> None:
    async def chatter(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    settings = handshakes.Settings(timeout_s=0.5)
    for server, said in ((chatter, "no ssh server at"), (mute, r"within 0\.5 s")):
        async with await asyncio.start_server(server, "127.0.0.1", 0) as serving:
            address = connections.Address("127.0.0.1", serving.sockets[0].getsockname()[1])
            with pytest.raises(failures.Unreachable, match=said):
                await handshakes.log_in("i-1", address, yard.rings[-1], None, lambda client: None, settings)


async def test_closing_ends_waiting_commands_and_leaves_no_task_nor_pin(yard: parts.Yard) -> None:
    reached = await yard.reach(await yard.boot())
    process = await reached.start("exec sleep 1000")
    waiting = asyncio.create_task(process.wait())
    reading = asyncio.create_task(process.read_stdout())
    await reached.connection.close()
    with pytest.raises(failures.Dropped):
        await waiting
    with contextlib.suppress(failures.Dropped):
        assert await reading == b""
    assert parts.ssh_tasks() == []
    assert yard.pins.of(reached.instance_id) is None
    assert yard.known.find(reached.instance_id) is None
    with pytest.raises(failures.Gone):
        await reached.run("true", timeout_s=5)
    await reached.connection.close()


async def test_a_machine_that_ends_breaks_what_runs_and_refuses_from_then_on(yard: parts.Yard) -> None:
    made = await yard.boot()
    reached: machine.Machine = await yard.reach(made)
    process = await reached.start("exec sleep 1000", terminal=processes.Terminal())
    await made.kill()
    with pytest.raises(failures.Dropped):
        await process.wait()
    with pytest.raises(failures.Unreachable):
        await reached.connection.ready(0.5)


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections for as long as it is open here."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextlib.asynccontextmanager
async def silenceable(to: int) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A relay that holds all bytes back, of old and new connections, while the event is set."""
    silent = asyncio.Event()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            while silent.is_set():  # noqa: ASYNC110 - the end of silence is what is waited for
                await asyncio.sleep(0.01)
            writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", to)
        with contextlib.suppress(OSError):
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
        for end in (writer, inner_writer):
            end.close()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as serving:
        yield serving.sockets[0].getsockname()[1], silent
