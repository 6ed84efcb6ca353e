"""`bareboat node` killed without warning, again and again, on a cloud that has the worst of days: money first.

Whatever the moment, the next process finds what the last one left: nothing is rented twice at one time for one owner,
nothing stays rented without one, and every pod comes to its end.
"""

import os
import random
import time
from collections.abc import Callable

import pytest
from tests.integration.node import stage

NASTY = {
    "profile": "quirks",
    "faults": {
        "create_lost_answer": [
            {"rate": 0.12, "how": "504"},
            {"rate": 0.08, "how": "hang"},
            {"rate": 0.05, "how": "drop"},
            {"rate": 0.05, "how": "empty"},
        ],
        "create_error": {"rate": 0.05},
        "create_phantom": {"rate": 0.08},
        "create_unsuccessful": {"rate": 0.05},
        "offer_gone": {"rate": 0.1},
        "list_lag": {"rate": 0.5, "for_s": [5, 40]},
        "list_ghost": {"rate": 0.1, "for_s": [1, 20]},
        "list_page_shift": {"rate": 0.03},
        "destroy_fails": {"rate": 0.3, "for_s": [10, 60]},
        "oci_error": {"rate": 0.03},
        "rate_limited": {"rate": 0.02},
        "server_errors": {"rate": 0.003, "for_s": [10, 40]},
    },
}
KINDS = {
    "lasts": "sleep 100000",
    "succeeds": "sleep 1; echo done",
    "fails": "sleep 1; exit 3",
    "restarts": "sleep 1; exit 4",
}
ENDS = {"lasts": "Running", "succeeds": "Succeeded", "fails": "Failed", "restarts": "Running"}


@pytest.mark.timeout(240)
def test_a_node_killed_at_random_rents_nothing_twice_and_leaves_nothing(
    set_up: Callable[..., stage.Stage],
) -> None:
    seed = int(os.environ.get("BAREBOAT_TEST_SEED", "20261"))
    print_on_failure = f"seed {seed} (set BAREBOAT_TEST_SEED to repeat)"
    try:
        _killed_at_random(set_up(NASTY, 20.0), random.Random(seed))
    except AssertionError as failure:
        raise AssertionError(f"{print_on_failure}: {failure}") from failure


def _killed_at_random(on: stage.Stage, dice: random.Random, *, kills: int = 11) -> None:
    cluster = on.cluster
    # The longest lag of a list is 40 simulated seconds: two real ones.
    # Its own lease would make each new process wait; two at a time are the subject of another test.
    node = on.node(BAREBOAT_LEADER_ELECTION="false")
    made: dict[str, str] = {}
    deleted: list[str] = []
    for life in range(kills):
        _something_happens(on, node, dice, made, deleted, life)
        time.sleep(dice.uniform(0.05, 3.0))  # the moment of the kill is the test's subject, no wait for anything
        stage.assert_no_double_rent(on.vast)
        node.kill()
        if dice.random() < 0.3:
            _something_happens(on, node, dice, made, deleted, 100 + life)
        node.start(wait=dice.random() < 0.5)
    struck = on.vast.world()["struck"]
    on.vast.control("faults/clear")
    for name, kind in made.items():
        if name not in deleted:
            cluster.until_phase(name, ENDS[kind], 60)
    for name in deleted:
        cluster.until_gone(name, 60)
    stage.assert_no_double_rent(on.vast)
    for name, kind in made.items():
        if name not in deleted and kind == "restarts":
            _counts_each_end_once(on, name)
    lasting = {stage.uid(cluster.pod(name)) for name, kind in made.items() if kind == "lasts" and name not in deleted}
    stage.until(
        lambda: sorted(map(stage.owner, on.vast.alive())) == sorted(lasting),
        lambda: f"what is rented is what runs: {lasting}; alive {on.vast.alive()}",
        60,
    )
    cluster.kubectl("delete", "pods", "--all", "--wait=true", "--timeout=50s")
    on.assert_money_was_kept()
    assert "Traceback" not in node.log, "a loop crashed"
    lost = sum(struck.get(name, 0) for name in ("create_lost_answer", "create_phantom", "create_unsuccessful"))
    assert lost >= 3 and struck.get("destroy_fails", 0) >= 1, f"the cloud was kinder than meant: {struck}"


def _counts_each_end_once(on: stage.Stage, name: str) -> None:
    """Every restart is another instance, and the count never says more of them than there were."""
    pod = on.cluster.pod(name)
    on.cluster.delete("pods", name)
    on.cluster.until_gone(name, 60)
    assert stage.container(pod)["restartCount"] <= len(on.vast.instances(pod)), stage.told(pod)


def _something_happens(
    on: stage.Stage, node: stage.Node, dice: random.Random, made: dict[str, str], deleted: list[str], life: int
) -> None:
    """Some pods are made, some that stand are deleted."""
    names = [f"pod-{life}-{index}" for index in range(dice.randint(1, 3))]
    kinds = [dice.choice(tuple(KINDS)) for _ in names]
    for name, kind in zip(names, kinds, strict=True):
        policy = "OnFailure" if kind == "restarts" else "Never"
        on.cluster.create(stage.pod(name, node, KINDS[kind], restartPolicy=policy))
    made.update(zip(names, kinds, strict=True))
    standing = [name for name in made if name not in deleted]
    if standing and dice.random() < 0.6:
        victim = dice.choice(standing)
        on.cluster.delete("pods", victim)
        deleted.append(victim)
