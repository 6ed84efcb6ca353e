"""Where the sandbox keeps and gets its things, from environment variables `BAREBOAT_SANDBOX_…`."""

import os
from pathlib import Path
from typing import Annotated

import pydantic
import pydantic_settings


def _user_folder(variable: str, otherwise: str) -> Path:
    """A user's folder after the XDG rules: a relative path in the variable counts as none."""
    named = Path(os.environ.get(variable, ""))
    return named if named.is_absolute() else Path.home() / otherwise


Folder = Annotated[Path, pydantic.AfterValidator(lambda path: path.expanduser().absolute())]


class Settings(pydantic_settings.BaseSettings):
    """Defaults suit a person at a desk; tests and closed networks point the addresses elsewhere."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="BAREBOAT_SANDBOX_")

    cache_folder: Folder = pydantic.Field(
        default_factory=lambda: _user_folder("XDG_CACHE_HOME", ".cache") / "bareboat" / "controlplane",
        description="Programs, in one folder per version and platform; shared by all sandboxes of the user.",
    )
    state_folder: Folder = pydantic.Field(
        default_factory=lambda: _user_folder("XDG_STATE_HOME", ".local/state") / "bareboat" / "sandboxes",
        description="One folder per running sandbox.",
    )
    kubernetes_url: str = pydantic.Field(
        default="https://dl.k8s.io/release",
        description="Holds <version>/bin/<os>/<arch>/<program> and <program>.sha256.",
    )
    etcd_url: str = pydantic.Field(
        default="https://github.com/etcd-io/etcd/releases/download",
        description="Holds <version>/etcd-<version>-<os>-<arch>.tar.gz and <version>/SHA256SUMS.",
    )
    probe_timeout_s: float = pydantic.Field(
        default=4.0, gt=0, description="How long to look whether the releases can be reached before building instead."
    )
    ready_timeout_s: float = pydantic.Field(
        default=120.0, gt=0, description="How long a control plane may take to become ready."
    )
