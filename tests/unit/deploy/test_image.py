"""The Dockerfile beside what it copies and what the Deployment expects; no engine is needed to see these."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
LINES = re.sub(r"\\\n", " ", (ROOT / "deploy" / "Dockerfile").read_text()).splitlines()
LAST_STAGE = LINES[max(number for number, line in enumerate(LINES) if line.startswith("FROM ")) :]


def arguments(instruction: str, lines: list[str] = LINES) -> list[str]:
    return [line.split(" ", 1)[1].strip() for line in lines if line.startswith(f"{instruction} ")]


def test_every_path_that_the_image_copies_exists_and_reaches_the_engine() -> None:
    sent = {
        line[1:] for line in (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied = {path for line in arguments("COPY") if not line.startswith("--from=") for path in line.split()[:-1]}
    assert copied == sent
    assert [path for path in copied if not (ROOT / path).exists()] == []


def test_what_the_package_is_built_from_is_copied() -> None:
    copied = " ".join(arguments("COPY")).split()
    assert {"pyproject.toml", "uv.lock", "README.md", "LICENSE", "src"} <= set(copied)


def test_image_runs_as_the_user_that_the_deployment_asks_for() -> None:
    deployment = _deployment()
    wanted = deployment["securityContext"]
    assert arguments("USER", LAST_STAGE) == [f"{wanted['runAsUser']}:{wanted['runAsGroup']}"]


def test_image_starts_the_command_that_the_deployment_gives_arguments_to() -> None:
    (container,) = _deployment()["containers"]
    assert arguments("ENTRYPOINT", LAST_STAGE) == ['["bareboat"]']
    assert "command" not in container and container["args"] == ["node"]


def test_nothing_of_the_building_stage_but_the_environment_comes_along() -> None:
    assert [line for line in arguments("COPY", LAST_STAGE) if line.startswith("--from=")] == [
        "--from=build /opt/bareboat /opt/bareboat"
    ]
    assert arguments("RUN", LAST_STAGE) == []


def _deployment() -> dict[str, Any]:
    (found,) = yaml.safe_load_all((ROOT / "deploy" / "40-node.yaml").read_text())
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec
