"""Where the control plane's programs come from."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from bareboat.sandbox import settings as sandbox_settings


@dataclasses.dataclass(frozen=True)
class Progress:
    """What is being fetched or built now: number `n` of `of`, since `elapsed_s`."""

    action: str
    program: str
    n: int
    of: int
    elapsed_s: float


class Unavailable(Exception):
    """No way led to a program. The message says what to install."""


@dataclasses.dataclass(frozen=True)
class Binaries:
    """The programs of one control plane, as absolute paths."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kube_scheduler: Path
    kubectl: Path


async def ensure(
    settings: sandbox_settings.Settings, on_progress: Callable[[Progress], None] | None = None
) -> Binaries:
    folder = settings.cache_folder / "v1.36.3-linux-amd64"
    return Binaries(
        etcd=folder / "etcd",
        kube_apiserver=folder / "kube-apiserver",
        kube_controller_manager=folder / "kube-controller-manager",
        kube_scheduler=folder / "kube-scheduler",
        kubectl=folder / "kubectl",
    )
