"""Instances of the simulated Vast.ai that really run: processes, ports, logs, exits, and nothing left behind."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.integration import running_vast

DEADLINE_S = 30.0


class Account(running_vast.Owner):
    async def rented(self, image: str, *args: str, **body: Any) -> int:
        query = {"num_gpus": {"eq": 1}, "gpu_name": {"eq": "RTX 4090"}, "direct_port_count": {"gte": 8}}
        [offer, *_] = (await self.call("POST", "/api/v0/bundles/", query))["offers"]
        launch = {"image": image, "runtype": "args", "args": list(args), "disk": 10, **body}
        made = await self.call("PUT", f"/api/v0/asks/{offer['id']}/", launch)
        assert made["success"], made
        new_contract: int = made["new_contract"]
        return new_contract

    async def record(self, instance_id: int) -> dict[str, Any]:
        record: dict[str, Any] = (await self.call("GET", f"/api/v0/instances/{instance_id}/"))["instances"]
        return record

    async def becomes(self, instance_id: int, status: str) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                record = await self.record(instance_id)
                if record["actual_status"] == status:
                    return record
                await asyncio.sleep(0.02)

    async def says(self, instance_id: int, words: list[str]) -> None:
        """Returns once the log consists of these words."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if (await self.log(instance_id)).split() == words:
                    return
                await asyncio.sleep(0.05)

    async def log(self, instance_id: int) -> str:
        asked = await self.call("PUT", f"/api/v0/instances/request_logs/{instance_id}/", {"tail": "1000"})
        async with self.http.get(asked["result_url"]) as response:
            return await response.text()


@pytest.fixture
async def account() -> AsyncIterator[Account]:
    async with running_vast.opened(Account) as owner:
        yield owner


async def test_a_rented_server_answers_on_its_mapped_port_and_knows_where_it_runs(account: Account) -> None:
    script = "env; mkdir /w; echo hello > /w/index.html; exec python3 -m http.server -d /w 8001"
    env = {"FOO": "bar", "-p 8001:8001": "1", "-p 70001:70001": "1"}
    instance_id = await account.rented("python:3.12", "-c", script, onstart="/bin/sh", env=env)
    record = await account.becomes(instance_id, "running")
    port = record["ports"]["8001/tcp"][0]["HostPort"]
    address = record["public_ipaddr"].strip()
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                async with account.http.get(f"http://{address}:{port}/index.html") as response:
                    assert await response.text() == "hello\n"
                    break
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
    said = dict(line.partition("=")[::2] for line in (await account.log(instance_id)).splitlines())
    assert said["FOO"] == "bar"
    assert said["CONTAINER_ID"] == str(instance_id)
    assert said["VAST_CONTAINERLABEL"] == f"C.{instance_id}"
    assert said["VAST_TCP_PORT_8001"] == port
    assert f"{said['VAST_TCP_PORT_70001']}/tcp" in record["ports"]
    assert said["PUBLIC_IPADDR"] == "127.0.0.1"
    assert len(said["CONTAINER_API_KEY"]) == 64

    await account.call("DELETE", f"/api/v0/instances/{instance_id}/", {})
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", int(port))
            except ConnectionRefusedError:
                break
            writer.close()
            await asyncio.sleep(0.02)
    assert account.sim.ledger.running_now() == []


async def test_nvidia_smi_shows_what_the_offer_promised(account: Account) -> None:
    instance_id = await account.rented("nvidia/cuda:12.4.1-base-ubuntu22.04", "nvidia-smi", "-L")
    await account.becomes(instance_id, "exited")
    assert "RTX 4090" in await account.log(instance_id)


async def test_a_process_that_ends_leaves_its_code_in_the_ledger_and_its_log_readable(account: Account) -> None:
    instance_id = await account.rented("busybox:latest", "sh", "-c", "echo bye; exit 3")
    await account.becomes(instance_id, "exited")
    assert account.sim.ledger.running_now()[0].states[-1].exit_code == 3
    assert await account.log(instance_id) == "bye\n"


async def test_a_command_that_does_not_exist_is_created_and_never_runs(account: Account) -> None:
    instance_id = await account.rented("busybox:latest", onstart="/bin/nosuch")
    record = await account.becomes(instance_id, "created")
    while not record["status_msg"]:
        record = await account.record(instance_id)
    assert ": OCI runtime create failed:" in record["status_msg"]


async def test_a_stopped_instance_starts_again_with_its_disk(account: Account) -> None:
    script = "echo run >> /runs; cat /runs; exec sleep 1000"
    instance_id = await account.rented("busybox:latest", "sh", "-c", script)
    await account.becomes(instance_id, "running")
    await account.call("PUT", f"/api/v0/instances/{instance_id}/", {"state": "stopped"})
    await account.becomes(instance_id, "exited")
    await account.call("PUT", f"/api/v0/instances/{instance_id}/", {"state": "running"})
    await account.becomes(instance_id, "running")
    await account.says(instance_id, ["run"] * 3)


async def test_a_host_that_goes_down_takes_the_process_with_it_and_brings_it_back(account: Account) -> None:
    instance_id = await account.rented("busybox:latest", "sh", "-c", "echo up; exec sleep 1000")
    record = await account.becomes(instance_id, "running")
    account.sim.control.host_down(record["machine_id"])
    await account.becomes(instance_id, "offline")
    account.sim.control.host_up(record["machine_id"])
    await account.becomes(instance_id, "running")
    await account.says(instance_id, ["up", "up"])


async def test_an_ssh_instance_stays_up_whatever_its_script_does(account: Account) -> None:
    instance_id = await account.rented("debian:12", runtype="ssh_direct", args=None, onstart="echo set up; false")
    await account.becomes(instance_id, "running")
    await account.says(instance_id, ["set", "up"])
    assert (await account.record(instance_id))["actual_status"] == "running"
