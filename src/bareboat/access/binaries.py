"""The runner's program for a machine. Built by tools/build-runner, shipped inside the wheel, never downloaded."""

from pathlib import Path

FOLDER = Path(__file__).parent / "bin"

_architectures = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class NoRunner(Exception):
    """There is no runner for the machine: the pod falls back to plain access, with this text as the reason."""


def path(machine: str) -> Path:
    """The file for what `uname -m` says on the machine. Raises NoRunner."""
    architecture = _architectures.get(machine.strip())
    if architecture is None:
        known = ", ".join(sorted(_architectures))
        raise NoRunner(f"the machine's architecture is {machine.strip()!r}; the runner exists for {known}")
    found = FOLDER / f"runner-linux-{architecture}"
    if not found.is_file():
        raise NoRunner(f"{found} is not built; run tools/build-runner (needs Go), or install Bareboat from its wheel")
    return found


def content(machine: str) -> bytes:
    """The program's bytes, some 6 MB. Raises NoRunner."""
    return path(machine).read_bytes()


def build() -> str:
    """Names the sources that the programs were built of: a machine that tells another by `runner version` has an
    older or newer one. Empty when they are not built."""
    stamp = FOLDER / "sources"
    return stamp.read_text().strip() if stamp.is_file() else ""
