"""What is told on a Job of its machines, and what room is left on the node."""

import msgspec
from tests.unit.offload.jobbing import NOW_S, a_job, a_pod, at

from bareboat.kube import objects
from bareboat.offload import health, jobs, ledger, results
from bareboat.plumbing import clock as clocks
from bareboat.workload import pod as pods


def out(number: int, **notes: str) -> jobs.Pod:
    """A pod on the virtual node."""
    own = {f"bareboat.dev/{name.replace('_', '-')}": text for name, text in notes.items()}
    return jobs.Pod(
        metadata=objects.ObjectMeta(
            name=f"train-{number}",
            namespace="team-a",
            uid=f"u{number}",
            creation_timestamp=at(NOW_S + number),
            labels={"runpod.io/managed": "true"},
            annotations=own,
        ),
        spec=jobs.PodSpec(
            node_name="virtual",
            containers=[jobs.Container(resources=pods.Resources(limits={"nvidia.com/gpu": "2"}))],
        ),
        status=jobs.PodStatus(phase="Running"),
    )


def test_a_job_sent_out_is_told_so_before_anything_is_rented() -> None:
    entries = results.merged([], [out(1)])
    assert entries == []
    assert results.annotations(entries) == {"runpod.io/offloaded": "true", "bareboat.dev/offloaded": "true"}


def test_several_machines_are_told_in_the_order_of_their_pods() -> None:
    second = out(2, instance="runpod/b", usd_per_hour="0.3", gpu="1x L4", region_used="RO-1")
    first = out(1, instance="runpod/a", usd_per_hour="0.25", gpu="1x L4", region_used="US-TX-3")
    told = results.annotations(results.merged([], [second, first]))
    assert told["runpod.io/pod-id"] == "a,b" and told["runpod.io/cost-per-hr"] == "0.2500,0.3000"
    assert told["bareboat.dev/gpu"] == "1x L4" and told["bareboat.dev/region-used"] == "US-TX-3,RO-1"


def test_what_ended_stays_told_with_what_it_cost() -> None:
    known = results.merged([], [out(1, instance="runpod/a", usd_per_hour="0.25")])
    ended = results.merged(known, [out(1, spent_usd="0.02"), out(2, instance="runpod/b", usd_per_hour="0.5")])
    told = results.annotations(ended)
    assert told["runpod.io/pod-id"] == "a,b" and told["bareboat.dev/spent-usd"] == "0.020000"
    gone = results.merged(ended, [])
    assert results.annotations(gone) == told


def test_a_second_machine_of_one_pod_takes_the_place_of_the_first() -> None:
    known = results.merged([], [out(1, instance="runpod/a", usd_per_hour="0.25")])
    again = results.merged(known, [out(1, instance="runpod/c", usd_per_hour="0.2", spent_usd="0.01")])
    assert [(each.id, each.usd_per_hour, each.spent_usd) for each in again] == [("c", 0.2, 0.01)]


def test_record_on_the_job_reads_back_and_nonsense_is_none() -> None:
    entries = results.merged([], [out(1, instance="runpod/a", usd_per_hour="lots", spent_usd="-1")])
    text = results.annotations(entries)[results.INSTANCES]
    assert results.told(a_job(annotations={results.INSTANCES: text})) == entries
    assert results.told(a_job(annotations={results.INSTANCES: "{"})) == []
    assert results.told(a_job(annotations={})) == []


def test_only_the_newest_machines_of_a_large_job_are_told() -> None:
    several = [out(number, instance=f"runpod/{number}") for number in range(results.MOST + 5)]
    told = results.annotations(results.merged([], several))
    assert len(told["runpod.io/pod-id"].split(",")) == results.MOST
    assert sum(map(len, told.values())) < 100_000


def a_node(**conditions: str) -> jobs.Node:
    """`cloud="False"` is a cloud in trouble."""
    known = {"Ready": conditions.get("ready", "True"), "CloudReachable": conditions.get("cloud", "True")}
    return jobs.Node(
        metadata=objects.ObjectMeta(name="virtual"),
        status=jobs.NodeStatus(
            allocatable={"pods": "10", "nvidia.com/gpu": "8"},
            conditions=[jobs.Condition(type=name, status=status, message="why") for name, status in known.items()],
        ),
    )


def test_room_counts_what_is_there_and_what_is_under_way_once() -> None:
    clock = clocks.ManualClock()
    books = ledger.Ledger(clock, 0.5)
    assert books.room(None).trouble == "the virtual node does not exist"
    books.node = a_node()
    assert (books.room(None).pods, books.room(None).gpus, books.room(None).trouble) == (10, 8, None)
    waits = a_pod(a_job(gpus=2))
    books.reserve(waits, 2, 0.5)
    room = books.room(None)
    assert (room.pods, room.gpus, room.out, room.usd_by_namespace) == (9, 6, 1, {"team-a": 0.5})
    assert waits.metadata.uid in books
    books.shown(
        msgspec.structs.replace(out(1, usd_per_hour="0.3"), metadata=_with_uid(out(1, usd_per_hour="0.3"), waits))
    )
    room = books.room(None)
    assert (room.pods, room.gpus, room.out, room.usd_by_namespace) == (9, 6, 1, {"team-a": 0.3})
    books.gone(waits.metadata.uid)
    assert (books.room(None).pods, books.room(None).out) == (10, 0)


def _with_uid(pod: jobs.Pod, other: jobs.Pod) -> objects.ObjectMeta:
    return msgspec.structs.replace(pod.metadata, uid=other.metadata.uid)


async def test_a_binding_whose_pod_never_showed_is_forgotten() -> None:
    clock = clocks.ManualClock()
    books = ledger.Ledger(clock, 0.5)
    books.node = a_node()
    books.reserve(a_pod(a_job()), 1, 0.5)
    await clock.advance(ledger.FORGET_S - 1)
    assert books.room(None).pods == 9
    await clock.advance(2)
    assert books.room(None).pods == 10


def test_pods_that_are_over_take_no_room() -> None:
    books = ledger.Ledger(clocks.ManualClock(), 0.5)
    books.node = a_node()
    books.shown(msgspec.structs.replace(out(1), status=jobs.PodStatus(phase="Succeeded")))
    assert books.room(None).pods == 10


def test_node_in_trouble_says_which() -> None:
    assert a_node().trouble() is None
    assert "not ready: why" in str(a_node(ready="False").trouble())
    assert "why" in str(a_node(cloud="False").trouble())


async def test_health_means_something() -> None:
    clock = clocks.ManualClock()
    passed: list[float] = []
    waits: list[str] = ["waits for the first list of jobs"]
    trouble: list[str] = []
    told = health.Health(
        lambda: passed[-1] if passed else None,
        lambda: waits[-1] if waits else None,
        lambda: trouble[-1] if trouble else None,
        30.0,
        clock,
    )
    assert told.alive() == (True, "alive") and told.ready() == (False, "waits for the first list of jobs")
    waits.clear()
    assert told.ready() == (False, "the first look at the Jobs is yet to be made")
    passed.append(clock.monotonic_s())
    assert told.ready() == (True, "ready")
    trouble.append("runpod: the key was refused")
    assert told.ready() == (False, "runpod: the key was refused") and told.alive()[0]
    await clock.advance(health.STALLED_PASSES * 30.0 + 1)
    assert told.alive() == (False, "no look at the Jobs for 121 s") and not told.ready()[0]
