"""Instances of proxies whose pods are gone: shown, and ended with `--yes`. Behind `bareboat sweep --proxy` and
`bareboat proxy sweep`."""

import asyncio
import os
import sys
from pathlib import Path

from bareboat import settings as settings_
from bareboat.clouds import discovery
from bareboat.core import errors
from bareboat.fleet import ending
from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import errors as kube_errors
from bareboat.plumbing import clock as clocks
from bareboat.proxy import sweep

CLUSTER_ID = "BAREBOAT_CLUSTER_ID"


def run(*, yes: bool, unnamed: bool = False, kubeconfig: Path | None = None, context: str | None = None) -> int:
    """The exit code: 0 when nothing is left over, 1 when something is or could not be found out, 2 for bad settings."""
    cluster_id = os.environ.get(CLUSTER_ID, "")
    if not cluster_id and not unnamed:
        return _told(f"{CLUSTER_ID} is not set: set it as the proxies have it, or say --unnamed if they have none", 2)
    try:
        return asyncio.run(_swept(cluster_id, yes, unnamed, configs.load(kubeconfig, context)))
    except (settings_.Bad, kube_errors.ConfigError, ValueError) as wrong:
        return _told(str(wrong), 2)
    except kube_errors.KubeError as trouble:
        return _told(f"pods and StatefulSets could not be listed, so nothing is judged: {trouble}", 1)
    except errors.CloudError as trouble:
        return _told(str(trouble), 1)


async def _swept(cluster_id: str, yes: bool, unnamed: bool, config: configs.Config) -> int:
    clock = clocks.SystemClock()
    driver = discovery.driver("vast")
    cloud = driver.open(settings_.read(driver.settings), clock)
    try:
        async with clients.Client(config, clock=clock) as client:
            findings = await sweep.look(client, cloud, cluster_id, clock, unnamed=unnamed)
            _show(findings)
            over = [each for each in findings if not each.keep]
            if not over:
                sys.stdout.write("no instance of a proxy has lost its pod\n")
                return 0
            if not yes:
                sys.stdout.write(f"{len(over)} would be ended; say --yes to end them\n")
                return 1
            # Between the look and the word time may have passed for a person; what is ended is judged anew.
            again = await sweep.look(client, cloud, cluster_id, clock, unnamed=unnamed)
            several = [each.instance for each in again if not each.keep]
            left = await ending.end(several, {cloud.name: cloud}, clock, why="its pod is gone")
    finally:
        await cloud.close()
    for each in left:
        sys.stdout.write(f"{each.id} is not gone yet: run this again\n")
    return 1 if left else 0


def _show(findings: list[sweep.Finding]) -> None:
    for each in findings:
        price = each.instance.usd_per_hour
        cost = "" if price is None else f"  {price:.3f} $/h"
        what = f"left alone: {each.keep}" if each.keep else "its pod is gone"
        sys.stdout.write(f"{each.instance.id}  {each.pod_name}{cost}  {what}\n")


def _told(why: str, code: int) -> int:
    sys.stderr.write("".join(f"bareboat sweep: {line}\n" for line in why.splitlines()))
    return code
