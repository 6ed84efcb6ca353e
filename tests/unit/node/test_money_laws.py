"""Whatever users, clouds, the API server and the process's own deaths do, in any order: nothing is paid for twice, no
cap is passed, nobody else's machine is touched, and once it is quiet nothing is left over."""

import asyncio
import random
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes import crashes, nodes
from tests.fakes import pods as fake_pods

from bareboat.core import budget, errors
from bareboat.core import instances as instances_
from bareboat.kube import errors as kube_errors
from bareboat.workload import annotations as notes

CAP_USD_PER_HOUR = 0.35
"""For three of the cheapest pods, not for four."""

Step = Callable[["Game"], None]
DOWN = errors.CloudDown("vast", "HTTP 502")
LOST = errors.OutcomeUnknown("vast", "the connection broke")


class Game:
    def __init__(self, world: nodes.Installation, chance: random.Random) -> None:
        self.world = world
        self.chance = chance
        self.uids: list[str] = []
        self.foreign = [
            world.cloud.rent_by_hand(None),
            world.cloud.rent_by_hand("bareboat/cluster-2/uid-7/1"),
            world.cloud.rent_by_hand("bareboat/not/quite"),
        ]

    def name(self) -> str:
        return self.chance.choice("abcde")

    def living(self) -> str | None:
        names = [name for _, name in self.world.api.pods]
        return self.chance.choice(names) if names else None


def create(game: Game) -> None:
    name = game.name()
    if ("t", name) not in game.world.api.pods:
        policy = game.chance.choice(["Always", "Never", "OnFailure"])
        game.uids.append(game.world.api.create(fake_pods.manifest(name, restartPolicy=policy)))


def delete(game: Game) -> None:
    name = game.living()
    if name is not None:
        game.world.api.delete_by_user(name)


def delete_by_force(game: Game) -> None:
    name = game.living()
    if name is not None:
        game.world.api.delete_by_user(name, force=True)


def lose_an_answer(game: Game) -> None:
    game.world.cloud.fail("rent", LOST, applied=game.chance.random() < 0.6)


def refuse(game: Game) -> None:
    kinds = (errors.OfferGone, errors.NoCapacity, errors.CredentialsRefused)
    game.world.cloud.fail("rent", game.chance.choice(kinds)("vast", "no"))


def trouble(game: Game) -> None:
    method = game.chance.choice(["search", "instances", "instance", "marked", "destroy"])
    game.world.cloud.fail(method, *[DOWN] * game.chance.randint(1, 5))


def deafness(game: Game) -> None:
    game.world.cloud.deaf_destroys += 2


def lag(game: Game) -> None:
    game.world.cloud.read_lag_s = game.chance.choice([0.0, 5.0, 15.0])
    game.world.cloud.list_lag_s = game.chance.choice([0.0, 18.0])
    game.world.cloud.ghost_s = game.chance.choice([0.0, 6.0])


def shrink(game: Game) -> None:
    """A list that lacks some, until the next such step."""
    box = game.world.cloud
    box.hidden = set() if box.hidden else {each.id for each in box.alive if game.chance.random() < 0.5}


def break_a_machine(game: Game) -> None:
    ours = [each for each in game.world.cloud.alive if each not in game.foreign]
    if ours:
        states = [instances_.State.STOPPED, instances_.State.FAILED, instances_.State.EXITED, None]
        game.chance.choice(ours).state = game.chance.choice(states)


def lose_a_machine(game: Game) -> None:
    ours = [each for each in game.world.cloud.alive if each not in game.foreign]
    if ours:
        game.world.cloud.end_by_hand(game.chance.choice(ours).id)


def api_trouble(game: Game) -> None:
    game.world.api.fail("patch", kube_errors.Timeout("no answer in time"), applied=game.chance.random() < 0.5)


def forge(game: Game) -> None:
    name = game.living()
    if name is not None:
        target = game.chance.choice(list(game.world.cloud.book))
        game.world.api.annotate(name, instance=game.chance.choice([f"vast/{target}", None]))


STEPS: tuple[Step, ...] = (
    create,
    create,
    create,
    delete,
    delete_by_force,
    lose_an_answer,
    refuse,
    trouble,
    deafness,
    lag,
    shrink,
    break_a_machine,
    lose_a_machine,
    api_trouble,
    forge,
)

moves = st.lists(
    st.tuples(st.sampled_from(STEPS), st.integers(0, 30), st.none() | st.integers(1, 25)), min_size=3, max_size=25
)


async def play(turns: list[tuple[Step, int, int | None]], seed: int) -> None:
    limits = budget.Limits(installation=budget.Caps(usd_per_hour=CAP_USD_PER_HOUR), least_run_s=0.0)
    async with nodes.installation(limits=limits) as world:
        game = Game(world, random.Random(seed))
        world.start()
        crash = crashes.CrashPoint()
        for step, seconds, crash_at in turns:
            if crash.happened.is_set() or crash_at is not None:
                await world.kill()
                crash = crashes.CrashPoint(crash_at)
                world.start(crash)
            step(game)
            await world.run(seconds)
            keeps_the_laws(game)
        await world.kill()
        calm(game)
        world.start()
        for _ in range(12):
            await world.run(60)
            keeps_the_laws(game)
        is_tidy(game)


def keeps_the_laws(game: Game) -> None:
    cloud = game.world.cloud
    assert all(each.bills for each in game.foreign), "somebody else's instance was ended"
    assert not cloud.trespasses, cloud.trespasses
    for uid in game.uids:
        assert cloud.most_at_once(uid) <= 1
    paid = sum(each.usd_per_hour for each in cloud.alive if each not in game.foreign)
    orphans = sum(
        each.usd_per_hour
        for each in cloud.alive
        if each.mark is not None and each not in game.foreign and each.mark.owner_uid not in living(game)
    )
    assert paid - orphans <= CAP_USD_PER_HOUR + 1e-6


def living(game: Game) -> set[str]:
    return {pod["metadata"]["uid"] for pod in game.world.api.pods.values()}


def calm(game: Game) -> None:
    cloud = game.world.cloud
    cloud.faults.clear()
    game.world.api.faults.clear()
    cloud.hidden.clear()
    cloud.deaf_destroys = 0
    cloud.read_lag_s = cloud.list_lag_s = cloud.ghost_s = 0.0
    for each in cloud.alive:
        each.state = None
    for _, name in list(game.world.api.pods):
        put_right(game, name)


def put_right(game: Game, name: str) -> None:
    """A pod that names an instance without a mark waits for a person (`MarkMissing`), who sees whose it is."""
    told = (game.world.api.pod(name).metadata.annotations or {}).get(notes.INSTANCE, "")
    if told in [f"vast/{each.id}" for each in game.foreign if each.mark is None]:
        game.world.api.annotate(name, instance=None)


def is_tidy(game: Game) -> None:
    """Every instance belongs to a living pod, and every pod that is over or being deleted has none."""
    for each in game.world.cloud.alive:
        if each in game.foreign:
            continue
        assert each.mark is not None and each.mark.owner_uid in living(game), f"left over: {each}"
    for pod in game.world.api.pods.values():
        alive = game.world.cloud.alive_for(pod["metadata"]["uid"])
        assert "deletionTimestamp" not in pod["metadata"], "a deleted pod stays"
        if pod["status"]["phase"] in ("Succeeded", "Failed"):
            assert not alive
        if pod["status"]["phase"] == "Running" and "running" in pod["status"]["containerStatuses"][0]["state"]:
            assert len(alive) == 1
    for seen in game.world.api.phases.values():
        assert seen == sorted(seen, key=["Pending", "Running", "Succeeded", "Failed"].index), (
            f"phases went back: {seen}"
        )
        assert not {"Succeeded", "Failed"} <= set(seen)


@given(moves, st.integers(0, 2**16))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_money_is_kept_whatever_happens(turns: list[tuple[Step, int, int | None]], seed: int) -> None:
    asyncio.run(asyncio.wait_for(play(turns, seed), timeout=60))


async def test_a_restart_does_not_take_the_ghost_of_an_earlier_attempt_for_the_present_one() -> None:
    """Lists still show the machine of attempt 1, gone by now, and not yet that of attempt 2, which a pod names."""
    async with nodes.installation() as world:
        world.start()
        uid = world.api.create(fake_pods.manifest("a"))
        assert await world.run(60, until=lambda: world.phase("a") == "Running")
        await world.run(60)
        world.cloud.read_lag_s, world.cloud.ghost_s = 15.0, 30.0
        world.cloud.alive_for(uid)[0].state = instances_.State.STOPPED
        assert await world.run(60, until=lambda: world.cloud.calls["rent"] == 2)
        await world.run(2)
        assert world.api.pod("a").metadata.annotations["bareboat.dev/attempt"] == "2"
        await world.kill()
        world.start()
        await world.run(120)
        assert world.cloud.calls["rent"] == 2 and world.cloud.most_at_once(uid) == 1
        assert len(world.cloud.alive_for(uid)) == 1 and world.phase("a") == "Running"


async def test_a_lost_purchase_is_not_given_up_by_a_list_that_is_shown_to_be_false() -> None:
    """Two machines are hidden from every list for long: one that a pod names, and one that nobody has heard of but for
    its mark. An exact read of the first shows that no list can be believed."""
    async with nodes.installation() as world:
        world.start()
        world.api.create(fake_pods.manifest("known"))
        assert await world.run(60, until=lambda: world.phase("known") == "Running")
        world.cloud.fail("rent", LOST, applied=True)
        uid = world.api.create(fake_pods.manifest("lost"))
        assert await world.run(10, until=lambda: world.cloud.calls["rent"] == 2)
        await world.kill()
        world.cloud.hidden = world.cloud.hidden_from_filters = {each.id for each in world.cloud.alive}
        world.start()
        await world.run(300)
        assert world.cloud.calls["rent"] == 2 and not world.cloud.trespasses
        world.cloud.hidden = world.cloud.hidden_from_filters = set()
        assert await world.run(60, until=lambda: world.phase("lost") == "Running")
        assert len(world.cloud.alive_for(uid)) == 1
