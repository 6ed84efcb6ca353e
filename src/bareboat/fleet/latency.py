"""Measures the round trip to the likeliest machines before one is chosen. Bounded in number and time; remembered.

A TCP handshake is timed; a refused one is as good, so no port has to be open. A machine that stays silent (firewalls
drop what they don't know) is of unknown latency and loses nothing for it.
"""

import asyncio
import ipaddress
import socket
import struct
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bareboat.core import matching, needs, offers, ranking
from bareboat.fleet import broker
from bareboat.plumbing import clock as clocks

PORTS = (22, 443)
PATIENCE_S = 0.3
"""Longer than light takes twice around half the planet; what takes longer is of no use anyway."""
FRESH_S = 900.0
MOST_REMEMBERED = 5000
REFUSALS = 3
TCP_INFO_BYTES = 72


@dataclass(frozen=True, slots=True)
class _Measured:
    """`round_trip_ms` is None for an address that stayed silent."""

    round_trip_ms: float | None
    at_s: float


class Latencies:
    """Round trips by address. One for all workloads of an installation."""

    def __init__(
        self,
        clock: clocks.Clock,
        *,
        candidates: int = 16,
        at_once: int = 32,
        patience_s: float = PATIENCE_S,
        fresh_s: float = FRESH_S,
        ports: Sequence[int] = PORTS,
    ) -> None:
        self._clock = clock
        self._candidates = candidates
        self._slots = asyncio.Semaphore(at_once)
        self._patience_s = patience_s
        self._fresh_s = fresh_s
        self._ports = tuple(ports)
        self._known: dict[str, _Measured] = {}

    async def __call__(
        self,
        several: Sequence[offers.Offer],
        wanted: needs.Needs,
        selection: broker.Selection,
        situation: matching.Situation,
    ) -> matching.Situation:
        """The situation with the round trips of the best candidates in, as they rank without. Takes as long as the
        patience at most, nothing when all are known; never raises for want of an answer."""
        if not selection.rules.latency_check:
            return situation
        before = ranking.rank(several, wanted, selection.rules, selection.weights, situation, top=self._candidates)
        addresses = {scored.offer.address for scored in before.ranked if scored.offer.address}
        await self.measure(addresses)
        known = self.known()
        return replace(situation, latencies_ms={**(situation.latencies_ms or {}), **known})

    def known(self) -> dict[str, float]:
        """What was measured lately, by address, in ms."""
        oldest_s = self._clock.monotonic_s() - self._fresh_s
        return {
            address: measured.round_trip_ms
            for address, measured in self._known.items()
            if measured.round_trip_ms is not None and measured.at_s >= oldest_s
        }

    async def measure(self, addresses: Iterable[str]) -> None:
        """All that are not known yet, in parallel. Addresses that are not public are never dialled (a cloud's answer
        must not make us probe the cluster's own network), except loopback, where simulated machines are."""
        now_s = self._clock.monotonic_s()
        old = {address for address, measured in self._known.items() if now_s - measured.at_s > self._fresh_s}
        for address in old if len(self._known) > MOST_REMEMBERED else ():
            del self._known[address]
        ask = [address for address in addresses if address not in self._known or address in old]
        async with asyncio.TaskGroup() as group:
            for address in ask:
                group.create_task(self._measure(address, now_s), name=f"latency.{address}")

    async def _measure(self, address: str, now_s: float) -> None:
        round_trip_ms = None
        if _may_be_dialled(address):
            async with self._slots:
                round_trip_ms = await self._round_trip(address)
        self._known[address] = _Measured(round_trip_ms, now_s)

    async def _round_trip(self, address: str) -> float | None:
        """The first answer of any port, in ms."""
        tries = [asyncio.create_task(_handshake(address, port), name=f"latency.{address}") for port in self._ports]
        try:
            async with asyncio.timeout(self._patience_s):
                for answer in asyncio.as_completed(tries):
                    round_trip_ms = await answer
                    if round_trip_ms is not None:
                        return round_trip_ms
        except TimeoutError:
            pass
        finally:
            for each in tries:
                each.cancel()
            await asyncio.gather(*tries, return_exceptions=True)
        return None


def _may_be_dialled(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.is_global or parsed.is_loopback


async def _handshake(address: str, port: int) -> float | None:
    """In ms; None when the network has no way there."""
    best_ms: float | None = None
    for _ in range(REFUSALS):
        answer = await _connect(address, port)
        if answer is None:
            return best_ms
        round_trip_ms, established = answer
        if established:
            return round_trip_ms
        # A refusal is timed by this process, which may have been busy: the shortest of a few is the network's.
        best_ms = round_trip_ms if best_ms is None else min(best_ms, round_trip_ms)
    return best_ms


async def _connect(address: str, port: int) -> tuple[float, bool] | None:
    """(ms, whether the port is open)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as dialled:
        dialled.setblocking(False)
        # The network's own time, whatever clock the rest of the program runs on.
        start_s = time.perf_counter()
        try:
            await asyncio.get_running_loop().sock_connect(dialled, (address, port))
        except ConnectionRefusedError:
            return (time.perf_counter() - start_s) * 1000, False
        except OSError:
            return None
        timed_ms = (time.perf_counter() - start_s) * 1000
        kernel_ms = _kernel_round_trip_ms(dialled)
        return (timed_ms if kernel_ms is None else min(timed_ms, kernel_ms)), True


def _kernel_round_trip_ms(connected: socket.socket) -> float | None:
    """What the kernel measured for the handshake (tcpi_rtt in `struct tcp_info`), which a busy process can't blur."""
    option = getattr(socket, "TCP_INFO", None)
    if option is None or not sys.platform.startswith("linux"):
        return None
    told = connected.getsockopt(socket.IPPROTO_TCP, option, TCP_INFO_BYTES)
    if len(told) < TCP_INFO_BYTES:
        return None
    (round_trip_us,) = struct.unpack_from("=I", told, TCP_INFO_BYTES - 4)
    return round_trip_us / 1000 if round_trip_us else None
