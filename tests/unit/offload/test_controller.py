"""The loop: what informers show is planned and bound; what was taken rests; nonsense is told once."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import msgspec
from tests.unit.offload.jobbing import FORCED, MANAGED, a_job, a_pod, at
from tests.unit.offload.test_results import a_node

from bareboat.kube import errors, events
from bareboat.kube import informer as informers
from bareboat.offload import binder, controller, jobs, policy
from bareboat.plumbing import clock as clocks


class FakeBinder:
    """Answers as told; counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Callable[[], binder.Outcome] = lambda: binder.Bound(0.5, "no GPU")

    async def bind(self, pod: jobs.Pod, leave: policy.Leave, rules: policy.Rules) -> binder.Outcome:
        self.asked.append(pod.metadata.name)
        return self.answer()


class World:
    """An offload whose informers are filled by hand."""

    def __init__(self, rules: policy.Rules | None = None, reconcile_s: float = 30.0) -> None:
        self.clock = clocks.ManualClock()
        client: Any = object()  # asked nothing: the informers don't run
        self.recorder = events.Recorder(client, clock=self.clock)
        self.binder = FakeBinder()
        self.offload = controller.Offload(
            client,
            self.recorder,
            self.clock,
            rules or policy.Rules(),
            node_name="virtual",
            binder=self.binder,  # type: ignore[arg-type]
            reconcile_s=reconcile_s,
        )
        for each in self.offload.informers.values():
            each.synced.set()
        put(self.offload.nodes, a_node())

    def add(self, job: jobs.Job, pods: int = 1, waits_s: float = 60.0) -> None:
        put(self.offload.jobs, job)
        for number in range(pods):
            pod = a_pod(job, number)
            since = at(self.clock.now_s() - waits_s)
            assert pod.status.conditions is not None
            given_up = msgspec.structs.replace(pod.status.conditions[0], last_transition_time=since)
            status = msgspec.structs.replace(pod.status, conditions=(given_up,))
            put(self.offload.waiting, msgspec.structs.replace(pod, status=status))

    @property
    def told(self) -> list[str]:
        return [f"{key.reason}: {key.message}" for queue in self.recorder._queues.values() for key in queue]


def put(into: informers.Informer[Any], value: Any) -> None:
    into._put((value.metadata.namespace, value.metadata.name), value)


async def test_what_a_rule_lets_go_is_bound_once_and_told() -> None:
    world = World()
    world.add(a_job(annotations=FORCED), pods=2)
    await world.offload.look()
    await world.offload.look()
    assert world.binder.asked == ["train-0", "train-1"] and world.offload.bound == 2
    assert sum(each.startswith("Offloaded: Pod train-") for each in world.told) == 2


async def test_a_pod_that_somebody_else_has_is_left_alone_for_a_while() -> None:
    world = World()
    world.binder.answer = lambda: binder.Taken("already assigned")
    world.add(a_job(annotations=FORCED))
    assert 0 < await world.offload.look() <= controller.TAKEN_REST_S
    await world.offload.look()
    assert len(world.binder.asked) == 1 and world.told == []
    assert world.offload.ledger.room(None).pods == 10, "its room is free again"
    await world.clock.advance(controller.TAKEN_REST_S + 0.1)
    await world.offload.look()
    assert len(world.binder.asked) == 2, "it still waits: the scheduler gave it back"


async def test_room_of_a_binding_with_unknown_outcome_stays_taken_until_it_would_have_shown() -> None:
    world = World()

    def lost() -> binder.Outcome:
        raise errors.Timeout("no answer")

    world.binder.answer = lost
    world.add(a_job(annotations=FORCED))
    await world.offload.look()
    assert world.offload.ledger.room(None).pods == 9
    await world.clock.advance(controller.TROUBLE_REST_S + 0.1)
    world.binder.answer = lambda: binder.Bound(0.5)
    await world.offload.look()
    assert len(world.binder.asked) == 2 and world.offload.bound == 1


async def test_a_job_that_can_not_run_elsewhere_is_tried_again_only_when_a_person_changed_it() -> None:
    world = World()
    world.binder.answer = lambda: binder.Unfit("hostPath")
    world.add(a_job(annotations=FORCED))
    for _ in range(3):
        await world.offload.look()
        await world.clock.advance(60)
    assert len(world.binder.asked) == 1 and len(world.told) == 1
    told = {"runpod.io/offloaded": "true", "bareboat.dev/instances": "[]"}
    put(world.offload.jobs, _changed(a_job(annotations={**FORCED, **told}), "2"))
    await world.offload.look()
    assert len(world.binder.asked) == 1
    put(world.offload.jobs, _changed(a_job(annotations={**FORCED, "bareboat.dev/disk-gib": "20"}), "3"))
    await world.offload.look()
    assert len(world.binder.asked) == 2


def _changed(job: jobs.Job, version: str) -> jobs.Job:
    return msgspec.structs.replace(job, metadata=msgspec.structs.replace(job.metadata, resource_version=version))


async def test_nothing_to_rent_is_told_seldom_and_tried_often() -> None:
    world = World()
    numbers = iter(range(100))
    world.binder.answer = lambda: binder.NoOffer(f"None of {next(numbers)} offers fits")
    world.add(a_job(annotations=FORCED))
    for _ in range(5):
        await world.offload.look()
        await world.clock.advance(controller.NO_OFFER_REST_S + 0.1)
    assert len(world.binder.asked) == 5 and len(world.told) == 1
    assert "NoOffers: The Job goes on waiting here" in world.told[0]


async def test_nonsense_is_told_once_and_again_when_it_comes_back() -> None:
    world = World()
    for version, managed in (("1", "yes"), ("2", "yes"), ("3", "true"), ("4", "no")):
        put(world.offload.jobs, _changed(a_job(annotations={"runpod.io/managed": managed}), version))
    assert [each.partition("managed is ")[2].partition(";")[0] for each in world.told] == ["'yes'", "'no'"]


async def test_cloud_in_trouble_keeps_jobs_here_and_its_end_is_seen_within_a_second() -> None:
    world = World()
    trouble: list[str] = ["runpod: the key was refused"]
    world.offload.trouble_of_clouds = lambda: trouble[-1] if trouble else None
    world.add(a_job(annotations=FORCED))
    running = asyncio.create_task(world.offload.run())
    await world.clock.advance(10)
    assert world.binder.asked == [] and world.offload.trouble() == trouble[0]
    trouble.clear()
    await world.clock.advance(controller.TROUBLE_LOOK_S + controller.BREATH_S)
    assert world.binder.asked == ["train-0"]
    running.cancel()


async def test_rules_are_looked_at_when_they_come_due_and_at_least_every_interval() -> None:
    world = World(policy.Rules(max_pending_s=20.0, pending_job_threshold=9), reconcile_s=7.0)
    passes: list[float] = []
    look = world.offload.look

    async def counted() -> float:
        passes.append(world.clock.monotonic_s())
        return await look()

    world.offload.look = counted  # type: ignore[method-assign]
    world.add(a_job(annotations=MANAGED), waits_s=0.0)
    running = asyncio.create_task(world.offload.run())
    await world.clock.advance(19.5)
    assert world.binder.asked == []
    assert all(after - before <= 7.1 for before, after in itertools.pairwise(passes)), passes
    await world.clock.advance(1.0)
    assert world.binder.asked == ["train-0"], "it was not looked at when its time was over"
    running.cancel()


async def test_dry_run_says_what_becomes_of_each_managed_job() -> None:
    world = World()
    world.add(a_job("goes", FORCED))
    world.add(a_job("held", FORCED, suspend=True))
    world.add(a_job("idle", MANAGED), pods=0)
    world.add(a_job("wrong", {"runpod.io/managed": "yes"}))
    world.add(a_job("foreign", {}))
    told = {job.metadata.name: (fate, why) for job, fate, why in world.offload.explained()}
    assert told["goes"] == ("leaves (force, 1 pods)", 'annotation runpod.io/offload is "true"')
    assert told["held"] == ("stays", "it is suspended")
    assert told["idle"] == ("stays", "no pod of it waits for a place")
    assert told["wrong"][0] == "refused" and "foreign" not in told
    assert world.binder.asked == []
