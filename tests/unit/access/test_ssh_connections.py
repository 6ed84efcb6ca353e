"""The owner of a connection by itself: pauses on an injected clock, limits, sessions, and nothing left behind."""

import asyncio
import socket

import asyncssh
import pytest
from tests.unit.access import conftest as parts

from bareboat.access import connections, failures, handshakes, host_keys, keys, machine
from bareboat.plumbing import clock as clocks

DEAD = connections.Address("127.0.0.1", 1)
SETTINGS = connections.Settings(first_pause_s=1.0, longest_pause_s=30.0)


async def _settled(clock: clocks.ManualClock) -> None:
    """The owner has made its tries and waits for the clock."""
    await parts.until(lambda: clock.sleeping > 0)


async def test_tries_become_rarer_and_a_change_of_address_is_tried_at_once(
    ring: keys.Ring, server: parts.Server
) -> None:
    clock = clocks.ManualClock()
    server.refusing = True
    async with connections.Connections(lambda: ring, clock, settings=SETTINGS) as known:
        way = known.open("i-1", [DEAD])
        tries = []
        for _ in range(4):
            await _settled(clock)
            before_s = clock.monotonic_s()
            problem = way.problem
            while way.problem is problem:
                await clock.advance(0.25)
                await asyncio.sleep(0.005)
            tries.append(clock.monotonic_s() - before_s)
        assert tries == sorted(tries)
        assert tries[0] <= 1.5
        assert tries[-1] >= 5
        server.refusing = False
        now_s = clock.monotonic_s()
        await _settled(clock)
        way.follow([server.address])
        await way.ready(5)
        assert clock.monotonic_s() == now_s


async def test_waiting_ends_with_what_stands_in_the_way(ring: keys.Ring, server: parts.Server) -> None:
    other = keys.Ring(keys.make())
    async with connections.Connections(lambda: other, clocks.ManualClock(), settings=SETTINGS) as known:
        refused = known.open("i-1", [server.address, DEAD])
        unreachable = known.open("i-2", [DEAD])
        nowhere = known.open("i-3", [])
        for way in (refused, unreachable, nowhere):
            await parts.until(lambda way=way: way.problem is not None)
        with pytest.raises(failures.KeyRefused):
            await refused.ready(0)
        with pytest.raises(failures.Unreachable, match=r"127\.0\.0\.1:1: "):
            await unreachable.ready(0)
        with pytest.raises(failures.Unreachable, match="no ssh address is known"):
            await nowhere.ready(0)


async def test_whoever_waits_hears_of_the_end_at_once(ring: keys.Ring) -> None:
    async with connections.Connections(lambda: ring, clocks.ManualClock(), settings=SETTINGS) as known:
        way = known.open("i-1", [DEAD])
        waiting = asyncio.create_task(way.ready(1e9))
        await parts.until(lambda: way.problem is not None)
        await way.close()
        with pytest.raises(failures.Gone):
            await waiting
        assert known.find("i-1") is None


async def test_a_second_open_is_the_same_connection_with_newer_addresses(ring: keys.Ring, server: parts.Server) -> None:
    async with connections.Connections(lambda: ring, clocks.ManualClock(), settings=SETTINGS) as known:
        way = known.open("i-1", [DEAD])
        assert known.open("i-1", [server.address]) is way
        await way.ready(1e9)
        assert server.logins == 1


async def test_logins_at_once_are_bounded(ring: keys.Ring, server: parts.Server) -> None:
    most = 0
    settings = connections.Settings(logins_at_once=3)
    async with connections.Connections(lambda: ring, clocks.SystemClock(), settings=settings) as known:
        ways = [known.open(f"i-{number}", [server.address]) for number in range(20)]
        while not all(way.is_up for way in ways):
            most = max(most, 3 - known.gate._value)
            await asyncio.sleep(0)
    assert most == 3


async def test_sessions_over_the_limit_open_a_second_connection_which_ends_with_its_last(
    ring: keys.Ring, server: parts.Server
) -> None:
    server.most_sessions = 2
    async with connections.Connections(lambda: ring, clocks.SystemClock()) as known:
        way = known.open("i-1", [server.address])
        reached = machine.Machine(way)
        held = [await reached.start("hold") for _ in range(5)]
        assert way.links == 3
        for process in held:
            process.end_input()
            assert (await process.wait()).code == 0
        await parts.until(lambda: way.links == 1)
        assert way.is_up


async def test_a_server_without_any_session_is_told_as_such(ring: keys.Ring, server: parts.Server) -> None:
    server.most_sessions = 0
    async with connections.Connections(lambda: ring, clocks.SystemClock()) as known:
        reached = machine.Machine(known.open("i-1", [server.address]))
        with pytest.raises(failures.RemoteFailed, match="opens no session"):
            await reached.start("hold")


async def test_thirty_connections_leave_no_task_behind(ring: keys.Ring, server: parts.Server) -> None:
    before = asyncio.all_tasks()
    async with connections.Connections(lambda: ring, clocks.SystemClock()) as known:
        ways = [known.open(f"i-{number}", [server.address]) for number in range(30)]
        await asyncio.gather(*(way.ready(10) for way in ways[:20]))
        await asyncio.gather(*(way.close() for way in ways[10:]))
        await asyncio.gather(*(machine.Machine(way).start("hold") for way in ways[:10]))
    # Those of the server in this process end a moment later.
    await parts.until(lambda: asyncio.all_tasks() == before)


async def test_a_port_that_swallows_everything_does_not_hold_up_the_next_address(
    ring: keys.Ring, server: parts.Server
) -> None:
    settings = connections.Settings(login=handshakes.Settings(timeout_s=60.0, dial_s=0.2))
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        swallowing = connections.Address("127.0.0.1", full.getsockname()[1])
        with pytest.raises(failures.Unreachable, match=r"nothing answers at 127\.0\.0\.1:\d+ within 0\.2 s"):
            await handshakes.log_in("i-1", swallowing, ring, None, lambda client: None, settings.login)
        async with connections.Connections(lambda: ring, clocks.SystemClock(), settings=settings) as known:
            way = known.open("i-1", [swallowing, server.address])
            await way.ready(10)
            assert way.address == server.address


async def test_a_name_without_an_address_is_unreachable(ring: keys.Ring) -> None:
    address = connections.Address("nowhere.invalid", 22)
    with pytest.raises(failures.Unreachable, match=r"nowhere\.invalid:22"):
        await handshakes.log_in("i-1", address, ring, None, lambda client: None, handshakes.Settings())


async def test_a_host_key_of_another_type_is_a_changed_one(ring: keys.Ring, server: parts.Server) -> None:
    pinned = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
    pins = host_keys.Pins()
    pins.pin("i-1", pinned)
    async with connections.Connections(lambda: ring, clocks.ManualClock(), pins=pins) as known:
        with pytest.raises(failures.HostKeyChanged, match="of another type"):
            await known.open("i-1", [server.address]).ready(1e9)


async def test_closing_in_the_middle_of_a_login_hangs_up(ring: keys.Ring) -> None:
    heard, over = asyncio.Event(), asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set()
        await reader.read()
        over.set()
        writer.close()

    async with (
        await asyncio.start_server(mute, "127.0.0.1", 0) as serving,
        connections.Connections(lambda: ring, clocks.ManualClock()) as known,
        asyncio.timeout(10),
    ):
        address = connections.Address("127.0.0.1", serving.sockets[0].getsockname()[1])
        way = known.open("i-1", [address])
        await heard.wait()
        await way.close()
        await over.wait()


async def test_work_at_each_connection_is_done_before_it_counts_as_up_and_again_after_a_drop(
    ring: keys.Ring, server: parts.Server
) -> None:
    done: list[bool] = []
    settings = connections.Settings(first_pause_s=0.01)
    async with connections.Connections(lambda: ring, clocks.SystemClock(), settings=settings) as known:
        way = known.open("i-1", [server.address])

        async def work(connection: object) -> None:
            done.append(way.is_up)

        stop = way.each_time(work)
        await way.ready(10)
        server.drop()
        await parts.until(lambda: len(done) == 2 and way.is_up)
        stop()
        server.drop()
        await parts.until(lambda: not way.is_up)
        await way.ready(10)
    assert done == [False, False]
