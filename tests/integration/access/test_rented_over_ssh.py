"""From the rent call to a command: instances of the simulated Vast in ssh access, reached by what their records say."""

import asyncio
import dataclasses
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration import running_vast
from tests.integration.access import conftest as parts

from bareboat.access import connections, failures, keys, machine, processes
from bareboat.clouds.vast import api, cloud
from bareboat.core import instances, labels, launches, needs
from bareboat.plumbing import clock as clocks

MARK = labels.Mark("cluster-1", "6f1c2d3e-0000-4000-8000-000000000001", "1")


@dataclasses.dataclass
class Tenant:
    """Our side of the account."""

    owner: running_vast.Owner
    cloud: cloud.VastCloud
    known: connections.Connections
    ring: keys.Ring

    async def rented(self, **launch: object) -> instances.Instance:
        wanted = needs.Needs(gpu_count=1, gpu_names=("RTX 4090",))
        [offer, *_] = [each for each in await self.cloud.search(wanted) if (each.ports or 0) > 8]
        told: dict[str, object] = {"image": "debian:12", "ssh_public_keys": (self.ring.current.public,)}
        bought = await self.cloud.rent(offer, launches.Launch(**(told | launch)), MARK)  # type: ignore[arg-type]
        async with asyncio.timeout(parts.DEADLINE_S):
            while True:
                found = await self.cloud.instance(bought.id)
                assert found is not None
                if found.state is instances.State.RUNNING:
                    return found
                await asyncio.sleep(0.02)

    async def reach(self, found: instances.Instance, *addresses: instances.SshAddress) -> machine.Machine:
        way = self.known.open(found.id, addresses or found.ssh)
        await way.ready(parts.DEADLINE_S)
        return machine.Machine(way, patience_s=parts.DEADLINE_S)


@pytest.fixture
async def tenant() -> AsyncIterator[Tenant]:
    ring = keys.Ring(keys.make())
    clock = clocks.SystemClock()
    async with running_vast.opened(running_vast.Owner) as owner:
        driver = cloud.VastCloud(api.Api(owner.sim.url, owner.sim.api_key, clock, limited=False), clock)
        async with connections.Connections(lambda: ring, clock, settings=parts.SETTINGS) as known:
            yield Tenant(owner, driver, known, ring)
        await driver.close()


async def test_an_instance_is_reached_directly_and_through_the_proxy(tenant: Tenant) -> None:
    found = await tenant.rented(image="busybox:1.36")
    direct, proxy = found.ssh
    assert direct.port == found.ports[22, "TCP"]
    assert direct != proxy
    for number, address in enumerate((direct, proxy)):
        reached = await tenant.reach(dataclasses.replace(found, id=f"{found.id}-{number}"), address)
        assert (await reached.run("hostname", timeout_s=20)).stdout == f"c-{found.id}\n".encode()
        large = b"x" * 3_000_000
        assert (await reached.run("cat", input=large, timeout_s=20)).stdout == large


async def test_a_dead_port_22_is_passed_by_for_the_proxy(tenant: Tenant) -> None:
    tenant.owner.sim.control.add_fault("port_refuses")
    found = await tenant.rented()
    reached = await tenant.reach(found)
    assert reached.connection.address == found.ssh[1]


async def test_a_broken_proxy_is_no_way(tenant: Tenant) -> None:
    tenant.owner.sim.control.add_fault("ssh_proxy_broken")
    found = await tenant.rented()
    with pytest.raises(failures.Unreachable):
        await tenant.known.open("proxy", [found.ssh[1]]).ready(0.5)
    await tenant.reach(found)


async def test_the_server_comes_up_after_running_is_told(tenant: Tenant) -> None:
    tenant.owner.sim.control.switch(ssh_delay_s=1.0)
    found = await tenant.rented()
    way = tenant.known.open(found.id, found.ssh)
    with pytest.raises(failures.Unreachable):
        await way.ready(0.4)
    await way.ready(parts.DEADLINE_S)


async def test_a_key_can_be_admitted_while_the_instance_runs(tenant: Tenant) -> None:
    found = await tenant.rented(ssh_public_keys=(keys.make("other").public,))
    way = tenant.known.open(found.id, found.ssh)
    with pytest.raises(failures.KeyRefused):
        await way.ready(0.5)
    tenant.owner.sim.control.switch(ssh_key_delay_s=0.2)
    await tenant.cloud.admit_key(found.id, tenant.ring.current.public)
    await way.ready(parts.DEADLINE_S)


async def test_nothing_of_the_container_shows_in_a_session_but_its_tools_do(tenant: Tenant) -> None:
    reached = await tenant.reach(await tenant.rented())
    assert b"CONTAINER_API_KEY" not in (await reached.run("env", timeout_s=20)).stdout
    assert b"RTX 4090" in (await reached.run("nvidia-smi -L", timeout_s=20)).stdout
    asked = await reached.run("tr '\\0' '\\n' < /proc/1/environ", timeout_s=20)
    assert b"CONTAINER_API_KEY=" in asked.stdout


async def test_an_interactive_shell_is_noisy_and_no_screen_is_taken(tenant: Tenant) -> None:
    reached = await tenant.reach(await tenant.rented())
    connection = await reached.connection.ready(20)
    shell = await connection.create_process(term_type="xterm", encoding=None)
    shell.stdin.write(b"exit\n")
    done = await shell.wait()
    assert isinstance(done.stdout, bytes)
    assert done.stdout.startswith(b"=== Simulated instance.")
    assert b"\x1b[?1049h" not in done.stdout
    await reached.run("rm /root/.no_auto_tmux", timeout_s=20)
    taken = await connection.run(term_type="xterm", encoding=None, input=b"exit\n")
    assert isinstance(taken.stdout, bytes)
    assert b"\x1b[?1049h" in taken.stdout


async def test_a_reboot_keeps_disk_and_host_key_and_the_connection_comes_back(tenant: Tenant) -> None:
    found = await tenant.rented()
    reached = await tenant.reach(found)
    await reached.run("echo kept > /root/file", timeout_s=20)
    await tenant.owner.call("PUT", f"/api/v0/instances/reboot/{found.id}/", {})
    await parts.until(lambda: not reached.connection.is_up)
    assert (await reached.run("cat /root/file", timeout_s=20)).stdout == b"kept\n"


async def test_a_container_made_anew_behind_our_back_is_refused(tenant: Tenant) -> None:
    found = await tenant.rented()
    reached = await tenant.reach(found)
    tenant.owner.sim.control.change_host_key(int(found.id))
    await parts.until(lambda: isinstance(reached.connection.problem, failures.HostKeyChanged))


async def test_drops_and_the_end_of_the_instance(tenant: Tenant) -> None:
    found = await tenant.rented()
    reached = await tenant.reach(found)
    async with await reached.start("exec sleep 1000") as process:
        tenant.owner.sim.control.drop_ssh(int(found.id))
        with pytest.raises(failures.Dropped):
            await process.wait()
    await reached.connection.ready(parts.DEADLINE_S)
    await tenant.cloud.destroy(found.id)
    await parts.until(lambda: not reached.connection.is_up)
    with pytest.raises(failures.Unreachable):
        await reached.connection.ready(0.5)


async def test_people_can_use_their_own_ssh_client(tenant: Tenant, tmp_path: Path) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("needs the OpenSSH client")
    found = await tenant.rented()
    await tenant.reach(found)
    key = tmp_path / "key"
    key.write_text(tenant.ring.current.private)
    key.chmod(0o600)
    options = ["-i", str(key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-F", "none"]
    address = found.ssh[0]
    for flags, code in ((["-tt"], 5), (["-T"], 5)):
        words = ["ssh", *options, *flags, "-p", str(address.port), f"root@{address.host}", "echo hi; exit 5"]
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(parts.DEADLINE_S):
            out, err = await process.communicate()
        assert (process.returncode, out.split()) == (code, [b"hi"]), err
        assert b"Welcome to vast.ai" in err
    for mode in ([], ["-O"]):
        words = ["scp", *mode, *options, "-P", str(address.port), str(key), f"root@{address.host}:/root/copied"]
        copying = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
        async with asyncio.timeout(parts.DEADLINE_S):
            _, err = await copying.communicate()
        assert copying.returncode == 0, err


async def test_a_terminal_of_the_product_is_no_interactive_login(tenant: Tenant) -> None:
    reached = await tenant.reach(await tenant.rented())
    async with await reached.start(["echo", "plain"], terminal=processes.Terminal()) as process:
        assert await process.read_stdout() == b"plain\r\n"
        assert (await process.wait()).code == 0
