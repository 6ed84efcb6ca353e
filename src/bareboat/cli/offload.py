"""`bareboat offload`: Jobs that wait too long leave for rented machines; in the foreground until it is told to stop."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from bareboat import assembly
from bareboat import settings as settings_
from bareboat.kube import config as configs
from bareboat.kube import errors as kube_errors
from bareboat.offload import settings as offload_settings
from bareboat.plumbing import logs, supervise

NODE_NAME = "runpod-virtual-node"
CLOUD = "runpod"


def command(
    kubeconfig: Annotated[Path | None, typer.Option(help="Default: KUBECONFIG, ~/.kube/config, in-cluster.")] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.")] = None,
    reconcile_interval: Annotated[
        float | None, typer.Option(help="Longest pause in seconds between two looks. Default 30.")
    ] = None,
    pending_job_threshold: Annotated[
        int | None, typer.Option(help="So many pending Jobs may wait; those beyond leave. Default 1.")
    ] = None,
    max_pending_time: Annotated[
        float | None, typer.Option(help="Seconds that a Job may be pending before it leaves. Default 0.")
    ] = None,
    max_gpu_price: Annotated[float | None, typer.Option(help="Most $/h of a pod sent out. Default 0.5.")] = None,
    health_server_address: Annotated[str | None, typer.Option(help="/healthz and /readyz. Default :8080.")] = None,
    order: Annotated[str | None, typer.Option(help="Who leaves first: oldest, newest or fewest-gpus.")] = None,
    selector: Annotated[str | None, typer.Option("--selector", "-l", help="Labels of Jobs that may leave.")] = None,
    namespaces: Annotated[str | None, typer.Option(help="Namespaces whose Jobs may leave, comma-separated.")] = None,
    max_pods: Annotated[int | None, typer.Option(help="Pods that may be out at one time.")] = None,
    max_pods_per_namespace: Annotated[int | None, typer.Option(help="Likewise of each namespace.")] = None,
    budgets: Annotated[str | None, typer.Option(help="$/h of each namespace: team-a=2.5,*=1")] = None,
    cloud: Annotated[str | None, typer.Option(help="cheapest (default), or the cloud to send to.")] = None,
    clouds: Annotated[
        str | None, typer.Option(help="Clouds to rent from. Default runpod. [env BAREBOAT_CLOUDS]")
    ] = None,
    nodename: Annotated[str | None, typer.Option(help=f"Virtual node. Default {NODE_NAME}. [env NODENAME]")] = None,
    address: Annotated[str | None, typer.Option(help="IP at which the API server reaches us. [env POD_IP]")] = None,
    kubelet_port: Annotated[int | None, typer.Option(help="Default 10250. [env KUBELET_PORT]")] = None,
    gpus: Annotated[int | None, typer.Option(help="nvidia.com/gpu of the virtual node. [env BAREBOAT_GPUS]")] = None,
    pods: Annotated[int | None, typer.Option(help="Pods that it takes. [env BAREBOAT_PODS]")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say what would leave and why; change nothing.")] = False,
    log_format: Annotated[str | None, typer.Option(help="text or json. [env BAREBOAT_LOG_FORMAT]")] = None,
    log_level: Annotated[str | None, typer.Option(help="[env BAREBOAT_LOG_LEVEL]")] = None,
) -> None:
    """Send Jobs annotated runpod.io/managed: "true" to rented machines when they wait too long, and run these.

    One process is enough: it is the virtual node as well. The key comes by RUNPOD_KEY or RUNPOD_API_KEY. Stopping it
    leaves what is rented; the next start finds it.
    """
    try:
        logging = settings_.read(settings_.Logging, log_format=log_format, log_level=log_level)
        about = settings_.read(
            offload_settings.Offload,
            reconcile_interval=reconcile_interval,
            pending_job_threshold=pending_job_threshold,
            max_pending_time=max_pending_time,
            max_gpu_price=max_gpu_price,
            health_server_address=health_server_address,
            order=order,
            selector=selector,
            namespaces=namespaces,
            max_pods=max_pods,
            max_pods_per_namespace=max_pods_per_namespace,
            budgets=budgets,
            cloud=cloud,
        )
        node = settings_.read(
            settings_.Node,
            node_name=nodename or _unless_set("NODENAME", NODE_NAME),
            clouds=clouds or _unless_set("BAREBOAT_CLOUDS", CLOUD),
            labels=_unless_set("BAREBOAT_LABELS", f"provider={CLOUD}"),
            taint_value=_unless_set("VKUBELET_TAINT_VALUE", CLOUD),
            address=address,
            kubelet_port=kubelet_port,
            gpus=gpus,
            pods=pods,
        )
        renting = settings_.read(settings_.Renting)
        logs.configure(logging.log_format, logging.log_level)
        config = configs.load(kubeconfig, context)
        asyncio.run(_explain(about, node, config) if explain else _run(about, node, renting, config))
    except (settings_.Bad, kube_errors.KubeError, ValueError, OSError) as wrong:
        sys.stderr.write(f"bareboat offload: {wrong}\n")
        raise typer.Exit(2) from None
    except supervise.Fatal as fatal:
        sys.stderr.write(f"bareboat offload: {fatal}\n")
        raise typer.Exit(fatal.exit_code) from None


def _unless_set(variable: str, value: str) -> str | None:
    """A default of this door's own; the environment goes before it."""
    return None if os.environ.get(variable) else value


async def _run(
    about: offload_settings.Offload, node: settings_.Node, renting: settings_.Renting, config: configs.Config
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with assembly.offload(about, node, renting, config) as program:
        working = asyncio.create_task(program.run(), name="offload")
        waiting = asyncio.create_task(stopped.wait(), name="signals")
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        working.cancel()
        await asyncio.wait((working,))
        failure = None if working.cancelled() else working.exception()
        if failure is not None:
            raise supervise.cause(failure) from None


async def _explain(about: offload_settings.Offload, node: settings_.Node, config: configs.Config) -> None:
    for job, fate, why in await assembly.explain(about, node, config):
        print(f"{'/'.join(job.key)}: {fate}: {why}")
