"""Round trips measured over real sockets on loopback."""

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest
from tests.unit.core import offering

from bareboat.core import criteria, matching, needs, scoring
from bareboat.fleet import broker, latency
from bareboat.plumbing import clock as clocks

SELECTION = broker.Selection(criteria.Criteria(), scoring.Weights())
WANTED = needs.Needs()


@pytest.fixture
def open_port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A listener whose queue is full: the kernel drops what comes after, as a firewall would."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            yield address[1]
        finally:
            for filler in fillers:
                filler.close()


async def test_an_open_port_tells_the_round_trip(open_port: int) -> None:
    times = latency.Latencies(clocks.ManualClock(), ports=(open_port,), patience_s=30)
    await times.measure(["127.0.0.1"])
    assert 0 < times.known()["127.0.0.1"] < 300


async def test_a_busy_process_does_not_make_a_machine_look_far(open_port: int) -> None:
    times = latency.Latencies(clocks.ManualClock(), ports=(open_port,), patience_s=30)
    measuring = asyncio.create_task(times.measure(["127.0.0.1"]))
    for _ in range(6):
        await asyncio.sleep(0)
        time.sleep(0.06)  # noqa: ASYNC251 - the loop is held up on purpose
    await measuring
    assert times.known()["127.0.0.1"] < 30


async def test_a_closed_port_tells_it_as_well(closed_port: int) -> None:
    times = latency.Latencies(clocks.ManualClock(), ports=(closed_port,), patience_s=30)
    await times.measure(["127.0.0.1"])
    assert 0 < times.known()["127.0.0.1"] < 300


async def test_one_port_that_answers_is_enough(silent_port: int, open_port: int) -> None:
    times = latency.Latencies(clocks.ManualClock(), ports=(silent_port, open_port), patience_s=30)
    await times.measure(["127.0.0.1"])
    assert "127.0.0.1" in times.known()


async def test_a_silent_machine_stays_unknown_and_costs_the_patience_once(silent_port: int) -> None:
    times = latency.Latencies(clocks.ManualClock(), ports=(silent_port,), patience_s=0.1)
    start_s = time.monotonic()
    await times.measure(["127.0.0.1"])
    assert 0.1 <= time.monotonic() - start_s < 5
    assert times.known() == {}
    async with asyncio.timeout(0.09):
        await times.measure(["127.0.0.1"])


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "169.254.169.254", "192.168.1.1", "fd00::1", "host.example", "", "x y"]
)
async def test_addresses_inside_the_cluster_and_nonsense_are_never_dialled(address: str) -> None:
    times = latency.Latencies(clocks.ManualClock(), patience_s=30)
    async with asyncio.timeout(5):
        await times.measure([address])
    assert times.known() == {}


async def test_a_measurement_is_made_again_when_it_is_old(open_port: int) -> None:
    clock = clocks.ManualClock()
    times = latency.Latencies(clock, ports=(open_port,), fresh_s=100, patience_s=30)
    await times.measure(["127.0.0.1"])
    await clock.advance(101)
    assert times.known() == {}
    await times.measure(["127.0.0.1"])
    assert "127.0.0.1" in times.known()


async def test_only_the_best_candidates_are_dialled(open_port: int) -> None:
    several = [offering.an_offer(id=str(n), usd_per_hour=0.1 + n, address=f"127.0.0.{n + 1}") for n in range(5)]
    several.append(offering.an_offer(id="9", usd_per_hour=0.01, verified=False, address="127.0.0.99"))
    times = latency.Latencies(clocks.ManualClock(), ports=(open_port,), candidates=2, patience_s=30)
    now = await times(several, WANTED, SELECTION, matching.Situation(now_s=7.0))
    assert now.now_s == 7.0
    assert set(now.latencies_ms or {}) == {"127.0.0.1", "127.0.0.2"}


async def test_a_machine_found_too_far_is_out_and_says_so() -> None:
    several = [offering.an_offer(id="1", address="127.0.0.1")]
    rules = criteria.Criteria(max_latency_ms=50)
    now = matching.Situation(latencies_ms={"127.0.0.1": 80.0})
    assert [str(reason) for reason in matching.check(several[0], WANTED, rules, now)] == ["latency 50 ms, found 80 ms"]


async def test_nothing_is_dialled_when_the_check_is_off() -> None:
    times = latency.Latencies(clocks.ManualClock(), ports=(1,))
    off = broker.Selection(criteria.Criteria(latency_check=False), scoring.Weights())
    before = matching.Situation()
    assert await times([offering.an_offer(address="127.0.0.1")], WANTED, off, before) is before


async def test_a_cancelled_measurement_leaves_no_socket_and_no_task(silent_port: int) -> None:
    times = latency.Latencies(clocks.ManualClock(), ports=(silent_port,), patience_s=30)
    measuring = asyncio.create_task(times.measure(["127.0.0.1"]))
    async with asyncio.timeout(10):
        while len(asyncio.all_tasks()) < 4:  # noqa: ASYNC110 - nobody announces a task
            await asyncio.sleep(0)
    measuring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await measuring
    assert asyncio.all_tasks() == {asyncio.current_task()}
