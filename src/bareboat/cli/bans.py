"""`bareboat bans`: the hosts that proxy pods have banned, out of the Redis that they share."""

import asyncio
import dataclasses
import json
import os
import sys
import time
from typing import Annotated

import rich.console
import rich.table
import typer

from bareboat.proxy import bans

DEFAULT_URL = "redis://redis:6379/10"


def command(
    redis: Annotated[
        str | None, typer.Option(help=f"Default: BLACKLIST_REDIS_URL, BLACKLIST_REDIS, {DEFAULT_URL}.")
    ] = None,
    lift: Annotated[list[str] | None, typer.Option(help="End the ban of this host; may be repeated.")] = None,
    cloud: Annotated[str, typer.Option(help="Whose host is meant by --lift.")] = "vast",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show the hosts that proxy pods have banned: why, whose machine, by which pod, since when, until when."""
    url = redis or os.environ.get("BLACKLIST_REDIS_URL") or os.environ.get("BLACKLIST_REDIS") or DEFAULT_URL
    try:
        missing, found = asyncio.run(_asked(url, cloud, lift or []))
    except ValueError as wrong:
        sys.stderr.write(f"bareboat bans: the Redis URL makes no sense: {wrong}\n")
        raise typer.Exit(2) from None
    except OSError as trouble:
        sys.stderr.write(f"bareboat bans: Redis does not answer: {trouble}\n")
        raise typer.Exit(1) from None
    for host in missing:
        sys.stderr.write(f"bareboat bans: host {host} of {cloud} was not banned\n")
    if as_json:
        sys.stdout.write(json.dumps([dataclasses.asdict(each) for each in found], indent=2) + "\n")
    elif found:
        rich.console.Console().print(_table(found))
    else:
        sys.stdout.write("no host is banned\n")
    if missing:
        raise typer.Exit(1)


async def _asked(url: str, cloud: str, lift: list[str]) -> tuple[list[str], list[bans.Record]]:
    store = bans.Store(url)
    try:
        missing = [host for host in lift if not await store.lift(cloud, host)]
        return missing, sorted(await store.bans(), key=lambda each: each.until_s)
    finally:
        await store.close()


def _table(found: list[bans.Record]) -> rich.table.Table:
    table = rich.table.Table(box=None, pad_edge=False)
    for title in ("CLOUD", "HOST", "MACHINE", "BY", "SINCE", "UNTIL", "REASON"):
        table.add_column(title, overflow="fold")
    for each in found:
        table.add_row(
            each.cloud, each.host_id, each.machine_id or "", each.who, _at(each.at_s), _at(each.until_s), each.reason
        )
    return table


def _at(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
