"""Whose output `kubectl logs` shows, and what it says when there is none."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.fakes import clouds, nodes
from tests.fakes import pods as fake_pods

from bareboat.core import instances as instances_
from bareboat.core import labels
from bareboat.kubelet import logs
from bareboat.node import container_logs, endings


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[tuple[nodes.Installation, container_logs.ContainerLogs, clouds.Rented]]:
    async with nodes.installation(clouds.LoggingCloud) as world:
        world.start()
        uid = world.api.create(fake_pods.manifest("a", restartPolicy="OnFailure"))
        assert await world.run(60, until=lambda: world.phase("a") == "Running")
        yield world, container_logs.ContainerLogs(world.use, world.pods), world.cloud.alive_for(uid)[0]


async def read(source: container_logs.ContainerLogs, **options: object) -> str:
    lines = await source("t", "a", "main", logs.LogOptions(**options))  # type: ignore[arg-type]
    return "".join([line.text.decode() if isinstance(line, logs.LogLine) else "" async for line in lines])


async def test_the_clouds_log_is_shown_without_the_wrappers_line() -> None:
    async with running() as (world, source, box):
        world.cloud.log_text[box.id] = "one\ntwo\n"
        assert "one" in await read(source) and "two" in await read(source, tail_lines=1)
        assert "one" not in await read(source, tail_lines=1)


async def test_what_was_kept_is_shown_once_the_machine_is_gone() -> None:
    async with running() as (world, source, box):
        world.cloud.log_text[box.id] = "bye\n\nbareboat: exit 0 attempt 1\n"
        box.state = instances_.State.EXITED
        assert await world.run(60, until=lambda: world.phase("a") == "Succeeded" and not world.cloud.alive)
        text = await read(source)
        assert "bye" in text and "bareboat" not in text


async def test_the_last_output_of_a_container_that_starts_again_is_its_previous_log() -> None:
    async with running() as (world, source, box):
        with pytest.raises(logs.PreviousMissing):
            await read(source, previous=True)
        world.cloud.log_text[box.id] = "oh no\n\nbareboat: exit 1 attempt 1\n"
        box.state = instances_.State.EXITED
        assert await world.run(90, until=lambda: world.cloud.calls["rent"] == 2 and len(world.cloud.alive) == 1)
        assert "oh no" in await read(source, previous=True)


async def test_a_pod_or_container_that_is_not_there_is_named() -> None:
    async with running() as (_, source, _box):
        with pytest.raises(logs.NotFound, match='pod "b" not found in namespace "t"'):
            await source("t", "b", "main", logs.LogOptions())
        with pytest.raises(logs.NotFound, match='container "x" not found in pod "a"'):
            await source("t", "a", "x", logs.LogOptions())


async def test_a_container_that_has_not_started_says_why() -> None:
    async with running() as (world, source, _box):
        world.api.create(fake_pods.manifest("b", annotations={"bareboat.dev/max-price": "0.01"}))
        await world.run(20)
        with pytest.raises(logs.NotStarted, match="NoOffers"):
            await source("t", "b", "main", logs.LogOptions())


async def test_an_instance_that_is_not_proven_to_be_the_pods_is_not_read() -> None:
    async with running() as (world, source, _box):
        stranger = world.cloud.rent_by_hand(None)
        world.cloud.log_text[stranger.id] = "a secret\n"
        record = next(iter(world.pods.records.values()))
        record.instance_id = stranger.id
        with pytest.raises(logs.NotStarted):
            await read(source)
        instance = await world.cloud.instance(stranger.id)
        assert instance is not None
        world.use.accounts["vast"].watcher.follow(instance, labels.Mark(nodes.CLUSTER, record.uid, "1"))
        with pytest.raises(logs.NotStarted):
            await read(source)


def test_kept_logs_stay_within_their_bound_and_the_newest_win() -> None:
    kept = endings.KeptLogs()
    for number in range(700):
        kept.keep(f"u{number}", "x" * endings.KEPT_LOG_BYTES + f"end {number}")
    assert kept.get("u0") is None
    newest = kept.get("u699")
    assert newest is not None and newest.endswith("end 699") and len(newest) == endings.KEPT_LOG_BYTES
    held = sum(len(kept.get(f"u{number}") or "") for number in range(700))
    assert held <= endings.KEPT_LOGS_BYTES
    kept.drop("u699")
    assert kept.get("u699") is None
