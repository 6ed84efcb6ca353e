"""Real machines behind rentals: one task per machine starts it at its time, follows its end and removes it. Without
machines rentals are data alone, which is what benchmarks want."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Protocol

import structlog

from bareboat.plumbing import clock as clocks
from bareboat.simulation import images, rentals
from bareboat.simulation.machines import machine as machines

GB_PER_GIB = 1.073741824

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked to run, in docker's words, and on which terms. `terms` is the front's own; the engine keeps it."""

    image: str
    label: str | None = None
    login: images.Login | None = None
    entrypoint: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    env: Callable[[int], Mapping[str, str]] = lambda rental_id: {}
    env_of_ports: Callable[[Mapping[machines.Port, int]], Mapping[str, str]] = lambda ports: {}
    ports: tuple[machines.Port, ...] = ()
    disk_gb: float = 10.0
    bid_usd_per_hour: float | None = None
    user: str | None = None
    hostname: str | None = None
    wants_running: bool = True
    restarts: bool = False
    ssh: Callable[[rentals.Rental], machines.Ssh] | None = None
    terms: object = None


def spec(rental: rentals.Rental, order: Order, image: images.Image) -> machines.MachineSpec:
    """What the rental's machine is to run, on the hardware that was rented."""
    host = rental.host
    gpu = machines.GpuSpec(
        name=host.gpu.name,
        count=rental.gpus,
        memory_mib=host.gpu.ram_mb,
        driver_version=host.driver,
        cuda_version=str(host.cuda),
    )
    return machines.MachineSpec(
        image=image,
        entrypoint=order.entrypoint,
        args=order.args,
        env=order.env(rental.id),
        env_of_ports=order.env_of_ports,
        ports=order.ports,
        disk_gib=rental.disk_gb / GB_PER_GIB,
        memory_mib=int(host.cpu.ram_mb * rental.gpus / host.gpus),
        hostname=order.hostname or f"c-{rental.id}",
        gpu=gpu,
        user=order.user,
        ssh=None if order.ssh is None else order.ssh(rental),
    )


class Crew(asyncio.TaskGroup):
    """Tasks of one owner. What the owner itself raises comes out as it is, not wrapped in a group."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, asyncio.CancelledError):
            await super().__aexit__(kind, error, trace)
        else:
            await super().__aexit__(None, None, None)


class Fate(Protocol):
    """What the estate hears about a machine."""

    def started(self, rental: rentals.Rental, ports: Mapping[machines.Port, int]) -> None: ...

    def refused(self, rental: rentals.Rental, message: str) -> None: ...

    def ended(self, rental: rentals.Rental, status: machines.ExitStatus) -> None: ...


class Hosting:
    """Starts and ends the machines of rentals. Every method returns at once; the work is done by tasks of `tasks`."""

    STOP_GRACE_S = 2.0

    def __init__(self, park: machines.Machines, clock: clocks.Clock, tasks: asyncio.TaskGroup) -> None:
        self._park = park
        self._clock = clock
        self._tasks = tasks
        self._machines: dict[int, machines.Machine] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self._wanted: dict[int, int] = {}
        self._running: set[asyncio.Task[None]] = set()

    def machine(self, rental_id: int) -> machines.Machine | None:
        return self._machines.get(rental_id)

    def boot(self, rental: rentals.Rental, spec: machines.MachineSpec, fate: Fate) -> None:
        """Starts the rental's machine (a new run on the same disk, when it had one) and follows it to its end."""
        run = self._wanted[rental.id] = self._wanted.get(rental.id, 0) + 1
        self._spawn(self._run(rental, spec, fate, run), f"simulation.machine.{rental.id}")

    def halt(self, rental: rentals.Rental, *, kill: bool = False) -> None:
        """Ends the processes, keeps the disk. The end is not reported to `Fate`."""
        self._wanted[rental.id] = self._wanted.get(rental.id, 0) + 1
        self._spawn(self._halt(rental.id, kill=kill), f"simulation.machine.{rental.id}.halt")

    def remove(self, rental: rentals.Rental) -> None:
        """Ends the processes and frees the disk and the ports."""
        self._wanted[rental.id] = self._wanted.get(rental.id, 0) + 1
        self._spawn(self._remove(rental.id), f"simulation.machine.{rental.id}.remove")

    def close(self) -> None:
        """Cancels every task; the park ends the machines themselves."""
        for task in tuple(self._running):
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._tasks.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _lock(self, rental_id: int) -> asyncio.Lock:
        return self._locks.setdefault(rental_id, asyncio.Lock())

    async def _run(self, rental: rentals.Rental, spec: machines.MachineSpec, fate: Fate, run: int) -> None:
        async with self._lock(rental.id):
            if self._wanted.get(rental.id) != run:
                return
            machine = self._machines.get(rental.id)
            try:
                if machine is None:
                    machine = await self._park.start(spec)
                    self._machines[rental.id] = machine
                else:
                    await machine.start()
            except (machines.MachineError, TimeoutError, OSError) as error:
                log.warning("simulation.machine_refused", rental=rental.id, reason=str(error))
                fate.refused(rental, str(error) or "the machine did not start in time")
                return
        if self._wanted.get(rental.id) != run:
            return
        status = machine.exit_status
        if status is not None and status.reason:
            fate.refused(rental, status.reason)
            return
        fate.started(rental, machine.host_ports)
        if spec.ssh is not None and spec.ssh.opens_after_s > 0:
            self._spawn(self._open_ssh(machine, spec.ssh.opens_after_s), f"simulation.machine.{rental.id}.ssh")
        status = await machine.wait()
        if self._wanted.get(rental.id) == run:
            fate.ended(rental, status)

    async def _open_ssh(self, machine: machines.Machine, after_s: float) -> None:
        """The workload may have ended by then, or run again: an opened door with nothing behind refuses too."""
        await self._clock.sleep(after_s)
        machine.set_ssh(is_open=True)

    async def _halt(self, rental_id: int, *, kill: bool) -> None:
        async with self._lock(rental_id):
            machine = self._machines.get(rental_id)
            if machine is not None and machine.exit_status is None:
                with contextlib.suppress(machines.MachineError, TimeoutError):
                    await (machine.kill() if kill else machine.stop(self.STOP_GRACE_S))

    async def _remove(self, rental_id: int) -> None:
        async with self._lock(rental_id):
            machine = self._machines.pop(rental_id, None)
            if machine is not None:
                with contextlib.suppress(machines.MachineError, TimeoutError):
                    await machine.remove()
        self._locks.pop(rental_id, None)
