"""`bareboat node`: the virtual node, in the foreground until it is told to stop."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from bareboat import assembly
from bareboat import settings as settings_
from bareboat.kube import config as configs
from bareboat.kube import errors as kube_errors
from bareboat.plumbing import logs, supervise


def command(
    nodename: Annotated[str | None, typer.Option(help="Name of the Node. [env NODENAME]")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Default: KUBECONFIG, ~/.kube/config, in-cluster.")] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.")] = None,
    address: Annotated[str | None, typer.Option(help="IP at which the API server reaches us. [env POD_IP]")] = None,
    kubelet_port: Annotated[int | None, typer.Option(help="Default 10250. [env KUBELET_PORT]")] = None,
    anonymous_auth: Annotated[str | None, typer.Option(help="As the kubelet's. Default false.")] = None,
    authentication_token_webhook: Annotated[str | None, typer.Option(help="As the kubelet's. Default true.")] = None,
    authentication_token_webhook_cache_ttl: Annotated[str | None, typer.Option(help="Default 2m.")] = None,
    authorization_mode: Annotated[str | None, typer.Option(help="Webhook (default) or AlwaysAllow.")] = None,
    authorization_webhook_cache_authorized_ttl: Annotated[str | None, typer.Option(help="Default 5m.")] = None,
    authorization_webhook_cache_unauthorized_ttl: Annotated[str | None, typer.Option(help="Default 30s.")] = None,
    client_ca_file: Annotated[Path | None, typer.Option(help="CA of callers; default the cluster's own.")] = None,
    enable_debugging_handlers: Annotated[str | None, typer.Option(help="As the kubelet's. Default true.")] = None,
    streaming_connection_idle_timeout: Annotated[str | None, typer.Option(help="Default 4h; 0: none.")] = None,
    clouds: Annotated[
        str | None, typer.Option("--clouds", "--cloud", help="Default vast. [env BAREBOAT_CLOUDS]")
    ] = None,
    taint: Annotated[bool, typer.Option(help="Without it any pod may be scheduled to a Node made anew.")] = True,
    gpus: Annotated[int | None, typer.Option(help="nvidia.com/gpu to offer. [env BAREBOAT_GPUS]")] = None,
    pods: Annotated[int | None, typer.Option(help="Pods to take. [env BAREBOAT_PODS]")] = None,
    max_usd_per_hour: Annotated[
        float | None, typer.Option(help="$/h for pods that name no limit. [env BAREBOAT_MAX_USD_PER_HOUR]")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json. [env BAREBOAT_LOG_FORMAT]")] = None,
    log_level: Annotated[str | None, typer.Option(help="[env BAREBOAT_LOG_LEVEL]")] = None,
) -> None:
    """Run the virtual node: pods scheduled to it run on rented machines.

    Stopping it leaves the Node, the pods and what is rented for them; the next start finds all of it.
    """
    try:
        logging = settings_.read(settings_.Logging, log_format=log_format, log_level=log_level)
        about = settings_.read(
            settings_.Node,
            node_name=nodename,
            address=address,
            kubelet_port=kubelet_port,
            taint_key=None if taint else "",
            anonymous_auth=anonymous_auth,
            authentication_token_webhook=authentication_token_webhook,
            authentication_token_webhook_cache_ttl=authentication_token_webhook_cache_ttl,
            authorization_mode=authorization_mode,
            authorization_webhook_cache_authorized_ttl=authorization_webhook_cache_authorized_ttl,
            authorization_webhook_cache_unauthorized_ttl=authorization_webhook_cache_unauthorized_ttl,
            client_ca_file=client_ca_file,
            enable_debugging_handlers=enable_debugging_handlers,
            streaming_connection_idle_timeout=streaming_connection_idle_timeout,
            clouds=clouds,
            gpus=gpus,
            pods=pods,
        )
        renting = settings_.read(settings_.Renting, max_usd_per_hour=max_usd_per_hour)
        logs.configure(logging.log_format, logging.log_level)
        config = configs.load(kubeconfig, context)
        asyncio.run(_run(about, renting, config))
    except (settings_.Bad, kube_errors.ConfigError, ValueError) as wrong:
        sys.stderr.write(f"bareboat node: {wrong}\n")
        raise typer.Exit(2) from None
    except supervise.Fatal as fatal:
        sys.stderr.write(f"bareboat node: {fatal}\n")
        raise typer.Exit(fatal.exit_code) from None


async def _run(about: settings_.Node, renting: settings_.Renting, config: configs.Config) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with assembly.node(about, renting, config) as program:
        working = asyncio.create_task(program.run(), name="node")
        waiting = asyncio.create_task(stopped.wait(), name="signals")
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        working.cancel()
        await asyncio.wait((working,))
        failure = None if working.cancelled() else working.exception()
        if failure is not None:
            raise supervise.cause(failure) from None
