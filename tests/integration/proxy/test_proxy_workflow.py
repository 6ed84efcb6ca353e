"""From nothing to a served instance, and what becomes of it: the documented workflow with real parts."""

import signal

import pytest
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


async def until_replaced(cloud: stage.Cloud, old: int, http_ready: stage.Proxy) -> int:
    """The id of the one instance that is there once `old` is not, and serves."""

    async def replaced() -> bool:
        ids = [record["id"] for record in cloud.live()]
        return len(ids) == 1 and ids[0] != old and await http_ready.probe(cloud.http) == 200

    await stage.until(replaced, f"instance {old} to be replaced")
    return int(cloud.live()[0]["id"])


@pytest.mark.parametrize("what", ["image", "template"])
async def test_a_changed_image_or_template_has_the_instance_destroyed_and_made_anew(
    cloud: stage.Cloud, launch: stage.Launcher, what: str
) -> None:
    template = await cloud.template()
    first = launch()
    await first.start()
    await first.until_ready(cloud.http)
    await first.close()
    [old] = cloud.live()
    if what == "template":
        template = await cloud.edit(template, env=f"-e GREETING=changed -p {stage.PORT}:{stage.PORT}")
    second = launch(VAST_TEMPLATE_IMAGE="python:3.11" if what == "image" else stage.IMAGE)
    await second.start()
    await second.until_ready(cloud.http)
    [new] = cloud.live()
    assert new["id"] != old["id"] and new["template_hash_id"] == template
    assert new["image_uuid"] == second.environment["VAST_TEMPLATE_IMAGE"]
    assert ("its image is" if what == "image" else "its template has been edited") in second.log
    assert (await served_by(cloud, second))[0] == ("changed" if what == "template" else "hello")


async def test_a_stray_with_the_same_label_is_destroyed_and_the_one_that_serves_stays(
    cloud: stage.Cloud, launch: stage.Launcher
) -> None:
    template = await cloud.template()
    proxy = launch()
    await proxy.start()
    await proxy.until_ready(cloud.http)
    [kept] = cloud.live()
    stray = await cloud.rent("k8s_pod=vast-pod-0", template_hash_id=template)
    other = await cloud.rent("k8s_pod=vast-pod-00", template_hash_id=template)
    await proxy.until_said("a stray")

    async def stray_gone() -> bool:
        return stray not in [record["id"] for record in cloud.live()]

    await stage.until(stray_gone, "the stray to be gone")
    assert sorted(record["id"] for record in cloud.live()) == sorted([kept["id"], other])
    assert cloud.ever() == 3


async def test_an_instance_that_ends_is_replaced_while_the_container_lives(
    cloud: stage.Cloud, launch: stage.Launcher
) -> None:
    await cloud.template()
    proxy = launch()
    await proxy.start()
    await proxy.until_ready(cloud.http)
    [old] = cloud.live()
    cloud.sim.control.exit(old["id"], 1)
    new = await until_replaced(cloud, old["id"], proxy)
    cloud.sim.control.host_down(cloud.live()[0]["machine_id"])
    newer = await until_replaced(cloud, new, proxy)
    cloud.sim.control.vanish(newer)
    await until_replaced(cloud, newer, proxy)
    assert cloud.ever() == 4


async def test_an_edited_template_is_followed_when_asked_for(cloud: stage.Cloud, launch: stage.Launcher) -> None:
    template = await cloud.template()
    proxy = launch(BAREBOAT_PROXY_TEMPLATE_S="0.5")
    await proxy.start()
    await proxy.until_ready(cloud.http)
    [old] = cloud.live()
    await cloud.edit(template, env=f"-e GREETING=changed -p {stage.PORT}:{stage.PORT}")
    await until_replaced(cloud, old["id"], proxy)
    assert (await served_by(cloud, proxy))[0] == "changed"


async def test_a_rent_call_whose_answer_is_lost_is_looked_up_and_never_repeated(
    cloud: stage.Cloud, launch: stage.Launcher
) -> None:
    await cloud.template()
    cloud.sim.control.add_fault("create_lost_answer", {"count": 1, "how": "drop", "lag_s": 1.5})
    proxy = launch(VAST_VISIBILITY_WINDOW_S="10")
    await proxy.start()
    await proxy.until_ready(cloud.http)
    assert "rent.unknown" in proxy.log
    assert cloud.ever() == 1


async def test_a_container_killed_in_the_middle_of_a_rent_call_leaves_one_instance_in_the_end(
    cloud: stage.Cloud, launch: stage.Launcher
) -> None:
    await cloud.template()
    cloud.sim.control.add_fault("create_lost_answer", {"count": 1, "how": "hang", "lag_s": 2.0})
    proxy = launch(VAST_VISIBILITY_WINDOW_S="6")
    await proxy.start()

    async def bought() -> bool:
        return cloud.ever() == 1

    await stage.until(bought, "the rent call to be made")
    await proxy.kill()
    await proxy.start()
    await proxy.until_ready(cloud.http)
    assert cloud.ever() == 1


async def test_offers_taken_by_others_are_followed_by_the_next(cloud: stage.Cloud, launch: stage.Launcher) -> None:
    await cloud.template()
    cloud.sim.control.add_fault("offer_gone", {"count": 2})
    proxy = launch()
    await proxy.start()
    await proxy.until_ready(cloud.http)
    assert proxy.log.count("offer.gone") == 2 and cloud.ever() == 1


async def test_the_instance_survives_its_container_and_ends_on_the_word(
    cloud: stage.Cloud, launch: stage.Launcher
) -> None:
    await cloud.template()
    proxy = launch()
    await proxy.start()
    await proxy.until_ready(cloud.http)
    proxy.signal(signal.SIGTERM)
    assert await proxy.ended() == 0
    [record] = cloud.live()
    code, said = await proxy.run("proxy", "destroy")
    assert code == 0 and str(record["id"]) in said
    assert cloud.live() == []
    assert (await proxy.run("proxy", "destroy"))[1].endswith("there is no instance of this pod\n")


async def test_pods_of_one_name_in_two_clusters_leave_each_other_alone(
    cloud: stage.Cloud, launch: stage.Launcher
) -> None:
    await cloud.template()
    for cluster in ("east", "west"):
        proxy = launch(BAREBOAT_CLUSTER_ID=cluster)
        await proxy.start()
        await proxy.until_ready(cloud.http)
    assert len(cloud.live()) == cloud.ever() == 2
    assert {record["label"] for record in cloud.live()} == {"k8s_pod=vast-pod-0"}


async def test_an_image_that_cant_be_pulled_ends_the_container_with_nothing_left(
    cloud: stage.Cloud, launch: stage.Launcher
) -> None:
    await cloud.template()
    proxy = launch(VAST_TEMPLATE_IMAGE="bareboat/missing:1")
    await proxy.start()
    assert await proxy.ended() == 1
    assert "VAST_TEMPLATE_IMAGE bareboat/missing:1" in proxy.log and "Traceback" not in proxy.log
    assert cloud.live() == [] and cloud.ever() == 1


async def test_a_registry_login_reaches_the_registry(cloud: stage.Cloud, launch: stage.Launcher) -> None:
    await cloud.template(onstart="", args_str="")
    right = launch(VAST_TEMPLATE_IMAGE="bareboat/private:1", NGINX_LISTEN_PORT=str(stage.free_port()))
    await right.start()
    await right.until_said("instance.up")
    await right.close()
    wrong = launch("vast-pod-1", VAST_TEMPLATE_IMAGE="bareboat/private:1", DOCKER_LOGIN="-u robot -p wrong docker.io")
    await wrong.start()
    assert await wrong.ended() == 1
    assert "DOCKER_LOGIN" in wrong.log and "-p wrong" not in wrong.log and "opensesame" not in right.log


@pytest.mark.parametrize(
    ("made", "changes", "told"),
    [
        ({}, {"VAST_API_KEY": "wrong"}, "VAST_API_KEY: "),
        ({}, {"VAST_TEMPLATE_NAME": "my web"}, "VAST_TEMPLATE_NAME 'my web': the account has no template"),
        ({}, {"VAST_TEMPLATE_NAME": "NVIDIA CUDA"}, "1 of that name belong to others"),
        ({"env": "-e A=b -p 22:22"}, {}, "the template opens no TCP port"),
        ({}, {"BAREBOAT_PROXY_NGINX": "nginks"}, "nginx can't be started as 'nginks'"),
        ({}, {"NGINX_CONFIG_PATH": "/proc/nowhere/default.conf"}, "configuration can't be written"),
    ],
)
async def test_what_cant_work_ends_the_container_with_a_sentence(
    cloud: stage.Cloud, launch: stage.Launcher, made: dict[str, str], changes: dict[str, str], told: str
) -> None:
    await cloud.template(**made)
    proxy = launch(**changes)
    await proxy.start()
    assert await proxy.ended() == 2
    assert told in proxy.log and "Traceback" not in proxy.log
    assert cloud.ever() == ("NGINX" in str(changes))


async def test_of_several_templates_of_one_name_the_newest_own_one_is_taken_and_told(
    cloud: stage.Cloud, launch: stage.Launcher
) -> None:
    await cloud.template(env=f"-e GREETING=older -p {stage.PORT}:{stage.PORT}")
    newest = await cloud.template(env=f"-e GREETING=newer -p {stage.PORT}:{stage.PORT}")
    proxy = launch()
    await proxy.start()
    await proxy.until_ready(cloud.http)
    assert (await served_by(cloud, proxy))[0] == "newer" and "template.ambiguous" in proxy.log
    assert cloud.live()[0]["template_hash_id"] == newest


@pytest.mark.parametrize(("debug", "said"), [("true", True), ("false", False)])
async def test_debug_logs_more(cloud: stage.Cloud, launch: stage.Launcher, debug: str, said: bool) -> None:
    await cloud.template()
    proxy = launch(DEBUG=debug)
    await proxy.start()
    await proxy.until_ready(cloud.http)
    assert ("cloud.looked" in proxy.log) is said
    assert ("error_log stderr info;" in (proxy.folder / "state" / "nginx.conf").read_text()) is said


async def test_an_account_without_credit_is_waited_for_and_nothing_is_bought(
    cloud: stage.Cloud, launch: stage.Launcher
) -> None:
    await cloud.template()
    cloud.sim.control.set_credit(0.0)
    proxy = launch()
    await proxy.start()
    await proxy.until_said("rent.refused")
    assert await proxy.probe(cloud.http, "/healthz") == 200 and cloud.ever() == 0
    cloud.sim.control.set_credit(10.0)
    await proxy.until_ready(cloud.http)
    assert cloud.ever() == 1


async def test_a_template_that_is_deleted_does_not_end_what_serves(cloud: stage.Cloud, launch: stage.Launcher) -> None:
    template = await cloud.template()
    proxy = launch(BAREBOAT_PROXY_TEMPLATE_S="0.3")
    await proxy.start()
    await proxy.until_ready(cloud.http)
    await cloud.call("DELETE", "/api/v0/template/", {"hash_id": template})
    await proxy.until_said("template.unread")
    assert (await served_by(cloud, proxy))[0] == "hello" and cloud.ever() == 1


async def test_a_prestop_hook_that_destroys_is_not_undone_by_the_proxy_beside_it(
    cloud: stage.Cloud, launch: stage.Launcher
) -> None:
    await cloud.template()
    proxy = launch()
    await proxy.start()
    await proxy.until_ready(cloud.http)
    assert (await proxy.run("proxy", "destroy"))[0] == 0
    await proxy.until_said("rent.closed")
    assert cloud.live() == [] and await proxy.probe(cloud.http, "/healthz") == 200
    proxy.signal(signal.SIGTERM)
    assert await proxy.ended() == 0
    assert cloud.ever() == 1
    await proxy.start()
    await proxy.until_ready(cloud.http)
    assert cloud.ever() == 2


async def test_a_first_container_waits_for_what_one_before_it_may_have_bought(
    cloud: stage.Cloud, launch: stage.Launcher
) -> None:
    """Of the container that died nothing is left but its rent call, which the list shows late."""
    await cloud.template()
    cloud.sim.control.add_fault("list_lag", {"count": 1, "for_s": 3.0})
    first = launch(VAST_VISIBILITY_WINDOW_S="0.1")
    await first.start()

    async def bought() -> bool:
        return cloud.ever() == 1

    await stage.until(bought, "the rent call to be made")
    await first.kill()
    second = launch(VAST_VISIBILITY_WINDOW_S="5")
    await second.start()
    await second.until_ready(cloud.http)
    assert cloud.ever() == 1
