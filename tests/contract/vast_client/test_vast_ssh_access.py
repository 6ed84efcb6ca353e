"""Ssh access at the client's end: where it is reached, and what the cloud is told: public keys alone."""

import json

import pytest
from tests.contract.vast_client import rig as rigs

from bareboat.core import errors, instances, labels, launches, needs

PUBLIC = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA{'I' * 43} bareboat"
LATER = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA{'J' * 43} bareboat"
MARK = labels.Mark("cluster-1", "6f1c2d3e-0000-4000-8000-000000000001", "1")
LOGIN = launches.RegistryLogin("registry.example.com", "puller", "pull-pass")
LAUNCH = launches.Launch(
    "busybox:1.36", ssh_public_keys=(PUBLIC,), ports=(launches.Port(8000),), hostname="web-0", registry_login=LOGIN
)


async def _running(rig: rigs.VastRig) -> instances.Instance:
    [offer, *_] = [
        each
        for each in await rig.cloud.search(needs.Needs(gpu_count=1, gpu_names=("RTX 4090",)))
        if (each.ports or 0) > 8
    ]
    bought = await rig.cloud.rent(offer, LAUNCH, MARK)
    for _ in range(200):
        await rig.advance(5)
        found = await rig.cloud.instance(bought.id)
        assert found is not None
        if found.state is instances.State.RUNNING and found.ports:
            return found
    raise AssertionError(f"never running: {found}")


async def test_it_is_reached_directly_or_through_the_proxy() -> None:
    async with rigs.simulated() as rig:
        found = await _running(rig)
        [direct, proxy] = found.ssh
        assert (direct.host, direct.port) == ("127.0.0.1", found.ports[22, "TCP"])
        assert proxy.host.endswith(".vast.ai")
        assert {each.user for each in found.ssh} == {"root"}
        listed = (await rig.cloud.instances()).instances
        assert [each.ssh for each in listed] == [found.ssh]


async def test_the_cloud_is_told_public_keys_and_a_registry_login_and_nothing_of_the_workload() -> None:
    async with rigs.simulated() as rig:
        found = await _running(rig)
        await rig.cloud.admit_key(found.id, LATER)
        [(_, _, rent)] = [told for told in rig.simulator.told if told[0] == "PUT /api/v0/asks/{id}"]
        body = json.loads(rent)
        script = body.pop("onstart")
        assert body.pop("image_login") == "-u puller -p pull-pass registry.example.com"
        assert body == {
            "client_id": "me",
            "label": str(MARK),
            "image": "busybox:1.36",
            "disk": 10.0,
            "runtype": "ssh_direct",
            "env": {"-p 8000:8000": "1", "-h": "web-0"},
            "cancel_unavail": True,
            "target_state": "running",
        }
        assert PUBLIC in script
        everything = "\n".join(f"{query} {said}" for _, query, said in rig.simulator.told)
        shown = json.dumps(rig.simulator.instances.record(rig.simulator.estate.live()[0]))
        for place in (everything, shown, json.dumps(rig.simulator.ledger.report())):
            assert "PRIVATE KEY" not in place
        assert everything.count("pull-pass") == 1


async def test_a_key_can_be_admitted_later_and_an_instance_that_is_gone_says_so() -> None:
    async with rigs.simulated() as rig:
        found = await _running(rig)
        await rig.cloud.admit_key(found.id, LATER)
        [rental] = rig.simulator.estate.live()
        assert [key["public_key"] for key in rental.terms.ssh_keys] == [LATER]
        rig.somebody_destroys(found.id)
        await rig.advance(60)
        with pytest.raises(errors.InstanceGone):
            await rig.cloud.admit_key(found.id, LATER)
