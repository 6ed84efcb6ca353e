"""`bareboat provision`: the provisioning service, in the foreground until it is told to stop."""

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
    host: Annotated[str | None, typer.Option(help="Default 0.0.0.0. [env HOST]")] = None,
    port: Annotated[int | None, typer.Option(help="Default 8088. [env PORT]")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Default default. [env NAMESPACE]")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Default: KUBECONFIG, ~/.kube/config, in-cluster.")] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json. [env BAREBOAT_LOG_FORMAT]")] = None,
    log_level: Annotated[str | None, typer.Option(help="[env BAREBOAT_LOG_LEVEL]")] = None,
) -> None:
    """Serve HTTP: an image and an ssh key in, a Secret, a Pod and a NodePort Service out.

    The token comes by PROVISION_TOKEN alone: a flag would show in the list of processes. What was provisioned stays
    when the service stops.
    """
    try:
        logging = settings_.read(settings_.Logging, log_format=log_format, log_level=log_level)
        about = settings_.read(settings_.Provision, host=host, port=port, namespace=namespace)
        logs.configure(logging.log_format, logging.log_level)
        asyncio.run(_run(about, configs.load(kubeconfig, context)))
    except (settings_.Bad, kube_errors.ConfigError, ValueError) as wrong:
        sys.stderr.write(f"bareboat provision: {wrong}\n")
        raise typer.Exit(2) from None
    except supervise.Fatal as fatal:
        sys.stderr.write(f"bareboat provision: {fatal}\n")
        raise typer.Exit(fatal.exit_code) from None


async def _run(about: settings_.Provision, config: configs.Config) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with assembly.provision(about, config):
        await stopped.wait()
