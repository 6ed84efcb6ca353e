"""Images are found, and every fault of a registry becomes the error that says what to do next."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.integration.registry import conftest as stage

from bareboat.core import launches
from bareboat.plumbing import clock as clocks
from bareboat.registry import client, errors
from bareboat.simulation import images, registry

ROBOT = launches.RegistryLogin("registry.example.com", "robot", "opensesame")
WRONG = launches.RegistryLogin("registry.example.com", "robot", "guess")
PRIVATE = "registry.example.com/bareboat/private:v1"


async def test_image_comes_with_digest_and_config(registries: client.Registries) -> None:
    found = await registries.image("nginx:1.27")
    known = images.Catalog().resolve("nginx:1.27")
    assert isinstance(known, images.Image)
    assert found.image_id == f"docker.io/library/nginx@{known.digest}"
    assert found.config.entrypoint == ("/docker-entrypoint.sh",)
    assert found.config.cmd == ("nginx", "-g", "daemon off;")
    assert ("NGINX_VERSION", "1.27.3") in found.config.env
    assert found.config.exposed_ports == ((80, "tcp"),)


@pytest.mark.parametrize("door", ["Bearer", "Basic"], indirect=True)
async def test_login_of_a_pull_secret_opens_a_private_image(door: stage.Door, registries: client.Registries) -> None:
    found = await registries.image(PRIVATE, logins=[ROBOT])
    assert found.name == "registry.example.com/bareboat/private"
    assert all("ns=registry.example.com" in path for path in door.asked if path.startswith("/v2/"))


async def test_logins_are_tried_in_order_until_one_opens(registries: client.Registries) -> None:
    assert (await registries.image(PRIVATE, logins=[WRONG, ROBOT])).digest


@pytest.mark.parametrize("logins", [(), (WRONG,)])
async def test_private_image_is_refused_with_a_hint_and_no_password(
    registries: client.Registries, logins: tuple[launches.RegistryLogin, ...]
) -> None:
    with pytest.raises(errors.Unauthorized) as refused:
        await registries.image(PRIVATE, logins=logins)
    assert ("'robot'" if logins else "image pull secret") in refused.value.why
    assert "guess" not in str(refused.value)


async def test_what_one_login_may_see_is_not_kept_for_those_without_it(registries: client.Registries) -> None:
    await registries.image(PRIVATE, logins=[ROBOT])
    with pytest.raises(errors.Unauthorized):
        await registries.image(PRIVATE)


async def test_image_that_is_not_there_is_not_found_and_not_asked_for_again_at_once(
    door: stage.Door, registries: client.Registries, clock: clocks.ManualClock
) -> None:
    for _ in range(3):
        with pytest.raises(errors.ImageNotFound, match=r"docker\.io has no such image"):
            await registries.image("bareboat/missing")
    assert door.count("/manifests/") == 2  # without a token, with one
    await clock.advance(client.REFUSED_S)
    with pytest.raises(errors.ImageNotFound):
        await registries.image("bareboat/missing")
    assert door.count("/manifests/") > 2


async def test_name_that_means_nothing_asks_nobody(door: stage.Door, registries: client.Registries) -> None:
    with pytest.raises(errors.BadReference, match="lower-case") as refused:
        await registries.image("NGINX")
    assert refused.value.reason == "InvalidImageName"
    assert door.asked == []


async def test_image_for_other_machines_is_named_as_such(registries: client.Registries) -> None:
    with pytest.raises(errors.WrongPlatform, match="no variant for linux/arm64; it has linux/amd64"):
        await registries.image("nginx", architecture="arm64")


async def test_burst_of_pods_costs_one_look(door: stage.Door, registries: client.Registries) -> None:
    found = await asyncio.gather(*(registries.image("nginx") for _ in range(50)))
    assert len(set(found)) == 1
    assert door.count("/blobs/") == 1
    assert len(door.asked) == 5  # refused, token, index, manifest, config


async def test_tag_is_believed_for_a_minute_and_a_digest_for_good(
    door: stage.Door, registries: client.Registries, clock: clocks.ManualClock
) -> None:
    image = await registries.image("nginx")
    pinned = f"nginx@{image.digest}"
    await registries.image(pinned)
    asked = len(door.asked)
    await registries.image("nginx")
    await clock.advance(client.TAG_S)
    await registries.image(pinned)
    assert len(door.asked) == asked
    await registries.image("nginx")
    assert len(door.asked) > asked


async def test_tag_that_has_not_moved_is_not_pulled_again(
    door: stage.Door, registries: client.Registries, clock: clocks.ManualClock
) -> None:
    """Docker Hub counts documents that one gets, and bounds them; asking what a tag stands for is free."""
    first = await registries.image("nginx")
    got = door.count("/manifests/")
    for _ in range(3):
        await clock.advance(client.TAG_S)
        assert await registries.image("nginx") is first
    assert door.count("/manifests/") == got + 3
    assert door.methods.count("HEAD") == 3


@pytest.mark.parametrize("fault", [stage.status(429), stage.status(503)])
async def test_what_was_known_holds_for_an_hour_while_the_registry_is_of_no_use(
    door: stage.Door, registries: client.Registries, clock: clocks.ManualClock, fault: stage.Fault
) -> None:
    known = await registries.image("nginx")
    await clock.advance(client.TAG_S)
    door.fail("/v2/", *[fault] * 20)
    assert await registries.image("nginx") is known
    asked = len(door.asked)
    assert await registries.image("nginx") is known
    assert len(door.asked) == asked, "and it is left in peace for a while"
    await clock.advance(client.STALE_S)
    with pytest.raises((errors.Throttled, errors.RegistryDown)):
        await registries.image("nginx")


async def test_image_that_is_taken_away_is_gone_however_well_it_was_known(
    door: stage.Door, registries: client.Registries, clock: clocks.ManualClock
) -> None:
    await registries.image("nginx")
    await clock.advance(client.TAG_S)
    door.fail("/manifests/", stage.status(404))
    with pytest.raises(errors.ImageNotFound):
        await registries.image("nginx")


async def test_token_is_used_again_while_it_lasts(
    door: stage.Door, registries: client.Registries, clock: clocks.ManualClock
) -> None:
    await registries.image("nginx:1")
    await registries.image("nginx:2")
    assert door.count("/token") == 1
    await clock.advance(301)
    await registries.image("nginx:3")
    assert door.count("/token") == 2


async def test_token_that_the_registry_has_forgotten_is_asked_for_anew(
    door: stage.Door, registries: client.Registries
) -> None:
    await registries.image("nginx:1")
    challenge = f'Bearer realm="{door.url}/token",service="s"'
    door.fail("/manifests/", stage.status(401, **{"WWW-Authenticate": challenge}))
    assert (await registries.image("nginx:2")).digest
    assert door.count("/token") == 2


DOWN: list[tuple[str, stage.Fault, str]] = [
    ("/manifests/", stage.status(500), "answered 500"),
    ("/manifests/", stage.hang_up, "can't be reached"),
    ("/manifests/", stage.silence, "did not answer within 1 s"),
    ("/manifests/", stage.body(b"<html>SECRET-OF-THE-SERVER</html>"), "not what a manifest looks like"),
    ("/manifests/", stage.body(b'{"schemaVersion": 2}'), "neither a config nor variants"),
    ("/manifests/", stage.body(b" " * (9 * 1024 * 1024)), "sent more than 8192 KiB"),
    ("/manifests/", stage.redirect("gopher://nowhere"), "can't be reached"),
    ("/token", stage.status(503), "answered 503"),
    ("/token", stage.body(b"[]"), "gave no token"),
    ("/token", stage.body(b'{"token": "a\\r\\nX: y"}'), "gave no token"),
    ("/blobs/", stage.status(502), "answered 502"),
    ("/blobs/", stage.body(b"{}"), "has another digest"),
]


@pytest.mark.parametrize(("part", "fault", "words"), DOWN)
async def test_fault_of_the_registry_is_told_and_passes(
    door: stage.Door, registries: client.Registries, part: str, fault: stage.Fault, words: str
) -> None:
    """The next caller asks again at once: nothing can be concluded from a fault."""
    door.fail(part, *[fault] * (2 if fault is stage.hang_up else 1))  # a connection cut short is tried once more
    with pytest.raises(errors.RegistryDown, match=words) as down:
        await registries.image("nginx")
    assert "SECRET-OF-THE-SERVER" not in str(down.value)
    assert (await registries.image("nginx")).digest


async def test_registry_that_drags_on_is_given_up_in_time(door: stage.Door, clock: clocks.ManualClock) -> None:
    async def slow(_: web.Request) -> None:
        await asyncio.sleep(0.2)

    door.fail("/", *[slow] * 20)
    async with aiohttp.ClientSession() as session:
        registries = client.Registries(session, clock=clock, mirrors={"*": door.url}, total_s=0.5)
        with pytest.raises(errors.RegistryDown, match=r"within 0\.5 s"):
            await registries.image("nginx")


@pytest.mark.parametrize(
    ("header", "after_s"), [({"Retry-After": "7"}, 7.0), ({}, 60.0), ({"Retry-After": "soon"}, 60.0)]
)
async def test_too_many_requests_say_when_to_ask_again(
    door: stage.Door, registries: client.Registries, clock: clocks.ManualClock, header: dict[str, str], after_s: float
) -> None:
    door.fail("/manifests/", stage.status(429, **header))
    for _ in range(2):
        with pytest.raises(errors.Throttled) as throttled:
            await registries.image("nginx")
        assert throttled.value.after_s == after_s
    assert len(door.asked) == 1
    await clock.advance(after_s)
    assert (await registries.image("nginx")).digest


@pytest.mark.parametrize("realm", ["http://elsewhere.example.com/token", "file:///etc/passwd", "", "http://[bad"])
async def test_login_goes_to_no_token_server_without_encryption(
    door: stage.Door, registries: client.Registries, realm: str
) -> None:
    door.fail("/manifests/", stage.status(401, **{"WWW-Authenticate": f'Bearer realm="{realm}"'}))
    with pytest.raises(errors.RegistryDown, match="no usable token server"):
        await registries.image(PRIVATE, logins=[ROBOT])
    assert set(door.logins) == {""}


async def test_login_does_not_follow_a_redirect_to_another_host(
    door: stage.Door, registries: client.Registries
) -> None:
    other = stage.Door()
    application = web.Application()
    async with stage.serving(other, application) as url:
        await registries.image("nginx")
        door.fail("/blobs/", stage.redirect(f"{url}/blob"))
        with pytest.raises(errors.RegistryError):
            await registries.image("debian")
    assert other.asked == ["/blob"]
    assert other.logins == [""]


async def test_registry_that_wants_a_login_of_an_unknown_kind_says_so(
    door: stage.Door, registries: client.Registries
) -> None:
    door.fail("/manifests/", stage.status(401, **{"WWW-Authenticate": "Negotiate"}))
    with pytest.raises(errors.Unauthorized, match="asked for: negotiate"):
        await registries.image(PRIVATE, logins=[ROBOT])


async def test_caller_who_is_cancelled_leaves_the_look_to_the_next(
    door: stage.Door, registries: client.Registries
) -> None:
    door.fail("/manifests/", stage.silence)
    first = asyncio.create_task(registries.image("nginx"))
    second = asyncio.create_task(registries.image("nginx"))
    async with asyncio.timeout(5):
        while not door.asked:  # noqa: ASYNC110 - plain state that nobody announces
            await asyncio.sleep(0.002)
    first.cancel()
    assert (await second).digest
    with pytest.raises(asyncio.CancelledError):
        await first


def manifest_application(documents: dict[str, Any]) -> web.Application:
    async def answer(request: web.Request) -> web.Response:
        found = documents.get(request.match_info["what"])
        return web.Response(status=404) if found is None else web.Response(body=found)

    application = web.Application()
    application.router.add_get("/v2/{name:.+}/{kind:manifests|blobs}/{what}", answer)
    return application


async def test_docker_schema_2_without_an_index_is_read_and_its_platform_is_checked(clock: clocks.ManualClock) -> None:
    config = json.dumps({"architecture": "arm64", "os": "linux", "config": {"Cmd": ["x"]}}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"digest": images.digest_of(config), "size": len(config)},
    }
    documents = {"latest": json.dumps(manifest).encode(), images.digest_of(config): config}
    door = stage.Door()
    async with stage.serving(door, manifest_application(documents)) as url, aiohttp.ClientSession() as session:
        registries = client.Registries(session, clock=clock)
        name = f"{url.removeprefix('http://')}/team/app"
        found = await registries.image(name, architecture="arm64")
        assert found.config.cmd == ("x",)
        assert found.digest == images.digest_of(documents["latest"])
        with pytest.raises(errors.WrongPlatform, match="linux/arm64 only"):
            await registries.image(name)


async def test_registry_that_is_not_there_is_down(clock: clocks.ManualClock) -> None:
    async with registry.serve(images.Catalog()) as url:
        pass
    async with aiohttp.ClientSession() as session:
        with pytest.raises(errors.RegistryDown, match="can't be reached"):
            await client.Registries(session, clock=clock).image(f"{url.removeprefix('http://')}/app")
