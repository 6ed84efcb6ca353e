"""The simulated cloud behind any front: rents asks out, lets rentals live and end, counts the dollars. All state is
reached through `now()`, which first lets everything due happen; nothing else moves unless machines really run."""

import asyncio
import contextlib
import dataclasses
import itertools
import random
from collections.abc import AsyncIterator, Callable, Mapping

from bareboat.plumbing import clock as clocks
from bareboat.simulation import agenda, boots, faults, hazards, hosting, images, ledger, market, rentals, world
from bareboat.simulation.machines import machine as machines

Stage = rentals.Stage
CREDIT_CHECK_S = 5.0
QUEUE_RETRY_S = 30.0
ENDED_IS_DELETED_S = 48 * 3600.0


class AskGone(Exception):
    """The ask was rented by somebody else or never existed."""


class BidTooLow(Exception):
    """The bid is below what the host takes now; the rental exists, stopped, and its disk is billed."""

    def __init__(self, rental: rentals.Rental) -> None:
        super().__init__(rental.id)
        self.rental = rental


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a world is made. The same plan gives the same world. `hosts`: seed and start → a cloud's own hosts."""

    seed: int = 1
    offers: int = 320
    credit_usd: float = 100.0
    churn: market.Churn = dataclasses.field(default_factory=market.Churn)
    boot: rentals.BootTimes = dataclasses.field(default_factory=rentals.BootTimes)
    first_rental_id: int = 27_400_001
    bill_image_pull: bool = False
    hosts: Callable[[int, float], list[world.Host]] | None = None


class Estate:
    """Hosts, asks, rentals and money under one clock."""

    def __init__(self, clock: clocks.Clock, plan: Plan, script: faults.Faults, catalog: images.Catalog) -> None:
        self.clock = clock
        self.plan = plan
        self.faults = script
        self.start_s = clock.now_s()
        hosts = None if plan.hosts is None else plan.hosts(plan.seed, self.start_s)
        self.market = market.Market(
            seed=plan.seed, start_s=self.start_s, offers=plan.offers, churn=plan.churn, hosts=hosts
        )
        self.agenda = agenda.Agenda()
        self.ledger = ledger.Ledger(clock)
        self.ledger.catch_up = self.catch_up
        self.hosting: hosting.Hosting | None = None
        self.credit_given_usd = plan.credit_usd
        self._catalog = catalog
        self._images: dict[tuple[str, images.Login | None], images.Image | images.Refusal] = {}
        self._ids = itertools.count(plan.first_rental_id)
        self._rentals: dict[int, rentals.Rental] = {}
        self._orders: dict[int, hosting.Order] = {}
        self._ports: dict[int, Mapping[machines.Port, int]] = {}
        self._credit_checked_s = self.start_s
        self._acting_s: float | None = None
        self.has_credit = plan.credit_usd > 0

    @contextlib.asynccontextmanager
    async def running(self, park: machines.Machines | None) -> AsyncIterator[None]:
        """Drives real machines for as long as it is open; without a park there is nothing to drive."""
        if park is None:
            yield
            return
        async with hosting.Crew() as tasks:
            self.hosting = hosted = hosting.Hosting(park, self.clock, tasks)
            driver = tasks.create_task(self.agenda.drive(self.clock), name="simulation.agenda")
            try:
                yield
            finally:
                self.hosting = None
                driver.cancel()
                hosted.close()

    # -- time

    def now(self) -> float:
        """The present, after everything due has happened; while something happens, the moment it was due."""
        if self._acting_s is None:
            self.catch_up(self.clock.now_s())
        return self.present_s

    @property
    def present_s(self) -> float:
        """The same without letting anything happen first."""
        return self.clock.now_s() if self._acting_s is None else self._acting_s

    def later(self, at_s: float, action: agenda.Action) -> None:
        """Has something happen at its time, however late somebody looks."""

        def happens(due_s: float) -> None:
            before_s, self._acting_s = self._acting_s, due_s
            try:
                action(due_s)
            finally:
                self._acting_s = before_s

        self.agenda.add(at_s, happens)

    def catch_up(self, now_s: float) -> None:
        self.agenda.catch_up(now_s)
        if now_s - self._credit_checked_s >= CREDIT_CHECK_S:
            self.check_credit(now_s)

    def check_credit(self, now_s: float) -> None:
        """Adds up what was spent, and stops everything when nothing is left; done by itself every few seconds."""
        self._credit_checked_s = now_s
        self.has_credit = self.credit_usd() > 0
        if not self.has_credit:
            self.stop_everything(now_s, "credit exhausted")

    # -- reading

    def rental(self, rental_id: int) -> rentals.Rental | None:
        """The rental, unless it is gone, never existed or is a phantom."""
        now_s = self.now()
        rental = self._rentals.get(rental_id)
        if rental is None or not rental.is_gone(now_s):
            return rental
        self._forget(rental)
        return None

    def live(self) -> list[rentals.Rental]:
        """Every rental that is not gone, by id."""
        now_s = self.now()
        gone = [rental for rental in self._rentals.values() if rental.is_gone(now_s)]
        for rental in gone:
            self._forget(rental)
        return list(self._rentals.values())

    def order(self, rental: rentals.Rental) -> hosting.Order:
        return self._orders[rental.id]

    def ports(self, rental: rentals.Rental) -> Mapping[machines.Port, int]:
        """Container port → host port; empty before the first start."""
        return self._ports.get(rental.id, {})

    def credit_usd(self) -> float:
        return self.credit_given_usd - self.ledger.spent_by(self.present_s).total

    def image(self, reference: str, login: images.Login | None) -> images.Image | images.Refusal:
        key = (reference, login)
        if key not in self._images:
            self._images[key] = self._catalog.resolve(reference, login)
        return self._images[key]

    async def look_up(self, reference: str, login: images.Login | None) -> None:
        """Prepares `image`, which reads files the first time, off the event loop."""
        if (reference, login) not in self._images:
            self._images[reference, login] = await asyncio.to_thread(self._catalog.resolve, reference, login)

    def dice(self, rental: rentals.Rental, what: str) -> random.Random:
        """Luck of one rental in one matter, the same in every run of the plan."""
        return random.Random(f"{self.plan.seed}:{what}:{rental.id}:{rental.generation}")

    # -- renting and ending

    def rent(self, ask_id: int, order: hosting.Order) -> rentals.Rental:
        """Rents the ask. Raises AskGone, or BidTooLow with a rental that exists all the same."""
        now_s = self.now()
        ask = self.market.find(ask_id, now_s)
        if ask is None:
            raise AskGone(ask_id)
        host = ask.host
        low = order.bid_usd_per_hour is not None and order.bid_usd_per_hour < ask.min_bid_usd_per_hour
        rental = rentals.Rental(
            id=next(self._ids),
            ask_id=ask_id,
            host=host,
            gpus=ask.gpus,
            usd_per_hour=ask.usd_per_hour,
            bid_usd_per_hour=order.bid_usd_per_hour,
            disk_gb=order.disk_gb,
            disk_usd_per_hour=host.storage_usd_per_gb_month * order.disk_gb / rentals.HOURS_PER_MONTH,
            label=order.label,
            image=order.image,
            created_s=now_s,
            ends_s=host.ends_s,
            terms=order.terms,
        )
        self._rentals[rental.id] = rental
        self._orders[rental.id] = order
        self.market.take(ask)
        self.ledger.opened(rental)
        self.later(rental.ends_s, lambda at_s: self._contract_ends(rental, at_s))
        if low or not order.wants_running:
            rental.life = [rentals.Moment(now_s, Stage.STOPPED)]
            rental.wants_running = False
            self._release(rental)
            if low:
                raise BidTooLow(rental)
            return rental
        self._boot(rental, now_s, first=True)
        return rental

    def sell_phantom(self, ask_id: int, order: hosting.Order) -> rentals.Rental:
        """Takes the ask and gives an id that will never be there; nothing is billed."""
        rental = self.rent(ask_id, dataclasses.replace(order, wants_running=False))
        rental.life = [rentals.Moment(rental.created_s, Stage.PHANTOM)]
        rental.end_reason = "phantom"
        self._forget(rental)
        return rental

    def destroy(self, rental: rentals.Rental, *, reason: str = "destroyed", linger_s: float | None = None) -> None:
        """Ends the rental for good within seconds, or after `linger_s`; asking again changes nothing but haste."""
        now_s = self.now()
        if reason == "destroyed" and rental.destroy_asked_s is None:
            rental.destroy_asked_s = now_s
        takes_s = self.dice(rental, "destroy").uniform(*self.plan.boot.destroy_s) if linger_s is None else linger_s
        gone_s = now_s + takes_s
        if rental.gone_s is not None and rental.gone_s <= gone_s:
            return
        rental.end_reason = reason
        current = rental.at(now_s)
        kept = [moment for moment in rental.life if moment.at_s <= now_s]
        if linger_s is None and current.stage in rentals.USES_GPU:
            kept.append(rentals.Moment(now_s, Stage.STOPPING))
        rental.life = [*kept, rentals.Moment(gone_s, Stage.GONE)]
        rental.generation += 1
        rental.wants_running = False
        self._release(rental)
        if self.hosting is not None:
            self.hosting.remove(rental)

    def stop(self, rental: rentals.Rental) -> None:
        """Stops it: disk kept and billed, GPUs given back. Also cancels a queued start."""
        now_s = self.now()
        rental.wants_running = rental.start_queued = False
        if rental.at(now_s).stage in (Stage.STOPPED, Stage.STOPPING, Stage.EXITED) and not rental.holds_gpus:
            return
        takes_s = self.dice(rental, "stop").uniform(*self.plan.boot.stopping_s)
        rental.plan([rentals.Moment(now_s, Stage.STOPPING), rentals.Moment(now_s + takes_s, Stage.STOPPED)])
        self._release(rental)
        self._halt(rental)

    def start(self, rental: rentals.Rental) -> bool:
        """Starts a stopped rental. False: its GPUs are taken, the start is queued and will happen (and bill) later."""
        now_s = self.now()
        rental.wants_running = True
        rental.outbid = False
        stage = rental.at(now_s).stage
        if rental.holds_gpus and stage not in (Stage.EXITED, Stage.STOPPED):
            return True
        stopped_s = now_s - rental.life[-1].at_s
        strike = self.faults.strikes("start_queued", now_s, rental.subject()) if stopped_s > 300 else None
        if strike is not None:
            rental.start_queued = True
            self.later(now_s + strike.number("after_s"), lambda at_s: self._retry_start(rental, at_s))
            return False
        if not self._try_start(rental, now_s):
            rental.start_queued = True
            self.later(now_s + QUEUE_RETRY_S, lambda at_s: self._retry_start(rental, at_s))
            return False
        return True

    def reboot(self, rental: rentals.Rental, *, pull: bool = False) -> None:
        """Runs the same command again on the same GPUs; `pull` fetches the image anew first."""
        now_s = self.now()
        self._halt(rental)
        if pull:
            rental.host.images.clear()
            self._boot(rental, now_s, first=False)
            return
        self._come_up(
            rental, now_s, now_s + self.dice(rental, "reboot").uniform(*self.plan.boot.restart_s), Stage.RESTARTING
        )

    def stop_everything(self, now_s: float, reason: str) -> None:
        for rental in self.live():
            if rental.wants_running:
                rental.wants_running = rental.start_queued = False
                rental.end_reason = rental.end_reason or reason
                rental.become(now_s, Stage.STOPPED, reason)
                self._release(rental)
                self._halt(rental)

    def outbid(self, rental: rentals.Rental, at_s: float) -> None:
        """Another customer takes the GPUs: stopped at once, disk kept, may be started again when they are free."""
        rental.wants_running = False
        rental.outbid = True
        rental.become(at_s, Stage.STOPPED)
        self._release(rental)
        self.market.occupy(rental.host, rental.gpus)
        self._halt(rental, kill=True)

    def change_bid(self, rental: rentals.Rental, usd_per_hour: float) -> None:
        rental.bank(self.now())
        rental.bid_usd_per_hour = usd_per_hour

    def host_down(self, machine_id: int, for_s: float) -> None:
        """The host disconnects: nothing on it answers or bills; what ran starts again when it is back."""
        now_s = self.now()
        host = self.market.hosts[machine_id]
        host.go_down(now_s, now_s + for_s)
        for rental in self.live():
            if rental.host is host:
                self._halt(rental, kill=True)
        self.later(now_s + for_s, lambda at_s: self._host_back(machine_id))

    def host_up(self, machine_id: int) -> None:
        self.market.hosts[machine_id].come_back(self.now())
        self._host_back(machine_id)

    def exits(self, rental: rentals.Rental, code: int) -> None:
        """The workload ends by itself with that code."""
        self._halt(rental, kill=True)
        self._exited(rental, code)

    def started(self, rental: rentals.Rental, ports: Mapping[machines.Port, int]) -> None:
        now_s = self.present_s
        if not rental.is_gone(now_s) and rental.wants_running:
            self._ports[rental.id] = ports
            self._is_running(rental, now_s)

    def refused(self, rental: rentals.Rental, message: str) -> None:
        text = f"Error: OCI runtime create failed: runc create failed: unable to start container process: {message}"
        rental.become(self.present_s, Stage.CREATED, f"Error response from daemon: failed to create task: {text}")

    def ended(self, rental: rentals.Rental, status: machines.ExitStatus) -> None:
        if not rental.is_gone(self.present_s) and rental.wants_running:
            self._exited(rental, status.code)

    def _boot(self, rental: rentals.Rental, now_s: float, *, first: bool) -> None:
        order = self.order(rental)
        boot = boots.plan(
            rental,
            self.image(rental.image, order.login),
            self.plan.boot,
            now_s,
            first=first,
            script=self.faults,
            subject=rental.subject(),
            dice=self.dice(rental, "boot"),
        )
        if boot.pulled_gb and self.plan.bill_image_pull:
            rental.add_traffic(down_gb=boot.pulled_gb)
        if first:
            rental.life = boot.moments
        else:
            rental.plan(boot.moments)
        if boot.ready_s is not None:
            self._come_up(rental, boot.ready_s, boot.ready_s, None)

    def _come_up(self, rental: rentals.Rental, from_s: float, ready_s: float, meanwhile: Stage | None) -> None:
        """The command starts at `ready_s`: as planned data, or by a real machine that reports when it has."""
        if meanwhile is not None:
            rental.plan([rentals.Moment(from_s, meanwhile)])
        if self.hosting is None:
            rental.plan([rentals.Moment(ready_s, Stage.RUNNING)])
            self._ports.setdefault(rental.id, self._imagined_ports(rental))
            self._is_running(rental, ready_s)
            return
        generation = rental.generation
        self.later(ready_s, lambda at_s: self._start_machine(rental, generation))

    def _start_machine(self, rental: rentals.Rental, generation: int) -> None:
        if self.hosting is None or rental.generation != generation or rental.host.is_down(self.present_s):
            return
        self.hosting.boot(rental, self._spec(rental), self)

    def _spec(self, rental: rentals.Rental) -> machines.MachineSpec:
        order = self.order(rental)
        image = self.image(rental.image, order.login)
        assert isinstance(image, images.Image), "only a pulled image is started"
        return hosting.spec(rental, order, image)

    def _imagined_ports(self, rental: rentals.Rental) -> Mapping[machines.Port, int]:
        dice = random.Random(f"{self.plan.seed}:ports:{rental.id}")
        first = dice.randrange(20_000, 60_000)
        return {port: first + index for index, port in enumerate(self.order(rental).ports)}

    def _is_running(self, rental: rentals.Rental, at_s: float) -> None:
        if rental.at(at_s).stage is not Stage.RUNNING:
            rental.become(at_s, Stage.RUNNING)
        rental.running_since_s = at_s
        ahead = hazards.draw(self.faults, rental, at_s, rental.subject())
        if ahead.exit is not None:
            wait_s, code = ahead.exit
            self._while_same_run(rental, at_s + wait_s, lambda due_s: self.exits(rental, code))
        if ahead.offline is not None:
            wait_s, for_s = ahead.offline
            self._while_same_run(rental, at_s + wait_s, lambda due_s: self.host_down(rental.host.machine_id, for_s))
        if ahead.silence is not None:
            rental.silences.append((at_s + ahead.silence[0], at_s + sum(ahead.silence)))
        if ahead.outbid is not None:
            wait_s, resume_s = ahead.outbid
            self._while_same_run(rental, at_s + wait_s, lambda due_s: self._outbid_for(rental, due_s, resume_s))
        if ahead.move_s is not None:
            rental.moves_s = at_s + ahead.move_s

    def _outbid_for(self, rental: rentals.Rental, due_s: float, resume_s: float | None) -> None:
        self.outbid(rental, due_s)
        if resume_s is not None:
            self.later(due_s + resume_s, lambda later_s: self._resume(rental))

    def _while_same_run(self, rental: rentals.Rental, due_s: float, action: agenda.Action) -> None:
        generation = rental.generation

        def happens(at_s: float) -> None:
            if rental.generation == generation and not rental.is_gone(at_s):
                action(at_s)

        self.later(due_s, happens)

    def _resume(self, rental: rentals.Rental) -> None:
        if rental.outbid and not rental.is_gone(self.present_s):
            rental.host.gpus_taken = max(0, rental.host.gpus_taken - rental.gpus)
            self.start(rental)

    def _exited(self, rental: rentals.Rental, code: int) -> None:
        now_s = self.present_s
        if self.order(rental).restarts:
            delay_s = self.dice(rental, "restart").uniform(*self.plan.boot.restart_s)
            self._come_up(rental, now_s, now_s + delay_s, Stage.RESTARTING)
        else:
            rental.become(now_s, Stage.EXITED, exit_code=code)

    def _try_start(self, rental: rentals.Rental, now_s: float) -> bool:
        if now_s >= rental.ends_s:
            return False
        if not rental.holds_gpus and not self.market.claim(rental.host, rental.gpus):
            return False
        rental.holds_gpus = True
        rental.start_queued = False
        self._boot(rental, now_s, first=False)
        return True

    def _retry_start(self, rental: rentals.Rental, at_s: float) -> None:
        if not rental.start_queued or rental.is_gone(at_s):
            return
        if not self._try_start(rental, at_s):
            self.later(at_s + QUEUE_RETRY_S, lambda later_s: self._retry_start(rental, later_s))

    def _host_back(self, machine_id: int) -> None:
        now_s = self.present_s
        host = self.market.hosts[machine_id]
        if self.hosting is None or host.is_down(now_s):
            return
        for rental in self.live():
            if (
                rental.host is host
                and rental.wants_running
                and rental.at(now_s).stage in (Stage.RUNNING, Stage.CREATED)
            ):
                self.hosting.boot(rental, self._spec(rental), self)

    def _contract_ends(self, rental: rentals.Rental, at_s: float) -> None:
        if rental.is_gone(at_s) or at_s < rental.ends_s:
            return
        rental.wants_running = rental.start_queued = False
        rental.end_reason = "contract ended"
        rental.become(at_s, Stage.STOPPED)
        self._release(rental)
        self._halt(rental)
        self.later(at_s + ENDED_IS_DELETED_S, lambda later_s: self._delete_ended(rental, later_s))

    def _delete_ended(self, rental: rentals.Rental, at_s: float) -> None:
        if not rental.is_gone(at_s):
            self.destroy(rental, reason="contract ended")

    def end_contract(self, rental: rentals.Rental) -> None:
        """Its end date is now."""
        rental.ends_s = self.now()
        self._contract_ends(rental, rental.ends_s)

    def extend(self, rental: rentals.Rental, usd_per_hour: float, until_s: float) -> None:
        """From now on at that price, and up to that moment."""
        rental.bank(self.now())
        rental.usd_per_hour = usd_per_hour
        rental.ends_s = until_s
        self.later(until_s, lambda at_s: self._contract_ends(rental, at_s))

    def _release(self, rental: rentals.Rental) -> None:
        if rental.holds_gpus:
            rental.holds_gpus = False
            self.market.release(rental.host, rental.gpus)

    def _halt(self, rental: rentals.Rental, *, kill: bool = False) -> None:
        if self.hosting is not None:
            self.hosting.halt(rental, kill=kill)

    def _forget(self, rental: rentals.Rental) -> None:
        self._rentals.pop(rental.id, None)
        self._orders.pop(rental.id, None)
        self._ports.pop(rental.id, None)
