"""The agenda of things to come and the clock of a served simulation."""

import asyncio

import pytest

from bareboat.plumbing import clock as clocks
from bareboat.simulation import agenda
from bareboat.simulation import clock as simulated


def test_actions_happen_in_order_of_their_time_with_the_moment_they_were_due() -> None:
    things = agenda.Agenda()
    seen: list[tuple[str, float]] = []
    things.add(20, lambda at_s: seen.append(("late", at_s)))
    things.add(10, lambda at_s: seen.append(("early", at_s)))
    things.catch_up(9)
    assert seen == []
    things.catch_up(100)
    assert seen == [("early", 10), ("late", 20)]


def test_an_action_may_add_another_that_is_due_at_once() -> None:
    things = agenda.Agenda()
    seen: list[float] = []
    things.add(10, lambda at_s: things.add(at_s + 5, seen.append))
    things.catch_up(20)
    assert seen == [15]


async def test_a_driven_agenda_acts_when_the_time_has_come_even_if_added_later_for_earlier() -> None:
    clock = clocks.ManualClock(start_s=0)
    things = agenda.Agenda()
    seen: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        driver = tasks.create_task(things.drive(clock), name="driver")
        things.add(100, seen.append)
        await clock.advance(1)
        things.add(50, seen.append)
        await clock.advance(60)
        assert seen == [50]
        await clock.advance(60)
        assert seen == [50, 100]
        driver.cancel()


async def test_a_sleeper_wakes_when_the_clock_jumps_past_its_time() -> None:
    clock = simulated.SimulatedClock(start_s=0)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(clock.sleep(10_000), name="sleeper")
        await asyncio.sleep(0)
        await clock.advance(10_001)
    assert clock.now_s() >= 10_001


async def test_a_sleeper_is_not_woken_before_its_time() -> None:
    clock = simulated.SimulatedClock(start_s=0)
    async with asyncio.TaskGroup() as tasks:
        sleeper = tasks.create_task(clock.sleep(10_000), name="sleeper")
        await asyncio.sleep(0)
        await clock.advance(5_000)
        clock.set_speed(2)
        await asyncio.sleep(0.01)
        assert not sleeper.done()
        sleeper.cancel()


async def test_a_changed_speed_goes_on_from_the_present() -> None:
    clock = simulated.SimulatedClock(speed=1000, start_s=0)
    before_s = clock.now_s()
    clock.set_speed(1)
    assert before_s <= clock.now_s() < before_s + 500


@pytest.mark.parametrize("speed", [0, -1, 1e9, float("nan")])
def test_a_speed_that_makes_no_sense_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="has to be greater than 0"):
        simulated.SimulatedClock(speed)


async def test_the_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="can't go back"):
        await simulated.SimulatedClock().advance(-1)
