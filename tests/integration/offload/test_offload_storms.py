"""Bad days: the key goes, the controller is killed, RunPod misbehaves. Jobs end well all the same."""

import random
import time

import pytest
import yaml
from tests.integration.node import stage as parts
from tests.integration.offload import stage

FAULTS = (
    "capacity",
    "offer_gone",
    "over_constrained",
    "create_error",
    "create_lost_answer",
    "list_lag",
    "rate_limited",
    "bad_gateway",
    "slow_answer",
    "drift",
    "ports_late",
    "host_silent",
    "boot_stuck",
    "pull_error",
    "oci_error",
    "process_exits",
    "start_refused",
    "outbid",
    "pod_vanishes",
    "stale_runtime",
    "runtime_blip",
    "destroy_fails",
    "restart_ignored",
    "stream_drops",
    "ip_changes",
    "price_differs",
    "list_ghost",
    "ssh_late",
    "answer_cut",
    "login_late",
)
"""All that strike by chance; those that are somebody's doing have tests of their own."""


def working(name: str, seconds: float, **spec: object) -> stage.Json:
    job: stage.Json = yaml.safe_load(stage.EXAMPLE.replace("my-gpu-image:latest", "debian:12"))
    job["metadata"]["name"] = name
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["sh", "-c", f"sleep {seconds}"]
    job["spec"].update(spec)
    return job


def test_key_that_goes_half_way_and_comes_back_costs_the_job_nothing(installation: stage.Stage) -> None:
    on = installation
    door = on.offload()
    on.cluster.apply(working("steady", 12, backoffLimit=0))
    (pod,) = parts.until(lambda: on.pods_of("steady"), "its pod")
    on.cluster.until_phase(pod["metadata"]["name"], "Running", 60)
    on.runpod.control("key/revoke")
    parts.until(lambda: door.health("/readyz")[0] == 503, lambda: f"not ready; it says {door.health('/readyz')}", 40)
    on.cluster.apply(working("later", 0))
    on.runpod.let_pass(3)
    assert not on.pods_of("later")[0]["spec"].get("nodeName"), "it left for a cloud that refuses us"
    assert len(on.alive()) == 1
    on.runpod.control("key/add", key=on.runpod.key)
    on.until_over("steady", "Complete", 90)
    on.until_over("later", "Complete", 90)
    assert len(on.runpod.instances(pod)) == 1
    on.assert_clean()


def test_pod_ended_by_a_stranger_is_made_again_by_its_job(installation: stage.Stage) -> None:
    on = installation
    on.offload()
    on.cluster.apply(working("robbed", 8, backoffLimit=2))
    (pod,) = parts.until(lambda: on.pods_of("robbed"), "its pod")
    on.cluster.until_phase(pod["metadata"]["name"], "Running", 60)
    on.runpod.control("vanish", pod_id=on.alive()[0]["pod_id"])
    job = on.until_over("robbed", "Complete", 120)
    assert job["status"]["failed"] == 1 and job["status"]["succeeded"] == 1
    on.assert_clean()


@pytest.mark.timeout(300)
def test_controller_killed_at_random_leaves_no_machine_and_no_job_behind(installation: stage.Stage) -> None:
    on = installation
    dice = random.Random(11)
    # A killed leader's lease would have to run out first.
    door = on.offload(BAREBOAT_LEADER_ELECTION="false")
    on.cluster.apply(*(working(f"job-{number}", number % 3) for number in range(8)))
    for _ in range(6):
        time.sleep(dice.uniform(0.3, 3.0))
        door.kill()
        door.start(wait=False)
    for number in range(8):
        on.until_over(f"job-{number}", "Complete", 120)
    on.assert_clean()
    strangers = [each for each in on.runpod.alive() if each.get("foreign")]
    assert len(strangers) == 3, "pods of other people on the account were touched"


@pytest.mark.timeout(420)
def test_every_misfortune_of_runpod_once(installation: stage.Stage) -> None:
    on = installation
    on.offload(BAREBOAT_START_TIMEOUT_S="15")
    for name in FAULTS:
        on.runpod.control("faults/add", name=name, rule={"count": 1})
    on.cluster.apply(*(working(f"job-{number}", 1) for number in range(24)))
    for number in range(24):
        on.until_over(f"job-{number}", "Complete", 300)
    on.assert_clean()
    struck = on.runpod.world()["struck"]
    assert len(struck) >= 15, f"too few of the faults struck: {struck}"
