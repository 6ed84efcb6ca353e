"""What can be said about the user's sandboxes from their folders alone, by any process."""

import dataclasses
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from bareboat.sandbox import folders

FACTS_FILE = "sandbox.json"


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a sandbox writes down once it is ready."""

    url: str
    version: str
    pids: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Report:
    """One sandbox. `failed` and `stale` ones have no process any more: a component died, or the owner was killed."""

    name: str
    state: Literal["starting", "running", "failed", "stale"]
    folder: Path
    owner_pid: int | None
    age_s: float
    url: str = ""
    version: str = ""
    memory_mib: int = 0
    pids: Mapping[str, int] = dataclasses.field(default_factory=dict)
    failure: str = ""

    @property
    def kubeconfig_path(self) -> Path:
        return self.folder / "kubeconfig"


def write_facts(folder: Path, facts: Facts) -> None:
    unfinished = folder / f"{FACTS_FILE}.part"
    unfinished.write_text(json.dumps({"url": facts.url, "version": facts.version, "pids": dict(facts.pids)}))
    unfinished.replace(folder / FACTS_FILE)


def read_all(root: Path) -> list[Report]:
    """Every sandbox of which something is left, by name. Changes nothing."""
    living = {claim.folder: claim.owner.pid for claim in folders.live(root)}
    found = [_read(folder, pid) for folder, pid in living.items()]
    found += [_read(folder, None) for folder in folders.ended(root) if folder not in living]
    return sorted((report for report in found if report is not None), key=lambda report: report.name)


def _read(folder: Path, owner_pid: int | None) -> Report | None:
    try:
        age_s = time.time() - (folder / folders.OWNER_FILE).stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None  # taken down since it was listed
    facts = _facts(folder)
    failure = folders.failure(folder) or ""
    if owner_pid is None:
        return Report(folder.name, "failed" if failure else "stale", folder, None, age_s, failure=failure)
    if facts is None:
        return Report(folder.name, "starting", folder, owner_pid, age_s)
    memory_mib = sum(_resident_mib(pid) for pid in facts.pids.values())
    return Report(
        folder.name, "running", folder, owner_pid, age_s, facts.url, facts.version, round(memory_mib), facts.pids
    )


def _facts(folder: Path) -> Facts | None:
    try:
        content: dict[str, Any] = json.loads((folder / FACTS_FILE).read_text())
        return Facts(str(content["url"]), str(content["version"]), dict(content["pids"]))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def _resident_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
