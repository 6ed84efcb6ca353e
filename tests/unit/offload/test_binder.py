"""What is looked at before a pod is bound, and what it is given with the binding."""

import pytest
from tests.unit.offload.jobbing import FORCED, MANAGED, a_job

from bareboat.core import errors
from bareboat.core import needs as needs_
from bareboat.kube import errors as kube_errors
from bareboat.kube import objects
from bareboat.offload import binder, credit, jobs, policy, wishes
from bareboat.plumbing import clock as clocks
from bareboat.workload import access
from bareboat.workload import pod as pods


class FakeClient:
    """Answers one pod; keeps what it was asked to bind."""

    def __init__(self, pod: pods.Pod | None, conflict: bool = False) -> None:
        self._pod = pod
        self._conflict = conflict
        self.bound: list[dict[str, object]] = []

    async def get(self, path: str, **_: object) -> pods.Pod:
        if self._pod is None:
            raise kube_errors.NotFound("GET", path, 404, "NotFound", "no such pod")
        return self._pod

    async def bind(self, namespace: str, pod: str, node: str, **more: object) -> None:
        if self._conflict:
            raise kube_errors.Conflict("POST", pod, 409, "Conflict", "already assigned to node other")
        self.bound.append({"pod": pod, "node": node, **more})


def a_pod(notes: dict[str, str] | None = None, **changes: object) -> pods.Pod:
    given_up = pods.Condition("PodScheduled", "False", "Unschedulable", "0/1 nodes are available")
    container = pods.Container(name="main", image="busybox", resources=pods.Resources(limits={"nvidia.com/gpu": "1"}))
    spec = pods.PodSpec(containers=[container], node_name=str(changes.get("node", "")))
    spec.scheduler_name = str(changes.get("scheduler", ""))
    if changes.get("host_path"):
        spec.volumes = [pods.Volume(name="host", host_path={"path": "/"})]
        container.volume_mounts = [pods.VolumeMount("host", "/host")]
    status = pods.PodStatus(phase="Pending", conditions=[] if changes.get("unseen") else [given_up])
    return pods.Pod(
        objects.ObjectMeta(name="train-0", namespace="team-a", uid=str(changes.get("uid", "u0")), annotations=notes),
        spec,
        status,
    )


async def bind(
    client: FakeClient,
    rules: policy.Rules | None = None,
    annotations: dict[str, str] | None = None,
    none_fits: str | None = None,
) -> binder.Outcome:
    job = a_job(annotations=annotations or FORCED)
    wish = wishes.read(job)
    assert wish is not None
    waiting = jobs.Pod(metadata=objects.ObjectMeta(name="train-0", namespace="team-a", uid="u0"))

    async def fits(_: needs_.Needs, __: str) -> str | None:
        return none_fits

    leave = policy.Leave(job, wish, policy.Rule.FORCE, "forced", (waiting,))
    made = binder.Binder(client, "virtual", access.Access.PLAIN, fits=fits)  # type: ignore[arg-type]
    return await made.bind(waiting, leave, rules or policy.Rules())


async def test_binding_carries_conditions_label_rule_price_and_the_jobs_annotations() -> None:
    client = FakeClient(a_pod({"runpod.io/cloud-type": "COMMUNITY"}))
    asked = {**FORCED, "runpod.io/required-gpu-memory": "24", "runpod.io/cloud-type": "SECURE"}
    outcome = await bind(client, annotations=asked)
    assert outcome == binder.Bound(0.5, "0/1 nodes are available")
    (bound,) = client.bound
    assert (bound["node"], bound["uid"], bound["labels"]) == ("virtual", "u0", {"runpod.io/managed": "true"})
    assert bound["annotations"] == {
        "runpod.io/required-gpu-memory": "24",
        "bareboat.dev/offload-rule": "force",
        "bareboat.dev/max-usd-per-hour": "0.5",
    }


@pytest.mark.parametrize(("own", "price"), [("0.2", "0.2"), ("5", "0.5")])
async def test_a_pods_own_limit_counts_when_it_is_lower(own: str, price: str) -> None:
    for name in ("bareboat.dev/max-usd-per-hour", "vast.ai/max-price"):
        client = FakeClient(a_pod({name: own}))
        await bind(client)
        annotations = client.bound[0]["annotations"]
        assert isinstance(annotations, dict) and annotations["bareboat.dev/max-usd-per-hour"] == price


async def test_named_clouds_are_for_pods_that_name_none() -> None:
    rules = policy.Rules(clouds=("runpod",))
    plain, choosy = FakeClient(a_pod()), FakeClient(a_pod({"bareboat.dev/cloud": "vast"}))
    await bind(plain, rules)
    await bind(choosy, rules)
    assert "bareboat.dev/clouds" in str(plain.bound) and "bareboat.dev/clouds" not in str(choosy.bound)


@pytest.mark.parametrize(
    "pod",
    [None, a_pod(uid="another"), a_pod(node="gpu-1"), a_pod(unseen=True)],
    ids=["gone", "of the same name", "placed", "not given up"],
)
async def test_what_does_not_wait_any_more_is_left_alone(pod: pods.Pod | None) -> None:
    client = FakeClient(pod)
    assert isinstance(await bind(client), binder.Taken) and client.bound == []


async def test_pods_of_our_own_scheduler_wait_for_nobody_else() -> None:
    client = FakeClient(a_pod(unseen=True, scheduler="bareboat"))
    assert await bind(client) == binder.Bound(0.5, "")


async def test_a_refused_binding_is_somebody_elses_pod() -> None:
    outcome = await bind(FakeClient(a_pod(), conflict=True))
    assert outcome == binder.Taken("already assigned to node other")


async def test_what_can_not_run_or_be_had_is_not_bound() -> None:
    client = FakeClient(a_pod(host_path=True))
    outcome = await bind(client)
    assert isinstance(outcome, binder.Unfit) and "hostPath" in outcome.why
    nonsense = await bind(FakeClient(a_pod({"bareboat.dev/disk-gib": "big"})))
    assert isinstance(nonsense, binder.Unfit) and "disk-gib is 'big'" in nonsense.why
    client = FakeClient(a_pod())
    assert await bind(client, none_fits="None of 9 offers fits") == binder.NoOffer("None of 9 offers fits")
    assert client.bound == []


class FakePurse:
    def __init__(self, *answers: float | errors.CloudError) -> None:
        self._answers = list(answers)

    async def credit_usd(self) -> float:
        answer = self._answers.pop(0)
        if isinstance(answer, errors.CloudError):
            raise answer
        return answer


async def test_an_empty_account_is_trouble_and_an_unknown_one_is_not() -> None:
    purse = FakePurse(5.0, 0.0, errors.CloudDown("runpod", "502"), 3.0)
    watched = credit.Credit({"runpod": purse, "vast": object()}, clocks.ManualClock())  # type: ignore[dict-item]
    assert watched.trouble("runpod") == "its balance was not read yet" and watched.trouble("vast") is None
    told = []
    for _ in range(4):
        await watched.look()
        told.append(watched.trouble("runpod"))
    assert told == [None, *["the account has no credit left ($0.00)"] * 2, None]


def test_handed_down_annotations_are_those_of_a_job_that_is_managed() -> None:
    wish = wishes.read(a_job(annotations={**MANAGED, "bareboat.dev/disk-gib": "50"}))
    assert wish is not None and wish.handed_down == {"bareboat.dev/disk-gib": "50"}
