"""Jobs that say nonsense, or can't run elsewhere: an Event says why, they stay here, and nothing is rented."""

import copy
import time

import pytest
import yaml
from tests.integration.node import stage as parts
from tests.integration.offload import stage

WRONG: dict[str, tuple[dict[str, str], str]] = {
    "managed": ({"runpod.io/managed": "yes"}, 'runpod.io/managed is \'yes\'; allowed: "true" or "false"'),
    "memory-unit": (
        {"runpod.io/required-gpu-memory": "16GB"},
        "required-gpu-memory is '16GB'; allowed: a number from 0",
    ),
    "memory-word": (
        {"runpod.io/required-gpu-memory": "lots"},
        "required-gpu-memory is 'lots'; allowed: a number from 0",
    ),
    "memory-sign": ({"runpod.io/required-gpu-memory": "-1"}, "required-gpu-memory is '-1'; allowed: a number from 0"),
    "place": ({"runpod.io/datacenter-ids": "MARS-1"}, "datacenter-ids is 'MARS-1'; allowed: data centres of RunPod"),
    "price": ({"bareboat.dev/max-usd-per-hour": "cheap"}, "max-usd-per-hour is 'cheap'; allowed: a number from"),
    "cloud-type": ({"runpod.io/cloud-type": "mine"}, "cloud-type is 'mine'; allowed: SECURE, COMMUNITY or ALL"),
}


def forced(name: str) -> stage.Json:
    job: stage.Json = yaml.safe_load(stage.EXAMPLE.replace("my-gpu-image:latest", "alpine:3.20"))
    job["metadata"]["name"] = f"wrong-{name}"
    return job


def test_nonsense_is_told_on_the_job_and_stays_local(shared: stage.Stage) -> None:
    on = shared
    jobs = []
    for name, (wrong, _) in WRONG.items():
        job = forced(name)
        job["metadata"]["annotations"].update(wrong)
        jobs.append(job)
    on.cluster.apply(*jobs)
    for name, (_, told) in WRONG.items():
        said = on.cluster.event(f"wrong-{name}", "InvalidOffload")
        assert told in said and "stays here and nothing is rented" in said
    on.runpod.let_pass(2)
    assert on.rented() == []
    assert not [pod for pod in on.cluster.pods() if pod["spec"].get("nodeName")]
    # Put right, it leaves without being made anew.
    on.cluster.kubectl("annotate", "job", "wrong-memory-unit", "runpod.io/required-gpu-memory=16", "--overwrite")
    on.until_over("wrong-memory-unit", "Complete")
    for name in WRONG:
        on.cluster.kubectl("delete", "job", f"wrong-{name}", "--wait=false")
    on.assert_clean()


def test_what_no_rented_machine_can_run_stays_with_the_reason(shared: stage.Stage) -> None:
    on, before = shared, len(shared.rented())
    job = forced("host-path")
    spec = job["spec"]["template"]["spec"]
    spec["volumes"] = [{"name": "host", "hostPath": {"path": "/var"}}]
    spec["containers"][0]["volumeMounts"] = [{"name": "host", "mountPath": "/host"}]
    gpuless = forced("no-gpu")
    del gpuless["spec"]["template"]["spec"]["containers"][0]["resources"]
    gpuless["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "500"}}
    on.cluster.apply(job, gpuless)
    assert "hostPath" in on.cluster.event("wrong-host-path", "NotOffloadable")
    assert "at least 1 GPU" in on.cluster.event("wrong-no-gpu", "InvalidOffload")
    on.runpod.let_pass(2)
    assert len(on.rented()) == before
    for name in ("host-path", "no-gpu"):
        (pod,) = on.pods_of(f"wrong-{name}")
        assert not pod["spec"].get("nodeName")
        on.cluster.kubectl("delete", "job", f"wrong-{name}", "--wait=false")
    # Told once, not at every look.
    assert len([each for each in on.cluster.events("wrong-host-path") if each["reason"] == "NotOffloadable"]) == 1


def test_suspended_jobs_are_left_to_whoever_suspended_them(shared: stage.Stage) -> None:
    on, before = shared, len(shared.rented())
    job = forced("suspended")
    job["spec"]["suspend"] = True
    on.cluster.apply(job)
    on.runpod.let_pass(2)
    assert on.pods_of("wrong-suspended") == [] and len(on.rented()) == before
    on.cluster.kubectl("patch", "job", "wrong-suspended", "--type=merge", '--patch={"spec":{"suspend":false}}')
    on.until_over("wrong-suspended", "Complete")
    on.assert_clean()


@pytest.mark.parametrize("trouble", ["key", "credit", "price"])
def test_jobs_stay_here_while_the_account_is_of_no_use(installation: stage.Stage, trouble: str) -> None:
    on = installation
    door = on.offload(RUNPOD_KEY="wrong" if trouble == "key" else on.runpod.key)
    if trouble == "credit":
        door.stop()
        on.runpod.control("credit", usd=0)
        door.start()
    job = forced("stays")
    if trouble == "price":
        job["metadata"]["annotations"]["bareboat.dev/max-usd-per-hour"] = "0.001"
        on.cluster.apply(job)
        told = on.cluster.event("wrong-stays", "NoOffers", 40)
        assert "goes on waiting here" in told and "for max price" in told
        assert not on.pods_of("wrong-stays")[0]["spec"].get("nodeName")
        assert on.rented() == []
        return
    words = {"key": "key", "credit": "no credit left"}[trouble]
    parts.until(
        lambda: door.health("/readyz")[0] == 503 and words in door.health("/readyz")[1].lower(),
        lambda: f"not ready because of the {trouble}; it says {door.health('/readyz')}",
        40,
    )
    assert door.health("/healthz")[0] == 200
    on.cluster.apply(copy.deepcopy(job))
    parts.until(lambda: on.pods_of("wrong-stays"), "its pod")
    time.sleep(3.0)
    assert not on.pods_of("wrong-stays")[0]["spec"].get("nodeName")
    assert on.rented() == []
