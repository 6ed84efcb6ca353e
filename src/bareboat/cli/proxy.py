"""`bareboat proxy`: the container of a StatefulSet's pod; and what its probes and hooks call."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from bareboat import settings as settings_
from bareboat.clouds import discovery
from bareboat.core import cloud as clouds
from bareboat.plumbing import clock as clocks
from bareboat.plumbing import logs
from bareboat.proxy import health, process, program, renting

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Keep one Vast.ai instance behind nginx: the container of a StatefulSet's pod.",
)


@app.callback()
def proxy(ctx: typer.Context) -> None:
    """Find or make the pod's instance, wait for it, and serve it through nginx. Everything is set by the environment.

    Stopping it drains nginx and leaves the instance: the next container finds it by its label.
    """
    if ctx.invoked_subcommand is None:
        _ended(_serve)


@app.command()
def destroy() -> None:
    """End the pod's instance, and wait until it is gone: for a preStop hook, or by hand."""
    _ended(_destroy)


@app.command()
def sweep(
    yes: Annotated[bool, typer.Option("--yes", help="End them; without it they are only shown.")] = False,
    unnamed: Annotated[
        bool,
        typer.Option(help="Also those made without BAREBOAT_CLUSTER_ID: only if no other cluster rents here."),
    ] = False,
    kubeconfig: Annotated[Path | None, typer.Option(help="Default: KUBECONFIG, ~/.kube/config, in-cluster.")] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.")] = None,
) -> None:
    """Show instances of proxies whose pods the cluster no longer has; with --yes end them."""
    from bareboat.cli import proxy_sweep  # with the Kubernetes client, which the container never needs

    code = proxy_sweep.run(yes=yes, unnamed=unnamed, kubeconfig=kubeconfig, context=context)
    if code:
        raise typer.Exit(code)


@app.command()
def live() -> None:
    """Exit code 0 while the pod works or may still come up: for an exec probe."""
    _probe("live")


@app.command()
def ready() -> None:
    """Exit code 0 when the instance answers: for an exec probe."""
    _probe("ready")


@app.command()
def started() -> None:
    """Exit code 0 once the instance has answered: for an exec probe."""
    _probe("started")


def _probe(what: str) -> None:
    # Not from the settings: a probe runs every few seconds, and has to be quick.
    port = os.environ.get("BAREBOAT_PROXY_HEALTH_PORT") or "8081"
    if not port.isdigit():
        sys.stderr.write(f"BAREBOAT_PROXY_HEALTH_PORT is {port!r}: it has to be a port\n")
        raise typer.Exit(2)
    good, why = health.ask(what, os.environ.get("BAREBOAT_PROXY_LISTEN_ADDRESS", ""), int(port))
    sys.stdout.write(why + "\n")
    raise typer.Exit(0 if good else 1)


def _ended(work: Callable[[], None]) -> None:
    code = process.exit_code(work)
    if code:
        raise typer.Exit(code)


def _read() -> tuple[settings_.Proxy, settings_.Logging]:
    about: settings_.Proxy = settings_.read(settings_.Proxy)
    return about, settings_.read(settings_.Logging, log_level="debug" if about.debug else None)


def _opened(about: settings_.Proxy, clock: clocks.Clock) -> renting.Account:
    # Not through assembly, which loads all of the virtual node: this process is to stay small.
    driver = discovery.driver("vast")
    cloud: clouds.Cloud = driver.open(settings_.read(driver.settings, api_key=about.api_key), clock)
    assert isinstance(cloud, clouds.RentsFromTemplates)
    for warning in about.parsed_query().warnings:
        process.warn(f"VAST_SEARCH_QUERY: {warning}")
    return cloud


def _serve() -> None:
    about, logging = _read()
    cloud = _opened(about, clocks.SystemClock())
    process.become(process.Handed(about.plan(), cloud, logging.log_format, logging.log_level))


def _destroy() -> None:
    about, logging = _read()
    logs.configure(logging.log_format, logging.log_level)
    ended = asyncio.run(_destroyed(about))
    sys.stdout.write(f"destroyed: {', '.join(ended)}\n" if ended else "there is no instance of this pod\n")


async def _destroyed(about: settings_.Proxy) -> list[str]:
    clock = clocks.SystemClock()
    cloud = _opened(about, clock)
    try:
        return await program.Program(about.plan(), cloud, clock).destroy()
    finally:
        await cloud.close()
