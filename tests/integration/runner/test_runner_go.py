"""The runner's own tests, in Go, and the checks that Go brings along."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from bareboat.access import binaries

RUNNER = Path(__file__).parents[3] / "runner"


@pytest.fixture
def go() -> str:
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        pytest.skip("Go is not installed; the programs were built elsewhere")
    return found


@pytest.mark.parametrize("arguments", [["vet", "."], ["test", "."]])
def test_go(go: str, arguments: list[str]) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    done = subprocess.run([go, *arguments], cwd=RUNNER, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sources_are_in_gos_own_form(go: str) -> None:
    gofmt = Path(go).resolve().with_name("gofmt")
    done = subprocess.run([gofmt, "-l", "."], cwd=RUNNER, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_programs_are_small_and_static() -> None:
    for machine in ("x86_64", "aarch64"):
        content = binaries.content(machine)
        assert len(content) <= 6_000_000
        headers_at, size, count = *struct.unpack_from("<Q", content, 32), *struct.unpack_from("<HH", content, 54)
        kinds = [struct.unpack_from("<I", content, headers_at + n * size)[0] for n in range(count)]
        assert 1 in kinds and 3 not in kinds, "loaded segments, and no interpreter that would have to be there"
