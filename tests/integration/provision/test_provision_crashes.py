"""The service dies at any call to the API server, at every one in turn: the next one finds what it left and leaves a
client whole or not at all. And a service that is told to stop does not wait for its clients' pods."""

import asyncio
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.fakes import crashes
from tests.integration.conftest import Kubectl
from tests.integration.provision import stage
from tests.integration.provision.test_provisioning import a_body

from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.plumbing import clock as clocks
from bareboat.provision import order, provisioner
from bareboat.sandbox import controlplane

LATER_S = 3600.0
Work = Callable[[provisioner.Provisioner, order.Order], Awaitable[Any]]


class DyingClient(clients.Client):
    """Its process dies at a call: before or after it is done, but before the answer is seen."""

    crash = crashes.CrashPoint()

    async def request(self, verb: str, path: str, body: Any = None, **options: Any) -> bytes:
        await self.crash.reached(f"before {verb} {path}")
        answer = await super().request(verb, path, body, **options)
        await self.crash.reached(f"after {verb} {path}")
        return answer


@pytest.fixture
def config(sandbox: controlplane.ControlPlane) -> Iterator[configs.Config]:
    yield configs.load(Path(sandbox.kubeconfig_path))


def an_order() -> order.Order:
    return order.read(msgspec.json.encode(a_body()))


async def _make(works: provisioner.Provisioner, asked: order.Order) -> None:
    await works.provision(asked)


async def _remove(works: provisioner.Provisioner, asked: order.Order) -> None:
    await works.remove(asked.name)


@pytest.mark.parametrize(
    ("work", "before"), [(_make, "nothing"), (_make, "the same client"), (_remove, "the same client")]
)
async def test_a_crash_at_any_call_leaves_a_client_whole_or_nothing_of_it(
    work: Work, before: str, config: configs.Config, namespace: str, left: Callable[[], list[str]]
) -> None:
    at = 0
    while True:
        at += 1
        asked, crash = an_order(), crashes.CrashPoint(at)
        async with DyingClient(config) as dying, clients.Client(config) as client:
            if before == "the same client":
                await provisioner.Provisioner(client, namespace, clocks.SystemClock()).provision(asked)
            dying.crash = crash
            task = asyncio.ensure_future(work(provisioner.Provisioner(dying, namespace, clocks.SystemClock()), asked))
            happened = asyncio.ensure_future(crash.happened.wait())
            await asyncio.wait({task, happened}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
            for each in (task, happened):
                each.cancel()
            later = clocks.ScaledClock(start_s=time.time() + LATER_S)
            successor = provisioner.Provisioner(client, namespace, later)
            await successor.recover()
            there = await asyncio.to_thread(_of, asked.name, left)
            told = f"crash {at} at {crash.where!r}: {there}"
            assert there in ([], [f"Pod/{asked.name}-pod", f"Service/{asked.name}-svc"]), told
            assert await successor.recover() == [], told
            if there:
                await successor.remove(asked.name)
            assert await asyncio.to_thread(_secrets, left) == [], told
        if not crash.happened.is_set():
            break
    assert at > 6


def _of(name: str, left: Callable[[], list[str]]) -> list[str]:
    """The client's objects, once what is deleted is gone."""
    give_up_s = time.monotonic() + 30
    while True:
        found = [each for each in left() if name in each]
        if len(found) in (0, 2):
            return found
        assert time.monotonic() < give_up_s, found
        time.sleep(0.1)


def _secrets(left: Callable[[], list[str]]) -> list[str]:
    return [each for each in left() if each.startswith("Secret/")]


async def test_what_another_process_is_making_now_is_left_alone(
    config: configs.Config, namespace: str, left: Callable[[], list[str]]
) -> None:
    asked = an_order()
    async with DyingClient(config) as dying, clients.Client(config) as client:
        dying.crash = crashes.CrashPoint(7)
        task = asyncio.ensure_future(provisioner.Provisioner(dying, namespace, clocks.SystemClock()).provision(asked))
        await asyncio.wait_for(dying.crash.happened.wait(), 30)
        before = await asyncio.to_thread(left)
        assert before, "it died before it made anything"
        assert await provisioner.Provisioner(client, namespace, clocks.SystemClock()).recover() == []
        assert await asyncio.to_thread(left) == before
        task.cancel()


def test_a_service_that_is_told_to_stop_answers_those_who_wait_and_ends_at_once(
    serve: Callable[..., stage.Service], namespace: str
) -> None:
    service = serve(NAMESPACE=namespace)
    answers: list[tuple[int, Any]] = []
    waiting = threading.Thread(target=lambda: answers.append(service.ask("POST", "/provision?wait=60", a_body())))
    waiting.start()
    give_up_s = time.monotonic() + 30
    while "client.provisioned" not in service.log:
        assert time.monotonic() < give_up_s
        time.sleep(0.02)
    told_s = time.monotonic()
    service.signal(signal.SIGTERM)
    waiting.join(30)
    assert service.wait() == 0
    assert time.monotonic() - told_s < 5
    [(status, answer)] = answers
    assert (status, answer["ready"], answer["phase"]) == (200, False, "Pending")


def test_a_service_that_was_killed_is_followed_by_one_that_finishes_the_same_request(
    serve: Callable[..., stage.Service], namespace: str, kubectl: Kubectl
) -> None:
    first = serve(NAMESPACE=namespace)
    body = a_body()
    name = first.provision(body)["pod_name"]
    first.signal(signal.SIGKILL)
    first.wait()
    kubectl("-n", namespace, "delete", "pod", name, "--grace-period=0", "--force")
    assert serve(NAMESPACE=namespace).provision(body)["pod_name"] == name
    assert kubectl("-n", namespace, "get", "pod", name, "-o", "name")
