"""The service against requests that are made up from its own description, valid ones and broken ones."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.integration.provision import stage

ROOT = Path(__file__).parents[3]
SCHEMATHESIS = (
    *(sys.executable, "-m", "schemathesis.cli", "run"),
    *("--max-examples=12", "--seed=7", "--no-color", "--request-timeout=10"),
)


def test_made_up_requests_get_only_described_answers(
    serve: Callable[..., stage.Service], namespace: str, tmp_path: Path
) -> None:
    service = serve(NAMESPACE=namespace, PROVISION_REQUESTS_PER_MINUTE="0")
    with urllib.request.urlopen(f"{service.url}/openapi.json", timeout=10) as answer:
        described = json.load(answer)
    for methods in described["paths"].values():
        for operation in methods.values():
            # No kubelet makes pods ready here, so that each wait would last as long as it may.
            operation["parameters"] = [each for each in operation.get("parameters", ()) if each["name"] != "wait"]
    (tmp_path / "openapi.json").write_text(json.dumps(described))
    done = subprocess.run(
        [*SCHEMATHESIS, str(tmp_path / "openapi.json"), f"--url={service.url}"],
        cwd=ROOT,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.integration.provision.formats", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    tried = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert tried is not None and int(tried[1]) >= 100, done.stdout
    assert " 500" not in service.metrics("bareboat_provision_requests_total")
