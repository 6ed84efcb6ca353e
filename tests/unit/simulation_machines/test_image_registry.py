"""The registry endpoint, asked over HTTP as a client that reads image configs does."""

import base64
from collections.abc import AsyncIterator

import aiohttp
import pytest

from bareboat.simulation import images, registry


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with registry.serve(images.Catalog()) as base:
        yield base


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


async def token(client: aiohttp.ClientSession, url: str, name: str, login: dict[str, str] | None = None) -> str:
    query = {"service": "simulated-registry", "scope": f"repository:{name}:pull"}
    async with client.get(f"{url}/token", params=query, headers=login) as answer:
        assert answer.status == 200
        return "Bearer " + str((await answer.json())["token"])


async def test_client_without_a_token_is_told_where_to_get_one(client: aiohttp.ClientSession, url: str) -> None:
    for path in ("/v2/", "/v2/library/nginx/manifests/latest"):
        async with client.get(url + path) as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith(f'Bearer realm="{url}/token",service=')
            assert (await answer.json())["errors"][0]["code"] == "UNAUTHORIZED"


async def test_config_is_reached_from_the_tag(client: aiohttp.ClientSession, url: str) -> None:
    headers = {"Authorization": await token(client, url, "library/nginx")}
    base = f"{url}/v2/library/nginx"
    async with client.get(f"{base}/manifests/1.27", headers={**headers, "Accept": images.INDEX_TYPE}) as answer:
        assert answer.headers["Content-Type"] == images.INDEX_TYPE
        expected = images.Catalog().resolve("nginx:1.27")
        assert isinstance(expected, images.Image)
        assert answer.headers["Docker-Content-Digest"] == expected.digest
        index = await answer.json(content_type=None)
    async with client.get(f"{base}/manifests/{index['manifests'][0]['digest']}", headers=headers) as answer:
        assert answer.headers["Content-Type"] == images.MANIFEST_TYPE
        manifest = await answer.json(content_type=None)
    async with client.get(f"{base}/blobs/{manifest['config']['digest']}", headers=headers) as answer:
        config = await answer.json(content_type=None)
    assert config["config"]["Entrypoint"] == ["/docker-entrypoint.sh"]
    async with client.get(f"{base}/blobs/{manifest['layers'][0]['digest']}", headers=headers) as answer:
        assert len(await answer.read()) == manifest["layers"][0]["size"]


async def test_client_that_takes_no_index_gets_the_manifest(client: aiohttp.ClientSession, url: str) -> None:
    headers = {"Authorization": await token(client, url, "library/nginx"), "Accept": images.MANIFEST_TYPE}
    async with client.head(f"{url}/v2/library/nginx/manifests/latest", headers=headers) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, images.MANIFEST_TYPE)


async def test_digest_is_known_before_its_tag_was_asked_for(client: aiohttp.ClientSession, url: str) -> None:
    found = images.Catalog().resolve("python")
    assert isinstance(found, images.Image)
    headers = {"Authorization": await token(client, url, "library/python")}
    async with client.get(f"{url}/v2/library/python/manifests/{found.digest}", headers=headers) as answer:
        assert answer.status == 200
    async with client.get(f"{url}/v2/library/python/tags/list", headers=headers) as answer:
        assert "latest" in (await answer.json())["tags"]


async def test_private_image_needs_its_login(client: aiohttp.ClientSession, url: str) -> None:
    path = f"{url}/v2/bareboat/private/manifests/latest"
    anonymous = await token(client, url, "bareboat/private")
    async with client.get(path, headers={"Authorization": anonymous}) as answer:
        assert answer.status == 401
    wrong = basic("robot", "guess")
    scope = {"scope": "repository:bareboat/private:pull"}
    async with client.get(f"{url}/token", params=scope, headers=wrong) as answer:
        assert answer.status == 401
    right = basic("robot", "opensesame")
    own = await token(client, url, "bareboat/private", right)
    async with client.get(path, headers={"Authorization": own}) as answer:
        assert answer.status == 200
    async with client.get(path, headers=right) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("bareboat/missing/manifests/latest", 404, "NAME_UNKNOWN"),
        ("library/nginx/manifests/sha256:" + "0" * 64, 404, "MANIFEST_UNKNOWN"),
        ("library/nginx/blobs/sha256:" + "0" * 64, 404, "BLOB_UNKNOWN"),
        ("Library/nginx/manifests/latest", 400, "NAME_INVALID"),
    ],
)
async def test_what_is_not_there_is_refused_as_registries_do(
    client: aiohttp.ClientSession, url: str, path: str, status: int, code: str
) -> None:
    headers = {"Authorization": await token(client, url, "x")}
    async with client.get(f"{url}/v2/{path}", headers=headers) as answer:
        assert (answer.status, (await answer.json())["errors"][0]["code"]) == (status, code)


async def test_registry_can_ask_for_basic_credentials(client: aiohttp.ClientSession) -> None:
    async with registry.serve(images.Catalog(), challenge="Basic") as base, client.get(f"{base}/v2/") as answer:
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="simulated-registry"'
