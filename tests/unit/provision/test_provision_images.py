import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareboat.provision import images

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("me/app:1.2", "docker.io/me/app:1.2"),
        ("docker.io/looogarithm/mock-inference:latest", "docker.io/looogarithm/mock-inference:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        ("ghcr.io/a/b/c", "ghcr.io/a/b/c:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("[::1]:5000/app:x", "[::1]:5000/app:x"),
        ("registry.example/app_x__y.z:V1", "registry.example/app_x__y.z:V1"),
        (f"app@{DIGEST}", f"docker.io/library/app@{DIGEST}"),
        (f"app:1@{DIGEST}", f"docker.io/library/app:1@{DIGEST}"),
    ],
)
def test_references_are_read_with_defaults(text: str, meant: str) -> None:
    assert str(images.parse(text)) == meant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("https://docker.io/nginx", "leave out the part"),
        ("Nginx", "repository 'Nginx'"),
        ("docker.io/Me/app", "repository 'Me/app'"),
        ("app:", "tag ''"),
        ("app:a b", "tag 'a b'"),
        ("app@sha256:12", "digest"),
        ("app@", "digest"),
        ("a b", "repository 'a b'"),
        ("/app", "repository '/app'"),
        ("app/", "repository 'app/'"),
        ("docker.io/", "repository ''"),
        ("exa_mple.com/app", "registry"),
        ("app\n", "repository"),
        ("a" * 300, "at most 255"),
        ("a" * 2000, "2000 characters"),
    ],
)
def test_what_is_no_reference_is_named(text: str, said: str) -> None:
    with pytest.raises(images.NoReference, match=said):
        images.parse(text)


@given(st.text())
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        read = images.parse(text)
    except images.NoReference:
        return
    assert images.parse(str(read)) == read


@pytest.mark.parametrize(
    ("text", "patterns", "is_allowed"),
    [
        ("anything/at:all", [], True),
        ("me/app:2", ["docker.io/me/*"], True),
        ("me/app:2", ["docker.io/me/app:1", "docker.io/me/app:2"], True),
        ("me/app:3", ["docker.io/me/app:1", "docker.io/me/app:2"], False),
        ("evil.example/docker.io/me/app", ["docker.io/me/*"], False),
        ("nginx", ["docker.io/library/nginx"], True),
    ],
)
def test_patterns_allow_images(text: str, patterns: list[str], is_allowed: bool) -> None:
    assert images.allowed(images.parse(text), patterns) is is_allowed
