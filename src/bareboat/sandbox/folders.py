"""The folder of each running sandbox: who owns it, whether that process still lives, and the removal of what is stale.

A folder counts as live while the process written in it runs, recognised by pid and start time, since pids come round
again. Claims and removals are made under one lock, so that two starts of one name cannot both win.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
OWNER_FILE = "owner.json"
FAILURE_FILE = "failure.txt"
LOCK_FILE = ".lock"


class BadName(ValueError):
    """Not a name for a sandbox. Show it to the user."""


class NameTaken(Exception):
    """A live sandbox has that name: use it, take it down, or choose another name."""


@dataclasses.dataclass(frozen=True)
class Process:
    """One run of a process, told apart from later ones with the same pid."""

    pid: int
    started: str

    @property
    def alive(self) -> bool:
        return self.started != "" and start_of(self.pid) == self.started


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sandbox's folder and the process that owns it."""

    name: str
    folder: Path
    owner: Process
    supervised: bool
    """Whether the owner exists for the sandbox's sake, so that ending the one by ending the other hurts nobody."""


def start_of(pid: int) -> str:
    """Identifies when the process started; empty when there is none or it is a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        # The command's name, in brackets, may hold spaces and brackets itself.
        fields = stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return _start_from_ps(pid) if not Path("/proc/self/stat").exists() else ""
    return "" if fields[0] == "Z" else f"{_boot()}:{fields[19]}"


def check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise BadName(
            f"sandbox name is {name!r}; allowed are 1 to 40 lower-case letters, digits and '-', "
            "with a letter or digit at both ends"
        )
    return name


def claim(root: Path, name: str, *, supervised: bool = False) -> Claim:
    """Makes the folder of a new sandbox owned by this process, after removing what ended sandboxes have left.

    A report of failure is kept for `bareboat sandbox status`, unless it stands under this very name.
    Raises `NameTaken` when a live process owns that name, `BadName` when it is none.
    """
    check_name(name)
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        folder = root / name
        _remove_stale(root, also=folder)
        holder = read(folder)
        if holder is not None:
            raise NameTaken(f"sandbox {name!r} is already up, owned by process {holder.owner.pid}")
        folder.mkdir(mode=0o700)
        owner = Process(os.getpid(), start_of(os.getpid()))
        content = {**dataclasses.asdict(owner), "supervised": supervised}
        (folder / OWNER_FILE).write_text(json.dumps(content))
    return Claim(name, folder, owner, supervised)


def release(claimed: Claim) -> None:
    """Removes the folder if it still is this claim's. May be called again."""
    root = claimed.folder.parent
    if not root.exists():
        return
    with _locked(root):
        if _claim_in(claimed.folder) == claimed:
            _remove(claimed.folder)


def read(folder: Path) -> Claim | None:
    """Who owns the folder; None when there is no such folder or its owner lives no more."""
    found = _claim_in(folder)
    return found if found is not None and found.owner.alive else None


def live(root: Path) -> list[Claim]:
    """Every sandbox whose owner lives, by name."""
    return [found for folder in _folders(root) if (found := read(folder)) is not None]


def ended(root: Path) -> list[Path]:
    """Folders whose owner is gone."""
    return [folder for folder in _folders(root) if read(folder) is None]


def failure(folder: Path) -> str | None:
    """Why the sandbox ended by itself, if its owner could still say so."""
    try:
        return (folder / FAILURE_FILE).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None


def remove_stale(root: Path, *, also: Path | None = None) -> list[str]:
    """Removes folders whose owner is gone and returns their names; of those with a report of failure only `also`."""
    if not root.exists():
        return []
    with _locked(root):
        return _remove_stale(root, also=also)


def _remove_stale(root: Path, *, also: Path | None) -> list[str]:
    stale = [folder for folder in ended(root) if folder == also or failure(folder) is None]
    for folder in stale:
        _remove(folder)
    return [folder.name for folder in stale]


def _remove(folder: Path) -> None:
    # A reader sees the whole folder or none of it.
    grave = folder.with_name(f".removed-{secrets.token_hex(8)}")
    folder.rename(grave)
    shutil.rmtree(grave, ignore_errors=True)


def _folders(root: Path) -> list[Path]:
    if not root.exists():
        return []
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and NAME.fullmatch(entry.name))


def _claim_in(folder: Path) -> Claim | None:
    try:
        content = json.loads((folder / OWNER_FILE).read_text())
        owner = Process(int(content["pid"]), str(content["started"]))
        return Claim(folder.name, folder, owner, bool(content.get("supervised", False)))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    with (root / LOCK_FILE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start_from_ps(pid: int) -> str:
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip()
