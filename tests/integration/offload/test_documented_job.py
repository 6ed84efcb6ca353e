"""The document's example Job, word for word but for an image the simulator knows, in each of the three ways."""

import json
import time

import yaml
from tests.integration.node import stage as parts
from tests.integration.offload import stage


def example(image: str, name: str = "my-gpu-job", *, forced: bool = True, **spec: object) -> stage.Json:
    """Parsed from the document's words; `spec` adds to the Job's."""
    job: stage.Json = yaml.safe_load(stage.EXAMPLE.replace("my-gpu-image:latest", image))
    job["metadata"]["name"] = name
    if not forced:
        del job["metadata"]["annotations"]["runpod.io/offload"]
    job["spec"].update(spec)
    return job


def test_forced_job_runs_on_the_cloud_and_completes(shared: stage.Stage) -> None:
    on = shared
    on.cluster.kubectl("apply", "-f", "-", stdin=stage.EXAMPLE.replace("my-gpu-image:latest", "alpine:3.20"))
    on.until_over("my-gpu-job", "Complete")
    (pod,) = on.pods_of("my-gpu-job")
    assert pod["spec"]["nodeName"] == on.doors[0].name
    assert parts.terminated(pod)["exitCode"] == 0
    (rented,) = on.runpod.instances(pod)

    parts.until(lambda: _has_cost(on.job("my-gpu-job")), lambda: f"what it cost; it is {on.job('my-gpu-job')}")
    told = stage.annotations(on.job("my-gpu-job"))
    assert told["runpod.io/pod-id"] == rented["pod_id"]
    assert told["runpod.io/offloaded"] == told["bareboat.dev/offloaded"] == "true"
    assert 0.1 < float(told["runpod.io/cost-per-hr"]) <= 0.5
    assert told["bareboat.dev/usd-per-hour"] == told["runpod.io/cost-per-hr"]
    assert told["bareboat.dev/cloud-used"] == "runpod" and told["bareboat.dev/region-used"]
    assert told["bareboat.dev/gpu"].startswith("1x ")
    (entry,) = json.loads(told["bareboat.dev/instances"])
    assert (entry["pod"], entry["cloud"], entry["id"]) == (pod["metadata"]["name"], "runpod", rented["pod_id"])
    assert on.cluster.kubectl("get", "pods", "-l", "runpod.io/managed=true", "-o", "name").split() == [
        f"pod/{pod['metadata']['name']}"
    ]
    said = on.cluster.event("my-gpu-job", "Offloaded")
    for expected in (
        pod["metadata"]["name"],
        "rule force",
        "runpod.io/offload",
        "at most $0.5/h",
        "nodes are available",
    ):
        assert expected in said
    assert f"runpod/{rented['pod_id']} at $0." in on.cluster.event("my-gpu-job", "Rented")
    on.assert_clean()


def _has_cost(job: stage.Json) -> bool:
    return float(stage.annotations(job).get("bareboat.dev/spent-usd", 0)) > 0


def test_failing_job_is_tried_again_to_its_backoff_limit_and_keeps_its_exit_code(shared: stage.Stage) -> None:
    on = shared
    on.cluster.apply(example("bareboat/crashes:1", "crashes", backoffLimit=1))
    job = on.until_over("crashes", "Failed", 90)
    assert "BackoffLimitExceeded" in parts.why(job, "Failed") and job["status"]["failed"] == 2
    pods = on.pods_of("crashes")
    assert [parts.terminated(pod)["exitCode"] for pod in pods] == [3, 3]
    assert {pod["spec"]["nodeName"] for pod in pods} == {on.doors[0].name}
    ids = [each["pod_id"] for pod in pods for each in on.runpod.instances(pod)]
    parts.until(
        lambda: stage.annotations(on.job("crashes"))["runpod.io/pod-id"].split(",") == ids,
        lambda: f"both of {ids}; there is {stage.annotations(on.job('crashes'))}",
    )
    assert len(stage.annotations(on.job("crashes"))["runpod.io/cost-per-hr"].split(",")) == 2
    on.assert_clean()


def test_killed_process_counts_as_137(shared: stage.Stage) -> None:
    on = shared
    job = example("debian:12", "killed", backoffLimit=0)
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["bash", "-c", "kill -9 $$$$"]
    on.cluster.apply(job)
    on.until_over("killed", "Failed")
    (pod,) = on.pods_of("killed")
    assert parts.terminated(pod)["exitCode"] == 137
    on.assert_clean()


def test_deleted_job_ends_its_machine(shared: stage.Stage) -> None:
    on = shared
    job = example("debian:12", "deleted")
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["sleep", "100000"]
    on.cluster.apply(job)
    (pod,) = parts.until(lambda: on.pods_of("deleted"), "its pod")
    on.cluster.until_phase(pod["metadata"]["name"], "Running", 60)
    assert len(on.alive()) == 1
    on.cluster.kubectl("delete", "job", "deleted", "--wait=false")
    on.cluster.until_gone(pod["metadata"]["name"], 60)
    on.assert_clean()


def test_job_that_waited_for_its_time_leaves(installation: stage.Stage) -> None:
    on = installation
    on.offload(BAREBOAT_OFFLOAD_MAX_PENDING_TIME="6", BAREBOAT_OFFLOAD_PENDING_JOB_THRESHOLD="1000")
    on.cluster.apply(example("alpine:3.20", forced=False))
    (pod,) = parts.until(lambda: on.pods_of("my-gpu-job"), "its pod")
    time.sleep(2.0)
    assert not on.pods_of("my-gpu-job")[0]["spec"].get("nodeName"), "it left before its time"
    on.until_over("my-gpu-job", "Complete")
    assert "rule time (pending for" in on.cluster.event("my-gpu-job", "Offloaded")
    bound = next(
        each
        for each in on.pods_of("my-gpu-job")[0]["status"]["conditions"]
        if each["type"] == "PodScheduled" and each["status"] == "True"
    )
    waited_s = parts.unix_s(bound["lastTransitionTime"]) - parts.unix_s(pod["metadata"]["creationTimestamp"])
    assert 5 <= waited_s <= 9
    on.assert_clean()


def test_jobs_beyond_the_threshold_leave_and_the_others_stay(installation: stage.Stage) -> None:
    on = installation
    on.offload(BAREBOAT_OFFLOAD_MAX_PENDING_TIME="3600")
    on.cluster.apply(example("alpine:3.20", "only", forced=False))
    parts.until(lambda: _unschedulable(on, "only"), "the scheduler to give it up")
    on.runpod.let_pass(2)
    assert on.rented() == []
    on.cluster.apply(example("alpine:3.20", "another", forced=False))
    on.until_over("only", "Complete")
    assert "rule threshold (2 Jobs are pending, more than 1)" in on.cluster.event("only", "Offloaded")
    assert not on.pods_of("another")[0]["spec"].get("nodeName")
    assert len(on.rented()) == 1
    on.cluster.kubectl("delete", "job", "another")
    on.assert_clean()


def _unschedulable(on: stage.Stage, job: str) -> bool:
    return any(parts.condition(pod, "PodScheduled") == "False" for pod in on.pods_of(job))
