"""`bareboat simulate runpod` as a process of its own."""

import asyncio
import json
import sys
from typing import Any

import aiohttp

COMMAND = (sys.executable, "-m", "bareboat", "simulate", "runpod")


async def _started(*words: str) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
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


async def test_it_says_in_one_line_where_it_is_and_serves_three_apis_there() -> None:
    process, ready = await _started(
        "--machines", "none", "--api-key", "k", "--foreign", "2", "--boot", "instant", "--no-churn", "--profile", "none"
    )
    assert (ready["api_key"], ready["machines"]) == ("k", "none")
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer k"}) as http:
        async with http.get(f"{ready['url']}/v2/pods") as response:
            assert len((await response.json())["pods"]) == 2
            assert '"minute";q=60;w=60' in response.headers["RateLimit-Policy"]
        async with http.get(f"{ready['url']}/v1/pods") as response:
            assert len(await response.json()) == 2
        async with http.post(f"{ready['url']}/graphql", json={"query": "{ myself { clientBalance } }"}) as response:
            assert 99 < (await response.json())["data"]["myself"]["clientBalance"] <= 100
        async with http.post(f"{ready['control_url']}advance", json={"seconds": 3600}) as response:
            assert (await response.json())["ok"]
        async with http.get(f"{ready['control_url']}ledger") as response:
            ledger = await response.json()
    assert [entry["foreign"] for entry in ledger["instances"]] == [True, True]
    assert ledger["usd"]["total"] > 0
    async with asyncio.timeout(30):
        await process.communicate(b"")
    assert process.returncode == 0


async def test_bad_input_is_a_sentence_and_exit_code_2() -> None:
    for words, sentence in (
        (("--switch", "colour=1"), "switches.colour does not exist"),
        (("--speed", "0"), "speed is 0; it has to be greater than 0"),
        (("--switch", "v1=maybe"), "allowed is on, 404, 410"),
    ):
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        assert process.returncode == 2
        assert sentence in " ".join(err.decode().split())
        assert b"Traceback" not in err and out == b""
