"""Machines with an ssh server, and connections to them as the product makes them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import asyncssh
import pytest

from bareboat.access import connections, handshakes, host_keys, keys, machine
from bareboat.plumbing import clock as clocks
from bareboat.simulation import images
from bareboat.simulation.machines import forked
from bareboat.simulation.machines import machine as machines

DEADLINE_S = 30.0
FOREVER = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"
LOGIN = handshakes.Settings(timeout_s=10.0, keepalive_s=2.0, keepalive_misses=2)
SETTINGS = connections.Settings(first_pause_s=0.05, longest_pause_s=0.5, settled_s=0.5, login=LOGIN)


def a_host_key() -> str:
    return asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()


@dataclass
class Yard:
    """Machines, our ring of keys, and what knows the way to them."""

    park: forked.ForkedMachines
    known: connections.Connections
    pins: host_keys.Pins
    rings: list[keys.Ring]
    _made: int = field(default=0)

    async def boot(self, image: str = "debian", **ssh: object) -> machines.Machine:
        found = images.Catalog().resolve(image)
        assert isinstance(found, images.Image)
        told: dict[str, object] = {"host_key": a_host_key(), "authorized_keys": [self.rings[-1].current.public]}
        server = machines.Ssh(**(told | ssh))  # type: ignore[arg-type]
        return await self.park.start(
            machines.MachineSpec(image=found, entrypoint=["sh", "-c", FOREVER], ssh=server, memory_mib=2048)
        )

    def way_to(self, *made: machines.Machine, instance_id: str = "") -> connections.Connection:
        """A connection with the machines' addresses as candidates."""
        self._made += 1
        return self.known.open(instance_id or f"i-{self._made}", [address_of(each) for each in made])

    async def reach(self, made: machines.Machine) -> machine.Machine:
        way = self.way_to(made)
        await way.ready(DEADLINE_S)
        return machine.Machine(way, patience_s=DEADLINE_S)


def address_of(made: machines.Machine) -> connections.Address:
    return connections.Address("127.0.0.1", made.host_ports[22, "tcp"])


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110 - what is waited for lies in other processes
            await asyncio.sleep(0.01)


def ssh_tasks() -> list[str]:
    """Names of tasks that a connection has."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("ssh.")]


@pytest.fixture
async def yard() -> AsyncIterator[Yard]:
    rings = [keys.Ring(keys.make())]
    pins = host_keys.Pins()
    async with (
        forked.ForkedMachines() as park,
        connections.Connections(lambda: rings[-1], clocks.SystemClock(), pins=pins, settings=SETTINGS) as known,
    ):
        yield Yard(park, known, pins, rings)
    assert ssh_tasks() == []
