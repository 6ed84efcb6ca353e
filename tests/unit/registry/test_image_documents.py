"""Configs, manifests, indexes and challenges: what is read of them, and what garbage becomes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bareboat.registry import challenges, configs, manifests

FULL = {
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "Entrypoint": ["/entry"],
        "Cmd": ["run"],
        "Env": ["PATH=/bin", "EMPTY=", "EQUALS=a=b", "=nameless"],
        "User": "app:web",
        "WorkingDir": "/srv",
        "StopSignal": "SIGQUIT",
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8080": {}, "http": {}, "99999/tcp": {}},
        "Labels": {"a": "b"},
    },
}


def test_config_gives_all_that_starting_needs() -> None:
    found = configs.decode(json.dumps(FULL).encode())
    assert (found.entrypoint, found.cmd) == (("/entry",), ("run",))
    assert found.env == (("PATH", "/bin"), ("EMPTY", ""), ("EQUALS", "a=b"))
    assert (found.user, found.working_dir, found.stop_signal) == ("app:web", "/srv", "SIGQUIT")
    assert found.exposed_ports == ((80, "tcp"), (53, "udp"), (8080, "tcp"))


def test_image_id_is_what_a_runtime_gives() -> None:
    assert configs.Image("docker.io/library/x", "sha256:1").image_id == "docker.io/library/x@sha256:1"


def test_values_of_the_environment_are_in_no_repr() -> None:
    assert "/bin" not in repr(configs.decode(json.dumps(FULL).encode()))


@pytest.mark.parametrize("nulls", [{}, {"config": None}, {"config": {"Env": None, "Cmd": None, "User": None}}])
def test_config_that_says_nothing_is_empty(nulls: dict[str, Any]) -> None:
    assert configs.decode(json.dumps(nulls).encode()) == configs.Config()


@settings(deadline=None)
@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_garbage_is_unreadable_and_nothing_else(body: bytes) -> None:
    for decode, unreadable in ((configs.decode, configs.Unreadable), (manifests.decode, manifests.Unreadable)):
        try:
            decode(body)
        except unreadable as why:
            assert "its " in str(why)


def index(*platforms: dict[str, str]) -> manifests.Document:
    told = [{"digest": f"sha256:{number}", "platform": each} for number, each in enumerate(platforms)]
    return manifests.decode(json.dumps({"schemaVersion": 2, "manifests": told}).encode())


ARM, AMD = {"os": "linux", "architecture": "arm64", "variant": "v8"}, {"os": "linux", "architecture": "amd64"}
RECORD = {"os": "unknown", "architecture": "unknown"}
WINDOWS = {"os": "windows", "architecture": "amd64"}


@pytest.mark.parametrize(("architecture", "digest"), [("amd64", "sha256:3"), ("arm64", "sha256:2")])
def test_variant_of_the_machine_is_chosen(architecture: str, digest: str) -> None:
    assert manifests.choose(index(RECORD, WINDOWS, ARM, AMD), architecture).digest == digest


def test_platforms_that_there_are_are_named() -> None:
    with pytest.raises(manifests.NoVariant, match=r"linux/amd64; it has linux/arm64, windows/amd64$"):
        manifests.choose(index(ARM, WINDOWS, RECORD), "amd64")


def test_schema_1_is_named_as_what_it_is() -> None:
    with pytest.raises(manifests.Unreadable, match="schema 1"):
        manifests.decode(b'{"schemaVersion": 1, "fsLayers": []}')


def test_digest_is_checked_by_its_algorithm() -> None:
    assert manifests.matches(b"x", manifests.digest_of(b"x"))
    assert not manifests.matches(b"y", manifests.digest_of(b"x"))
    assert not manifests.matches(b"x", "md5:9dd4e461268c8034f5c8564e155c67a6")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a/b:pull,push"',
            [("bearer", {"realm": "https://auth.example.com/token", "service": "registry",
                         "scope": "repository:a/b:pull,push"})],
        ),
        ('Basic realm="a \\"b\\""', [("basic", {"realm": 'a "b"'})]),
        ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('bearer Realm = "r" , Service=s', [("bearer", {"realm": "r", "service": "s"})]),
        ("", []),
        ("=====", []),
    ],
)  # fmt: skip
def test_challenges_are_read(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(each.scheme, each.parameters) for each in challenges.read([header])] == expected


@settings(deadline=None)
@given(st.lists(st.text(alphabet='Bearic realm="\\,=/:', max_size=120), max_size=3))
def test_no_header_is_too_odd_to_read(headers: list[str]) -> None:
    for each in challenges.read(headers):
        assert each.scheme == each.scheme.lower() != ""
