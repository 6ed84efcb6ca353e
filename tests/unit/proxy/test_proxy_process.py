"""What is handed to the process that serves: whole, and small enough to need nothing that reads settings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bareboat.proxy import process

HANDED = """
import sys
from bareboat import settings
from bareboat.clouds import discovery
from bareboat.plumbing import clock
from bareboat.proxy import process
about = settings.read(settings.Proxy)
driver = discovery.driver("vast")
cloud = driver.open(settings.read(driver.settings, api_key=about.api_key), clock.SystemClock())
process.MODULE = sys.argv[1]
process.become(process.Handed(about.plan(), cloud, "json", "debug"))
"""
TAKEN = """
import os, sys
from bareboat.proxy import process
handed = process.taken(int(sys.argv[1]))
assert isinstance(handed.plan.about.pod_name, str) and handed.cloud.name == "vast"
heavy = [name for name in ("typer", "pydantic", "pydantic_settings", "bareboat.node") if name in sys.modules]
print(handed.plan.about.login.password, handed.log_format, os.getpid(), heavy)
"""


def test_all_that_was_told_arrives_in_the_same_process_without_what_read_it(tmp_path: Path) -> None:
    (tmp_path / "receiver.py").write_text(TAKEN)
    told = {
        "POD_NAME": "vast-pod-0",
        "VAST_API_KEY": "k3y",
        "VAST_TEMPLATE_NAME": "my template",
        "VAST_TEMPLATE_IMAGE": "me/web:1",
        "DOCKER_LOGIN": "-u robot -p opensesame registry.example.com",
        "VAST_SEARCH_QUERY": "num_gpus=1",
        "PYTHONPATH": str(tmp_path),
    }
    started = subprocess.Popen(
        [sys.executable, "-c", HANDED, "receiver"], env=told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    said, failed = started.communicate(timeout=60)
    assert said.split() == ["opensesame", "json", str(started.pid), "[]"], failed


def test_settings_too_long_for_the_pipe_are_refused_with_a_sentence() -> None:
    class Long:
        def __reduce__(self) -> tuple[type[str], tuple[str]]:
            return str, ("x" * 100_000,)

    with pytest.raises(ValueError, match="100"):
        process.become(Long())  # type: ignore[arg-type]
    assert os.getpid()
