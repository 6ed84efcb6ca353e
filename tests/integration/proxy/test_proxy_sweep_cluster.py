"""`sweep` with a real API server and instances that proxies left: shown first, ended only with the word."""

import json
import uuid
from pathlib import Path
from typing import Any

import pydantic
from tests.integration.conftest import Kubectl
from tests.integration.proxy import conftest as stage

from bareboat.cli import proxy_sweep
from bareboat.clouds.vast import settings as vast
from bareboat.fleet import ending
from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.plumbing import clock as clocks
from bareboat.proxy import sweep
from bareboat.sandbox import controlplane

LATER_S = 3600.0
EXAMPLE = Path(__file__).parents[3] / "deploy" / "examples" / "proxy-statefulset.yaml"


def a_stateful_set(name: str, replicas: int) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "proxy", "image": "vast-pod-proxy:0.1.0"}]},
    }
    spec = {"serviceName": name, "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": spec}


async def test_only_instances_whose_stateful_set_pod_is_gone_are_ended_and_only_with_the_word(
    cloud: stage.Cloud, sandbox: controlplane.ControlPlane, kubectl: Kubectl
) -> None:
    name = f"swept-{uuid.uuid4().hex[:6]}"
    kubectl("create", "-f", "-", stdin=json.dumps(a_stateful_set(name, 2)))

    def env(cluster: str) -> dict[str, str]:
        return {"BAREBOAT_MARK": f"bareboat/{cluster}/x/1"}

    kept = [
        await cloud.rent(f"k8s_pod={name}-0", env=env("east")),
        await cloud.rent(f"k8s_pod={name}-1", env=env("east")),
        await cloud.rent(f"k8s_pod={name}-2", env=env("west")),
        await cloud.rent(f"k8s_pod={name}-2"),
        await cloud.rent("somebody-elses", env=env("east")),
    ]
    over = await cloud.rent(f"k8s_pod={name}-2", env=env("east"))
    clock = clocks.ScaledClock(start_s=clocks.SystemClock().now_s() + LATER_S)
    account = vast.open(
        vast.Settings(api_key=pydantic.SecretStr(cloud.sim.api_key), url=cloud.sim.url, rate_limit="off"),
        clocks.SystemClock(),
    )
    try:
        async with clients.Client(configs.load(sandbox.kubeconfig_path)) as client:
            findings = await sweep.look(client, account, "east", clock)
            assert {each.instance.id for each in findings if not each.keep} == {str(over)}
            assert len(findings) == 5
            assert sorted(record["id"] for record in cloud.live()) == sorted([*kept, over]), "a look ends nothing"
            several = [each.instance for each in findings if not each.keep]
            assert await ending.end(several, {"vast": account}, clocks.SystemClock(), why="its pod is gone") == []
    finally:
        await account.close()
        kubectl("delete", "statefulset", name)
    assert sorted(record["id"] for record in cloud.live()) == sorted(kept)


def test_the_example_is_taken_by_the_api_server(kubectl: Kubectl) -> None:
    made = kubectl("apply", "--dry-run=server", "-f", str(EXAMPLE))
    kinds = ["secret/", "service/", "service/", "statefulset.apps/", "deployment.apps/"]
    assert sorted(line.partition("vast-")[0] for line in made.splitlines()) == sorted(kinds)


async def test_the_command_says_what_it_needs_and_judges_nothing_without_the_cluster(
    cloud: stage.Cloud, launch: stage.Launcher, sandbox: controlplane.ControlPlane
) -> None:
    orphan = await cloud.rent("k8s_pod=gone-0", env={"BAREBOAT_MARK": "bareboat/east/x/1"})
    proxy = launch(KUBECONFIG=str(sandbox.kubeconfig_path), BAREBOAT_CLUSTER_ID=None)
    code, said = await proxy.run("proxy", "sweep")
    assert code == 2 and proxy_sweep.CLUSTER_ID in said
    proxy.environment["BAREBOAT_CLUSTER_ID"] = "east"
    code, said = await proxy.run("proxy", "sweep", "--yes")
    assert code == 0 and f"{orphan}  gone-0" in said and "younger than 300 s" in said
    proxy.environment["KUBECONFIG"] = str(sandbox.kubeconfig_for_user("nobody-at-all"))
    code, said = await proxy.run("proxy", "sweep", "--yes")
    assert code == 1 and "nothing is judged" in said and "Traceback" not in said
    assert [record["id"] for record in cloud.live()] == [orphan]
