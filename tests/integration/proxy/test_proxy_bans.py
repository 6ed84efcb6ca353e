"""Bans in a real Redis: made for hosts that don't come up and pods that restart, shared, kept, shown, survived."""

import json

from tests.integration.proxy import conftest as stage


def nothing_comes_up(cloud: stage.Cloud) -> None:
    """Instances run and never get their ports."""
    cloud.sim.control.switch(port_delay_s=1e6)


async def bans(proxy: stage.Proxy) -> list[dict[str, object]]:
    code, said = await proxy.run("bans", "--json")
    assert code == 0, said
    found: list[dict[str, object]] = json.loads(said)
    return found


def host_of(cloud: stage.Cloud, instance_id: int) -> str:
    return str(next(record for record in cloud.live() if record["id"] == instance_id)["host_id"])


async def one_rented(cloud: stage.Cloud, total: int = 1) -> int:
    async def rented() -> bool:
        return cloud.ever() == total and len(cloud.live()) == 1

    await stage.until(rented, f"rent number {total}")
    return int(cloud.live()[0]["id"])


async def test_a_host_that_does_not_come_up_in_time_is_banned_for_all_pods_across_restarts(
    cloud: stage.Cloud, launch: stage.Launcher, redis_url: str
) -> None:
    await cloud.template()
    nothing_comes_up(cloud)
    about = {"BLACKLIST_ENABLED": "true", "BLACKLIST_REDIS_URL": redis_url}
    proxy = launch(**about, BLACKLIST_BAN_AFTER_SECONDS="4", BLACKLIST_BAN_TTL_SECONDS="500")
    await proxy.start()
    first = await one_rented(cloud)
    host = host_of(cloud, first)
    await proxy.until_said("instance.awaited")
    await proxy.kill()
    await proxy.start()
    second = await one_rented(cloud, 2)
    await proxy.kill()
    assert host_of(cloud, second) != host
    [ban] = await bans(proxy)
    assert (ban["host_id"], ban["who"], ban["cloud"]) == (host, "vast-pod-0", "vast")
    assert "not up after" in str(ban["reason"]) and ban["machine_id"]
    assert 490 < float(str(ban["until_s"])) - float(str(ban["at_s"])) <= 500
    # Another pod is kept from that host although it is new, and one of the old name is off it.
    other = launch("vast-pod-1", **about)
    await other.start()
    await stage.until(lambda: _count(cloud, 3), "the other pod to rent")
    hosts = {str(record["host_id"]) for record in cloud.live()}
    assert host not in hosts
    assert (await proxy.run("bans"))[1].count(host) == 1
    assert (await proxy.run("bans", "--lift", host))[0] == 0
    assert host not in [each["host_id"] for each in await bans(proxy)]


async def _count(cloud: stage.Cloud, total: int) -> bool:
    return cloud.ever() >= total


async def test_without_the_blacklist_a_slow_host_is_waited_for(
    cloud: stage.Cloud, launch: stage.Launcher, redis_url: str
) -> None:
    await cloud.template()
    nothing_comes_up(cloud)
    proxy = launch(BLACKLIST_REDIS_URL=redis_url, BLACKLIST_BAN_AFTER_SECONDS="0.5")
    await proxy.start()
    await one_rented(cloud)
    looked = cloud.sim.requests["GET /api/v1/instances"]

    async def looked_often() -> bool:
        return cloud.sim.requests["GET /api/v1/instances"] > looked + 15

    await stage.until(looked_often, "15 looks")
    assert cloud.ever() == 1 and "banned" not in proxy.log and await bans(proxy) == []


async def test_too_many_restarts_ban_the_host(cloud: stage.Cloud, launch: stage.Launcher, redis_url: str) -> None:
    await cloud.template()
    proxy = launch(BLACKLIST_ENABLED="true", BLACKLIST_REDIS=redis_url, BLACKLIST_RESTART_THRESHOLD="2")
    await proxy.start()
    await proxy.until_ready(cloud.http)
    first = int(cloud.live()[0]["id"])
    host = host_of(cloud, first)
    for _ in range(2):
        assert [record["id"] for record in cloud.live()] == [first]
        await proxy.kill()
        await proxy.start()
        await proxy.until_ready(cloud.http)
    await one_rented(cloud, 2)
    [ban] = await bans(proxy)
    assert ban["host_id"] == host and "restarted 2 times" in str(ban["reason"])


async def test_restarts_with_a_long_pause_between_them_do_not_count(
    cloud: stage.Cloud, launch: stage.Launcher, redis_url: str
) -> None:
    await cloud.template()
    proxy = launch(
        BLACKLIST_ENABLED="true",
        BLACKLIST_REDIS_URL=redis_url,
        BLACKLIST_RESTART_THRESHOLD="1",
        BLACKLIST_RESTART_TTL_SECONDS="1",
    )
    await proxy.start()
    await proxy.until_ready(cloud.http)
    await proxy.kill()
    await stage.until(lambda: _no_starts(redis_url), "Redis to forget the start")
    await proxy.start()
    await proxy.until_ready(cloud.http)
    assert cloud.ever() == 1 and await bans(proxy) == []


async def _no_starts(redis_url: str) -> bool:
    import redis.asyncio as client

    async with client.Redis.from_url(redis_url) as asked:
        return not await asked.keys("bareboat:starts:*")


async def test_redis_that_is_away_is_a_warning_and_bans_are_written_when_it_is_back(
    cloud: stage.Cloud, launch: stage.Launcher
) -> None:
    await cloud.template()
    nothing_comes_up(cloud)
    port = stage.free_port()
    proxy = launch(
        BLACKLIST_ENABLED="true",
        BLACKLIST_REDIS_URL=f"redis://127.0.0.1:{port}/10",
        BLACKLIST_BAN_AFTER_SECONDS="1",
    )
    await proxy.start()
    await proxy.until_said("host.banned")
    assert proxy.log.count("redis.away") == 1
    assert (await proxy.run("bans"))[0] == 1
    async with stage.served_redis(proxy.folder / "redis", port):
        await proxy.until_said("redis.back")

        async def kept() -> bool:
            return bool(await bans(proxy))

        await stage.until(kept, "the ban to be in Redis")
    await proxy.until_said("redis.away")
