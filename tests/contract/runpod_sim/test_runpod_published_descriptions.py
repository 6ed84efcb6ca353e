"""The simulator's answers against the descriptions of REST v2 and v1 that RunPod publishes.

`BAREBOAT_OPENAPI_DIR` names the folder that holds them (runpod-v2.json, runpod-v1.json); they are other people's and no
part of the project.
"""

import functools
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from tests.contract.runpod_sim import fronts

FOLDER = os.environ.get("BAREBOAT_OPENAPI_DIR", "")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="BAREBOAT_OPENAPI_DIR is not set: there is no published description to compare with"
)


class Deviation(NamedTuple):
    """Where an answer of v1 differs from its description on purpose, and why."""

    place: str
    why: str


UNSET = "null while there is none, as observed"
V1_DEVIATIONS = (
    Deviation(r"(\d+/)?portMappings", UNSET),
    Deviation(r"(\d+/)?templateId", UNSET),
    Deviation(r"(\d+/)?containerRegistryAuthId", UNSET),
    Deviation(r"(\d+/)?costPerHr", "a text, as its own example has it; observed as a number, too"),
)


@functools.cache
def description(version: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(FOLDER) / f"runpod-{version}.json").read_text())
    return document


def schema_of(version: str, operation: str, status: int) -> dict[str, Any] | None:
    """The schema of an answer with everything it refers to; None where it has no body. Fails on an unknown status."""
    method, path = operation.split()
    responses = description(version)["paths"][path][method.lower()]["responses"]
    found = responses.get(str(status), responses.get("default"))
    assert found is not None, f"{operation} answered {status}, which the description does not have"
    if "$ref" in found:
        found = description(version)["components"]["responses"][found["$ref"].rsplit("/", 1)[1]]
    if "content" not in found:
        return None
    kind = next(iter(found["content"].values()))
    return {**kind["schema"], "components": description(version)["components"]}


def check(version: str, operation: str, reply: fronts.Reply) -> set[Deviation]:
    """Fails unless the answer has the described shape, but for deviations; says which of them were met."""
    schema = schema_of(version, operation, reply.status)
    if schema is None:
        assert reply.text == "" or version == "v1"
        return set()
    met: set[Deviation] = set()
    strange = []
    for error in jsonschema.Draft202012Validator(schema).iter_errors(reply.body):
        place = "/".join(map(str, error.absolute_path))
        known = [d for d in V1_DEVIATIONS if version == "v1" and re.fullmatch(d.place, place)]
        met.update(known)
        if not known and not _nullable(version, error):
            strange.append(f"{place}: {error.message}")
    assert not strange, f"{operation} {reply.status}:\n" + "\n".join(strange[:20])
    return met


def _nullable(version: str, error: jsonschema.ValidationError) -> bool:
    """What OpenAPI 3.0 writes beside a type, the validator doesn't know."""
    schema = error.schema
    return version == "v1" and error.instance is None and isinstance(schema, dict) and bool(schema.get("nullable"))


async def _lived_in(runpod: fronts.Runpod) -> list[str]:
    running = await runpod.running(ports=["8080/tcp", "8888/http", "22/tcp"], env={"A": "b"})
    stopped = await runpod.running(name="two", mounts={"persistent": {"size": 20, "path": "/workspace"}})
    await runpod.call("POST", f"/v2/pods/{stopped}/action", {"action": "stop"})
    await runpod.clock.advance(60)
    return [running, stopped, await runpod.rented(name="three", args='{"cmd": ["sleep", "9"]}', cloud="COMMUNITY")]


async def test_v2_reads_have_the_described_shape() -> None:
    async with fronts.served(plan=fronts.QUIET, foreign=2, script={"faults": {"drift": 0.5}}) as runpod:
        ids = await _lived_in(runpod)
        check("v2", "GET /v2/pods", await runpod.call("GET", "/v2/pods"))
        for pod_id in ids:
            check("v2", "GET /v2/pods/{id}", await runpod.call("GET", f"/v2/pods/{pod_id}"))
        plain = await runpod.call("GET", "/v2/catalog/gpus")
        query = {"include": "AVAILABILITY", "product": "POD", "count": "2"}
        check("v2", "GET /v2/catalog/gpus", plain)
        for cloud in ("SECURE", "COMMUNITY"):
            check("v2", "GET /v2/catalog/gpus", await runpod.call("GET", "/v2/catalog/gpus", cloud=cloud, **query))
        check("v2", "GET /v2/catalog/gpus/{id}", await runpod.call("GET", "/v2/catalog/gpus/NVIDIA%20L4", **query))
        check("v2", "GET /v2/registries", await runpod.call("GET", "/v2/registries"))
        check("v2", "GET /v2/account/ssh-keys", await runpod.call("GET", "/v2/account/ssh-keys"))
        check("v2", "GET /v2/billing/pods", await runpod.call("GET", "/v2/billing/pods"))


async def test_v2_changes_and_refusals_have_the_described_shape(runpod: fronts.Runpod) -> None:
    call, one = runpod.call, await runpod.running()
    check("v2", "POST /v2/pods", await runpod.create())
    for refused in (
        await runpod.create(bogus=1),
        await runpod.create(gpu={"id": "no such type"}),
        await runpod.create(gpu=None),
        await runpod.create(templateId="none"),
        await runpod.create(dataCenterIds=["XX-NO-1"]),
    ):
        assert refused.status in (400, 404, 422)
        check("v2", "POST /v2/pods", refused)
    action = "POST /v2/pods/{id}/action"
    check("v2", action, await call("POST", f"/v2/pods/{one}/action", {"action": "start"}))
    check("v2", action, await call("POST", f"/v2/pods/{one}/action", {"action": "restart"}))
    check("v2", action, await call("POST", f"/v2/pods/{one}/action", {"action": "dance"}))
    check("v2", "PATCH /v2/pods/{id}", await call("PATCH", f"/v2/pods/{one}", {"name": "other"}))
    check("v2", "PATCH /v2/pods/{id}", await call("PATCH", f"/v2/pods/{one}", {"colour": "red"}))
    made = await call("POST", "/v2/registries", {"name": "r", "username": "u", "password": "p"})
    check("v2", "POST /v2/registries", made)
    check("v2", "POST /v2/registries", await call("POST", "/v2/registries", {"name": "r"}))
    check("v2", "GET /v2/registries/{id}", await call("GET", f"/v2/registries/{made.body['id']}"))
    check("v2", "DELETE /v2/registries/{id}", await call("DELETE", f"/v2/registries/{made.body['id']}"))
    check("v2", "GET /v2/pods/{id}", await call("GET", "/v2/pods/none"))
    check("v2", "DELETE /v2/pods/{id}", await call("DELETE", f"/v2/pods/{one}"))
    check("v2", "DELETE /v2/pods/{id}", await call("DELETE", "/v2/pods/none"))
    check("v2", "GET /v2/pods", await call("GET", "/v2/pods", key="wrong"))
    runpod.control.switch(rate_limits=True, per_minute=1)
    await call("GET", "/v2/pods")
    limited = await call("GET", "/v2/pods")
    assert limited.status == 429
    check("v2", "GET /v2/pods", limited)


async def test_v2_pods_have_every_field_that_is_required(runpod: fronts.Runpod) -> None:
    schemas = description("v2")["components"]["schemas"]
    required = set(schemas["Pod"]["allOf"][1]["required"])
    assert required - set(await runpod.show(await runpod.running())) == set()


async def test_v1_has_the_described_shape_but_for_what_is_listed() -> None:
    met: set[Deviation] = set()
    async with fronts.served(plan=fronts.QUIET, foreign=1) as runpod:
        call, ids = runpod.call, await _lived_in(runpod)
        met |= check("v1", "GET /pods", await call("GET", "/v1/pods", includeMachine="true"))
        for pod_id in ids:
            met |= check("v1", "GET /pods/{podId}", await call("GET", f"/v1/pods/{pod_id}"))
        body = {"name": "v1", "imageName": "busybox:latest", "gpuTypeIds": ["NVIDIA L4"]}
        met |= check("v1", "POST /pods", await call("POST", "/v1/pods", body))
        met |= check("v1", "POST /pods/{podId}/stop", await call("POST", f"/v1/pods/{ids[0]}/stop"))
        login = {"name": "r", "username": "u", "password": "p"}
        met |= check("v1", "POST /containerregistryauth", await call("POST", "/v1/containerregistryauth", login))
        met |= check("v1", "GET /containerregistryauth", await call("GET", "/v1/containerregistryauth"))
        met |= check("v1", "DELETE /pods/{podId}", await call("DELETE", f"/v1/pods/{ids[0]}"))
        met |= check("v1", "GET /billing/pods", await call("GET", "/v1/billing/pods"))
    assert met == set(V1_DEVIATIONS), "a deviation that is listed no longer exists"
