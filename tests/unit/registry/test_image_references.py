"""Names of images are read as Docker reads them."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bareboat.registry import references
from bareboat.workload import registry_logins

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        ("team/app", "docker.io/team/app:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("ghcr.io/team/app/part:v1", "ghcr.io/team/app/part:v1"),
        ("Registry/app", "Registry/app:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"nginx:1.27@{DIGEST}", f"docker.io/library/nginx:1.27@{DIGEST}"),
    ],
)
def test_defaults_are_filled_in(text: str, expected: str) -> None:
    found = references.parse(text)
    assert str(found) == expected
    assert references.parse(str(found)) == found
    assert (found.registry, found.repository) == registry_logins.split(text)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "repository"),
        ("Nginx", "lower-case"),
        ("nginx:", "tag"),
        ("nginx:a b", "tag"),
        ("nginx@sha256:abc", "digest"),
        ("nginx@md5:" + "a" * 32, "digest"),
        ("a//b", "repository"),
        ("../../etc/passwd", "registry"),
        ("ghcr.io/../x", "repository"),
        ("reg.io/a?b", "repository"),
        ("user:pw@host/app", "digest"),
        ("host.io:port/app", "registry"),
        ("-a", "repository"),
        ("x" * 5000, "longer"),
    ],
)
def test_what_is_no_name_says_which_part(text: str, word: str) -> None:
    with pytest.raises(references.Malformed, match=word):
        references.parse(text)


parts = st.from_regex(r"[a-z0-9]+([._-][a-z0-9]+)*", fullmatch=True)


@settings(deadline=None)
@given(
    st.sampled_from(["", "ghcr.io/", "localhost:5000/", "docker.io/"]),
    st.lists(parts, min_size=1, max_size=3),
    st.sampled_from(["", ":v1", f"@{DIGEST}", f":v1@{DIGEST}"]),
)
def test_a_parsed_name_reads_the_same_again(registry: str, path: list[str], tail: str) -> None:
    assume(registry or "." not in path[0])  # a first part with a dot is a registry
    found = references.parse(registry + "/".join(path) + tail)
    assert references.parse(str(found)) == found
    assert found.wanted == (DIGEST if "@" in tail else (found.tag or "latest"))


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_a_name_or_refused_in_words(text: str) -> None:
    try:
        found = references.parse(text)
    except references.Malformed as malformed:
        assert str(malformed).startswith("image ")
    else:
        assert ".." not in found.repository.split("/")
        assert references.canonical(text) == str(found)
