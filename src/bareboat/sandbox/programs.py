"""Which programs a control plane needs, in which versions, and how each of them is asked, fetched or built.

The versions here and those pinned in `gomodules/` are the same; a test holds them together.
"""

import dataclasses
import platform
import re
import subprocess
import sys
from pathlib import Path

KUBERNETES_VERSION = "v1.36.3"
ETCD_VERSION = "v3.6.16"
ASK_TIMEOUT_S = 10.0

_SYSTEMS = {"linux": "linux", "darwin": "darwin"}
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_VERSION = re.compile(r"\bv?(\d+)\.(\d+)\.\d+")
# What a build from the module proxy says when nobody told the linker its version.
_UNSTAMPED = "v0.0.0-master"


@dataclasses.dataclass(frozen=True)
class Program:
    """One executable of the control plane."""

    name: str
    version: str
    accepted_minors: tuple[str, ...]
    """Versions of a binary found on the machine that will do, such as `1.36`."""
    version_arguments: tuple[str, ...]
    module: str
    """Folder in `gomodules/` that pins the sources."""
    package: str
    linker_flags: str = "-s -w"


def _kubernetes(name: str, *version_arguments: str) -> Program:
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    stamps = {
        "gitVersion": KUBERNETES_VERSION,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "unknown",
    }
    stamped = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in stamps.items())
    return Program(
        name=name,
        version=KUBERNETES_VERSION,
        accepted_minors=(f"{major}.{minor}",),
        version_arguments=version_arguments or ("--version",),
        module="kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        linker_flags=f"-s -w {stamped}",
    )


ETCD = Program("etcd", ETCD_VERSION, ("3.5", "3.6"), ("--version",), "etcd", "go.etcd.io/etcd/server/v3")
KUBE_APISERVER = _kubernetes("kube-apiserver")
KUBE_CONTROLLER_MANAGER = _kubernetes("kube-controller-manager")
KUBE_SCHEDULER = _kubernetes("kube-scheduler")
KUBECTL = _kubernetes("kubectl", "version", "--client")

ALL = (ETCD, KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBE_SCHEDULER, KUBECTL)


class UnknownPlatform(Exception):
    """Nobody publishes or builds the control plane for this machine."""


@dataclasses.dataclass(frozen=True)
class Platform:
    """Operating system and processor in Go's words."""

    system: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.system}-{self.architecture}"


def this_platform() -> Platform:
    system = _SYSTEMS.get(sys.platform)
    architecture = _ARCHITECTURES.get(platform.machine().lower())
    if system is None or architecture is None:
        raise UnknownPlatform(
            f"the sandbox runs on Linux and macOS with amd64 or arm64 processors; "
            f"this is {sys.platform} on {platform.machine() or 'an unknown processor'}"
        )
    return Platform(system, architecture)


def ask_minor(program: Program, path: Path) -> str | None:
    """Major and minor version (`1.36`) that the executable at `path` states; None when it states none.

    Runs it, which takes some 50 ms. Raises OSError when it can't be run.
    """
    try:
        asked = subprocess.run(
            [path, *program.version_arguments],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=ASK_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    if _UNSTAMPED in asked.stdout:
        return None
    stated = _VERSION.search(asked.stdout)
    return f"{stated[1]}.{stated[2]}" if stated else None
