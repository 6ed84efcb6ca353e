"""The simulated cloud behind any front: lives of rentals under a clock that only the test moves."""

import asyncio
import dataclasses
from collections.abc import Mapping

import pytest

from bareboat.plumbing import clock as clocks
from bareboat.simulation import estate, faults, faultscript, hosting, images, ledger, market, rentals
from bareboat.simulation.machines import machine as machines

Stage = rentals.Stage
QUIET = estate.Plan(churn=market.Churn.none())
INSTANT = dataclasses.replace(QUIET, boot=rentals.BootTimes.instant())


def an_estate(*rules: faults.Rule, plan: estate.Plan = QUIET) -> tuple[estate.Estate, clocks.ManualClock]:
    clock = clocks.ManualClock()
    return estate.Estate(clock, plan, faults.Faults(rules, start_s=clock.now_s()), images.Catalog()), clock


def an_order(image: str = "busybox:latest", **changed: object) -> hosting.Order:
    return hosting.Order(image=image, **changed)  # type: ignore[arg-type]


def an_ask(of: estate.Estate, gpus: int = 1) -> market.Ask:
    return next(ask for ask in of.market.asks(of.now()) if ask.gpus == gpus and ask.host.gpus == gpus)


def rented(of: estate.Estate, order: hosting.Order | None = None) -> rentals.Rental:
    return of.rent(an_ask(of).id, order or an_order())


def stage(of: estate.Estate, rental: rentals.Rental) -> Stage:
    return rental.at(of.now()).stage


async def test_a_rental_is_placed_pulled_created_and_runs() -> None:
    of, clock = an_estate()
    rental = rented(of)
    seen = [stage(of, rental)]
    for _ in range(600):
        await clock.advance(0.25)
        if stage(of, rental) != seen[-1]:
            seen.append(stage(of, rental))
    assert seen[0] is Stage.PLACING
    assert seen[-1] is Stage.RUNNING
    assert set(seen) <= {Stage.PLACING, Stage.PULLING, Stage.CREATED, Stage.RUNNING}


async def test_an_instant_estate_runs_at_once() -> None:
    of, _ = an_estate(plan=INSTANT)
    assert stage(of, rented(of)) is Stage.RUNNING


async def test_a_pull_takes_as_long_as_the_image_is_big_and_is_short_once_it_is_cached() -> None:
    def created_after_s(rental: rentals.Rental) -> float:
        return next(moment.at_s for moment in rental.life if moment.stage is Stage.CREATED) - rental.created_s

    of, _ = an_estate()
    host = of.market.hosts[52100]
    asks = [ask for ask in of.market.asks(of.now()) if ask.host is host and ask.gpus == 1]
    first = of.rent(asks[0].id, an_order("vllm/vllm-openai:latest"))
    asks = [ask for ask in of.market.asks(of.now()) if ask.host is host and ask.gpus == 1]
    again = of.rent(asks[0].id, an_order("vllm/vllm-openai:latest"))
    assert created_after_s(first) > 8 * 8000 / host.down_mbps
    assert created_after_s(again) < 60


async def test_an_ask_can_be_rented_once() -> None:
    of, _ = an_estate()
    ask = an_ask(of)
    of.rent(ask.id, an_order())
    with pytest.raises(estate.AskGone):
        of.rent(ask.id, an_order())


async def test_an_image_that_does_not_exist_stays_pulling_with_a_message() -> None:
    of, clock = an_estate()
    rental = rented(of, an_order("bareboat/missing:1"))
    await clock.advance(3600)
    moment = rental.at(of.now())
    assert moment.stage is Stage.PULLING
    assert "pull access denied" in moment.message


async def test_a_stopped_rental_gives_its_gpus_back_and_starts_again() -> None:
    of, _ = an_estate(plan=INSTANT)
    rental = rented(of)
    of.stop(rental)
    assert stage(of, rental) is Stage.STOPPED
    assert rental.host.gpus_ours == 0
    assert of.start(rental)
    assert stage(of, rental) is Stage.RUNNING
    assert rental.host.gpus_ours == 1


async def test_a_start_whose_gpus_are_taken_is_queued_and_happens_later() -> None:
    of, clock = an_estate(plan=INSTANT)
    rental = rented(of)
    of.stop(rental)
    of.market.occupy(rental.host)
    assert not of.start(rental)
    await clock.advance(300)
    assert stage(of, rental) is Stage.STOPPED
    rental.host.gpus_taken = 0
    await clock.advance(60)
    assert stage(of, rental) is Stage.RUNNING


async def test_stopping_cancels_a_queued_start() -> None:
    of, clock = an_estate(plan=INSTANT)
    rental = rented(of)
    of.stop(rental)
    of.market.occupy(rental.host)
    of.start(rental)
    of.stop(rental)
    rental.host.gpus_taken = 0
    await clock.advance(600)
    assert stage(of, rental) is Stage.STOPPED


async def test_a_destroyed_rental_is_gone_within_seconds_and_its_gpus_are_free_at_once() -> None:
    of, clock = an_estate()
    rental = rented(of)
    await clock.advance(200)
    of.destroy(rental)
    assert rental.host.gpus_ours == 0
    await clock.advance(3.1)
    assert of.rental(rental.id) is None
    assert of.live() == []


async def test_destroying_again_does_not_prolong_a_life() -> None:
    of, clock = an_estate()
    rental = rented(of)
    of.destroy(rental, linger_s=30)
    await clock.advance(10)
    of.destroy(rental, linger_s=30)
    await clock.advance(20.5)
    assert of.rental(rental.id) is None


async def test_a_bid_below_the_market_leaves_a_stopped_rental_that_bills_its_disk() -> None:
    of, clock = an_estate()
    with pytest.raises(estate.BidTooLow) as low:
        of.rent(an_ask(of).id, an_order(bid_usd_per_hour=0.001))
    rental = low.value.rental
    await clock.advance(3600)
    assert stage(of, rental) is Stage.STOPPED
    assert rental.spent(of.now()).disk > 0
    assert rental.spent(of.now()).gpu == 0


async def test_an_outbid_rental_stops_and_its_gpus_are_somebody_elses() -> None:
    of, _ = an_estate(plan=INSTANT)
    rental = rented(of, an_order(bid_usd_per_hour=1.0))
    of.outbid(rental, of.now())
    assert stage(of, rental) is Stage.STOPPED
    assert rental.host.gpus_free == 0
    assert not rental.wants_running


async def test_an_outbid_rental_may_resume_by_itself() -> None:
    rule = faultscript.parse_rule("outbid", {"count": 1, "resume": 1.0, "resume_after_s": [100, 100]})
    of, clock = an_estate(rule, plan=INSTANT)
    rental = rented(of, an_order(bid_usd_per_hour=1.0))
    await clock.advance(61)
    assert stage(of, rental) is Stage.STOPPED
    await clock.advance(101)
    assert stage(of, rental) is Stage.RUNNING


async def test_credit_runs_out_and_everything_stops() -> None:
    of, clock = an_estate(plan=dataclasses.replace(INSTANT, credit_usd=0.01))
    rental = rented(of)
    await clock.advance(3600)
    assert stage(of, rental) is Stage.STOPPED
    assert not of.has_credit


async def test_a_contract_that_ends_stops_the_rental_for_good_and_deletes_it_two_days_later() -> None:
    of, clock = an_estate(plan=INSTANT)
    rental = rented(of)
    await clock.advance(rental.host.ends_s - of.now() + 1)
    assert stage(of, rental) is Stage.STOPPED
    assert not of.start(rental)
    await clock.advance(49 * 3600)
    assert of.rental(rental.id) is None


async def test_a_phantom_is_never_there_and_costs_nothing() -> None:
    of, clock = an_estate()
    phantom = of.sell_phantom(an_ask(of).id, an_order(label="x"))
    await clock.advance(3600)
    assert of.rental(phantom.id) is None
    assert of.ledger.spend().total == 0
    assert of.ledger.running_now() == []
    assert of.ledger.ever_rented() == []
    assert [entry.stage for entry in of.ledger.entries()] == ["phantom"]


# -- the ledger


async def test_the_ledger_knows_what_was_rented_for_whom_and_what_runs_now() -> None:
    of, clock = an_estate(plan=INSTANT)
    mine, other = rented(of, an_order(label="bareboat/c/one/1")), rented(of, an_order(label="somebody else"))
    await clock.advance(3600)
    of.destroy(mine)
    await clock.advance(10)
    assert [entry.id for entry in of.ledger.running_now()] == [other.id]
    assert [entry.id for entry in of.ledger.ever_rented("bareboat/c/")] == [mine.id]
    assert of.ledger.spend("bareboat/c/").gpu == pytest.approx(mine.usd_per_hour, rel=1e-6)
    assert of.ledger.spend().total == pytest.approx(sum(entry.usd.total for entry in of.ledger.entries()), rel=1e-9)


async def test_two_attempts_for_one_owner_at_one_time_are_a_double_rent() -> None:
    of, _ = an_estate(plan=INSTANT)
    one, other = rented(of, an_order(label="bareboat/c/pod/1")), rented(of, an_order(label="bareboat/c/pod/2"))
    rented(of, an_order(label="bareboat/c/another/1"))
    assert [(a.id, b.id) for a, b in of.ledger.double_rents()] == [(one.id, other.id)]


async def test_a_second_attempt_after_giving_up_the_first_is_no_double_rent() -> None:
    of, clock = an_estate(plan=INSTANT)
    first = rented(of, an_order(label="bareboat/c/pod/1"))
    of.destroy(first, linger_s=600)
    await clock.advance(1)
    rented(of, an_order(label="bareboat/c/pod/2"))
    assert of.ledger.double_rents() == []


def test_a_mark_names_its_owner_without_the_attempt() -> None:
    assert ledger.owner_of_mark("bareboat/c/pod/7") == "bareboat/c/pod"
    assert ledger.owner_of_mark("by hand") == "by hand"
    assert ledger.owner_of_mark(None) is None


async def test_the_report_is_plain_data_with_dollars_by_kind() -> None:
    of, clock = an_estate(plan=INSTANT)
    rental = rented(of, an_order(label="bareboat/c/pod/1"))
    rental.add_traffic(down_gb=10)
    await clock.advance(3600)
    of.ledger.refused("…abcd", "PUT /x", 400, "invalid_args", "no")
    report = of.ledger.report()
    assert report["usd"]["gpu"] > 0
    assert report["usd"]["disk"] > 0
    assert report["usd"]["bandwidth"] == pytest.approx(10 * rental.host.down_usd_per_gb)
    assert report["running"] == [rental.id]
    assert report["refusals_by_error"] == {"invalid_args": 1}
    assert [state["stage"] for state in report["instances"][0]["states"]][-1] == "running"


# -- real machines, played


class Played:
    """A machine of the test: runs until told otherwise."""

    def __init__(self) -> None:
        self.host_ports = {(8001, "tcp"): 41234}
        self.exit_status: machines.ExitStatus | None = None
        self.starts = 1
        self.removed = False
        self._ended = asyncio.Event()

    def end(self, code: int) -> machines.ExitStatus:
        self.exit_status = machines.ExitStatus(code)
        self._ended.set()
        return self.exit_status

    async def wait(self) -> machines.ExitStatus:
        await self._ended.wait()
        assert self.exit_status is not None
        return self.exit_status

    async def start(self) -> None:
        self.exit_status = None
        self._ended.clear()
        self.starts += 1

    async def stop(self, grace_s: float = 10.0) -> machines.ExitStatus:
        return self.exit_status or self.end(143)

    async def kill(self, *, oom: bool = False) -> machines.ExitStatus:
        return self.exit_status or self.end(137)

    def set_ssh(self, *, is_open: bool, drop: bool = False) -> None:
        pass

    def write_files(self, files: Mapping[str, machines.File], *, append: bool = False) -> None:
        pass

    async def remove(self) -> None:
        self.removed = True
        self.end(137)

    async def log_lines(self, tail: int | None = None) -> list[machines.LogLine]:
        return []

    async def log_text(self, tail: int | None = None) -> str:
        return ""


class Park:
    """Machines of the test; refuses while `refuses` says why."""

    rung = "played"
    losses = ()

    def __init__(self) -> None:
        self.made: list[Played] = []
        self.specs: list[machines.MachineSpec] = []
        self.refuses = ""

    async def start(self, spec: machines.MachineSpec) -> Played:
        if self.refuses:
            raise machines.MachineError(self.refuses)
        self.specs.append(spec)
        self.made.append(Played())
        return self.made[-1]


async def test_a_machine_starts_when_its_boot_is_over_and_not_before() -> None:
    of, clock = an_estate()
    park = Park()
    async with of.running(park):
        rental = rented(of, an_order(entrypoint=("/bin/sh",), args=("-c", "true"), ports=((8001, "tcp"),)))
        await clock.advance(1)
        assert park.made == []
        await clock.advance(300)
        assert stage(of, rental) is Stage.RUNNING
        assert of.ports(rental) == {(8001, "tcp"): 41234}
        [spec] = park.specs
        assert spec.argv() == ["/bin/sh", "-c", "true"]
        assert spec.gpu is not None
        assert (spec.gpu.name, spec.gpu.count) == (rental.host.gpu.name, 1)


async def test_a_machine_that_ends_leaves_its_code_and_starts_again_where_that_is_asked() -> None:
    of, clock = an_estate(plan=INSTANT)
    park = Park()
    async with of.running(park):
        once, again = rented(of), rented(of, an_order(restarts=True))
        await clock.advance(1)
        for machine in park.made:
            machine.end(3)
        await clock.advance(60)
        assert once.at(of.now()).exit_code == 3
        assert stage(of, once) is Stage.EXITED
        assert stage(of, again) is Stage.RUNNING
        assert [machine.starts for machine in park.made] == [1, 2]


async def test_a_stop_ends_the_processes_and_is_no_exit_and_a_destroy_removes_them() -> None:
    of, clock = an_estate(plan=INSTANT)
    park = Park()
    async with of.running(park):
        rental = rented(of)
        await clock.advance(1)
        of.stop(rental)
        await clock.advance(1)
        assert park.made[0].exit_status is not None
        assert stage(of, rental) is Stage.STOPPED
        of.start(rental)
        await clock.advance(1)
        assert stage(of, rental) is Stage.RUNNING
        of.destroy(rental)
        await clock.advance(1)
        assert park.made[0].removed


async def test_a_rental_destroyed_before_its_machine_starts_never_starts_it() -> None:
    of, clock = an_estate()
    park = Park()
    async with of.running(park):
        of.destroy(rented(of))
        await clock.advance(600)
        assert park.made == []


async def test_a_machine_that_can_not_be_made_is_a_container_that_was_created_and_never_ran() -> None:
    of, clock = an_estate(plan=INSTANT)
    park = Park()
    park.refuses = "no such file or directory"
    async with of.running(park):
        rental = rented(of)
        await clock.advance(1)
        moment = rental.at(of.now())
        assert moment.stage is Stage.CREATED
        assert "OCI runtime create failed: " in moment.message
        assert "no such file or directory" in moment.message


async def test_what_goes_wrong_inside_a_running_estate_comes_out_as_it_is() -> None:
    of, clock = an_estate(plan=INSTANT)
    with pytest.raises(ZeroDivisionError):
        async with of.running(Park()):
            rented(of)
            await clock.advance(1)
            raise ZeroDivisionError
