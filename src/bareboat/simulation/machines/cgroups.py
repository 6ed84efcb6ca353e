"""A memory limit for one machine, where this user may make cgroups; knows version 1 and 2 by the files they have.

Only the workload's processes are put in, so that the kernel can pick nobody else.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "bareboat-machine-"


@dataclass(frozen=True, slots=True)
class Group:
    """One cgroup with a limit."""

    folder: Path

    def add(self, pid: int) -> None:
        (self.folder / "cgroup.procs").write_text(str(pid))

    def oom_kills(self) -> int:
        """How many processes of the group the kernel has killed for want of memory."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                fields = dict(line.split() for line in (self.folder / name).read_text().splitlines())
                return int(fields.get("oom_kill", 0))
        return 0

    def remove(self) -> None:
        """Does nothing while processes are left in it."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def create(owner: int, number: str, limit_bytes: int) -> Group | None:
    """A new group below this process's own (version 2: or beside it); None where that can't be done."""
    for parent in _parents():
        folder = parent / f"{_PREFIX}{owner}-{number}"
        with contextlib.suppress(OSError):
            folder.mkdir()
            if _limit(folder, limit_bytes):
                return Group(folder)
            folder.rmdir()
    return None


def clean(ended: int | None = None) -> None:
    """Removes what was left by owners that are no longer processes, and by `ended`, which knows that it is done."""
    for parent in _parents():
        for folder in parent.glob(f"{_PREFIX}*"):
            owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
            if owner == str(ended) or not Path("/proc", owner).exists():
                Group(folder).remove()


def _limit(folder: Path, limit_bytes: int) -> bool:
    for name in ("memory.max", "memory.limit_in_bytes"):
        limit = folder / name
        if limit.exists():
            limit.write_text(str(limit_bytes))
            for swap, value in (("memory.swap.max", 0), ("memory.memsw.limit_in_bytes", limit_bytes)):
                with contextlib.suppress(OSError):
                    (folder / swap).write_text(str(value))
            return True
    return False


def _parents() -> list[Path]:
    found: list[Path] = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, kinds, path = line.split(":", 2)
        if number == "0":
            for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
                own = Path(top + os.path.normpath(path))
                if (Path(top) / "cgroup.controllers").exists():
                    found += [own, own.parent] if path != "/" else [own]
        elif "memory" in kinds.split(","):
            found.insert(0, Path("/sys/fs/cgroup/memory" + os.path.normpath(path)))
    return [folder for folder in found if folder.is_dir()]
