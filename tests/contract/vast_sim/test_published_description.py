"""The simulator's answers against the description of the API that Vast publishes.

`BAREBOAT_OPENAPI_DIR` names the folder that holds it (vast.yaml); it is other people's and no part of the project.
"""

import functools
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
import yaml
from tests.contract.vast_sim import api

FOLDER = os.environ.get("BAREBOAT_OPENAPI_DIR", "")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="BAREBOAT_OPENAPI_DIR is not set: there is no published description to compare with"
)


class Deviation(NamedTuple):
    """An answer that differs from the description on purpose: where (operation, place in the answer), and why."""

    operation: str
    place: str
    why: str


LIST, SINGLE = "GET /api/v1/instances", "GET /api/v0/instances/{id}"
UNPLACED = "null until the instance is placed, as observed"
DEVIATIONS = (
    Deviation(LIST, r"instances/\d+/public_ipaddr", UNPLACED),
    Deviation(LIST, r"instances/\d+/local_ipaddrs", UNPLACED),
    Deviation(SINGLE, r"instances/public_ipaddr", UNPLACED),
    Deviation(SINGLE, r"instances/local_ipaddrs", UNPLACED),
    Deviation(SINGLE, r"instances/extra_env/\d+", "pairs, as the list has them and every client reads them"),
    Deviation(SINGLE, r"instances/ports", "docker's map, as the list has it; numbers were never seen"),
)

DOCUMENTED_STATUS_ELSEWHERE = {
    ("PUT /api/v0/asks/{id}", 400): "no_such_ask comes with 400 in the wild; the description has the same body at 404",
    ("GET /api/v0/users/current", 404): "a wrong key was observed as 404; the description has the same body at 401",
    ("GET /api/v0/users/current", 403): "no key at all is a 403 by the guide to errors; the description has 401",
}


@functools.cache
def description() -> dict[str, Any]:
    document: dict[str, Any] = yaml.load((Path(FOLDER) / "vast.yaml").read_text(), Loader=yaml.CSafeLoader)
    return document


def schema_of(operation: str, status: int) -> dict[str, Any] | None:
    """The schema of an answer, with everything it refers to; None where the description has no such status."""
    method, path = operation.split()
    responses = description()["paths"][path][method.lower()]["responses"]
    found = responses.get(str(status))
    if found is None or "content" not in found:
        return None
    return {**found["content"]["application/json"]["schema"], "components": description()["components"]}


def check(operation: str, reply: api.Reply) -> set[Deviation]:
    """Fails unless the answer has the described shape, but for deviations; says which of them were met."""
    schema = schema_of(operation, reply.status)
    assert schema is not None, f"{operation} answered {reply.status}, which the description does not have"
    met: set[Deviation] = set()
    strange = []
    for error in jsonschema.Draft202012Validator(schema).iter_errors(reply.body):
        place = "/".join(map(str, error.absolute_path))
        known = [d for d in DEVIATIONS if d.operation == operation and re.fullmatch(d.place, place)]
        met.update(known)
        if not known:
            strange.append(f"{place}: {error.message}")
    assert not strange, f"{operation} {reply.status}:\n" + "\n".join(strange[:20])
    return met


@pytest.fixture
async def lived_in() -> AsyncIterator[api.Vast]:
    """An account with a running, a booting, a stopped and a bid instance."""
    async with api.served(plan=api.QUIET) as vast:
        await vast.running(label="one", env={"-p 80:80": "1", "A": "b"}, runtype="ssh_direct", onstart="echo hello")
        stopped = await vast.running(runtype="jupyter_direct")
        await vast.call("PUT", f"/api/v0/instances/{stopped}/", {"state": "stopped"})
        offer = await vast.an_offer(type="bid")
        await vast.running(price=offer["min_bid"] * 2, args=["sleep", "1"])
        await vast.rented()
        yield vast


async def test_reads_have_the_described_shape(lived_in: api.Vast) -> None:
    call = lived_in.call
    assert check("POST /api/v0/bundles", await call("POST", "/api/v0/bundles/", {})) == set()
    assert check("GET /api/v0/users/current", await call("GET", "/api/v0/users/current/")) == set()
    met = check(LIST, await call("GET", "/api/v1/instances/"))
    for instance_id in await lived_in.listed():
        met |= check(SINGLE, await call("GET", f"/api/v0/instances/{instance_id}/"))
    paged = await call("GET", "/api/v1/instances/", limit="2")
    assert paged.body["next_token"]
    met |= check(LIST, paged)
    assert met == set(DEVIATIONS), "a deviation that is listed no longer exists"


async def test_every_field_the_description_has_is_there(lived_in: api.Vast) -> None:
    schema = schema_of("GET /api/v1/instances", 200)
    assert schema is not None
    fields = set(schema["properties"]["instances"]["items"]["properties"])
    for record in (await lived_in.page())["instances"]:
        assert fields - set(record) == set()
    example = description()["paths"]["/api/v0/bundles"]["post"]["responses"]["200"]
    offer_fields = set(example["content"]["application/json"]["example"]["offers"]) - {"gpu_ids"}
    for offer in await lived_in.search():
        assert offer_fields - set(offer) == set()


async def test_changes_have_the_described_shape(lived_in: api.Vast) -> None:
    call, one = lived_in.call, (await lived_in.listed())[0]
    check("PUT /api/v0/asks/{id}", await lived_in.create())
    check("PUT /api/v0/instances/{id}", await call("PUT", f"/api/v0/instances/{one}/", {"label": "x"}))
    check("PUT /api/v0/instances/reboot/{id}", await call("PUT", f"/api/v0/instances/reboot/{one}/", {}))
    logs = await call("PUT", f"/api/v0/instances/request_logs/{one}/", {"tail": "10"})
    check("PUT /api/v0/instances/request_logs/{id}", logs)
    command = await call("PUT", f"/api/v0/instances/command/{one}/", {"command": "ls"})
    check("PUT /api/v0/instances/command/{id}", command)
    check("PUT /api/v0/instances/{id}", await call("PUT", f"/api/v0/instances/{one}/", {"state": "stopped"}))
    check("DELETE /api/v0/instances/{id}", await call("DELETE", f"/api/v0/instances/{one}/", {}))


async def test_templates_keys_secrets_and_charges_have_the_described_shape(lived_in: api.Vast) -> None:
    call = lived_in.call
    body = {"name": "t", "image": "busybox", "env": "-e A=b"}
    made = await call("POST", "/api/v0/template/", body)
    check("POST /api/v0/template", made)
    check("GET /api/v0/template", await call("GET", "/api/v0/template/", select_filters={"name": {"eq": "t"}}))
    edited = await call("PUT", "/api/v0/template/", {"hash_id": made.body["template"]["hash_id"], "tag": "1"})
    check("PUT /api/v0/template", edited)
    gone = await call("DELETE", "/api/v0/template/", {"template_id": made.body["template"]["id"]})
    check("DELETE /api/v0/template", gone)
    check("POST /api/v0/ssh", await call("POST", "/api/v0/ssh/", {"ssh_key": "ssh-ed25519 AAAA me"}))
    check("GET /api/v0/ssh", await call("GET", "/api/v0/ssh/"))
    check("POST /api/v0/secrets", await call("POST", "/api/v0/secrets/", {"key": "A", "value": "b"}))
    check("GET /api/v0/secrets", await call("GET", "/api/v0/secrets/"))
    day = {"day": {"gte": lived_in.clock.now_s() - 86_400, "lte": lived_in.clock.now_s()}}
    check("GET /api/v0/charges", await call("GET", "/api/v0/charges/", select_filters=day))


async def test_refusals_have_the_described_shape(lived_in: api.Vast) -> None:
    call = lived_in.call
    user, ask = "GET /api/v0/users/current", "PUT /api/v0/asks/{id}"
    lived_in.control.switch(wrong_key="401", no_such_ask="404")
    check(user, await call("GET", "/api/v0/users/current/", key="wrong"))
    check(ask, await lived_in.create(1))
    lived_in.control.switch(no_such_ask="410")
    check(ask, await lived_in.create(1))
    check(ask, await lived_in.create(31870011, disk=1))
    check("GET /api/v1/instances", await call("GET", "/api/v1/instances/", after_token="x"))
    check("GET /api/v1/instances", await call("GET", "/api/v1/instances/", select_filters={"dph_total": {"gt": 1}}))
    check("PUT /api/v0/instances/{id}", await call("PUT", "/api/v0/instances/1/", {"label": "x"}))
    check("DELETE /api/v0/instances/{id}", await call("DELETE", "/api/v0/instances/1/", {}))
    check("PUT /api/v0/instances/request_logs/{id}", await call("PUT", "/api/v0/instances/request_logs/1/", {}))
    check("POST /api/v0/bundles", await call("POST", "/api/v0/bundles/", {"foo": {"eq": 1}}))
    lived_in.control.switch(rate_limits=True, rate_limit_body="json")
    await call("GET", "/api/v1/instances/")
    check("GET /api/v1/instances", await call("GET", "/api/v1/instances/"))


async def test_the_statuses_that_differ_on_purpose_still_do(lived_in: api.Vast) -> None:
    """Each default that differs from the description is one of the listed ones, and listed ones are not stale."""
    found = {
        ("PUT /api/v0/asks/{id}", (await lived_in.create(1)).status),
        ("GET /api/v0/users/current", (await lived_in.call("GET", "/api/v0/users/current/", key="wrong")).status),
        ("GET /api/v0/users/current", (await lived_in.call("GET", "/api/v0/users/current/", key=None)).status),
    }
    assert found == set(DOCUMENTED_STATUS_ELSEWHERE)
