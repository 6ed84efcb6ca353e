"""Vast's own command line, unchanged, against the simulator."""

import asyncio
import json
import os
import re
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bareboat.clouds.vast import sim
from bareboat.simulation import clock, estate, rentals

PROGRAM = Path(sysconfig.get_path("scripts")) / "vastai"
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Cli:
    def __init__(self, simulator: sim.Simulator, home: Path) -> None:
        self._simulator = simulator
        self._home = home

    async def __call__(self, verb: str, noun: str, *words: str) -> str:
        """What it prints. URL and key go before the rest: `--args` swallows everything behind it."""
        connection = ("--url", self._simulator.url, "--api-key", self._simulator.api_key)
        process = await asyncio.create_subprocess_exec(
            str(PROGRAM),
            verb,
            noun,
            *connection,
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": str(self._home), "COLUMNS": "200"},
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert b"Failed with error" not in err, err.decode()
        return COLOURS.sub("", out.decode())


@pytest.fixture
async def simulator() -> AsyncIterator[sim.Simulator]:
    plan = estate.Plan(boot=rentals.BootTimes.instant())
    switches = sim.Switches(rate_limits=False)
    async with sim.served(
        clock=clock.SimulatedClock(), plan=plan, switches=switches, script={"profile": "none"}
    ) as served:
        yield served


@pytest.fixture
def vastai(simulator: sim.Simulator, tmp_path: Path) -> Cli:
    assert PROGRAM.exists(), "the official command line is a development dependency: uv sync"
    return Cli(simulator, tmp_path)


async def test_it_searches_with_its_query_language(vastai: Cli) -> None:
    table, raw = await asyncio.gather(
        vastai("search", "offers", "gpu_name=RTX_4090 num_gpus=1 reliability>0.98", "-o", "dph+", "--limit", "3"),
        vastai("search", "offers", "num_gpus>=4 geolocation in [US,CA] gpu_ram>=24", "--raw"),
    )
    assert table.count("RTX_4090") == 3
    offers = json.loads(raw)
    assert offers
    assert all(offer["num_gpus"] >= 4 and offer["gpu_ram"] >= 24000 for offer in offers)
    assert all(offer["geolocation"].endswith((", US", ", CA")) for offer in offers)


async def test_it_follows_an_instance_through_its_life(vastai: Cli, simulator: sim.Simulator) -> None:
    launch = ["--image", "busybox:latest", "--disk", "12", "--label", "bareboat/c/pod/1"]
    created = await vastai(
        "create", "instance", "31870033", *launch, "--env", "-e A=b -p 8001:8001", "--args", "sleep", "100"
    )
    assert created.startswith("Started.")
    [entry] = simulator.ledger.running_now()
    one = str(entry.id)

    one_raw, table, listed = await asyncio.gather(
        vastai("show", "instance", one, "--raw"),
        vastai("show", "instance", one),
        vastai("show", "instances", "--raw"),
    )
    record = json.loads(one_raw)
    assert (record["actual_status"], record["image_args"], record["disk_space"]) == ("running", ["sleep", "100"], 12)
    assert record["extra_env"] == {"A": "b", "-p 8001:8001": "1"}
    assert "busybox:latest" in table
    assert [shown["label"] for shown in json.loads(listed)] == ["bareboat/c/pod/1"]

    assert "label for" in await vastai("label", "instance", one, "hello")
    assert simulator.ledger.running_now()[0].label == "hello"
    assert "busybox" in await vastai("logs", one, "--tail", "5")
    await vastai("stop", "instance", one)
    assert simulator.ledger.running_now()[0].stage == "stopped"
    await vastai("start", "instance", one)
    assert simulator.ledger.running_now()[0].stage == "running"
    await vastai("destroy", "instance", one, "-y")
    assert simulator.ledger.running_now() == []


async def test_it_makes_and_finds_templates_and_shows_the_user(vastai: Cli) -> None:
    made, user = await asyncio.gather(
        vastai("create", "template", "--name", "t1", "--image", "busybox", "--image_tag", "1.36", "--env", "-e A=b"),
        vastai("show", "user", "--raw"),
    )
    assert "New Template" in made
    assert json.loads(user)["credit"] == 100.0
    [template] = json.loads(await vastai("search", "templates", "name=t1"))
    assert (template["image"], template["tag"], template["env"]) == ("busybox", "1.36", "-e A=b")
