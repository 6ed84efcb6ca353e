"""What pods refer to is read once, by exact name, and "not there" is never guessed."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import test_utils, web

from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import credentials
from bareboat.node import pod_inputs
from bareboat.plumbing import clock as clocks
from bareboat.workload import pod as pods
from bareboat.workload import sources


class Api:
    """Answers by path; counts requests; `gate` holds answers back."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        await self.gate.wait()
        answer = self.answers.get(request.path, 404)
        if isinstance(answer, int):
            reasons = {404: "NotFound", 403: "Forbidden"}
            return web.json_response({"reason": reasons.get(answer, "-"), "message": "no"}, status=answer)
        return web.json_response(answer)


@pytest.fixture
async def api() -> Api:
    return Api()


@pytest.fixture
async def client(api: Api) -> AsyncIterator[clients.Client]:
    app = web.Application()
    app.router.add_get("/{tail:.*}", api.handle)
    async with test_utils.TestServer(app) as server:
        config = configs.Config(
            server=str(server.make_url("")).rstrip("/"), ssl=None, credentials=credentials.Fixed(), where="a test"
        )
        async with clients.Client(config, timeout_s=5.0) as opened:
            yield opened


@pytest.fixture
def clock() -> clocks.ManualClock:
    return clocks.ManualClock()


@pytest.fixture
def inputs(client: clients.Client, clock: clocks.ManualClock) -> pod_inputs.PodInputs:
    return pod_inputs.PodInputs(client, clock=clock)


def a_pod(config_map: str = "", secret: str = "") -> pods.Pod:
    env_from = [{"configMapRef": {"name": config_map}}] if config_map else []
    env_from += [{"secretRef": {"name": secret}}] if secret else []
    container = {"name": "main", "envFrom": env_from}
    return msgspec.convert({"metadata": {"namespace": "team"}, "spec": {"containers": [container]}}, pods.Pod)


def path(plural: str, name: str) -> str:
    return f"/api/v1/namespaces/team/{plural}/{name}"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - plain state that nobody announces
            await asyncio.sleep(0.002)


async def test_pod_without_references_costs_no_call(api: Api, inputs: pod_inputs.PodInputs) -> None:
    assert await inputs.fetch(a_pod()) == sources.Sources()
    assert api.asked == []


async def test_objects_are_read_by_exact_name_and_decoded(api: Api, inputs: pod_inputs.PodInputs) -> None:
    api.answers[path("configmaps", "c")] = {"metadata": {}, "data": {"A": "1"}, "binaryData": {"B": "AA=="}}
    api.answers[path("secrets", "s")] = {"type": "Opaque", "data": {"K": base64.b64encode(b"v").decode()}}
    found = await inputs.fetch(a_pod("c", "s"))
    assert found.config_map("c") == sources.ConfigMap(data={"A": "1"}, binary_data={"B": b"\0"})
    assert found.secret("s") == sources.Secret(data={"K": b"v"})
    assert sorted(api.asked) == [path("configmaps", "c"), path("secrets", "s")]


@pytest.mark.parametrize("there", [True, False])
async def test_burst_of_pods_with_the_same_reference_costs_one_read(
    api: Api, inputs: pod_inputs.PodInputs, there: bool
) -> None:
    if there:
        api.answers[path("configmaps", "c")] = {"data": {"A": "1"}}
    api.gate.clear()
    burst = [asyncio.create_task(inputs.fetch(a_pod("c"))) for _ in range(1000)]
    await until(lambda: len(api.asked) == 1)
    api.gate.set()
    results = await asyncio.gather(*burst)
    assert api.asked == [path("configmaps", "c")]
    assert {result.config_map("c") is not None for result in results} == {there}


async def test_reader_that_is_cancelled_leaves_the_read_to_the_next(api: Api, inputs: pod_inputs.PodInputs) -> None:
    api.answers[path("configmaps", "c")] = {"data": {"A": "1"}}
    api.gate.clear()
    first = asyncio.create_task(inputs.fetch(a_pod("c")))
    await until(lambda: len(api.asked) == 1)
    second = asyncio.create_task(inputs.fetch(a_pod("c")))
    await asyncio.sleep(0)
    first.cancel()
    api.gate.set()
    assert (await second).config_map("c") == sources.ConfigMap(data={"A": "1"})
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_object_is_read_again_when_its_time_is_over(
    api: Api, inputs: pod_inputs.PodInputs, clock: clocks.ManualClock
) -> None:
    api.answers[path("configmaps", "c")] = {"data": {"A": "1"}}
    await inputs.fetch(a_pod("c"))
    api.answers[path("configmaps", "c")] = {"data": {"A": "2"}}
    await clock.advance(pod_inputs.TTL_S - 0.1)
    assert (await inputs.fetch(a_pod("c"))).config_map("c") == sources.ConfigMap(data={"A": "1"})
    await clock.advance(0.2)
    assert (await inputs.fetch(a_pod("c"))).config_map("c") == sources.ConfigMap(data={"A": "2"})


async def test_missing_object_is_none_and_looked_for_again_soon(
    api: Api, inputs: pod_inputs.PodInputs, clock: clocks.ManualClock
) -> None:
    assert (await inputs.fetch(a_pod(secret="s"))).secret("s") is None
    assert (await inputs.fetch(a_pod(secret="s"))).secret("s") is None
    assert len(api.asked) == 1
    api.answers[path("secrets", "s")] = {"data": {}}
    await clock.advance(pod_inputs.MISSING_TTL_S)
    assert (await inputs.fetch(a_pod(secret="s"))).secret("s") == sources.Secret(data={})


async def test_forgotten_object_is_read_at_once(api: Api, inputs: pod_inputs.PodInputs) -> None:
    assert (await inputs.fetch(a_pod("c"))).config_map("c") is None
    api.answers[path("configmaps", "c")] = {}
    inputs.forget("team", "c")
    assert (await inputs.fetch(a_pod("c"))).config_map("c") == sources.ConfigMap()


async def test_forbidden_names_the_right_that_is_missing(api: Api, inputs: pod_inputs.PodInputs) -> None:
    api.answers[path("secrets", "s")] = 403
    unreadable = (await inputs.fetch(a_pod(secret="s"))).secret("s")
    assert isinstance(unreadable, sources.Unreadable)
    assert "secret team/s can't be read" in unreadable.why
    assert "the right to get secrets in namespace team" in unreadable.why


async def test_server_in_trouble_and_nonsense_are_unreadable_and_not_missing(
    api: Api, inputs: pod_inputs.PodInputs, clock: clocks.ManualClock
) -> None:
    api.answers[path("configmaps", "c")] = {"data": "nonsense"}
    malformed = (await inputs.fetch(a_pod("c"))).config_map("c")
    assert isinstance(malformed, sources.Unreadable)
    assert "makes no sense" in malformed.why
    api.answers[path("configmaps", "c")] = {"data": {"A": "1"}}
    await clock.advance(pod_inputs.UNREADABLE_TTL_S)
    assert (await inputs.fetch(a_pod("c"))).config_map("c") == sources.ConfigMap(data={"A": "1"})


async def test_server_that_is_away_is_unreadable(clock: clocks.ManualClock) -> None:
    config = configs.Config(server="http://127.0.0.1:1", ssl=None, credentials=credentials.Fixed(), where="a test")
    async with clients.Client(config, timeout_s=1.0, clock=clocks.ScaledClock(1000)) as client:
        unreadable = (await pod_inputs.PodInputs(client, clock=clock).fetch(a_pod("c"))).config_map("c")
    assert isinstance(unreadable, sources.Unreadable)
    assert "did not answer" in unreadable.why


@pytest.mark.parametrize("name", ["../secrets/s", "a/b", "..", "%2e%2e", "A", "", "a?x=1"])
async def test_name_that_can_not_exist_is_missing_and_never_asked_for(
    api: Api, inputs: pod_inputs.PodInputs, name: str
) -> None:
    pod = a_pod("c")
    pod.spec.containers[0].env_from[0].config_map_ref = pods.NameSelector(name=name)
    assert (await inputs.fetch(pod)).config_map(name) is None
    assert api.asked == []


async def test_cache_does_not_grow_with_every_object_ever_seen(
    api: Api, inputs: pod_inputs.PodInputs, clock: clocks.ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_sweep_at", 4)
    monkeypatch.setattr(pod_inputs, "MOST_ENTRIES", 4)
    for number in range(20):
        await inputs.fetch(a_pod(f"c{number}"))
        await clock.advance(pod_inputs.MISSING_TTL_S)
    assert len(inputs._objects) <= 4


async def test_services_are_listed_once_a_minute(
    api: Api, inputs: pod_inputs.PodInputs, clock: clocks.ManualClock
) -> None:
    item = {"metadata": {"name": "db", "namespace": "team"}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}}
    api.answers["/api/v1/services"] = {"metadata": {}, "items": [item]}
    for _ in range(3):
        services = await inputs.services()
    assert isinstance(services, tuple)
    assert [service.spec.cluster_ip for service in services] == ["10.0.0.1"]
    assert api.asked == ["/api/v1/services"]
    await clock.advance(pod_inputs.SERVICES_TTL_S)
    api.answers["/api/v1/services"] = 403
    assert isinstance(await inputs.services(), sources.Unreadable)
