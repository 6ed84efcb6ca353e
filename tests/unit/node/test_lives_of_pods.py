"""Whole lives of pods on the node's reconcile: what is told, what is rented instead, what is given back."""

from typing import Any

import pytest
from tests.fakes import clouds, nodes
from tests.fakes import pods as fake_pods

from bareboat.core import budget, errors
from bareboat.core import instances as instances_
from bareboat.workload import pod as pods

State = instances_.State


async def running(world: nodes.Installation, name: str = "a", **spec: Any) -> clouds.Rented:
    uid = world.api.create(fake_pods.manifest(name, **spec))
    assert await world.run(90, until=lambda: world.phase(name) == "Running")
    return world.cloud.alive_for(uid)[0]


def container(world: nodes.Installation, name: str = "a") -> pods.ContainerStatus:
    return world.api.pod(name).status.container_statuses[0]


def waiting(world: nodes.Installation, name: str = "a") -> str:
    state = container(world, name).state.waiting
    return "" if state is None else state.reason


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (3, "Failed")])
async def test_a_process_that_ends_is_told_with_its_code_and_its_machine_given_back(code: int, phase: str) -> None:
    async with nodes.installation(clouds.LoggingCloud) as world:
        world.start()
        box = await running(world, restartPolicy="Never")
        world.cloud.log_text[box.id] = f"bye\n\nbareboat: exit {code} attempt 1\n"
        box.state = State.EXITED
        assert await world.run(60, until=lambda: world.phase("a") == phase and not world.cloud.alive)
        ended = container(world).state.terminated
        assert ended is not None and ended.exit_code == code and ended.container_id == f"vast://{box.id}"
        uid = world.api.pod("a").metadata.uid
        assert world.pods.kept_logs.get(uid) == "bye\n", "its output outlives its machine"
        await world.run(120)
        assert world.cloud.calls["rent"] == 1


async def test_a_process_that_fails_starts_again_elsewhere_after_growing_pauses() -> None:
    async with nodes.installation(clouds.LoggingCloud) as world:
        world.start()
        await running(world, restartPolicy="OnFailure")
        for number in (1, 2):
            box = world.cloud.alive[0]
            world.cloud.log_text[box.id] = f"\nbareboat: exit 1 attempt {number}\n"
            box.state = State.EXITED
            assert await world.run(20, until=lambda: waiting(world) == "CrashLoopBackOff")
            rents = world.cloud.calls["rent"]
            assert await world.run(90, until=lambda rents=rents: world.cloud.calls["rent"] > rents)
            assert await world.run(30, until=lambda: container(world).state.running is not None)
            assert container(world).restart_count == number
        assert len(world.cloud.alive) == 1 and world.api.phases[world.api.pod("a").metadata.uid] == [
            "Pending",
            "Running",
        ]


async def test_the_pause_before_a_restart_goes_on_in_the_next_process() -> None:
    async with nodes.installation(clouds.LoggingCloud) as world:
        world.start()
        await running(world, restartPolicy="OnFailure")
        world.api.edit("a", lambda pod: pod["status"]["containerStatuses"][0].update(restartCount=3))
        await world.kill()
        world.start()
        assert await world.run(20, until=lambda: world.phase("a") == "Running" and bool(world.pods.records))
        box = world.cloud.alive[0]
        world.cloud.log_text[box.id] = "\nbareboat: exit 1 attempt 1\n"
        box.state = State.EXITED
        assert await world.run(20, until=lambda: waiting(world) == "CrashLoopBackOff")  # 80 s
        await world.run(10)
        await world.kill()
        world.start()
        await world.run(55)
        assert world.cloud.calls["rent"] == 1 and waiting(world) == "CrashLoopBackOff"
        assert await world.run(30, until=lambda: world.cloud.calls["rent"] == 2)


async def test_a_code_that_never_comes_is_told_as_unknown_after_some_tries() -> None:
    async with nodes.installation(clouds.LoggingCloud) as world:
        world.start()
        box = await running(world, restartPolicy="Never")
        box.state = State.EXITED
        assert await world.run(60, until=lambda: world.phase("a") == "Failed")
        ended = container(world).state.terminated
        assert ended is not None and ended.reason == "ContainerStatusUnknown"


async def test_a_market_without_a_fitting_offer_leaves_the_pod_pending_with_the_reason() -> None:
    async with nodes.installation() as world:
        world.start()
        world.api.create(fake_pods.manifest("a", annotations={"bareboat.dev/max-price": "0.05"}))
        assert await world.run(20, until=lambda: waiting(world) == "NoOffers")
        await world.run(100)
        assert world.phase("a") == "Pending" and not world.cloud.book
        assert any("max price" in message for reason, message in world.recorder.told if reason == "NoOffers")
        world.cloud.on_offer.append(nodes.an_offer(99, usd_per_hour=0.04))
        assert await world.run(300, until=lambda: world.phase("a") == "Running")


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ({"bareboat.dev/max-price": "free"}, "InvalidPod"),
        ({"bareboat.dev/rent": "perhaps"}, "InvalidPod"),
        ({"bareboat.dev/exit-code": "perhaps"}, "InvalidPod"),
        ({"bareboat.dev/regions": "Mars!"}, "InvalidPod"),
        ({"bareboat.dev/rent": "false"}, "NotRented"),
    ],
)
async def test_nothing_is_rented_for_a_pod_that_makes_no_sense_until_it_is_mended(
    annotations: dict[str, str], reason: str
) -> None:
    async with nodes.installation() as world:
        world.start()
        world.api.create(fake_pods.manifest("a", annotations=dict(annotations)))
        assert await world.run(20, until=lambda: waiting(world) == reason)
        await world.run(60)
        assert not world.cloud.book and world.cloud.calls["search"] == 0
        world.api.edit("a", lambda pod: pod["metadata"].update(annotations={}))
        assert await world.run(60, until=lambda: world.phase("a") == "Running")


async def test_pods_of_a_daemon_set_stay_pending_and_never_fail() -> None:
    async with nodes.installation() as world:
        world.start()
        pod = fake_pods.manifest("a")
        pod["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "d", "uid": "d1", "controller": True}]
        world.api.create(pod)
        await world.run(120)
        assert world.phase("a") == "Pending" and waiting(world) == "NotRented" and not world.cloud.book


async def test_a_machine_that_starts_too_slowly_is_given_back_and_avoided() -> None:
    async with nodes.installation() as world:
        world.cloud.boot_s = 10_000
        world.start()
        uid = world.api.create(fake_pods.manifest("a"))
        assert await world.run(200, until=lambda: world.cloud.calls["rent"] == 2)
        world.cloud.boot_s = 3
        assert await world.run(60, until=lambda: world.phase("a") == "Running")
        assert "StartTooSlow" in world.recorder.reasons()
        machines = [each.offer.machine_id for each in world.cloud.book.values()]
        assert len(set(machines)) == 2 and len(world.cloud.alive_for(uid)) == 1
        assert container(world).restart_count == 0, "nothing ever ran there"


async def test_an_image_that_can_not_be_pulled_is_tried_with_growing_pauses_on_any_machine() -> None:
    async with nodes.installation() as world:
        world.cloud.boot_s = 10_000
        world.start()
        world.api.create(fake_pods.manifest("a"))
        for _ in range(600):
            await world.run(1)
            for box in world.cloud.alive:
                box.state, box.changes = (
                    State.FAILED,
                    {"fault": instances_.Fault.IMAGE_NOT_FOUND, "message": "no such tag"},
                )
        assert 4 <= world.cloud.calls["rent"] <= 8, "10, 20, 40, 80, 160, 300 s"
        assert waiting(world) in ("ErrImagePull", "ImagePullBackOff")
        assert not world.pods.records[world.api.pod("a").metadata.uid].avoid, "the image is at fault, not the machine"


async def test_a_machine_that_fails_without_a_word_is_given_back_once() -> None:
    async with nodes.installation() as world:
        world.cloud.boot_s = 60
        world.start()
        uid = world.api.create(fake_pods.manifest("a"))
        assert await world.run(20, until=lambda: world.cloud.calls["rent"] == 1)
        box = world.cloud.alive_for(uid)[0]
        box.state = State.FAILED
        assert await world.run(30, until=lambda: not box.bills)
        assert world.recorder.reasons().count("Failed") == 1
        assert any("not why" in message for _, message in world.recorder.told)


async def test_another_image_is_another_instance_after_the_first_is_gone() -> None:
    async with nodes.installation() as world:
        world.start()
        first = await running(world)
        world.api.edit("a", lambda pod: pod["spec"]["containers"][0].update(image="busybox:2"))
        assert await world.run(60, until=lambda: world.cloud.calls["rent"] == 2)
        assert not first.bills
        assert await world.run(60, until=lambda: container(world).state.running is not None)
        assert container(world).restart_count == 1 and container(world).image == "busybox:2"


async def test_a_launch_that_the_cloud_refuses_is_not_tried_again_before_the_pod_changes() -> None:
    async with nodes.installation() as world:
        world.cloud.fail("rent", errors.LaunchRefused("vast", "the command is too long"))
        world.start()
        world.api.create(fake_pods.manifest("a"))
        await world.run(600)
        assert world.cloud.calls["rent"] == 1 and waiting(world) == "LaunchRefused"

        def shorter(pod: fake_pods.Json) -> None:
            pod["metadata"]["generation"] = 2
            pod["spec"]["containers"][0]["image"] = "busybox:2"

        world.api.edit("a", shorter)
        assert await world.run(60, until=lambda: world.phase("a") == "Running")


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (errors.NoCapacity("vast", "none"), "NoCapacity"),
        (errors.CredentialsRefused("vast", "HTTP 401"), "CloudCredentialsRefused"),
        (errors.CreditExhausted("vast", "empty"), "CloudCreditExhausted"),
        (errors.Throttled("vast", "slow down", 45.0), "CloudThrottled"),
        (errors.CloudDown("vast", "no connection"), "CloudUnreachable"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
async def test_a_cloud_that_will_not_sell_now_is_named_and_asked_again_later(
    refusal: errors.CloudError, reason: str
) -> None:
    async with nodes.installation() as world:
        world.cloud.fail("rent", refusal)
        world.start()
        world.api.create(fake_pods.manifest("a"))
        assert await world.run(20, until=lambda: waiting(world) == reason)
        assert await world.run(120, until=lambda: world.phase("a") == "Running")
        assert world.cloud.calls["rent"] == 2


async def test_a_cloud_that_is_busy_is_told_once_an_episode() -> None:
    async with nodes.installation() as world:
        for _ in range(3):
            world.cloud.fail("rent", errors.Throttled("vast", "slow down", 45.0))
        world.start()
        world.api.create(fake_pods.manifest("a"))
        assert await world.run(600, until=lambda: world.phase("a") == "Running")
        assert world.cloud.calls["rent"] == 4
        assert world.recorder.reasons().count("CloudThrottled") == 1
        world.cloud.fail("rent", errors.Throttled("vast", "slow down", 45.0))
        world.api.create(fake_pods.manifest("b"))
        assert await world.run(600, until=lambda: world.phase("b") == "Running")
        assert world.recorder.reasons().count("CloudThrottled") == 2


async def test_a_price_over_the_pods_limit_gives_the_machine_back_before_it_ran_or_after() -> None:
    for runs in (False, True):
        async with nodes.installation() as world:
            world.start()
            if runs:
                box = await running(world, annotations={"bareboat.dev/max-price": "0.3"})
            else:
                uid = world.api.create(fake_pods.manifest("a", annotations={"bareboat.dev/max-price": "0.3"}))
                assert await world.run(20, until=lambda: world.cloud.calls["rent"] == 1)
                box = world.cloud.alive_for(uid)[0]
            box.usd_per_hour = 0.4
            assert await world.run(60, until=lambda box=box: not box.bills)
            assert await world.run(90, until=lambda: world.cloud.calls["rent"] == 2)
            assert container(world).restart_count == (1 if runs else 0)
            assert any("0.400" in message for _, message in world.recorder.told)


async def test_a_price_that_is_lower_while_booting_frees_nothing_for_others() -> None:
    """What boots is billed for its disk alone on some clouds; its full price comes back once it runs."""
    limits = budget.Limits(installation=budget.Caps(usd_per_hour=0.15), least_run_s=0.0)
    async with nodes.installation(limits=limits) as world:
        world.cloud.boot_s = 60
        world.start()
        uid = world.api.create(fake_pods.manifest("a"))
        await world.run(10)
        world.cloud.alive_for(uid)[0].usd_per_hour = 0.01
        world.api.create(fake_pods.manifest("b"))
        await world.run(30)
        assert len(world.cloud.alive) == 1 and waiting(world, "b") == "OverBudget"


async def test_a_total_that_is_spent_ends_what_runs() -> None:
    limits = budget.Limits(namespace=budget.Caps(usd=0.02), least_run_s=0.0)
    async with nodes.installation(limits=limits) as world:
        world.start()
        await running(world, restartPolicy="Never")
        assert await world.run(1200, until=lambda: not world.cloud.alive, step_s=5)
        assert world.use.broker.ledger.spend(world.clock.now_s()).usd <= 0.021
        assert await world.run(60, until=lambda: world.phase("a") == "Failed")
        world.api.create(fake_pods.manifest("b"))
        await world.run(60)
        assert waiting(world, "b") == "OverBudget" and world.cloud.calls["rent"] == 1


async def test_what_runs_is_in_the_books_before_a_new_pod_may_rent() -> None:
    limits = budget.Limits(installation=budget.Caps(usd_per_hour=0.25), least_run_s=0.0)
    async with nodes.installation(limits=limits) as world:
        world.start()
        for name in ("a", "b"):
            await running(world, name)
        await world.kill()
        world.api.create(fake_pods.manifest("0-first"))
        world.api.pods = dict(sorted(world.api.pods.items()))
        world.start()
        await world.run(90)
        assert len(world.cloud.alive) == 2 and world.phase("0-first") == "Pending"


async def test_a_cloud_that_can_not_be_reached_ends_and_rents_nothing() -> None:
    async with nodes.installation() as world:
        world.start()
        box = await running(world)
        down = [errors.CloudDown("vast", "HTTP 502")] * 500
        for method in ("search", "instances", "instance", "marked"):
            world.cloud.fail(method, *down)
        world.api.create(fake_pods.manifest("b"))
        await world.run(600)
        assert box.bills and world.phase("a") == "Running" and world.phase("b") == "Pending"
        assert world.use.accounts["vast"].watcher.trouble == "HTTP 502"
        world.cloud.faults.clear()
        assert await world.run(400, until=lambda: world.phase("b") == "Running")


async def test_a_machine_that_vanishes_is_replaced_once_a_read_confirms_it() -> None:
    async with nodes.installation() as world:
        world.start()
        box = await running(world)
        world.cloud.hidden = {box.id}
        await world.run(120)
        assert world.cloud.calls["rent"] == 1 and container(world).state.running is not None, "unknown is not gone"
        world.cloud.hidden = set()
        world.cloud.end_by_hand(box.id)
        assert await world.run(120, until=lambda: world.cloud.calls["rent"] == 2)
        assert await world.run(60, until=lambda: container(world).state.running is not None)
        assert container(world).restart_count == 1


async def test_a_pod_of_its_name_again_gets_a_machine_of_its_own() -> None:
    async with nodes.installation() as world:
        world.start()
        first = await running(world)
        world.api.delete_by_user("a", force=True)
        world.api.create(fake_pods.manifest("a"))
        assert await world.run(90, until=lambda: world.phase("a") == "Running" and not first.bills)
        assert len(world.cloud.alive) == 1


async def test_a_deadline_ends_a_pod_and_tells_it_only_once_nothing_runs() -> None:
    async with nodes.installation() as world:
        world.cloud.deaf_destroys = 3
        world.start()
        box = await running(world, activeDeadlineSeconds=30)
        assert await world.run(60, until=lambda: world.cloud.calls["destroy"] > 0)
        assert world.phase("a") == "Running" and box.bills
        assert await world.run(60, until=lambda: world.phase("a") == "Failed")
        assert not box.bills and world.api.pod("a").status.reason == "DeadlineExceeded"


async def test_quiet_pods_cost_no_writes_and_few_calls() -> None:
    async with nodes.installation() as world:
        world.start()
        for name in "abcde":
            await running(world, name)
        await world.run(60)
        writes, calls = world.api.writes, sum(world.cloud.calls.values())
        await world.run(600)
        assert world.api.writes == writes
        assert sum(world.cloud.calls.values()) - calls <= 61
