"""RunPod's own Python SDK against the simulator: nothing is changed but its base URL.

The SDK brings some sixty packages along. `BAREBOAT_RUNPOD_SDK_PYTHON` names a Python that has it, should this one not.
"""

import asyncio
import importlib.util
import json
import os
import sys
from typing import Any

import pytest

from bareboat.clouds.runpod import sim
from bareboat.simulation import clock, market, rentals

PYTHON = os.environ.get("BAREBOAT_RUNPOD_SDK_PYTHON") or (sys.executable if importlib.util.find_spec("runpod") else "")
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="the package runpod is not installed here, and BAREBOAT_RUNPOD_SDK_PYTHON names no other Python"
)
KEY = "rpa_SDKKEY"

STORY = """
import json, os, runpod
runpod.api_key = os.environ["RUNPOD_API_KEY"]
told = {}
told["gpus"] = [gpu["id"] for gpu in runpod.get_gpus()]
told["gpu"] = runpod.get_gpu("NVIDIA L4", 2)
made = runpod.create_pod(
    "bareboat-sdk", "busybox:latest", "NVIDIA L4", cloud_type="SECURE", docker_args="sleep 1000",
    ports="8080/http,22/tcp", env={"WORD": "two words"},
)
told["made"] = made
told["pods"] = [(pod["id"], pod["name"]) for pod in runpod.get_pods()]
told["pod"] = runpod.get_pod(made["id"])
told["stopped"] = runpod.stop_pod(made["id"])
told["resumed"] = runpod.resume_pod(made["id"], 1)
login = runpod.create_container_registry_auth("sdk", "user", "word")
told["login"] = login
runpod.delete_container_registry_auth(login["id"])
runpod.terminate_pod(made["id"])
try:
    runpod.terminate_pod("nosuchpod")
except runpod.error.QueryError as error:
    told["gone"] = str(error)
try:
    runpod.create_pod("none", "busybox:latest", "NVIDIA L4", cloud_type="SECURE", gpu_count=8, data_center_id="XX-NO-1")
except runpod.error.QueryError as error:
    told["refused"] = str(error)
told["user"] = runpod.get_user()
runpod.api_key = "wrong"
try:
    runpod.get_pods()
except runpod.error.AuthenticationError as error:
    told["wrong_key"] = str(error)
print(json.dumps(told))
"""


async def _told(url: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        "-W",
        "ignore",
        "-c",
        STORY,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "RUNPOD_API_BASE_URL": url, "RUNPOD_API_KEY": KEY},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-3000:]
    told: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
    return told


async def test_the_sdk_rents_reads_stops_and_ends_a_pod_here() -> None:
    plan = sim.planned(churn=market.Churn.none(), boot=rentals.BootTimes.instant())
    async with sim.served(clock=clock.SimulatedClock(), plan=plan, script={"profile": "none"}, api_key=KEY) as served:
        told = await _told(served.url)
        entries = [entry for entry in served.ledger.entries() if entry.label == "bareboat-sdk"]
    assert "NVIDIA L4" in told["gpus"] and "unknown" in told["gpus"]
    assert told["gpu"]["securePrice"] == 0.44
    assert told["gpu"]["lowestPrice"] == {"minimumBidPrice": 0.18, "uninterruptablePrice": 0.34}
    pod_id = told["made"]["id"]
    assert told["made"]["env"] == ["WORD=two words"] and told["made"]["machine"]["podHostId"].startswith(pod_id)
    assert [pod_id, "bareboat-sdk"] in told["pods"] and len(told["pods"]) == 4, "and three of other people"
    assert told["pod"]["desiredStatus"] == "RUNNING" and told["pod"]["uptimeSeconds"] == 0
    assert told["stopped"]["desiredStatus"] == "EXITED"
    assert told["resumed"]["desiredStatus"] == "RUNNING"
    assert told["login"]["name"] == "sdk"
    assert "pod not found to terminate" in told["gone"]
    assert "required specifications" in told["refused"]
    assert told["user"]["networkVolumes"] == []
    assert "check your API key" in told["wrong_key"]
    assert [(entry.gone_s is not None, entry.gpus) for entry in entries] == [(True, 1)]
