import json
import re
from typing import Any

import pytest
from tests.unit.provision import keys

from bareboat.core import regions
from bareboat.provision import order, refusals

KEY = keys.a_key()


def body(**changes: Any) -> bytes:
    asked = {"container_img_url": "docker.io/looogarithm/mock-inference:latest", "ssh_public_key": KEY, **changes}
    return json.dumps({name: value for name, value in asked.items() if value is not ...}).encode()


def name_of(**changes: Any) -> str:
    return order.read(body(**changes)).name


def test_name_is_as_the_document_shows_it() -> None:
    assert re.fullmatch(r"client-mock-inference-[0-9a-f]{8}", name_of())


def test_name_is_the_same_for_the_same_request_however_it_is_spelt() -> None:
    assert name_of() == name_of(port=22) == name_of(container_img_url="looogarithm/mock-inference")
    assert name_of() == name_of(ssh_public_key=" ".join(KEY.split()[:2])) == name_of(gpu={"count": 1})


def test_name_differs_with_the_key_the_image_and_the_port() -> None:
    changed = [
        name_of(ssh_public_key=keys.a_key()),
        name_of(container_img_url="docker.io/looogarithm/mock-inference:2"),
        name_of(port=2222),
    ]
    assert len({name_of(), *changed}) == 4


@pytest.mark.parametrize("image", ["a" * 200, "x/a_b.c--d", "registry.example:5000/" + "z" * 43 + "-1"])
def test_names_of_pod_and_service_are_allowed_whatever_the_image_is_called(image: str) -> None:
    name = name_of(container_img_url=image)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name + "-svc") <= 63


def test_port_is_22_unless_the_client_says_otherwise() -> None:
    assert order.read(body()).ssh_port == 22
    assert order.read(body(port=2200)).ssh_port == 2200
    assert order.read(body(port=2200.0)).ssh_port == 2200


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"container_img_url": ...}, "container_img_url"),
        ({"container_img_url": 7}, "container_img_url"),
        ({"container_img_url": "Not An Image"}, "container_img_url"),
        ({"ssh_public_key": ...}, "ssh_public_key"),
        ({"ssh_public_key": None}, "ssh_public_key"),
        ({"ssh_public_key": "ssh-ed25519 AAAA... user@example"}, "ssh_public_key"),
        ({"port": "22"}, "port"),
        ({"port": 0}, "port"),
        ({"port": 65536}, "port"),
        ({"port": 2.5}, "port"),
        ({"port": 8080}, "port"),
        ({"gpu": "yes"}, "gpu"),
        ({"gpu": {"count": 0}}, "gpu.count"),
        ({"gpu": {"max_usd_per_hour": -1}}, "gpu.max_usd_per_hour"),
        ({"gpu": {"max_usd_per_hours": 1}}, "gpu.max_usd_per_hours"),
        ({"gpu": {"pricing": "free"}}, "gpu.pricing"),
        ({"gpu": {"regions": ["Mordor"]}}, "gpu.regions[0]"),
        ({"gpu": {"names": ["a,b"]}}, "gpu.names[0]"),
    ],
)
def test_a_field_that_makes_no_sense_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(refusals.Refused) as refused:
        order.read(body(**changes))
    assert refused.value.status == 422
    assert [each.field for each in refused.value.problems] == [field]


@pytest.mark.parametrize("place", ["US-CA", "us_ca", "SE", "EU", "Asia", "GB-ENG-LND"])
def test_places_that_are_taken_are_places_for_the_virtual_node(place: str) -> None:
    assert order.read(body(gpu={"regions": [place]})).gpu
    assert regions.looks_right(regions.canonical(place))


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(refusals.Refused) as refused:
        order.read(body(container_img_url="No", ssh_public_key="no", port=8080))
    assert [each.field for each in refused.value.problems] == ["container_img_url", "ssh_public_key", "port"]


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b'{"a": "\xff"}', b"[" * 100_000, b"container_img_url=x"])
def test_what_is_no_json_is_refused_as_such(text: bytes) -> None:
    with pytest.raises(refusals.Refused) as refused:
        order.read(text)
    assert (refused.value.status, refused.value.problems[0].field) == (400, "body")


@pytest.mark.parametrize("text", [b"[]", b'"x"', b"null", b"7"])
def test_json_that_is_no_object_is_refused(text: bytes) -> None:
    with pytest.raises(refusals.Refused) as refused:
        order.read(text)
    assert (refused.value.status, refused.value.problems[0].field) == (422, "body")


def test_image_outside_the_list_is_forbidden() -> None:
    assert order.read(body(), ("docker.io/looogarithm/*",))
    with pytest.raises(refusals.Refused) as refused:
        order.read(body(), ("docker.io/others/*",))
    assert (refused.value.status, refused.value.problems[0].field) == (403, "container_img_url")


def test_no_refusal_repeats_a_private_key() -> None:
    with pytest.raises(refusals.Refused) as refused:
        order.read(body(ssh_public_key="-----BEGIN OPENSSH PRIVATE KEY-----\nsecret stuff"))
    assert "secret stuff" not in json.dumps(refused.value.document())
