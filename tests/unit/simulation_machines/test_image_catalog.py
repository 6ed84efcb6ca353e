"""Image references, what a pull gives, and the documents of a registry."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareboat.simulation import images


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("nginx", "docker.io", "library/nginx", "latest"),
        ("nginx:1.27", "docker.io", "library/nginx", "1.27"),
        ("vllm/vllm-openai:v0.6", "docker.io", "vllm/vllm-openai", "v0.6"),
        ("docker.io/library/nginx", "docker.io", "library/nginx", "latest"),
        ("index.docker.io/nginx", "docker.io", "library/nginx", "latest"),
        ("ghcr.io/a/b/c:x", "ghcr.io", "a/b/c", "x"),
        ("localhost/a", "localhost", "a", "latest"),
        ("localhost:5000/a:b", "localhost:5000", "a", "b"),
        ("  busybox ", "docker.io", "library/busybox", "latest"),
    ],
)
def test_references_get_dockers_defaults(text: str, registry: str, repository: str, tag: str) -> None:
    assert images.parse_reference(text) == images.Reference(registry, repository, tag)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no repository"),
        ("Nginx", "lower-case"),
        ("nginx:", "tag ''"),
        ("nginx:a b", "tag 'a b'"),
        ("a//b", "is no repository"),
        ("nginx@sha256:12", "64 hexadecimal digits"),
        ("-bad.io/a", "'-bad.io'"),
    ],
)
def test_bad_references_are_named(text: str, words: str) -> None:
    with pytest.raises(images.BadReference, match=words):
        images.parse_reference(text)
    refused = images.Catalog().resolve(text)
    assert isinstance(refused, images.Refusal)
    assert refused.kind == "bad-reference"


_NAME = st.from_regex(r"[a-z0-9]+([._-][a-z0-9]+)?", fullmatch=True)


@given(_NAME, _NAME, st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True))
def test_printed_references_read_back_the_same(first: str, second: str, tag: str) -> None:
    found = images.parse_reference(f"registry.example.com/{first}/{second}:{tag}")
    assert images.parse_reference(str(found)) == found


def an_image(reference: str, login: images.Login | None = None) -> images.Image:
    found = images.Catalog().resolve(reference, login)
    assert isinstance(found, images.Image), found
    return found


@pytest.mark.parametrize("name", ["busybox", "alpine", "debian", "ubuntu", "python", "nginx", "nvidia/cuda"])
def test_common_images_are_known(name: str) -> None:
    image = images.Catalog(unknown="missing").resolve(name)
    assert isinstance(image, images.Image)
    assert image.entrypoint or image.cmd
    assert image.digest.startswith("sha256:")
    assert image.size_gib > 0


@pytest.mark.parametrize(
    ("reference", "kind", "words"),
    [
        ("bareboat/missing", "missing", "repository does not exist"),
        ("registry.example.com/bareboat/missing:v1", "missing", "not found"),
        ("bareboat/private", "login-required", "may require 'docker login'"),
    ],
)
def test_failing_pulls_say_what_docker_says(reference: str, kind: str, words: str) -> None:
    refused = images.Catalog().resolve(reference)
    assert isinstance(refused, images.Refusal)
    assert refused.kind == kind
    assert words in refused.message


def test_private_image_opens_to_its_login_alone() -> None:
    assert an_image("bareboat/private", images.Login("robot", "opensesame")).cmd[0] == "sh"
    refused = images.Catalog().resolve("bareboat/private", images.Login("robot", "guess"))
    assert isinstance(refused, images.Refusal)
    assert refused.kind == "login-wrong"
    assert "guess" not in refused.message


def test_unknown_image_is_the_hosts_programs_unless_it_is_to_be_missing() -> None:
    assert an_image("someone/something:v1").root == "host"
    refused = images.Catalog(unknown="missing").resolve("someone/something:v1")
    assert isinstance(refused, images.Refusal)
    assert refused.kind == "missing"


def test_digests_follow_from_the_name_and_tag() -> None:
    assert an_image("nginx:1.27").digest == an_image("docker.io/library/nginx:1.27").digest
    assert an_image("nginx:1.27").digest != an_image("nginx:1.26").digest
    pinned = "sha256:" + "a" * 64
    assert an_image(f"nginx@{pinned}").digest == pinned


def test_documents_lead_from_the_digest_to_the_config() -> None:
    image = an_image("nginx:1.27")
    found = images.documents(image)
    assert images.digest_of(found.index) == image.digest
    index, manifest, config = (json.loads(part) for part in (found.index, found.manifest, found.config))
    assert index["manifests"][0]["digest"] == images.digest_of(found.manifest)
    assert manifest["config"]["digest"] == images.digest_of(found.config)
    assert manifest["layers"][0]["digest"] == images.digest_of(found.layer)
    assert config["config"]["Entrypoint"] == ["/docker-entrypoint.sh"]
    assert config["config"]["Cmd"] == ["nginx", "-g", "daemon off;"]
    assert config["config"]["ExposedPorts"] == {"80/tcp": {}}


def test_every_file_of_every_image_is_in_the_package() -> None:
    for name in images.Catalog().names:
        found = images.Catalog().resolve(name.replace("*", "any"), images.Login("robot", "opensesame"))
        if isinstance(found, images.Image):
            assert all(text.strip() for text in found.files.values()), name
        else:
            assert "missing" in name
