"""What the client sends, held against Vast's published description of its API.

`BAREBOAT_OPENAPI_DIR` names the folder that holds it (vast.yaml); it is other people's and no part of the project.
"""

import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from bareboat.clouds.vast import create, routes, search
from bareboat.core import labels, launches, needs

FOLDER = os.environ.get("BAREBOAT_OPENAPI_DIR", "")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="BAREBOAT_OPENAPI_DIR is not set: there is no published description to compare with"
)

UNDESCRIBED = {"client_id"}
"""Sent by the official command line with each create, and left out of the description."""


@pytest.fixture(scope="module")
def paths() -> dict[str, Any]:
    described: dict[str, Any] = yaml.load(Path(FOLDER, "vast.yaml").read_text(), Loader=yaml.CSafeLoader)["paths"]
    return described


def _body(paths: dict[str, Any], route: routes.Route) -> dict[str, Any]:
    operation = paths[route.path.rstrip("/")][route.method.lower()]
    schema: dict[str, Any] = operation["requestBody"]["content"]["application/json"]["schema"]
    return schema


@pytest.mark.parametrize("route", routes.ALL, ids=lambda route: route.name)
def test_every_route_is_described(paths: dict[str, Any], route: routes.Route) -> None:
    assert route.method.lower() in paths[route.path.rstrip("/")]


def test_every_filter_of_a_search_is_described(paths: dict[str, Any]) -> None:
    query = search.strict(
        needs.Needs(
            gpu_names=("L4",),
            gpu_memory_gib=20.0,
            cpu_cores=2.0,
            ports=1,
            max_usd_per_hour=1.0,
            regions=("EU",),
            min_reliability=0.9,
            min_inet_down_mbps=10.0,
            min_cuda=12.0,
            min_duration_s=60.0,
        )
    )
    schema = _body(paths, routes.SEARCH)
    assert query.keys() <= schema["properties"].keys()
    # The official command line writes it with a hyphen, and lives.
    assert query["type"].replace("-", "") in schema["properties"]["type"]["enum"]
    # Two entries at least and at most, it says of the whole order; it means each of the pairs in it.
    order = query.pop("order")
    assert all(len(pair) == 2 for pair in order)
    jsonschema.validate({**query, "type": "ondemand"}, schema)


def test_the_body_of_a_rent_call_is_as_described(paths: dict[str, Any]) -> None:
    launch = launches.Launch(
        image="busybox",
        command=("sh", "-c"),
        args=("true",),
        env={"A": "b"},
        ports=(launches.Port(80),),
        registry_login=launches.RegistryLogin("ghcr.io", "me", "x"),
        pricing=needs.Pricing.SPOT,
        bid_usd_per_hour=0.5,
        template="f" * 32,
    )
    body = create.body(launch, labels.Mark("c", "o", "1"))
    schema = _body(paths, routes.RENT)
    assert body.keys() - schema["properties"].keys() <= UNDESCRIBED
    described = {name: rules for name, rules in schema["properties"].items() if name != "env"}
    # The description has env as a string of docker flags; its own guide and every client send an object, and a string
    # is said to be left unapplied without a word.
    jsonschema.validate(body, {**schema, "properties": described})


def test_the_parameters_of_lists_are_described(paths: dict[str, Any]) -> None:
    for route, sent in (
        (routes.LIST, {"limit", "after_token", "order_by", "select_filters"}),
        (routes.TEMPLATES, {"select_cols", "select_filters"}),
    ):
        described = paths[route.path.rstrip("/")]["get"]["parameters"]
        assert sent <= {parameter["name"] for parameter in described}
