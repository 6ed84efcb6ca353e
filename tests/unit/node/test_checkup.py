"""What `bareboat doctor` makes of a cloud, a cluster, a clock, a heartbeat and files."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from tests.fakes import clouds
from tests.integration.deploy import recording
from tests.integration.deploy import rights as granting
from tests.unit.kube import fakeapi

from bareboat.core import errors
from bareboat.kube import client as clients
from bareboat.node import checkup
from bareboat.plumbing import clock as clocks
from bareboat.workload import status as statuses

OK, WARNING, BAD = checkup.Verdict.OK, checkup.Verdict.WARNING, checkup.Verdict.BAD
NODE = "vast-gpu-node-na-1"
MANIFEST = Path(__file__).parents[3] / "deploy" / "10-rights.yaml"


class Bank(clouds.FakeCloud):
    """A cloud that tells what is left."""

    usd = 100.0

    async def credit_usd(self) -> float:
        if self.faults["credit_usd"]:
            error = self.faults["credit_usd"].popleft().error
            assert error is not None
            raise error
        return self.usd


async def account(usd: float = 100.0, *, price: float | None = None, trouble: errors.CloudError | None = None) -> Any:
    cloud = Bank(clocks.ManualClock())
    cloud.usd = usd
    if price is not None:
        cloud.rent_by_hand("somebody's").usd_per_hour = price
    if trouble is not None:
        cloud.fail("instances", trouble)
    return {each.subject: each for each in await checkup.account(cloud)}


@pytest.mark.parametrize(
    ("usd", "price", "verdict", "told"),
    [
        (100.0, None, OK, "100.00 $"),
        (100.0, 1.0, OK, "100.00 $"),
        (12.0, 1.0, WARNING, "12.0 h"),
        (0.0, None, BAD, "top it up"),
        (-3.0, 1.0, BAD, "nothing can be rented"),
    ],
)
async def test_the_balance_is_judged_by_what_is_rented(
    usd: float, price: float | None, verdict: checkup.Verdict, told: str
) -> None:
    found = await account(usd, price=price)
    assert found["vast key"].verdict is OK
    assert found["vast balance"].verdict is verdict and told in found["vast balance"].told


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (errors.CredentialsRefused("vast", "HTTP 401"), "refused"),
        (errors.CloudDown("vast", "silent"), "can't be asked"),
    ],
)
async def test_a_cloud_that_says_no_is_a_finding(trouble: errors.CloudError, told: str) -> None:
    found = await account(trouble=trouble)
    assert list(found) == ["vast key"] and found["vast key"].verdict is BAD and told in found["vast key"].told


async def test_a_balance_that_can_not_be_had_is_a_warning() -> None:
    cloud = Bank(clocks.ManualClock())
    cloud.fail("credit_usd", errors.CloudDown("vast", "silent"))
    assert [each.verdict for each in await checkup.account(cloud)] == [OK, WARNING]


@pytest.mark.parametrize(
    ("off_s", "verdict", "told"),
    [
        (0, OK, "agrees"),
        (4, OK, "agrees"),
        (-4, OK, "agrees"),
        (30, WARNING, "30 s behind"),
        (-30, WARNING, "30 s ahead"),
        (600, BAD, "600 s behind"),
        (-600, BAD, "600 s ahead"),
    ],
)
async def test_the_clock_is_held_against_the_api_servers(off_s: float, verdict: checkup.Verdict, told: str) -> None:
    clock = clocks.ManualClock()

    async def made(_: web.Request) -> web.StreamResponse:
        stamp = statuses.stamp(clock.now_s() + off_s - (off_s < 0))
        return web.json_response({"metadata": {"name": "x", "creationTimestamp": stamp}})

    async with fakeapi.served(fakeapi.FakeApi()) as api, clients.Client(api.config(), timeout_s=5) as client:
        api.script.append(made)
        found = await checkup.time(client, clock)
        assert "dryRun=All" in api.requests[0][1], "nothing is made for it"
    assert found.verdict is verdict and told in found.told


async def test_a_cluster_that_does_not_answer_is_a_finding() -> None:
    async with fakeapi.served(fakeapi.FakeApi()) as api:
        config = api.config()
    async with clients.Client(config, timeout_s=5, read_tries=1) as client:
        [found], whose = await checkup.cluster(client, "")
        assert found.verdict is BAD and "can't be asked" in found.told and not whose
        clock = clocks.ManualClock()
        assert (await checkup.time(client, clock)).verdict is WARNING
        assert [each.verdict for each in await checkup.node(client, NODE, clock)] == [WARNING]
        assert (await checkup.permissions(client, [checkup.Right("get", "pods")])).verdict is WARNING


def test_each_right_that_is_looked_for_is_granted_by_the_manifests() -> None:
    granted = granting.granted([each for each in yaml.safe_load_all(MANIFEST.read_text()) if each])
    for right in checkup.rights(NODE, "kube-system"):
        below = f"/{right.subresource}" if right.subresource else ""
        asked = recording.Request(
            right.verb, right.group, f"{right.resource}{below}", name=right.name, namespace=right.namespace
        )
        assert any(each.covers(asked) for each in granted), str(right)


def test_a_file_with_a_key_is_nobody_elses_to_read(tmp_path: Path) -> None:
    secret, shared = tmp_path / "secret", tmp_path / "shared"
    secret.touch(0o600)
    shared.touch()
    shared.chmod(0o640)
    found = checkup.files({"a": secret, "b": shared, "c": tmp_path / "missing"})
    assert [(each.subject, each.verdict) for each in found] == [("a", OK), ("b", WARNING)]
    assert "mode 640" in found[1].told
