"""`bareboat keys`: the ssh key by which rented machines are reached."""

import typer

from bareboat import assembly
from bareboat import settings as settings_
from bareboat.access import host_keys, keys
from bareboat.cli import looking
from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.node import installation_key
from bareboat.plumbing import clock as clocks

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The ssh key by which rented machines are reached.")


@app.command()
def show(kubeconfig: looking.Kubeconfig = None, context: looking.Context = None) -> None:
    """Print the fingerprints: the present key's, and those that older machines still take."""

    async def work() -> int:
        clock = clocks.SystemClock()
        async with clients.Client(configs.load(kubeconfig, context), clock=clock) as client:
            kept = _key(client, clock)
            _print(await kept.read())
        return 0

    looking.run("keys", work)


@app.command()
def rotate(kubeconfig: looking.Kubeconfig = None, context: looking.Context = None) -> None:
    """Make a new key. Machines rented from now on take it; those that run are reached by the old one until they end."""

    async def work() -> int:
        clock = clocks.SystemClock()
        async with clients.Client(configs.load(kubeconfig, context), clock=clock) as client:
            kept = _key(client, clock)
            _print(await kept.rotate())
        typer.echo("Nodes take it up within a minute.")
        return 0

    looking.run("keys", work)


def _key(client: clients.Client, clock: clocks.Clock) -> installation_key.InstallationKey:
    return assembly.ssh_key(client, clock, settings_.read(settings_.Node))


def _print(ring: keys.Ring) -> None:
    typer.echo(f"present   {host_keys.fingerprint(ring.current.public)}")
    for pair in ring.previous:
        typer.echo(f"previous  {host_keys.fingerprint(pair.public)}")
