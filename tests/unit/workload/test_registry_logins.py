"""Which login a pod's image is pulled with, and what is said of pull secrets that are of no use."""

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareboat.workload import pod as pods
from bareboat.workload import registry_logins, sources


def a_pod(*names: str) -> pods.Pod:
    secrets = [{"name": name} for name in names]
    return msgspec.convert({"metadata": {"namespace": "team"}, "spec": {"imagePullSecrets": secrets}}, pods.Pod)


def a_secret(auths: Any) -> sources.Secret:
    raw = json.dumps({"auths": auths}).encode()
    return sources.Secret(type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": raw})


def login(username: str, password: str = "pw") -> dict[str, str]:
    return {"username": username, "password": password}


def users(image: str, auths: dict[str, Any]) -> list[str]:
    found = sources.Sources(secrets={"regcred": a_secret(auths)})
    return [item.username for item in registry_logins.find(a_pod("regcred"), image, found).fitting]


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("nginx", ("docker.io", "library/nginx")),
        ("nginx:1.27", ("docker.io", "library/nginx")),
        ("team/app@sha256:abc", ("docker.io", "team/app")),
        ("docker.io/nginx", ("docker.io", "library/nginx")),
        ("index.docker.io/team/app", ("docker.io", "team/app")),
        ("ghcr.io/team/app:v1@sha256:abc", ("ghcr.io", "team/app")),
        ("localhost/app", ("localhost", "app")),
        ("host:5000/app:v1", ("host:5000", "app")),
        ("host:5000/a/b", ("host:5000", "a/b")),
    ],
)
def test_image_reference_is_read_as_docker_reads_it(image: str, parts: tuple[str, str]) -> None:
    assert registry_logins.split(image) == parts


@pytest.mark.parametrize(
    ("key", "image", "fits"),
    [
        ("ghcr.io", "ghcr.io/team/app", True),
        ("https://ghcr.io", "ghcr.io/team/app", True),
        ("http://ghcr.io/v2/", "ghcr.io/team/app", True),
        ("ghcr.io/team", "ghcr.io/team/app", True),
        ("ghcr.io/team", "ghcr.io/teammates/app", True),
        ("ghcr.io/other", "ghcr.io/team/app", False),
        ("ghcr.io", "quay.io/team/app", False),
        ("*.dkr.ecr.eu-west-1.amazonaws.com", "12.dkr.ecr.eu-west-1.amazonaws.com/app", True),
        ("*.io", "a.ghcr.io/app", False),
        ("registry.example.com:5000", "registry.example.com:5000/app", True),
        ("registry.example.com:5000", "registry.example.com/app", False),
        ("registry.example.com", "registry.example.com:5000/app", False),
        ("https://index.docker.io/v1/", "nginx", True),
        ("index.docker.io", "team/app:v1", True),
        ("docker.io", "nginx", True),
        ("docker.io/team", "team/app", True),
        ("docker.io/team", "nginx", False),
        ("https://index.docker.io/v1/", "localhost/app", False),
        ("https://index.docker.io/v1/", "ghcr.io/team/app", False),
    ],
)
def test_login_fits_by_host_port_and_path(key: str, image: str, fits: bool) -> None:
    assert users(image, {key: login("me")}) == (["me"] if fits else [])


def test_most_specific_login_comes_first() -> None:
    auths = {"ghcr.io": login("broad"), "ghcr.io/team/app": login("narrow"), "ghcr.io/team": login("middle")}
    assert users("ghcr.io/team/app", auths) == ["narrow", "middle", "broad"]


def test_first_secret_of_the_pod_wins_among_equals() -> None:
    found = sources.Sources(secrets={"b": a_secret({"ghcr.io": login("b")}), "a": a_secret({"ghcr.io": login("a")})})
    best = registry_logins.find(a_pod("b", "a"), "ghcr.io/x", found).best
    assert best is not None
    assert (best.server, best.username) == ("ghcr.io", "b")


def test_login_names_the_registry_of_the_image_not_the_pattern_that_fitted() -> None:
    found = sources.Sources(secrets={"regcred": a_secret({"https://index.docker.io/v1/": login("me")})})
    best = registry_logins.find(a_pod("regcred"), "nginx", found).best
    assert best is not None
    assert best.server == "docker.io"


def test_legacy_format_and_auth_with_and_without_padding_are_read() -> None:
    for padding in ("", "="):
        auth = base64.b64encode(b"me:p:w").decode().rstrip("=") + padding * (-len(b"me:p:w") % 3)
        raw = json.dumps({"ghcr.io": {"auth": auth, "email": "me@example.com"}}).encode()
        secret = sources.Secret(type="kubernetes.io/dockercfg", data={".dockercfg": raw})
        best = registry_logins.find(a_pod("old"), "ghcr.io/x", sources.Sources(secrets={"old": secret})).best
        assert best is not None
        assert (best.username, best.password) == ("me", "p:w")


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        (None, "does not exist"),
        (sources.Unreadable("forbidden"), "forbidden"),
        (sources.Secret(), "type is 'Opaque'"),
        (sources.Secret(type="kubernetes.io/dockercfg", data={"other": b"x"}), "no data under the key '.dockercfg'"),
        (sources.Secret(type="kubernetes.io/dockercfg", data={".dockercfg": b'"hunter2'}), "not the JSON"),
        (sources.Secret(type="kubernetes.io/dockercfg", data={".dockercfg": b"\xff"}), "not the JSON"),
        (a_secret(["hunter2"]), "not the JSON"),
        (a_secret({"ghcr.io": "hunter2"}), "should be an object"),
        (a_secret({"ghcr.io": {"auth": "hunter2!"}}), "not base64"),
        (a_secret({"ghcr.io": {"auth": base64.b64encode(b"hunter2").decode()}}), "not base64 of username:password"),
        (a_secret({"ghcr.io": {"identitytoken": "hunter2"}}), "identity token"),
        (a_secret({"ghcr.io": {"username": "hunter2"}}), "no password"),
        (a_secret({"[ghcr.io": login("me", "hunter2")}), "not a host"),
    ],
)
def test_useless_secret_is_told_in_a_sentence_without_its_content(
    secret: sources.Secret | sources.Unreadable | None, says: str
) -> None:
    logins = registry_logins.find(a_pod("regcred"), "ghcr.io/x", sources.Sources(secrets={"regcred": secret}))
    assert logins.best is None
    (problem,) = logins.problems
    assert says in problem.message
    assert "'regcred'" in problem.message
    assert "hunter2" not in problem.message
    assert problem.unknown is isinstance(secret, sources.Unreadable)


def test_one_bad_entry_does_not_spoil_the_others() -> None:
    found = sources.Sources(secrets={"regcred": a_secret({"quay.io": {"auth": "?"}, "ghcr.io": login("me")})})
    logins = registry_logins.find(a_pod("regcred"), "ghcr.io/x", found)
    assert [item.username for item in logins.fitting] == ["me"]
    assert len(logins.problems) == 1


def test_password_is_in_no_repr() -> None:
    found = sources.Sources(secrets={"regcred": a_secret({"ghcr.io": login("me", "hunter2")})})
    assert "hunter2" not in repr(registry_logins.find(a_pod("regcred"), "ghcr.io/x", found)) + repr(found)


def test_deeply_nested_content_is_a_problem_and_no_crash() -> None:
    secret = sources.Secret(type="kubernetes.io/dockercfg", data={".dockercfg": b'{"a":' * 100_000})
    logins = registry_logins.find(a_pod("x"), "nginx", sources.Sources(secrets={"x": secret}))
    assert "not the JSON" in logins.problems[0].message


@given(st.binary(max_size=60))
def test_any_bytes_give_a_problem_and_no_crash(raw: bytes) -> None:
    secret = sources.Secret(type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": raw})
    logins = registry_logins.find(a_pod("x"), "nginx", sources.Sources(secrets={"x": secret}))
    assert logins.best is None
