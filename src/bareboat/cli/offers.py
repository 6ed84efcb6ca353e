"""`bareboat offers`: what could be rented now, in the order in which Bareboat would take it, and what was left out."""

import asyncio
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pydantic
import rich.box
import rich.console
import rich.live
import rich.table
import rich.text
import typer
import yaml

from bareboat import settings
from bareboat.clouds import discovery
from bareboat.core import cloud as clouds
from bareboat.core import errors, matching, needs, offers, ranking, regions, scoring
from bareboat.fleet import broker, latency
from bareboat.plumbing import clock as clocks
from bareboat.workload import annotations, selection
from bareboat.workload import needs as pod_needs
from bareboat.workload import pod as pods

WATCH_EVERY_S = 15.0
SEARCH_TIMEOUT_S = 120.0
NEAR_MISS_PRICE = 1.5

out = rich.console.Console()
err = rich.console.Console(stderr=True)


class BadInput(Exception):
    """What a person typed or set makes no sense; the message is for them."""


def command(
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A manifest (Pod, Deployment, Job, …) to find offers for.")
    ] = None,
    cloud: Annotated[list[str] | None, typer.Option(help="Only this cloud; may be repeated.")] = None,
    gpu: Annotated[list[str] | None, typer.Option(help="GPU names, the most wanted first.")] = None,
    count: Annotated[int | None, typer.Option(min=0, max=64, help="How many GPUs; 0: any number.")] = None,
    min_vram: Annotated[float | None, typer.Option(min=0, help="GiB of memory of each GPU.")] = None,
    max_price: Annotated[float | None, typer.Option(min=0, help="$/h at most, disk included.")] = None,
    region: Annotated[list[str] | None, typer.Option(help="US-CA, SE, EU …, the most wanted first.")] = None,
    disk: Annotated[float | None, typer.Option(min=0, help="GiB of disk.")] = None,
    cpu: Annotated[float | None, typer.Option(min=0, help="CPU cores at least.")] = None,
    memory: Annotated[float | None, typer.Option(min=0, help="GiB of main memory at least.")] = None,
    ports: Annotated[int | None, typer.Option(min=0, help="Open ports at least.")] = None,
    reliability: Annotated[float | None, typer.Option(min=0, max=1, help="Reliability at least, 0 to 1.")] = None,
    cuda: Annotated[float | None, typer.Option(min=0, help="CUDA version at least.")] = None,
    spot: Annotated[bool, typer.Option("--spot", help="Interruptible, at the lowest bid that wins now.")] = False,
    unverified: Annotated[bool, typer.Option("--unverified", help="Machines that nobody verified, too.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Offers shown.")] = 15,
    explain: Annotated[bool, typer.Option("--explain", help="Where the points of the best offers come from.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs; with -w one line for each look.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every 15 s until Ctrl-C.")] = False,
) -> None:
    """Show what could be rented now, best first, and what was left out."""
    said: dict[str, Any] = {
        "clouds": _words(cloud),
        "gpu_names": _words(gpu),
        "gpu_count": count,
        "gpu_memory_gib": min_vram,
        "max_usd_per_hour": max_price,
        "regions": tuple(_region(code) for code in _words(region)),
        "disk_gib": disk,
        "cpu_cores": cpu,
        "memory_gib": memory,
        "ports": ports,
        "min_reliability": reliability,
        "min_cuda": cuda,
        "pricing": needs.Pricing.SPOT if spot else None,
        "verified_only": False if unverified else None,
    }
    try:
        base = needs.Needs() if file is None else from_file(file)
        wanted = dataclasses.replace(base, **{name: value for name, value in said.items() if value not in (None, ())})
        chosen = broker.Selection(selection.from_environment(os.environ), scoring.Weights())
        look = _Look(wanted, chosen, limit, explain, as_json)
        asyncio.run(look.repeat(WATCH_EVERY_S) if watch else look.once())
    except (BadInput, ValueError) as wrong:
        _fail(str(wrong))
        raise typer.Exit(2) from None
    except errors.CloudError as trouble:
        _fail(str(trouble))
        raise typer.Exit(1) from None
    except TimeoutError:
        _fail(f"no answer within {SEARCH_TIMEOUT_S:.0f} s")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


class _Look:
    """One question, asked once or again and again."""

    def __init__(self, wanted: needs.Needs, chosen: broker.Selection, limit: int, explain: bool, as_json: bool) -> None:
        self._wanted = wanted
        self._chosen = chosen
        self._limit = limit
        self._explain = explain
        self._as_json = as_json
        self._clock = clocks.SystemClock()
        self._latencies = latency.Latencies(self._clock)

    async def once(self) -> None:
        opened = _open(self._wanted.clouds, self._clock)
        try:
            made = await self._ranked(opened)
        finally:
            await _close(opened)
        if self._as_json:
            write(json.dumps(as_json(made, self._limit), indent=2) + "\n")
        else:
            out.print(self._shown(made))

    async def repeat(self, every_s: float) -> None:
        """Trouble with a cloud is told and does not end it."""
        opened = _open(self._wanted.clouds, self._clock)
        try:
            with rich.live.Live(console=out, auto_refresh=False) as live:
                while True:
                    try:
                        made = await self._ranked(opened)
                    except (errors.CloudError, TimeoutError) as trouble:
                        _fail(str(trouble) or f"no answer within {SEARCH_TIMEOUT_S:.0f} s")
                    else:
                        self._show_again(made, live)
                    await self._clock.sleep(every_s)
        finally:
            await _close(opened)

    def _show_again(self, made: ranking.Ranking, live: rich.live.Live) -> None:
        if self._as_json:
            write(json.dumps(as_json(made, self._limit)) + "\n")
            return
        stamp = rich.text.Text(f"{time.strftime('%H:%M:%S')}, again every {WATCH_EVERY_S:.0f} s", style="dim")
        shown = rich.console.Group(self._shown(made), stamp)
        if out.is_terminal:
            live.update(shown, refresh=True)
        else:
            out.print(shown)

    async def _ranked(self, opened: Sequence[clouds.Cloud]) -> ranking.Ranking:
        async with asyncio.timeout(SEARCH_TIMEOUT_S):
            answers = await asyncio.gather(*(self._search(cloud) for cloud in opened), return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        for failure in failures:
            if not isinstance(failure, errors.CloudError) or len(failures) == len(answers):
                raise failure
            _fail(str(failure))
        found = [offer for answer in answers if not isinstance(answer, BaseException) for offer in answer]
        now = matching.Situation(now_s=self._clock.now_s())
        now = await self._latencies(found, self._wanted, self._chosen, now)
        return ranking.rank(found, self._wanted, self._chosen.rules, self._chosen.weights, now)

    async def _search(self, cloud: clouds.Cloud) -> list[offers.Offer]:
        """What fits, and what nearly does: a cloud asked only for what fits keeps quiet about the rest."""
        narrow = matching.joined(self._wanted, self._chosen.rules)
        most = narrow.max_usd_per_hour
        wide = dataclasses.replace(
            narrow,
            max_usd_per_hour=None if most is None else most * NEAR_MISS_PRICE,
            min_reliability=None,
            min_inet_down_mbps=None,
            min_duration_s=None,
            verified_only=False,
        )
        found = {offer.id: offer for offer in await self._patiently(cloud, narrow)}
        around = {offer.id: offer for offer in await self._patiently(cloud, wide)}
        return list({**around, **found}.values())

    async def _patiently(self, cloud: clouds.Cloud, asked: needs.Needs) -> Sequence[offers.Offer]:
        while True:
            try:
                return await cloud.search(asked)
            except errors.Throttled as busy:
                pause_s = max(1.0, busy.after_s)
                _fail(f"{busy}; asking again in {pause_s:.0f} s")
                await self._clock.sleep(pause_s)

    def _shown(self, made: ranking.Ranking) -> rich.console.Group:
        parts: list[rich.console.RenderableType] = []
        if len(made.ranked):
            parts.append(_table(made, self._limit))
        if len(made.ranked) > self._limit:
            parts.append(rich.text.Text(f"… and {len(made.ranked) - self._limit} more (--limit)", style="dim"))
        if self._explain:
            parts += [rich.text.Text(line) for line in _explained(made)]
        parts += [rich.text.Text(line) for line in made.lines]
        return rich.console.Group(*parts)


def _table(made: ranking.Ranking, limit: int) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    shown = made.ranked[:limit]
    several_clouds = len({scored.offer.cloud for scored in shown}) > 1
    times = made.view.latencies_ms
    measured = any(scored.offer.address in times for scored in shown)
    table.add_column("#", justify="right", style="dim")
    table.add_column("GPU", no_wrap=True)
    table.add_column("VRAM", justify="right", no_wrap=True)
    table.add_column("REGION", no_wrap=True)
    table.add_column("RELIABLE", justify="right", no_wrap=True)
    if measured:
        table.add_column("RTT", justify="right", no_wrap=True)
    table.add_column("$/H", justify="right", no_wrap=True, style="bold")
    table.add_column("SCORE", justify="right", no_wrap=True)
    table.add_column("MACHINE", no_wrap=True)
    if several_clouds:
        table.add_column("CLOUD", no_wrap=True)
    for number, scored in enumerate(shown, start=1):
        offer = scored.offer
        near_ms = times.get(offer.address or "")
        row = [
            str(number),
            f"{offer.gpu_count}× {offer.gpu_name}" if offer.gpu_count != 1 else offer.gpu_name,
            _figure(offer.gpu_memory_gib, " GiB", 0),
            offer.region or "?",
            _figure(None if offer.reliability is None else offer.reliability * 100, " %", 1),
            *([_figure(near_ms, " ms", 0)] if measured else []),
            f"{scored.usd_per_hour:.3f}",
            f"{scored.score:.1f}",
            offer.machine_id or "?",
            *([offer.cloud] if several_clouds else []),
        ]
        table.add_row(*row)
    return table


def _explained(made: ranking.Ranking, most: int = 3) -> list[str]:
    lines = []
    for number, scored in enumerate(made.ranked[:most], start=1):
        lines.append(f"#{number} {scored.offer.gpu_name}: {scored.score:.1f} of 100 points")
        lines += [
            f"   {part.name:<12}{part.points:>6.1f} of {part.of:>4.1f}  {part.why}" for part in made.explain(scored)
        ]
    return lines


def as_json(made: ranking.Ranking, limit: int) -> dict[str, Any]:
    """Keys are only ever added."""
    return {
        "seen": made.seen,
        "fitting": len(made.ranked),
        "machines": made.machine_count,
        "offers": [
            {
                "rank": number,
                "cloud": scored.offer.cloud,
                "id": scored.offer.id,
                "machine_id": scored.offer.machine_id,
                "host_id": scored.offer.host_id,
                "gpu": scored.offer.gpu_name,
                "gpu_count": scored.offer.gpu_count,
                "gpu_memory_gib": scored.offer.gpu_memory_gib,
                "region": scored.offer.region,
                "reliability": scored.offer.reliability,
                "latency_ms": made.view.latencies_ms.get(scored.offer.address or ""),
                "usd_per_hour": round(scored.usd_per_hour, 6),
                "score": round(scored.score, 3),
                "points": {part.name: round(part.points, 3) for part in made.explain(scored)},
            }
            for number, scored in enumerate(made.ranked[:limit], start=1)
        ],
        "rejected": made.rejected,
        "misses": [{"count": miss.count, "changes": dict(miss.changes)} for miss in made.misses],
        "sentence": made.sentence,
    }


def from_file(path: Path) -> needs.Needs:
    """What the first pod in a manifest asks for, alone or as somebody's template. Raises `BadInput`."""
    try:
        documents = list(yaml.safe_load_all(sys.stdin.read() if str(path) == "-" else path.read_text()))
    except (OSError, UnicodeDecodeError) as wrong:
        raise BadInput(f"{path} can't be read: {getattr(wrong, 'strerror', None) or wrong}") from None
    except yaml.YAMLError as wrong:
        mark = getattr(wrong, "problem_mark", None)
        raise BadInput(f"{path}{f', line {mark.line + 1},' if mark else ''} is not YAML") from None
    defaults = settings.read(settings.Renting).defaults()
    for document in documents:
        template = _pod_in(document)
        if template is not None:
            try:
                pod = msgspec.convert(template, pods.Pod, strict=False)
                return pod_needs.from_pod(pod, defaults)
            except (msgspec.ValidationError, annotations.Invalid) as wrong:
                raise BadInput(f"{path}: {wrong}") from None
    raise BadInput(f"{path} holds no Pod and nothing with a pod template")


def _pod_in(document: Any) -> dict[str, Any] | None:
    """A Pod, or the template in a Deployment, StatefulSet, Job (`spec.template`) or CronJob."""
    if not isinstance(document, dict):
        return None
    if document.get("kind") == "List":
        return next((pod for item in document.get("items") or [] if (pod := _pod_in(item))), None)
    if document.get("kind") == "Pod":
        return document
    below: Any = document.get("spec")
    for step in ("jobTemplate", "spec") if document.get("kind") == "CronJob" else ():
        below = below.get(step) if isinstance(below, dict) else None
    template = below.get("template") if isinstance(below, dict) else None
    return {"metadata": {}, **template} if isinstance(template, dict) and "spec" in template else None


def _open(names: Sequence[str], clock: clocks.Clock) -> list[clouds.Cloud]:
    """The clouds asked for, else all that there is a key for. Settings are the environment's. Raises `ValueError` with
    a sentence."""
    opened: list[clouds.Cloud] = []
    unset: list[str] = []
    for driver in [discovery.driver(name) for name in names] or discovery.drivers():
        try:
            opened.append(driver.open(driver.settings(), clock))
        except pydantic.ValidationError as wrong:
            first = wrong.errors()[0]
            variable = "_".join([driver.name, *(str(part) for part in first["loc"])]).upper()
            raise BadInput(f"{variable}: {first['msg']}") from None
        except ValueError as wrong:
            if names:
                raise
            unset.append(str(wrong))
    if not opened:
        raise BadInput("; ".join(unset))
    return opened


async def _close(opened: Sequence[clouds.Cloud]) -> None:
    await asyncio.gather(*(cloud.close() for cloud in opened))


def _words(several: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(word.strip() for text in several or () for word in text.split(",") if word.strip())


def _region(text: str) -> str:
    code = regions.canonical(text)
    if not regions.looks_right(code):
        groups = ", ".join(regions.GROUPS)
        _fail(f"--region is {text!r}; allowed: codes such as US-CA (part of a country), SE (country) or {groups}")
        raise typer.Exit(2)
    return code


def _figure(value: float | None, unit: str, digits: int) -> str:
    return "?" if value is None else f"{value:.{digits}f}{unit}"


def write(text: str) -> None:
    """For programs: at once, unwrapped, uncoloured."""
    sys.stdout.write(text)
    sys.stdout.flush()


def _fail(message: str) -> None:
    err.print(f"bareboat offers: {message}", markup=False, highlight=False, soft_wrap=True)
