"""Pods of the simulated RunPod that really run, seen through the driver: processes, ports, logs, ends, ssh."""

import asyncio

import aiohttp
import asyncssh
from tests.integration.runpod_sim.conftest import DEADLINE_S, Account

from bareboat.core import instances, launches


async def test_a_rented_server_answers_on_its_mapped_port_and_knows_where_it_runs(account: Account) -> None:
    script = "env; mkdir /w; echo hello > /w/index.html; exec python3 -m http.server -d /w 8001"
    pod_id = await account.rented(
        "python:3.12", "/bin/sh", "-c", script, env={"FOO": "bar baz"}, ports=(launches.Port(8001),)
    )
    found = await account.until(pod_id, lambda each: bool(each.ports))
    port = found.ports[8001, "TCP"]
    async with aiohttp.ClientSession() as http, asyncio.timeout(DEADLINE_S):
        while True:
            try:
                async with http.get(f"http://{found.address}:{port}/index.html") as response:
                    assert await response.text() == "hello\n"
                    break
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
    said = dict(line.partition("=")[::2] for line in (await account.cloud.logs(pod_id)).splitlines())
    assert said["FOO"] == "bar baz"
    assert said["RUNPOD_POD_ID"] == pod_id
    assert said["RUNPOD_TCP_PORT_8001"] == str(port)
    assert said["RUNPOD_API_KEY"].startswith("rpa_")

    await account.cloud.destroy(pod_id)
    await account.ends(pod_id)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                break
            writer.close()
            await asyncio.sleep(0.02)


async def test_nvidia_smi_shows_what_the_offer_promised(account: Account) -> None:
    pod_id = await account.rented("nvidia/cuda:12.4.1-base-ubuntu22.04", "sh", "-c", "nvidia-smi -L; sleep 1000")
    await account.becomes(pod_id, instances.State.RUNNING)
    assert "RTX 4090" in await account.cloud.logs(pod_id)


async def test_logs_come_once_while_they_grow(account: Account) -> None:
    script = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i; sleep 0.05; done; sleep 1000"
    pod_id = await account.rented("busybox:latest", "sh", "-c", script)
    await account.becomes(pod_id, instances.State.RUNNING)
    wanted = [f"line {number}" for number in range(1, 41)]
    async with asyncio.timeout(DEADLINE_S):
        while (lines := (await account.cloud.logs(pod_id)).splitlines()) != wanted:
            assert lines == wanted[: len(lines)]
    assert await account.cloud.logs(pod_id, tail=2) == "line 39\nline 40\n"
    assert account.sim.requests["GET /v2/pods/{id}/logs"] == 1, "looking again costs no call"


async def test_a_workload_that_never_stops_talking_is_listened_to_for_a_while(account: Account) -> None:
    pod_id = await account.rented("busybox:latest", "sh", "-c", "while :; do echo talk; sleep 0.02; done")
    await account.becomes(pod_id, instances.State.RUNNING)
    async with asyncio.timeout(DEADLINE_S / 2):
        assert (await account.cloud.logs(pod_id, tail=3)) == "talk\n" * 3


async def test_a_log_stream_that_breaks_is_taken_up_without_doubling(account: Account) -> None:
    pod_id = await account.rented(
        "busybox:latest", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo $i; done; sleep 1000"
    )
    await account.becomes(pod_id, instances.State.RUNNING)
    account.sim.control.add_fault("stream_drops", {"count": 2, "lines": 3})
    async with asyncio.timeout(DEADLINE_S):
        while (text := await account.cloud.logs(pod_id)) != "1\n2\n3\n4\n5\n6\n7\n8\n":
            assert "1\n2\n3\n4\n5\n6\n7\n8\n".startswith(text)
    assert account.sim.requests["GET /v2/pods/{id}/logs"] == 3


async def test_a_container_that_ends_is_started_again_and_is_known_to_have_ended(account: Account) -> None:
    pod_id = await account.rented("busybox:latest", "sh", "-c", "echo run; sleep 4; exit 3")
    await account.until(pod_id, lambda found: (found.raw.uptime_s or 0) >= 3)
    ended = await account.becomes(pod_id, instances.State.EXITED)
    assert "started it again" in ended.message
    assert (await account.cloud.logs(pod_id)).startswith("run\nrun\n"), "and so its work is done twice"
    record = account.sim.v2.record(account.sim.pods.find(pod_id))
    assert (record["status"], record["cost"] > 0) == ("RUNNING", True), "RunPod itself says nothing of it, and bills"


async def test_a_pod_in_ssh_access_lets_our_key_in_and_no_other(account: Account) -> None:
    ours, other = (asyncssh.generate_private_key("ssh-ed25519", comment="test") for _ in range(2))
    public = ours.export_public_key().decode().strip()
    pod_id = await account.rented("debian:12", ssh_public_keys=(public,))
    found = await account.until(pod_id, lambda each: bool(each.ssh))
    place = found.ssh[0]
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                connection = await asyncssh.connect(
                    place.host, place.port, username=place.user, client_keys=[ours], known_hosts=None, config=None
                )
                break
            except (OSError, asyncssh.Error):
                await asyncio.sleep(0.1)
    async with connection:
        done = await connection.run("echo $((6*7)); nvidia-smi -L")
        assert str(done.stdout).startswith("42\n") and "RTX 4090" in str(done.stdout)
    try:
        await asyncssh.connect(
            place.host, place.port, username=place.user, client_keys=[other], known_hosts=None, config=None
        )
    except asyncssh.PermissionDenied:
        return
    raise AssertionError("a stranger's key was let in")


async def test_an_http_port_answers_behind_the_proxy_once_something_listens(account: Account) -> None:
    script = "sleep 1; mkdir /w; echo hello > /w/index.html; exec python3 -m http.server -d /w 8001"
    pod_id = await account.rented("python:3.12", "/bin/sh", "-c", script, ports=(launches.Port(8001, "HTTP"),))
    found = await account.becomes(pod_id, instances.State.RUNNING)
    assert not found.ports, "an HTTP port has no public number"
    statuses = []
    async with aiohttp.ClientSession() as http, asyncio.timeout(DEADLINE_S):
        while True:
            async with http.get(f"{account.sim.url}/proxy/{pod_id}-8001/index.html") as response:
                statuses.append(response.status)
                if response.status == 200:
                    assert await response.text() == "hello\n"
                    break
            await asyncio.sleep(0.05)
    assert statuses[0] == 502
