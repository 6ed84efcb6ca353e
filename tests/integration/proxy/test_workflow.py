"""From nothing to a served instance, and what becomes of it: the documented workflow with real parts."""

import signal

from tests.integration.proxy import conftest as stage


async def served_by(cloud: stage.Cloud, proxy: stage.Proxy, path: str = "/") -> list[str]:
    async with cloud.http.get(proxy.url + path) as response:
        assert response.status == 200, await response.text()
        return (await response.text()).split()


async def test_a_first_start_rents_from_the_template_and_serves_through_nginx(
    cloud: stage.Cloud, launch: stage.Launcher
) -> None:
    template = await cloud.template()
    proxy = launch()
    await proxy.start()
    await proxy.until_ready(cloud.http)
    [record] = cloud.live()
    assert (record["label"], record["template_hash_id"], record["image_uuid"]) == (
        "k8s_pod=vast-pod-0",
        template,
        stage.IMAGE,
    )
    assert await served_by(cloud, proxy, "/a") == ["hello", str(record["id"]), "/a", "0"]
    assert (await proxy.run("proxy", "ready"))[0] == 0


async def test_a_second_start_finds_the_instance_and_does_nothing_to_it(
    cloud: stage.Cloud, launch: stage.Launcher
) -> None:
    await cloud.template()
    first = launch()
    await first.start()
    await first.until_ready(cloud.http)
    first.signal(signal.SIGTERM)
    assert await first.ended() == 0
    [record] = cloud.live()
    second = launch()
    await second.start()
    await second.until_ready(cloud.http)
    assert await served_by(cloud, second) == ["hello", str(record["id"]), "/", "0"]
    assert cloud.ever() == 1
