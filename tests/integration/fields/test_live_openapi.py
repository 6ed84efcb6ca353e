"""Every field that the API server's own description gives a pod's spec is in the table, and nothing that it lacks."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration import conftest

from bareboat.workload.fields import table

CORE = "io.k8s.api.core.v1."
# What an object is made of everywhere, and kinds that stand for one value.
SHARED = ("meta.v1.ObjectMeta", "meta.v1.ManagedFieldsEntry", "meta.v1.OwnerReference")
Described = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def described(kubectl: conftest.Kubectl) -> Described:
    """Fields by kind, from PodSpec down."""
    schemas = json.loads(kubectl("get", "--raw", "/openapi/v3/api/v1"))["components"]["schemas"]
    found: Described = {}
    waiting = [f"{CORE}PodSpec"]
    while waiting:
        kind = waiting.pop()
        if kind in found or kind.endswith(SHARED):
            continue
        found[kind] = schemas[kind].get("properties", {})
        waiting += _kinds(found[kind])
    return {kind.rpartition(".")[2]: fields for kind, fields in found.items() if fields}


def _kinds(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"].rpartition("/")[2]
        for each in part.values():
            yield from _kinds(each)
    elif isinstance(part, list):
        for each in part:
            yield from _kinds(each)


def test_description_is_read_at_all(described: Described) -> None:
    assert len(described["PodSpec"]) > 30
    assert sum(map(len, described.values())) > 400


def test_table_has_every_field_of_the_live_api_server(described: Described) -> None:
    told = {(row.kind, row.field) for row in table.ROWS}
    lacking = [f"{kind}.{field}" for kind, fields in described.items() for field in fields if (kind, field) not in told]
    assert lacking == [], "say in workload/fields what becomes of these, and run `make docs`"


def test_table_has_no_field_that_the_live_api_server_lacks(described: Described) -> None:
    told = [(row.kind, row.field) for row in table.ROWS]
    invented = [f"{kind}.{field}" for kind, field in told if field not in described.get(kind, {})]
    assert invented == []
