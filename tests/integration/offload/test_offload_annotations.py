"""Every annotation and flag that decides what is rented, seen in what RunPod was asked for."""

from collections.abc import Callable

import yaml
from tests.integration.node import stage as parts
from tests.integration.offload import stage


def sleeping(name: str, annotations: dict[str, str], **template: str) -> stage.Json:
    job: stage.Json = yaml.safe_load(stage.EXAMPLE.replace("my-gpu-image:latest", "debian:12"))
    job["metadata"] = {"name": name, "annotations": {"runpod.io/managed": "true", **annotations}}
    job["spec"]["backoffLimit"] = 0
    job["spec"]["template"]["metadata"] = {"annotations": template}
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["sleep", "100000"]
    return job


def rented_for(on: stage.Stage, job: stage.Json, see: Callable[[stage.Json], None]) -> None:
    """Applies the Job, has the pod that RunPod shows for it looked at, and takes the Job away."""
    name = job["metadata"]["name"]
    on.cluster.apply(job)

    def shown() -> stage.Json | None:
        uids = [parts.uid(each) for each in on.pods_of(name)]
        found = [each for each in on.runpod.world()["pods"] if any(uid in each["name"] for uid in uids)]
        return found[0] if found else None

    found = parts.until(
        shown, lambda: f"a pod at RunPod for {name}; its own say {[parts.told(p) for p in on.pods_of(name)]}"
    )
    assert found is not None
    see(found)
    on.cluster.kubectl("delete", "job", name, "--wait=false")


FORCED = {"runpod.io/offload": "true"}


def test_place_ports_and_cloud_come_from_the_job(shared: stage.Stage) -> None:
    places = {each["dataCenterId"] for each in _offered(shared) if each["dataCenterId"]}
    place = sorted(places)[0]

    def see(pod: stage.Json) -> None:
        assert pod["dataCenterId"] == place and pod["cloud"] == "SECURE"
        assert {"8888/http", "7000/tcp"} <= set(pod["ports"])

    asks = {
        "runpod.io/datacenter-ids": place,
        "runpod.io/cloud-type": "SECURE",
        "runpod.io/ports": "8888/http,7000/tcp",
    }
    rented_for(shared, sleeping("placed", {**FORCED, **asks}), see)
    shared.assert_clean()


def _offered(on: stage.Stage) -> list[stage.Json]:
    """Places with something for half a dollar: those of a search without wishes."""
    answer = on.runpod._ask("GET", "/v2/catalog/gpus?include=AVAILABILITY&product=POD&count=1&cloud=SECURE")
    cheap = [each for each in answer["gpus"] if (each["price"]["secure"] or 9) < 0.45]
    return [
        {"dataCenterId": place["id"]}
        for each in cheap
        for place in each["dataCenters"]
        if place["availability"] != "NONE"
    ]


def test_the_pod_templates_word_goes_before_the_jobs(shared: stage.Stage) -> None:
    def see(pod: stage.Json) -> None:
        assert pod["cloud"] == "COMMUNITY"

    job = sleeping("peers", {**FORCED, "runpod.io/cloud-type": "SECURE"}, **{"runpod.io/cloud-type": "COMMUNITY"})
    rented_for(shared, job, see)
    shared.assert_clean()


def test_memory_decides_which_gpu(shared: stage.Stage) -> None:
    def see(pod: stage.Json) -> None:
        assert pod["gpu"]["id"] in ("NVIDIA A40", "NVIDIA RTX A6000")

    rented_for(shared, sleeping("large", {**FORCED, "runpod.io/required-gpu-memory": "40"}), see)
    shared.assert_clean()


def test_registry_login_of_the_account_is_named_in_the_create(shared: stage.Stage) -> None:
    made = shared.runpod._ask("POST", "/v2/registries", {"name": "mine", "username": "robot", "password": "opensesame"})

    def see(pod: stage.Json) -> None:
        assert pod["registry"] == made["id"]

    job = sleeping("private", {**FORCED, "runpod.io/container-registry-auth-id": made["id"]})
    rented_for(shared, job, see)
    shared.assert_clean()


def test_template_of_the_account_is_named_in_the_create(shared: stage.Stage) -> None:
    """One that the account does not have is refused by RunPod, in its own words."""
    job = sleeping("templated", {**FORCED, "runpod.io/templateId": "nosuchtemplate"})
    shared.cluster.apply(job)
    (pod,) = parts.until(lambda: shared.pods_of("templated"), "its pod")
    assert "template" in shared.cluster.event(pod["metadata"]["name"], "LaunchRefused", 40)
    shared.cluster.kubectl("delete", "job", "templated", "--wait=false")
    shared.assert_clean()


def test_highest_price_holds_whatever_annotations_say(installation: stage.Stage) -> None:
    on = installation
    on.offload(BAREBOAT_OFFLOAD_MAX_GPU_PRICE="0.2")
    job = sleeping("dear", FORCED, **{"bareboat.dev/max-usd-per-hour": "5"})
    on.cluster.apply(job)
    assert "for max price" in on.cluster.event("dear", "NoOffers", 40)
    assert not on.pods_of("dear")[0]["spec"].get("nodeName") and on.rented() == []


def test_price_that_rises_over_the_limit_after_the_rent_ends_the_machine(installation: stage.Stage) -> None:
    on = installation
    on.offload(BAREBOAT_OFFLOAD_MAX_GPU_PRICE="0.26")
    on.runpod.control("faults/add", name="price_differs", rule={"by": 0.5, "count": 1})
    on.cluster.apply(sleeping("raised", FORCED))
    (pod,) = parts.until(lambda: on.pods_of("raised"), "its pod")
    name = pod["metadata"]["name"]
    parts.until(lambda: on.cluster.pod(name)["spec"].get("nodeName"), "it leaves")
    assert stage.annotations(on.cluster.pod(name))["bareboat.dev/max-usd-per-hour"] == "0.26"
    on.cluster.kubectl("annotate", "pod", name, "bareboat.dev/max-usd-per-hour=5", "--overwrite")
    on.cluster.event(name, "TooDear", 40)
    parts.until(lambda: len(on.rented()) > 1, "another machine, at the price that was promised", 60)
    on.cluster.kubectl("delete", "job", "raised", "--wait=false")
    on.assert_clean()


def test_job_of_several_pods_tells_of_each(shared: stage.Stage) -> None:
    on = shared
    job = sleeping("several", FORCED)
    job["spec"] |= {"parallelism": 3, "completions": 3, "completionMode": "Indexed"}
    job["spec"]["template"]["spec"]["containers"][0] |= {"image": "alpine:3.20", "command": ["sh", "-c", "exit 0"]}
    on.cluster.apply(job)
    on.until_over("several", "Complete", 90)
    told = stage.annotations(on.job("several"))
    ids = told["runpod.io/pod-id"].split(",")
    assert len(set(ids)) == 3 and len(told["runpod.io/cost-per-hr"].split(",")) == 3
    assert sorted(ids) == sorted(each["pod_id"] for pod in on.pods_of("several") for each in on.runpod.instances(pod))
    on.assert_clean()


def test_dry_run_says_what_would_leave_and_changes_nothing(shared: stage.Stage) -> None:
    on, before = shared, len(shared.rented())
    on.cluster.apply(sleeping("would-wait", {}))
    parts.until(
        lambda: any(parts.condition(pod, "PodScheduled") == "False" for pod in on.pods_of("would-wait")), "given up"
    )
    said = on.explain("--max-pending-time", "0")
    assert f"{on.cluster.namespace}/would-wait: leaves (time, 1 pods): pending for" in said
    said = on.explain("--max-pending-time", "3600", "--pending-job-threshold", "5")
    assert f"{on.cluster.namespace}/would-wait: stays: it may be pending for 3600 s" in said
    assert "its labels don't fit the selector" in on.explain("--selector", "tier=batch")
    assert not on.pods_of("would-wait")[0]["spec"].get("nodeName") and len(on.rented()) == before
    on.cluster.kubectl("delete", "job", "would-wait")
