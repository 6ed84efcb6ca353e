"""`bareboat simulate vast` as a process of its own."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

COMMAND = (sys.executable, "-m", "bareboat", "simulate", "vast")


async def started(*words: str) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "--exit-with-stdin",
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        line = await process.stdout.readline()
    assert line, (await process.communicate())[1].decode()
    return process, json.loads(line)


async def ended(process: asyncio.subprocess.Process) -> int:
    """Its exit code, after its standard input was closed."""
    async with asyncio.timeout(30):
        await process.communicate(b"")
    assert process.returncode is not None
    return process.returncode


async def test_it_says_in_one_line_where_it_is_and_serves_there() -> None:
    process, ready = await started("--machines", "none", "--api-key", "k", "--seed", "3", "--switch", "hard_cap=5")
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer k"}) as http:
        async with http.post(f"{ready['url']}/api/v0/bundles/", json={}) as response:
            assert len((await response.json())["offers"]) == 5
        async with http.post(f"{ready['control_url']}advance", json={"seconds": 3600}) as response:
            assert (await response.json())["ok"]
    assert ready["api_key"] == "k"
    assert ready["machines"] == "none"
    assert ready["losses"]
    assert await ended(process) == 0


async def test_what_the_command_line_says_outranks_the_script(tmp_path: Path) -> None:
    script = tmp_path / "faults.yaml"
    script.write_text("profile: none\nswitches: {rate_limits: false, hard_cap: 5, max_page: 3}\n")
    process, ready = await started("--machines", "none", "--faults", str(script), "--switch", "hard_cap=7")
    async with aiohttp.ClientSession() as http, http.get(f"{ready['control_url']}world") as response:
        world = await response.json()
    assert (world["switches"]["rate_limits"], world["switches"]["hard_cap"]) == (False, 7)
    assert world["switches"]["max_page"] == 3
    assert world["faults"] == []
    assert await ended(process) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_at_once(number: signal.Signals) -> None:
    process, _ = await started("--machines", "none")
    process.send_signal(number)
    async with asyncio.timeout(30):
        assert await process.wait() == 0
    await process.communicate(b"")


async def test_it_runs_machines_where_it_can_and_says_how() -> None:
    process, ready = await started("--speed", "100")
    assert "Rung" in ready["machines"]
    assert await ended(process) == 0


@pytest.mark.parametrize(
    ("script", "words", "sentence"),
    [
        ("faults: {rain: 1}", (), "faults.rain is not a fault; there are offer_gone"),
        ("faults: {create_error: {rate: 7}}", (), "faults.create_error.rate is 7; it has to be a number from 0 to 1"),
        ("- a\n- b", (), "has to be a mapping"),
        ("a: [", (), "is not YAML"),
        ("switches: {colour: 1}", (), "switches.colour does not exist"),
        ("", ("--switch", "hard_cap"), "--switch hard_cap: it has to be name=value"),
        ("", ("--speed", "0"), "speed is 0; it has to be greater than 0"),
    ],
)
async def test_bad_input_is_a_sentence_and_exit_code_2(
    script: str, words: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text(script)
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *(("--faults", str(path)) if script else ()),
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode == 2
    assert sentence in " ".join(err.decode().split())
    assert b"Traceback" not in err
    assert out == b""
