"""The simulated RunPod by itself: one store behind three APIs, each with its own shapes, and its money."""

import asyncio

import pytest
from tests.contract.runpod_sim import fronts

from bareboat.clouds.runpod.sim import pods

GPU = {"gpuTypeId": "NVIDIA L4", "cloudType": "SECURE", "gpuCount": 1, "imageName": "busybox:latest"}
RENT = "mutation($input: PodFindAndDeployOnDemandInput) { podFindAndDeployOnDemand(input: $input) { id costPerHr } }"


async def test_a_pod_made_by_one_api_is_the_same_in_the_others(runpod: fronts.Runpod) -> None:
    by_graphql = await runpod.graphql(RENT, input={**GPU, "name": "g", "ports": "80/tcp"})
    pod_id = by_graphql.body["data"]["podFindAndDeployOnDemand"]["id"]
    assert len(pod_id) == 14 and pod_id.islower()
    v2 = await runpod.show(pod_id)
    v1 = (await runpod.call("GET", f"/v1/pods/{pod_id}")).body
    assert (v2["name"], v2["cost"], v1["name"], v1["costPerHr"]) == ("g", 0.44, "g", "0.44")
    query = '{ pod(input: {podId: "ID"}) { name runtime { uptimeInSeconds } } }'
    found = await runpod.graphql(query.replace("ID", pod_id))
    assert found.body["data"]["pod"]["name"] == "g"
    assert (await runpod.call("DELETE", f"/v1/pods/{pod_id}")).status == 204
    await runpod.clock.advance(60)
    assert (await runpod.call("GET", f"/v2/pods/{pod_id}")).status == 404
    gone = await runpod.graphql("query($id: String!) { pod(input: {podId: $id}) { id } }", id=pod_id)
    assert gone.body == {"data": {"pod": None}}


async def test_each_api_says_no_in_its_own_way(runpod: fronts.Runpod) -> None:
    runpod.control.take_all()
    runpod.control.switch(capacity_status="400")
    v2 = await runpod.create()
    assert (v2.status, v2.kind, v2.body["title"]) == (400, "application/problem+json", "Bad Request")
    body = {"imageName": "busybox", "gpuTypeIds": ["NVIDIA L4"]}
    v1 = await runpod.call("POST", "/v1/pods", body)
    assert (v1.status, v1.body["status"]) == (500, 500) and v1.body["error"].startswith("create pod: ")
    graphql = await runpod.graphql(RENT, input=GPU)
    assert graphql.status == 200 and graphql.body["data"] == {"podFindAndDeployOnDemand": None}
    assert graphql.body["errors"][0]["extensions"]["code"] == "SUPPLY_CONSTRAINT"
    assert (await runpod.call("GET", "/v2/pods", key="wrong")).body["detail"] == "unauthorized"
    assert (await runpod.call("GET", "/v1/pods", key="wrong")).body == {"error": "unauthorized", "status": 401}
    assert (await runpod.call("GET", "/v1/pods/none")).body == {"error": "pod not found", "status": 404}
    assert (await runpod.call("DELETE", "/v1/pods/none")).body["error"] == "pod not found to terminate"
    unknown = await runpod.create(bogus=1)
    assert (unknown.status, unknown.body["errors"]) == (422, ["$: additional properties 'bogus' not allowed"])
    assert (await runpod.call("POST", "/v1/pods", {**body, "dockerArgs": "x"})).status == 400


async def test_graphql_takes_what_clients_write_and_says_what_it_does_not_know(runpod: fronts.Runpod) -> None:
    low = "{ gpuTypes { id low: lowestPrice(input: {gpuCount: 1, secureCloud: true}) { stockStatus } } }"
    types = await runpod.graphql(low)
    rows = {row["id"]: row["low"] for row in types.body["data"]["gpuTypes"]}
    assert rows["unknown"] is None and rows["NVIDIA L4"]["stockStatus"] in ("High", "Medium", "Low")
    keyless = await runpod.graphql("{ gpuTypes { id } }", key=None)
    assert keyless.body["data"]["gpuTypes"], "prices need no key"
    assert (await runpod.graphql("{ myself { id } }", key=None)).status == 401
    for query, code in (
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ gpuTypes { colour } }", "GRAPHQL_VALIDATION_FAILED"),
        ('mutation { podTerminate(input: {podId: "x"}) { id } }', "GRAPHQL_VALIDATION_FAILED"),
        ("{ gpuTypes {", "GRAPHQL_PARSE_FAILED"),
        ('mutation { podTerminate(input: {podId: "x"}) }', "POD_NOT_FOUND"),
    ):
        answer = await runpod.graphql(query)
        assert answer.status == 200 and answer.body["errors"][0]["extensions"]["code"] == code, query


async def test_the_door_turns_away_a_librarys_own_name() -> None:
    async with fronts.served() as runpod:
        refused = await runpod.call("GET", "/v2/pods", agent="Python-urllib/3.11")
        assert refused.status == 403 and "1010" in refused.text and refused.kind == "text/html"


async def test_quotas_are_told_with_every_answer_and_hold() -> None:
    async with fronts.served(rate_limits=True, per_minute=3, per_hour=5) as runpod:
        lefts = [(await runpod.call("GET", "/v2/pods")).headers["RateLimit"].split(";")[1] for _ in range(3)]
        assert lefts == ["r=2", "r=1", "r=0"]
        over = await runpod.call("GET", "/v2/pods")
        assert (over.status, over.body["detail"]) == (429, "rate limit exceeded for the minute window")
        await runpod.clock.advance(int(over.headers["Retry-After"]))
        assert [(await runpod.call("GET", "/v2/pods")).status for _ in range(3)] == [200, 200, 429]
        assert (await runpod.call("GET", "/v1/pods")).status == 200, "v1 tells of no quotas"


async def test_a_container_that_ends_is_started_again_and_billed(runpod: fronts.Runpod) -> None:
    pod_id = await runpod.running()
    await runpod.clock.advance(600)
    first = await runpod.show(pod_id)
    runpod.control.exit(pod_id, 0)
    await runpod.clock.advance(30)
    again = await runpod.show(pod_id)
    assert (again["status"], again["startedAt"]) == ("RUNNING", first["startedAt"])
    assert again["runtime"]["uptime"] < first["runtime"]["uptime"]
    entry = runpod.sim.ledger.entries()[0]
    await runpod.clock.advance(3600)
    assert runpod.sim.ledger.entries()[0].usd.gpu - entry.usd.gpu == pytest.approx(0.44)


async def test_what_a_stopped_pod_costs(runpod: fronts.Runpod) -> None:
    pod_id = await runpod.running(disk=50, mounts={"persistent": {"size": 100, "path": "/workspace"}})
    stopped = await runpod.call("POST", f"/v2/pods/{pod_id}/action", {"action": "stop"})
    assert stopped.status == 200
    await runpod.clock.advance(60)
    record = await runpod.show(pod_id)
    assert (record["status"], record["cost"], record["actions"]) == ("EXITED", 0, ["start", "terminate"])
    before = runpod.sim.ledger.entries()[0].usd
    await runpod.clock.advance(720 * 3600)
    after = runpod.sim.ledger.entries()[0].usd
    assert after.gpu == before.gpu
    assert after.disk - before.disk == pytest.approx(100 * 0.20, rel=0.01)


async def test_a_start_after_a_stop_may_be_refused_or_bring_no_gpu(runpod: fronts.Runpod) -> None:
    pod_id = await runpod.running()
    await runpod.call("POST", f"/v2/pods/{pod_id}/action", {"action": "stop"})
    await runpod.clock.advance(60)
    runpod.control.add_fault("start_refused", {"count": 1, "zero_gpus": 0})
    refused = await runpod.call("POST", f"/v1/pods/{pod_id}/start")
    assert (refused.status, refused.body["error"][:10]) == (500, "start pod:")
    assert (await runpod.call("POST", f"/v2/pods/{pod_id}/action", {"action": "stop"})).status == 409
    runpod.control.add_fault("start_refused", {"count": 1, "zero_gpus": 1})
    assert (await runpod.call("POST", f"/v1/pods/{pod_id}/start")).status == 200
    await runpod.clock.advance(60)
    record = await runpod.show(pod_id)
    assert (record["status"], record["gpu"]["count"]) == ("RUNNING", 0)


async def test_a_restart_may_do_nothing(runpod: fronts.Runpod) -> None:
    pod_id = await runpod.running()
    await runpod.clock.advance(100)
    runpod.control.add_fault("restart_ignored")
    await runpod.call("POST", f"/v2/pods/{pod_id}/action", {"action": "restart"})
    await runpod.clock.advance(20)
    assert (await runpod.show(pod_id))["runtime"]["uptime"] >= 120
    await runpod.call("POST", f"/v1/pods/{pod_id}/restart")
    await runpod.clock.advance(20)
    assert (await runpod.show(pod_id))["runtime"]["uptime"] <= 20


async def test_a_pods_own_key_works_and_dies_with_it(runpod: fronts.Runpod) -> None:
    pod_id = await runpod.running()
    key = pods.terms(runpod.sim.pods.find(pod_id)).key
    assert (await runpod.call("GET", f"/v2/pods/{pod_id}", key=key)).status == 200
    assert (await runpod.call("DELETE", f"/v2/pods/{pod_id}", key=key)).status == 204
    await runpod.clock.advance(60)
    assert (await runpod.call("GET", "/v2/pods", key=key)).status == 401


async def test_the_hand_behind_the_world_works_over_http(runpod: fronts.Runpod) -> None:
    pod_id = await runpod.running()
    for action, body in (
        ("switch", {"page": 5}),
        ("faults/add", {"name": "capacity"}),
        ("stock/take", {"gpu": "NVIDIA L4"}),
        ("stock/free", {}),
        ("name", {"pod_id": pod_id, "name": "other"}),
        ("exit", {"pod_id": pod_id, "code": 3}),
        ("vanish", {"pod_id": pod_id}),
        ("credit", {"usd": 5}),
    ):
        answer = await runpod.call("POST", f"/control/{action}", body, key=None)
        assert answer.status == 200 and answer.body["ok"], (action, answer)
    for action, body, status, sentence in (
        ("dance", {}, 404, "there is no control 'dance'"),
        ("vanish", {"pod_id": "none"}, 400, "there is no pod none"),
        ("switch", {"colour": 1}, 400, "switches.colour does not exist"),
        ("faults/add", {"name": "offer_nulls"}, 400, "faults.offer_nulls is not a fault; there are capacity"),
        ("exit", {}, 400, "missing"),
    ):
        answer = await runpod.call("POST", f"/control/{action}", body, key=None)
        assert answer.status == status and sentence in answer.body["message"], answer
    world = (await runpod.call("GET", "/control/world", key=None)).body
    assert world["pods"] == [] and world["switches"]["page"] == 5
    ledger = (await runpod.call("GET", "/control/ledger", key=None)).body
    assert [(entry["pod_id"], entry["reason"]) for entry in ledger["instances"]] == [(pod_id, "deleted by a person")]


async def test_the_same_seed_gives_the_same_world() -> None:
    seen = []
    for _ in range(2):
        async with fronts.served() as runpod:
            query = {"include": "AVAILABILITY", "product": "POD"}
            seen.append([(await runpod.call("GET", "/v2/catalog/gpus", **query)).body, await runpod.rented()])
    assert seen[0] == seen[1]


async def test_a_log_stream_begins_with_the_newest_lines_and_resumes_after_the_last(runpod: fronts.Runpod) -> None:
    pod_id = await runpod.running()
    for _ in range(3):
        runpod.control.exit(pod_id)
        await runpod.clock.advance(60)

    async def ids(tail: str, last: str = "") -> list[str]:
        headers = {"Authorization": f"Bearer {runpod.sim.api_key}"} | ({"Last-Event-ID": last} if last else {})
        url = f"{runpod.sim.url}/v2/pods/{pod_id}/logs"
        found: list[str] = []
        async with runpod.http.get(url, params={"source": "container", "tail": tail}, headers=headers) as response:
            assert response.content_type == "text/event-stream"
            try:
                async with asyncio.timeout(0.3):
                    async for line in response.content:
                        if line.startswith(b"id: "):
                            found.append(line[4:].decode().strip())
            except TimeoutError:
                return found
        return found

    everything = await ids("100")
    assert len(everything) == 4 == len(set(everything))
    assert await ids("2") == everything[-2:]
    assert await ids("0") == []
    assert await ids("100", everything[1]) == everything[2:]
    assert (await runpod.call("GET", f"/v2/pods/{pod_id}/logs", tail="9999")).status == 422
    assert (await runpod.call("GET", "/v2/pods/none/logs")).status == 404
