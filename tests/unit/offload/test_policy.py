"""Which Jobs leave and when, as tables."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.offload import jobbing
from tests.unit.offload.jobbing import FORCED, MANAGED, NOW_S, a_job, a_pod, room, waiting

from bareboat.offload import jobs, policy, selectors

PATIENT = policy.Rules(max_pending_s=3600.0, pending_job_threshold=1000)


def left(verdicts: list[policy.Verdict]) -> dict[str, tuple[policy.Rule, int]]:
    """Rule and number of pods of those that leave, by Job."""
    return {each.job.metadata.name: (each.rule, len(each.pods)) for each in verdicts if isinstance(each, policy.Leave)}


def stays(verdicts: list[policy.Verdict], name: str) -> policy.Stay:
    (found,) = [each for each in verdicts if each.job.metadata.name == name]
    assert isinstance(found, policy.Stay)
    return found


def test_by_default_whatever_waits_leaves_at_once() -> None:
    plan = policy.plan([waiting(a_job(), waits_s=0.0)], policy.Rules(), room(), NOW_S)
    assert left(plan) == {"train": (policy.Rule.TIME, 1)}


@pytest.mark.parametrize(("waited_s", "leaves"), [(0.0, False), (29.9, False), (30.0, True), (500.0, True)])
def test_time_rule_holds_once_the_time_is_over(waited_s: float, leaves: bool) -> None:
    rules = dataclasses.replace(PATIENT, max_pending_s=30.0)
    plan = policy.plan([waiting(a_job(), waits_s=waited_s)], rules, room(), NOW_S)
    assert bool(left(plan)) is leaves
    if not leaves:
        assert stays(plan, "train").due_s == pytest.approx(NOW_S - waited_s + 30.0)


def test_force_holds_at_once_and_goes_first() -> None:
    rules = dataclasses.replace(PATIENT, max_pending_s=30.0)
    several = [waiting(a_job("old"), waits_s=900), waiting(a_job("forced", FORCED), waits_s=0)]
    assert left(policy.plan(several, rules, room(pods=1), NOW_S)) == {"forced": (policy.Rule.FORCE, 1)}


@pytest.mark.parametrize(
    ("threshold", "count", "leaving"), [(1, 1, 0), (1, 2, 1), (1, 5, 4), (3, 5, 2), (0, 1, 1), (9, 5, 0)]
)
def test_jobs_beyond_the_threshold_leave_oldest_first(threshold: int, count: int, leaving: int) -> None:
    rules = dataclasses.replace(PATIENT, pending_job_threshold=threshold)
    several = [waiting(a_job(f"job-{number}"), waits_s=100 - number) for number in range(count)]
    assert left(policy.plan(several, rules, room(), NOW_S)) == {
        f"job-{number}": (policy.Rule.THRESHOLD, 1) for number in range(leaving)
    }


def test_jobs_that_leave_for_another_reason_are_pending_no_more() -> None:
    rules = dataclasses.replace(PATIENT, pending_job_threshold=1)
    several = [waiting(a_job("forced", FORCED)), waiting(a_job("other"))]
    assert left(policy.plan(several, rules, room(), NOW_S)) == {"forced": (policy.Rule.FORCE, 1)}
    full = policy.plan(several, rules, room(pods=0), NOW_S)
    assert left(full) == {} and "room for 0 pods" in stays(full, "forced").why


@pytest.mark.parametrize(
    ("order", "first"),
    [(policy.Order.OLDEST, "old"), (policy.Order.NEWEST, "young"), (policy.Order.FEWEST_GPUS, "small")],
)
def test_order_says_who_leaves_where_not_all_can(order: policy.Order, first: str) -> None:
    several = [
        waiting(a_job("old", gpus=2), waits_s=300),
        waiting(a_job("small", gpus=1), waits_s=200),
        waiting(a_job("young", gpus=2), waits_s=100),
    ]
    plan = policy.plan(several, dataclasses.replace(policy.Rules(), order=order), room(pods=1), NOW_S)
    assert list(left(plan)) == [first]


def test_pods_of_a_job_leave_as_far_as_there_is_room() -> None:
    rules = policy.Rules()
    assert left(policy.plan([waiting(a_job(gpus=2), 5)], rules, room(gpus=7), NOW_S)) == {
        "train": (policy.Rule.TIME, 3)
    }
    assert left(policy.plan([waiting(a_job(), 5)], rules, room(pods=4), NOW_S)) == {"train": (policy.Rule.TIME, 4)}
    plan = policy.plan([waiting(a_job(gpus=8))], rules, room(gpus=4), NOW_S)
    assert "asks for 8 GPUs; the virtual node has 4" in stays(plan, "train").why


def test_nothing_leaves_while_the_cloud_is_in_trouble() -> None:
    plan = policy.plan([waiting(a_job("forced", FORCED))], policy.Rules(), room(trouble="runpod: 401"), NOW_S)
    assert stays(plan, "forced").why == "nothing can leave now: runpod: 401"


def test_budgets_and_limits_hold_for_each_namespace() -> None:
    several = [
        waiting(a_job(f"{name}-{number}", namespace=name)) for name in ("team-a", "team-b") for number in range(5)
    ]

    def counts(**rules: object) -> dict[str, int]:
        used = room(usd_by_namespace={"team-a": 0.3}, out_by_namespace={"team-a": 1}, out=1)
        verdicts = policy.plan(several, dataclasses.replace(policy.Rules(), **rules), used, NOW_S)  # type: ignore[arg-type]
        names = [name.rpartition("-")[0] for name in left(verdicts)]
        return {name: names.count(name) for name in ("team-a", "team-b")}

    assert counts() == {"team-a": 5, "team-b": 5}
    assert counts(usd_per_hour_by_namespace={"team-a": 1.0}) == {"team-a": 1, "team-b": 5}
    assert counts(usd_per_hour_by_namespace={"team-a": 2.0, "*": 1.0}) == {"team-a": 3, "team-b": 2}
    assert counts(usd_per_hour_by_namespace={"*": 0.0}) == {"team-a": 0, "team-b": 0}
    assert counts(most_pods_per_namespace=2) == {"team-a": 1, "team-b": 2}
    assert counts(most_pods=4) == {"team-a": 3, "team-b": 0}


def test_a_jobs_own_lower_limit_counts_in_its_budget() -> None:
    rules = dataclasses.replace(policy.Rules(), usd_per_hour_by_namespace={"team-a": 0.5})
    cheap = a_job(annotations={**MANAGED, "bareboat.dev/max-usd-per-hour": "0.1"})
    assert left(policy.plan([waiting(cheap, 9)], rules, room(), NOW_S)) == {"train": (policy.Rule.TIME, 5)}
    dear = a_job(annotations={**MANAGED, "bareboat.dev/max-usd-per-hour": "9"})
    assert left(policy.plan([waiting(dear, 9)], rules, room(), NOW_S)) == {"train": (policy.Rule.TIME, 1)}


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (a_job(), ""),
        (a_job(suspend=True), "it is suspended"),
        (a_job(suspend=False), ""),
        (a_job(deleted=True), "it is being deleted"),
        (a_job(over="Complete"), "it is finished"),
        (a_job(over="Failed"), "it is finished"),
        (a_job(over="Suspended"), ""),
        (a_job(namespace="other"), "namespace other is none of those whose Jobs may leave"),
        (a_job(labels={"keep": "here"}), "its labels don't fit the selector '!keep' of what may leave"),
    ],
)
def test_what_is_no_candidate_says_why(job: jobs.Job, why: str) -> None:
    rules = dataclasses.replace(policy.Rules(), namespaces=frozenset({"team-a"}), selector=selectors.parse("!keep"))
    assert policy.why_kept(job, rules) == why


def test_only_pods_that_the_scheduler_has_given_up_wait() -> None:
    job = a_job()
    assert a_pod(job, waits_s=5).waits_since() == jobbing.at(NOW_S - 5)
    assert a_pod(job, waits_s=None).waits_since() is None
    assert a_pod(job, node="gpu-1").waits_since() is None
    assert a_pod(job, waits_s=None, scheduler="bareboat").waits_since() == jobbing.at(NOW_S - 100)
    gated = jobs.Condition(type="PodScheduled", status="False", reason="SchedulingGated")
    pod = a_pod(job)
    held = jobs.Pod(metadata=pod.metadata, spec=pod.spec, status=jobs.PodStatus(phase="Pending", conditions=(gated,)))
    assert held.waits_since() is None


@given(
    threshold=st.integers(0, 6),
    pods=st.integers(0, 8),
    gpus=st.integers(0, 8),
    budget=st.floats(0, 3),
    several=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans(), st.floats(0, 100)), max_size=8),
)
def test_no_plan_passes_room_or_budget(
    threshold: int, pods: int, gpus: int, budget: float, several: list[tuple[int, int, bool, float]]
) -> None:
    rules = policy.Rules(
        max_pending_s=50.0, pending_job_threshold=threshold, usd_per_hour_by_namespace={"team-a": budget}
    )
    asked = [
        waiting(a_job(f"job-{number}", FORCED if forced else MANAGED, gpus=each), count, waits_s=waits_s)
        for number, (each, count, forced, waits_s) in enumerate(several)
    ]
    verdicts = policy.plan(asked, rules, room(pods, gpus), NOW_S)
    assert sorted(each.job.key for each in verdicts) == sorted(each.job.key for each in asked)
    leaving = [each for each in verdicts if isinstance(each, policy.Leave)]
    assert sum(len(each.pods) for each in leaving) <= pods
    assert sum(len(each.pods) * each.wish.gpus for each in leaving) <= gpus
    assert sum(len(each.pods) for each in leaving) * 0.5 <= budget + 1e-6
