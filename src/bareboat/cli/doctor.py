"""`bareboat doctor`: what is in the way of renting, and of doing so safely, with what to do about it."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from bareboat import assembly
from bareboat import settings as settings_
from bareboat.cli import looking
from bareboat.kube import client as clients
from bareboat.kube import config as configs
from bareboat.kube import errors as kube_errors
from bareboat.node import checkup
from bareboat.plumbing import clock as clocks
from bareboat.provision import access

OK, WARNING, BAD = checkup.Verdict.OK, checkup.Verdict.WARNING, checkup.Verdict.BAD


def command(
    service_account: Annotated[
        str | None, typer.Option(help="NAMESPACE/NAME whose rights are looked at, instead of your own.")
    ] = None,
    output: looking.Output = looking.Format.TABLE,
    clouds: looking.Clouds = None,
    kubeconfig: looking.Kubeconfig = None,
    context: looking.Context = None,
) -> None:
    """Look at key, balance, cluster, rights, node, clock, files and the provisioning service, and say what to do.

    Changes nothing. Exit code 1 when something is BAD; a warning alone is 0.
    """

    async def work() -> int:
        if service_account is not None and service_account.count("/") != 1:
            raise ValueError(f"--service-account is {service_account!r}; allowed is NAMESPACE/NAME")
        found = await _settings(clouds)
        found += await _cluster(kubeconfig, context, service_account or "")
        found += checkup.files(_files(kubeconfig))
        _show(found) if output is looking.Format.TABLE else looking.write(as_json(found))
        return 1 if any(each.verdict is BAD for each in found) else 0

    looking.run("doctor", work)


async def _settings(names: str | None) -> list[checkup.Finding]:
    """Settings of all parts, and the clouds behind them."""
    clock = clocks.SystemClock()
    found: list[checkup.Finding] = []
    for kind in (settings_.Node, settings_.Renting, settings_.Provision):
        try:
            group = settings_.read(kind)
        except settings_.Bad as wrong:
            found += [checkup.Finding("settings", BAD, line) for line in str(wrong).splitlines()]
            continue
        if isinstance(group, settings_.Node):
            found += await _clouds(names or group.clouds, clock)
        if isinstance(group, settings_.Provision):
            exposed = access.exposure(group.host, group.token.get_secret_value())
            told = f"if `bareboat provision` runs with these settings: {exposed}" if exposed else "it asks for a token"
            found.append(checkup.Finding("provisioning", WARNING if exposed else OK, told))
    return found


async def _clouds(names: str, clock: clocks.Clock) -> list[checkup.Finding]:
    try:
        opened = assembly.open_clouds(names, clock)
    except settings_.Bad as wrong:
        return [checkup.Finding("clouds", BAD, line) for line in str(wrong).splitlines()]
    found: list[checkup.Finding] = []
    for each in opened.values():
        found += await checkup.account(each)
        await each.close()
    return found


async def _cluster(kubeconfig: Path | None, context: str | None, account: str) -> list[checkup.Finding]:
    clock = clocks.SystemClock()
    try:
        about: settings_.Node = settings_.read(settings_.Node)
        config = configs.load(kubeconfig, context)
    except settings_.Bad:
        return []  # told already
    except kube_errors.ConfigError as wrong:
        return [checkup.Finding("cluster", BAD, str(wrong))]
    async with clients.Client(config, timeout_s=10.0, clock=clock) as client:
        found, whose = await checkup.cluster(client, about.cluster_id)
        if not whose:
            return found
        needed = checkup.rights(about.node_name, about.lease_namespace)
        found.append(await checkup.permissions(client, needed, account))
        found.append(await checkup.time(client, clock))
        return found + await checkup.node(client, about.node_name, clock)


def _files(kubeconfig: Path | None) -> dict[str, Path]:
    named = kubeconfig or Path(os.environ.get("KUBECONFIG", "").split(os.pathsep)[0] or "~/.kube/config").expanduser()
    several = {"kubeconfig": named}
    if env_file := os.environ.get("BAREBOAT_ENV_FILE"):
        several["BAREBOAT_ENV_FILE"] = Path(env_file)
    return several


def as_json(found: list[checkup.Finding]) -> list[dict[str, Any]]:
    """Keys are only ever added."""
    return [{"subject": each.subject, "verdict": each.verdict.value, "told": each.told} for each in found]


def _show(found: list[checkup.Finding]) -> None:
    made = looking.table("CHECK", "VERDICT", "WHAT")
    for each in found:
        made.add_row(each.subject, each.verdict.value, each.told)
    looking.show(made)
