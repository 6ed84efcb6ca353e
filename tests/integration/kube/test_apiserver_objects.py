"""The API server's own description of its objects, against the names that our code uses."""

import json
from typing import Any

import msgspec
import pytest

from bareboat.kube import client as clients
from bareboat.kube import leases, objects, resources

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
ALL = [value for value in vars(resources).values() if isinstance(value, resources.Resource)]


@pytest.fixture
async def definitions(client: clients.Client) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(await client.get("/openapi/v2"))["definitions"]
    return described


async def test_every_field_of_our_structs_exists_in_the_api(definitions: dict[str, Any]) -> None:
    for ours, name in (
        (objects.ObjectMeta, META + "ObjectMeta"),
        (objects.OwnerReference, META + "OwnerReference"),
        (objects.ListMeta, META + "ListMeta"),
        (objects.Status, META + "Status"),
        (leases.Lease, "io.k8s.api.coordination.v1.Lease"),
    ):
        wire_names = {field.encode_name for field in msgspec.structs.fields(ours)}
        assert wire_names <= definitions[name]["properties"].keys(), name


@pytest.mark.parametrize("resource", ALL, ids=lambda resource: resource.plural)
async def test_every_resource_lives_where_we_say(client: clients.Client, resource: resources.Resource) -> None:
    group = resource.path().removesuffix("/" + resource.plural)
    served = json.loads(await client.get(group))["resources"]
    found = next(entry for entry in served if entry["name"] == resource.plural)
    assert (found["kind"], found["namespaced"]) == (resource.kind, resource.namespaced)


async def test_everything_that_lists_answers_at_our_paths(client: clients.Client) -> None:
    for resource in ALL:
        if not resource.plural.endswith("reviews"):
            await client.list(resource.path(), item=objects.Metadata, limit=1)
