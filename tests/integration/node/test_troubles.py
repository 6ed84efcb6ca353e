"""Clouds, keys and nodes in trouble: what runs is left alone, new pods are kept away, and all is well again after."""

import subprocess
from collections.abc import Callable

import pytest
from tests.integration.node import stage

TAINT = "bareboat.dev/cloud-unreachable"


def _tainted(on: stage.Stage) -> bool:
    node = on.cluster.find("nodes", on.nodes[0].name)
    assert node is not None
    assert stage.condition(node, "Ready") == "True", "a node that is not ready has its paid pods evicted"
    return any(each["key"] == TAINT and each["effect"] == "NoSchedule" for each in node["spec"].get("taints") or ())


def _reachable(on: stage.Stage) -> str:
    return stage.condition(on.cluster.find("nodes", on.nodes[0].name) or {"status": {}}, "CloudReachable")


def _suspend(on: stage.Stage) -> Callable[[], None]:
    on.vast.suspend()
    return on.vast.resume


def _answer_with_errors(on: stage.Stage) -> Callable[[], None]:
    on.vast.control("faults/add", name="server_errors", rule={"rate": 1.0, "for_s": [600, 900], "status": 502})

    def end() -> None:
        # A burst goes on by itself for what is left of it.
        on.vast.control("faults/clear", name="server_errors")
        on.vast.control("advance", seconds=900)

    return end


def _revoke_the_key(on: stage.Stage) -> Callable[[], None]:
    on.vast.control("key/revoke")

    def end() -> None:
        on.vast.control("key/add", key=on.vast.key)

    return end


@pytest.mark.parametrize(
    ("begin", "reason"),
    [
        (_suspend, "CloudUnreachable"),
        (_answer_with_errors, "CloudUnreachable"),
        (_revoke_the_key, "CredentialsRefused"),
    ],
    ids=["no-answer", "server-errors", "key-revoked"],
)
def test_while_the_cloud_is_in_trouble_what_runs_is_left_alone_and_new_pods_are_kept_away(
    set_up: Callable[..., stage.Stage], begin: Callable[[stage.Stage], Callable[[], None]], reason: str
) -> None:
    on = set_up()
    node = on.node()
    on.cluster.create(stage.pod("before", node))
    before = on.cluster.until_phase("before", "Running")
    end = begin(on)
    stage.until(lambda: _tainted(on) and _reachable(on) == "False", "the condition and the taint", 40)
    assert stage.why(on.cluster.find("nodes", node.name) or {}, "CloudReachable").startswith(reason)
    on.cluster.create(stage.pod("during", node))
    stage.until(
        lambda: "untolerated taint" in stage.why(on.cluster.pod("during"), "PodScheduled"),
        lambda: f"the scheduler keeps it away: {stage.why(on.cluster.pod('during'), 'PodScheduled')}",
    )
    end()
    stage.until(lambda: _reachable(on) == "True" and not _tainted(on), "all is well again", 40)
    on.cluster.until_phase("during", "Running", 40)
    after = on.cluster.pod("before")
    assert stage.instance_id(after) == stage.instance_id(before)
    assert after["status"]["phase"] == "Running" and stage.container(after)["restartCount"] == 0
    on.cluster.kubectl("delete", "pods", "--all", "--wait=true", "--timeout=50s")
    on.assert_money_was_kept()


def test_pods_that_race_do_not_pass_a_cap_together(installation: stage.Stage) -> None:
    cluster, vast = installation.cluster, installation.vast
    node = installation.node(BAREBOAT_INSTALLATION_USD_PER_HOUR_CAP="0.35")
    names = [f"racer-{number}" for number in range(6)]
    for name in names:
        cluster.create(stage.pod(name, node))

    def settled() -> bool:
        reasons = [stage.waiting(each).get("reason") for each in cluster.pods()]
        return "OverBudget" in reasons and all(reason in (None, "OverBudget") for reason in reasons)

    stage.until(settled, lambda: f"all run or are told of the cap: {[stage.told(each) for each in cluster.pods()]}")
    assert 0.2 < _usd_per_hour(vast) <= 0.35
    pending = next(each for each in cluster.pods() if stage.waiting(each))
    assert "the cap is 0.350 $/h" in stage.waiting(pending)["message"]
    assert vast.instances(pending) == []
    running = next(each for each in cluster.pods() if not stage.waiting(each))["metadata"]["name"]
    cluster.delete("pods", running)
    cluster.until_gone(running)
    assert _usd_per_hour(vast) <= 0.35
    cluster.kubectl("delete", "pods", "--all", "--wait=true", "--timeout=50s")
    installation.assert_money_was_kept()


def _usd_per_hour(vast: stage.Vast) -> float:
    """What all that is rented costs now, disks included, as the cloud's own records say."""
    return float(sum(each["dph_total"] for each in vast.world()["instances"]))


def test_a_node_without_a_key_ends_with_code_2_and_one_sentence(shared: stage.Stage) -> None:
    done = subprocess.run(
        [*stage.BAREBOAT, "node", "--kubeconfig", str(shared.cluster.kubeconfig)],
        env=stage.clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "bareboat node: VAST_API_KEY is not set: put the key of your Vast.ai account there\n"


def test_nodes_of_one_cluster_do_not_touch_each_others_instances(installation: stage.Stage) -> None:
    one, other = installation.node(), installation.node()
    installation.cluster.create(stage.pod("on-one", one))
    installation.cluster.create(stage.pod("on-other", other))
    on_one = installation.cluster.until_phase("on-one", "Running")
    on_other = installation.cluster.until_phase("on-other", "Running")
    other.kill()
    # Longer than the guard age: the survivor has looked at the other's instance as a possible orphan by then.
    installation.vast.let_pass(5)
    assert len(installation.vast.alive(on_one)) == len(installation.vast.alive(on_other)) == 1
    installation.cluster.delete("pods", "on-one")
    installation.cluster.until_gone("on-one")
    assert len(installation.vast.alive(on_other)) == 1
    other.start()
    installation.cluster.delete("pods", "on-other")
    installation.cluster.until_gone("on-other")
    installation.assert_money_was_kept()


def test_two_processes_of_one_node_never_pay_twice_for_a_pod(set_up: Callable[..., stage.Stage]) -> None:
    on = set_up({"profile": "quirks", "faults": {"list_lag": {"rate": 0.5, "for_s": [20, 100]}}})
    one = on.node()
    other = on.node(named=one.name)
    names = [f"pod-{number}" for number in range(8)]
    for name in names[:4]:
        on.cluster.create(stage.pod(name, one))
    on.cluster.until_phase(names[0], "Running")
    one.kill()
    for name in names[4:]:
        on.cluster.create(stage.pod(name, one))
    for name in names:
        on.cluster.until_phase(name, "Running", 60)
    one.start()
    on.cluster.kubectl("delete", "pods", "--all", "--wait=true", "--timeout=50s")
    assert other.running
    on.assert_money_was_kept()


def test_a_stopped_node_leaves_what_runs_and_ends_what_was_deleted_meanwhile(installation: stage.Stage) -> None:
    node = installation.node()
    for name in ("stays", "deleted", "forced"):
        installation.cluster.create(stage.pod(name, node))
    stays, deleted, forced = (
        installation.cluster.until_phase(name, "Running") for name in ("stays", "deleted", "forced")
    )
    assert node.stop() == 0
    installation.cluster.delete("pods", "deleted")
    installation.cluster.delete("pods", "forced", grace_s=0)
    assert len(installation.vast.alive()) == 3, "ending the program ends no instance"
    node.start()
    installation.cluster.until_gone("deleted")
    assert installation.vast.alive(deleted) == []
    stage.until(lambda: not installation.vast.alive(forced), "the orphan's end")
    after = installation.cluster.pod("stays")
    assert stage.instance_id(after) == stage.instance_id(stays) and after["status"]["phase"] == "Running"
    assert [each["id"] for each in installation.vast.alive()] == [int(stage.instance_id(stays))]
    installation.cluster.delete("pods", "stays")
    installation.cluster.until_gone("stays")
    installation.assert_money_was_kept()


def test_an_instance_whose_label_was_taken_away_while_the_node_was_down_is_not_ended_unproven(
    installation: stage.Stage,
) -> None:
    cluster, vast = installation.cluster, installation.vast
    node = installation.node()
    cluster.create(stage.pod("unmarked", node))
    pod = cluster.until_phase("unmarked", "Running")
    instance = int(stage.instance_id(pod))
    label = vast.instances(pod)[0]["label"]
    node.stop()
    vast.control("label", instance_id=instance, label=None)
    node.start()
    told = cluster.event("unmarked", "MarkMissing")
    assert label in told and "put the label back" in told
    cluster.delete("pods", "unmarked")
    stage.until(lambda: cluster.pod("unmarked")["metadata"].get("deletionTimestamp"), "its deletion is asked for")
    assert cluster.pod("unmarked")["status"]["phase"] == "Running"
    assert [each["id"] for each in vast.alive()] == [instance], "nothing ended, nothing rented instead"
    vast.control("label", instance_id=instance, label=label)
    cluster.until_gone("unmarked", 45)
    installation.assert_money_was_kept()


def test_a_forged_annotation_does_not_end_a_strangers_instance(installation: stage.Stage) -> None:
    cluster, vast = installation.cluster, installation.vast
    node = installation.node(start=False)
    stranger = vast.rent_by_hand("somebody else's")
    forged = {
        "bareboat.dev/attempt": "1",
        "bareboat.dev/attempted-at": "2026-01-01T00:00:00Z",
        "bareboat.dev/cloud-used": "vast",
        "bareboat.dev/instance": f"vast/{stranger}",
    }
    cluster.create(stage.pod("forger", node, annotations=forged))
    node.start()
    cluster.event("forger", "MarkMissing")
    cluster.delete("pods", "forger")
    cluster.delete("pods", "forger", grace_s=0)
    cluster.until_gone("forger")
    vast.let_pass(5)
    assert [each["id"] for each in vast.alive()] == [stranger]
    vast.control("vanish", instance_id=stranger)
