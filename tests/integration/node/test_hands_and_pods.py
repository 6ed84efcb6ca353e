"""What people do to pods, instances and Nodes by hand, and pods that make no sense: one installation for all."""

import pytest
from tests.integration.node import stage


def _running(on: stage.Stage, name: str, **more: object) -> stage.Json:
    on.cluster.create(stage.pod(name, on.nodes[0], **more))  # type: ignore[arg-type]
    return on.cluster.until_phase(name, "Running")


def test_a_forcibly_deleted_pods_instance_is_ended(shared: stage.Stage) -> None:
    pod = _running(shared, "forced")
    shared.cluster.kubectl("delete", "pod", "forced", "--grace-period=0", "--force")
    stage.until(lambda: not shared.vast.alive(pod), lambda: f"ended: {shared.vast.alive(pod)}")


def test_a_pod_whose_instance_a_person_destroyed_is_told_and_restarted_as_its_policy_says(shared: stage.Stage) -> None:
    shared.cluster.create(stage.pod("robbed-but-undaunted", shared.nodes[0], restartPolicy="Always"))
    robbed = _running(shared, "robbed")
    undaunted = shared.cluster.until_phase("robbed-but-undaunted", "Running")
    for pod in (robbed, undaunted):
        shared.vast.control("vanish", instance_id=int(stage.instance_id(pod)))

    after = shared.cluster.until_phase("robbed", "Failed")
    assert after["status"]["reason"] == "InstanceLost"
    assert stage.terminated(after)["reason"] == "ContainerStatusUnknown"
    assert stage.condition(after, "DisruptionTarget") == "True"
    assert "does not exist any more" in after["status"]["message"]
    assert len(shared.vast.instances(robbed)) == 1

    def again(pod: stage.Json) -> stage.Json | None:
        return pod if stage.container(pod)["restartCount"] == 1 and "running" in stage.container(pod)["state"] else None

    restarted = shared.cluster.until("robbed-but-undaunted", again, "a second container", 40)
    assert restarted is not None
    assert stage.instance_id(restarted) not in ("", stage.instance_id(undaunted))
    assert stage.container(restarted)["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert len(shared.vast.alive(undaunted)) == 1


def test_a_pod_is_not_ready_while_its_host_is_silent_and_ready_again_after(shared: stage.Stage) -> None:
    pod = _running(shared, "silent")
    machine = shared.vast.alive(pod)[0]["machine_id"]
    shared.cluster.until("silent", lambda pod: stage.condition(pod, "Ready") == "True", "ready")
    shared.vast.control("host/down", machine_id=machine)
    silent = shared.cluster.until(
        "silent", lambda pod: pod if stage.condition(pod, "Ready") == "False" else None, "unready"
    )
    assert silent is not None and silent["status"]["phase"] == "Running"
    assert "lost touch with the host" in stage.why(silent, "Ready")
    shared.vast.control("host/up", machine_id=machine)
    shared.cluster.until("silent", lambda pod: stage.condition(pod, "Ready") == "True", "ready again")
    assert stage.instance_id(shared.cluster.pod("silent")) == stage.instance_id(pod)


def test_a_pod_whose_instance_a_person_stopped_gets_another_and_the_stopped_one_is_ended(shared: stage.Stage) -> None:
    pod = _running(shared, "stopped", restartPolicy="Always")
    shared.vast.control("stop", instance_id=int(stage.instance_id(pod)))
    shared.cluster.until("stopped", lambda pod: stage.container(pod)["restartCount"] == 1, "a restart")
    stage.until(lambda: not shared.vast.alive(pod), "the stopped instance, whose disk is billed, is ended")


def test_a_job_completes_and_its_pods_end(shared: stage.Stage) -> None:
    template = stage.pod("any", shared.nodes[0], "echo counted")
    template["metadata"] = {}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "count"},
        "spec": {
            "completions": 2,
            "parallelism": 2,
            "template": {key: template[key] for key in ("metadata", "spec")},
        },
    }
    shared.cluster.apply(job)
    shared.cluster.kubectl("wait", "--for=condition=complete", "--timeout=40s", "job/count")
    pods = [each for each in shared.cluster.pods() if each["metadata"]["name"].startswith("count-")]
    assert [each["status"]["phase"] for each in pods] == ["Succeeded", "Succeeded"]
    assert [len(shared.vast.instances(each)) for each in pods] == [1, 1]
    stage.until(lambda: not any(shared.vast.alive(each) for each in pods), "their instances' end")
    shared.cluster.kubectl("delete", "job", "count", "--cascade=foreground", "--wait=true", "--timeout=30s")


def test_instances_of_others_on_the_account_are_left_alone(shared: stage.Stage) -> None:
    foreign = [
        shared.vast.rent_by_hand(label)
        for label in (None, "my training run", "bareboat/another-cluster/0f0e0d0c/1", "bareboat/")
    ]
    pod = _running(shared, "beside-others")
    shared.cluster.delete("pods", "beside-others")
    shared.cluster.until_gone("beside-others")
    assert shared.vast.alive(pod) == []
    shared.vast.let_pass(5)  # longer than the guard age, after which orphans are judged
    alive = {each["id"] for each in shared.vast.alive()}
    assert set(foreign) <= alive
    for each in foreign:
        shared.vast.control("vanish", instance_id=each)


def test_an_instance_of_this_cluster_without_a_pod_is_ended(shared: stage.Stage) -> None:
    uid = stage.uid(shared.cluster.find("namespaces", "kube-system") or {})
    orphan = shared.vast.rent_by_hand(f"bareboat/{uid}/3b241101-e2bb-4255-8caf-4136c566a962/1")
    stage.until(lambda: orphan not in {each["id"] for each in shared.vast.alive()}, "the orphan's end")


def test_a_pod_whose_instances_label_was_edited_runs_on_and_ends_with_it(shared: stage.Stage) -> None:
    pod = _running(shared, "relabelled")
    instance = stage.instance_id(pod)
    listings = _listings(shared)
    shared.vast.control("label", instance_id=int(instance), label="mine now")
    stage.until(lambda: _listings(shared) > listings + 2, "two more looks at the cloud")
    pod = shared.cluster.pod("relabelled")
    assert pod["status"]["phase"] == "Running" and stage.instance_id(pod) == instance
    shared.cluster.delete("pods", "relabelled")
    shared.cluster.until_gone("relabelled")
    assert shared.vast.alive(pod) == []


def _listings(on: stage.Stage) -> int:
    """Looks at the account so far, by the simulator's count of requests."""
    return sum(count for route, count in on.vast.requests().items() if route == "GET /api/v1/instances")


def test_a_pod_of_a_daemon_set_rents_nothing_and_says_how_it_could(shared: stage.Stage) -> None:
    template = stage.pod("any", shared.nodes[0])
    template["spec"].pop("restartPolicy")
    template["metadata"] = {"labels": {"app": "agent"}}
    agents = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {key: template[key] for key in ("metadata", "spec")},
        },
    }
    shared.cluster.apply(agents)

    def refused() -> stage.Json | None:
        pods = [each for each in shared.cluster.pods() if each["metadata"]["name"].startswith("agent-")]
        return pods[0] if pods and stage.waiting(pods[0]).get("reason") == "NotRented" else None

    pod = stage.until(refused, "the agent's pod is told that nothing is rented")
    assert pod is not None and pod["status"]["phase"] == "Pending"
    assert 'annotated bareboat.dev/rent: "true"' in shared.cluster.event(pod["metadata"]["name"], "NotRented")
    assert shared.vast.instances(pod) == []
    shared.cluster.kubectl("delete", "daemonset", "agent", "--cascade=foreground", "--wait=true", "--timeout=30s")


def test_a_pod_starts_once_its_config_map_is_there(shared: stage.Stage) -> None:
    reads = {"env": [{"name": "WORD", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "word"}}}]}
    shared.cluster.create(stage.pod("waits", shared.nodes[0], "echo the word is $WORD", container=reads))
    pod = shared.cluster.until(
        "waits",
        lambda pod: pod if stage.waiting(pod).get("reason") == "CreateContainerConfigError" else None,
        "CreateContainerConfigError",
    )
    assert pod is not None and pod["status"]["phase"] == "Pending"
    assert "late" in stage.waiting(pod)["message"]
    assert "late" in shared.cluster.event("waits", "MandatoryConfigMapNotFound")
    assert shared.vast.instances(pod) == []
    shared.cluster.create(stage.config_map("late", word="ahoy"))
    shared.cluster.until_phase("waits", "Succeeded", 45)
    assert shared.cluster.kubectl("logs", "waits") == "the word is ahoy\n"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("max-usd-per-hour", "cheap", "a number from 0.001 to 1000"),
        ("pricing", "free", "on-demand"),
        ("rent", "perhaps", "true or false"),
    ],
)
def test_a_nonsensical_annotation_is_named_with_its_value_and_what_is_allowed(
    shared: stage.Stage, name: str, value: str, allowed: str
) -> None:
    pod = shared.cluster.create(
        stage.pod(f"nonsense-{name}", shared.nodes[0], annotations={f"bareboat.dev/{name}": value})
    )
    told = shared.cluster.event(f"nonsense-{name}", "InvalidPod")
    assert f"bareboat.dev/{name}" in told and repr(value) in told and allowed in told
    assert shared.cluster.pod(f"nonsense-{name}")["status"]["phase"] == "Pending"
    assert shared.vast.instances(pod) == []


def test_a_mended_annotation_lets_the_pod_go_on(shared: stage.Stage) -> None:
    bad = {"bareboat.dev/max-usd-per-hour": "cheap"}
    shared.cluster.create(stage.pod("mended", shared.nodes[0], annotations=bad))
    shared.cluster.event("mended", "InvalidPod")
    shared.cluster.kubectl("annotate", "--overwrite", "pod", "mended", "bareboat.dev/max-usd-per-hour=0.5")
    shared.cluster.until_phase("mended", "Running")


def test_a_deleted_node_is_made_anew_and_its_pods_run_on(shared: stage.Stage) -> None:
    pod = _running(shared, "survivor")
    node = shared.nodes[0]
    before = shared.cluster.find("nodes", node.name) or {}
    shared.cluster.delete("nodes", node.name)

    def anew() -> bool:
        found = shared.cluster.find("nodes", node.name)
        return found is not None and stage.uid(found) != stage.uid(before) and stage.condition(found, "Ready") == "True"

    stage.until(anew, "a new Node of the same name")
    after = shared.cluster.pod("survivor")
    assert stage.uid(after) == stage.uid(pod) and stage.instance_id(after) == stage.instance_id(pod)
    assert after["status"]["phase"] == "Running"
