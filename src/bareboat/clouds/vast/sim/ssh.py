"""Ssh of the ssh and jupyter modes: the server that a machine gets, keys on their way into it, and Vast's ssh proxies.

Directly the server is reached on the port that is mapped to 22; through a proxy, whose port is known from the create
on, by bytes relayed here. Without real machines there is nothing to reach, and addresses are made up.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from bareboat.simulation import hosting, rentals
from bareboat.simulation.machines import machine as machines
from bareboat.simulation.machines import plans

if TYPE_CHECKING:
    from bareboat.clouds.vast.sim import simulator

PORT: machines.Port = (22, "tcp")
BANNER = (
    "Welcome to vast.ai. If authentication fails, try again after a few seconds, and double check your ssh key.\n"
    "Have fun!\n"
)
MOTD = "=== Simulated instance. Data outside of /workspace is not kept. ===\n\n"
_CHUNK_BYTES = 1 << 18


def has_ssh(runtype: str) -> bool:
    return "ssh" in runtype or "jupyter" in runtype


def is_direct(runtype: str) -> bool:
    """Whether port 22 is mapped, besides the proxy."""
    return "direc" in runtype


def new_host_key() -> str:
    key = ed25519.Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.OpenSSH
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


class Ssh:
    def __init__(self, sim: "simulator.Simulator") -> None:
        self._sim = sim
        self._tasks: asyncio.TaskGroup | None = None
        self._proxies: dict[int, socket.socket] = {}
        self._relays: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self, *, really: bool) -> AsyncIterator[None]:
        """Proxies serve for as long as it is open, if machines really run."""
        if not really:
            yield
            return
        async with hosting.Crew() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                self._tasks = None
                for rental_id in list(self._proxies):
                    self._close(rental_id)
                for task in tuple(self._relays):
                    task.cancel()

    # -- what a machine gets

    def server(self, rental: rentals.Rental) -> machines.Ssh:
        """The server of one boot: keys of the account and of the instance are there from its start."""
        switches, terms, now_s = self._sim.switches, rental.terms, self._sim.estate.present_s
        keys = [key["public_key"] for key in (*self._sim.account.ssh_keys, *terms.ssh_keys)]
        late = self._sim.estate.faults.strikes("ssh_late", now_s, rental.subject())
        opens_after_s = switches.ssh_delay_s
        if late is not None:
            opens_after_s += 1e12 if late.chance("never") else late.number("for_s")
        return machines.Ssh(
            host_key=terms.host_key,
            authorized_keys=keys,
            opens_after_s=opens_after_s,
            sftp=switches.ssh_sftp,
            banner=BANNER if switches.ssh_noise else "",
            motd=MOTD if switches.ssh_noise else "",
            tmux=switches.ssh_noise,
            max_sessions=switches.ssh_max_sessions,
        )

    def spread(self, rental: rentals.Rental, public_key: str) -> None:
        """A key that was attached to a running instance gets there a while later."""
        due_s = self._sim.estate.now() + self._sim.switches.ssh_key_delay_s
        line = machines.File(f"{public_key.strip()}\n".encode(), 0o600)
        self._sim.estate.later(due_s, lambda at_s: self._lay(rental, {plans.AUTHORIZED_KEYS: line}, append=True))

    def drop(self, rental: rentals.Rental) -> None:
        """Every connection of the instance breaks; its server answers anew."""
        machine = self._machine(rental)
        if machine is not None:
            machine.set_ssh(is_open=True, drop=True)

    def change_host_key(self, rental: rentals.Rental) -> None:
        """As a container that was made anew has it."""
        rental.terms.host_key = new_host_key()
        self._lay(rental, {plans.SSH_HOST_KEY: machines.File(rental.terms.host_key.encode(), 0o600)})
        self.drop(rental)

    def _lay(self, rental: rentals.Rental, files: dict[str, machines.File], *, append: bool = False) -> None:
        machine = self._machine(rental)
        if machine is not None:
            machine.write_files(files, append=append)

    def _machine(self, rental: rentals.Rental) -> machines.Machine | None:
        hosted = self._sim.estate.hosting
        return None if hosted is None else hosted.machine(rental.id)

    # -- the proxy

    def address(self, rental: rentals.Rental) -> tuple[str, int]:
        """Host and port of the instance's proxy, as its record shows them."""
        number = rental.host.machine_id % 9 + 1
        proxy = self._proxies.get(rental.id)
        if proxy is None:
            return f"ssh{number}.vast.ai", 10_000 + rental.id % 40_000
        host = "127.0.0.1" if self._sim.switches.public_ip == "loopback" else f"ssh{number}.vast.ai"
        return host, int(proxy.getsockname()[1])

    def open_proxy(self, rental: rentals.Rental) -> None:
        """Listens from the create on, long before there is anything to connect to."""
        if self._tasks is None or not has_ssh(rental.terms.runtype):
            return
        alive = {each.id for each in self._sim.estate.live()}
        for gone in [rental_id for rental_id in self._proxies if rental_id not in alive]:
            self._close(gone)
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        listener.setblocking(False)
        self._proxies[rental.id] = listener
        subject = rental.subject()
        broken = self._sim.estate.faults.strikes("ssh_proxy_broken", rental.created_s, subject) is not None
        asyncio.get_running_loop().add_reader(listener, self._accept, rental, listener, broken)

    def _close(self, rental_id: int) -> None:
        listener = self._proxies.pop(rental_id)
        asyncio.get_running_loop().remove_reader(listener)
        listener.close()

    def _accept(self, rental: rentals.Rental, listener: socket.socket, broken: bool) -> None:
        with contextlib.suppress(OSError):
            caller, _ = listener.accept()
            port = self._sim.estate.ports(rental).get(PORT)
            if broken or self._tasks is None or port is None or rental.is_gone(self._sim.estate.present_s):
                caller.close()
                return
            task = self._tasks.create_task(_relay(caller, port), name=f"vast.sim.ssh.{rental.id}")
            self._relays.add(task)
            task.add_done_callback(self._relays.discard)


async def _relay(caller: socket.socket, port: int) -> None:
    with contextlib.ExitStack() as closing:
        closing.callback(caller.close)
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(sock=caller, limit=_CHUNK_BYTES)
            closing.callback(writer.transport.abort)
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port, limit=_CHUNK_BYTES)
            closing.callback(inner_writer.transport.abort)
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
