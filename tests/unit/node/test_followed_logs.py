"""Who follows a container's log sees its last lines, although its machine goes the moment it has ended."""

import asyncio
import types
from typing import Any, cast

from bareboat.core import errors
from bareboat.kubelet import logs
from bareboat.node import container_logs, endings
from bareboat.plumbing import clock as clocks
from bareboat.workload import pod as pods


class Cloud:
    """Its machine is gone as soon as the container has ended."""

    name = "vast"

    def __init__(self) -> None:
        self.text: str | None = "one\n"

    async def logs(self, instance_id: str, tail: int | None = None) -> str:
        if self.text is None:
            raise errors.InstanceGone("vast", "no such instance")
        return self.text


def rig(cloud: Cloud, clock: clocks.Clock) -> tuple[container_logs.ContainerLogs, Any, endings.KeptLogs]:
    pod = types.SimpleNamespace(
        metadata=types.SimpleNamespace(uid="u"), spec=pods.PodSpec(containers=[pods.Container(name="main")])
    )
    record = types.SimpleNamespace(
        uid="u", access="plain", end=None, instance_id="1", ending_why="", cloud="vast", running_s=1.0, last=None
    )
    kept = endings.KeptLogs()
    watcher = types.SimpleNamespace(is_proven=lambda instance_id: True)
    account = types.SimpleNamespace(cloud=cloud, watcher=watcher)
    use = types.SimpleNamespace(accounts={"vast": account}, account=lambda name: account, clock=clock)
    looked_after = types.SimpleNamespace(by_name=lambda *_: pod, records={"u": record}, kept_logs=kept)
    return container_logs.ContainerLogs(cast(Any, use), cast(Any, looked_after)), record, kept


async def test_the_last_lines_come_from_what_was_kept_and_end_the_following() -> None:
    clock = clocks.ManualClock()
    cloud = Cloud()
    served, record, kept = rig(cloud, clock)
    lines = await served("default", "pod", "main", logs.LogOptions(follow=True))
    seen: list[bytes] = []

    async def follow() -> None:
        async for line in lines:
            if isinstance(line, logs.LogLine):
                seen.append(line.text)
                continue
            kept.keep("u", "one\ntwo\nthree\n")
            record.end, cloud.text = object(), None

    following = asyncio.create_task(follow(), name="follower")
    await clock.advance(5)
    assert following.done()
    assert seen == [b"one", b"two", b"three"]


async def test_a_log_that_was_kept_before_ends_at_once_for_a_follower() -> None:
    clock = clocks.ManualClock()
    cloud = Cloud()
    served, record, kept = rig(cloud, clock)
    kept.keep("u", "one\ntwo\n")
    record.end = object()
    lines = await served("default", "pod", "main", logs.LogOptions(follow=True, tail_lines=1))
    assert [line.text async for line in lines if isinstance(line, logs.LogLine)] == [b"two"]
