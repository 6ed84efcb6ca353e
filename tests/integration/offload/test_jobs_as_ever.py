"""What Kubernetes does with Jobs goes on as ever while their pods run elsewhere."""

from tests.integration.node import stage as parts
from tests.integration.offload import stage
from tests.integration.offload.test_offload_annotations import FORCED, sleeping


def quick(name: str, command: str, **spec: object) -> stage.Json:
    job = sleeping(name, FORCED)
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["sh", "-c", command]
    job["spec"].update(spec)
    return job


def test_pod_failure_policy_reads_the_exit_code(shared: stage.Stage) -> None:
    on = shared
    rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]
    on.cluster.apply(quick("picky", "exit 42", backoffLimit=6, podFailurePolicy={"rules": rules}))
    job = on.until_over("picky", "Failed")
    assert "PodFailurePolicy" in parts.why(job, "Failed") and len(on.pods_of("picky")) == 1
    on.assert_clean()


def test_job_that_is_suspended_while_it_runs_gives_its_machine_back(shared: stage.Stage) -> None:
    on = shared
    on.cluster.apply(quick("paused", "sleep 100000"))
    (pod,) = parts.until(lambda: on.pods_of("paused"), "its pod")
    on.cluster.until_phase(pod["metadata"]["name"], "Running", 60)
    on.cluster.kubectl("patch", "job", "paused", "--type=merge", '--patch={"spec":{"suspend":true}}')
    on.cluster.until_gone(pod["metadata"]["name"], 60)
    on.assert_clean()
    on.cluster.kubectl("delete", "job", "paused")


def test_finished_job_is_removed_after_its_time_with_everything(shared: stage.Stage) -> None:
    on = shared
    on.cluster.apply(quick("brief", "exit 0", ttlSecondsAfterFinished=2))
    parts.until(lambda: on.cluster.find("jobs", "brief") is None, "its removal", 60)
    parts.until(lambda: on.pods_of("brief") == [], "its pods' removal", 30)
    on.assert_clean()


def test_jobs_of_a_cron_job_leave_like_others(shared: stage.Stage) -> None:
    on = shared
    job = quick("unused", "exit 0")
    template = {"metadata": {"annotations": job["metadata"]["annotations"]}, "spec": job["spec"]}
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": template},
    }
    on.cluster.apply(cron)
    on.cluster.kubectl("create", "job", "--from=cronjob/nightly", "tonight")
    on.until_over("tonight", "Complete")
    assert on.pods_of("tonight")[0]["spec"]["nodeName"] == on.doors[0].name
    on.cluster.kubectl("delete", "cronjob", "nightly")
    on.assert_clean()
