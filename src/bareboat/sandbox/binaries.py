"""Finds the programs of the control plane, or gets them: assets folder, PATH, cache, release download, Go build.

The cache is one folder per version and platform, shared by all the user's sandboxes. What stands in it under a
program's name is complete: files are made under another name and renamed, by one process at a time.
"""

import asyncio
import contextlib
import dataclasses
import fcntl
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal

from bareboat.sandbox import builds, programs, releases
from bareboat.sandbox import settings as sandbox_settings

ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"
LOCK_FILE = ".lock"
UNFINISHED = ".part"
LOCK_POLL_S = 0.2

Action = Literal["waiting", "looking", "downloading", "building"]
"""Waiting is for another process that gets the same programs; looking, for an answer of the release server."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """What goes on now: program number `n` of the `of` that were missing; `elapsed_s` since the first of them."""

    action: Action
    program: str
    n: int
    of: int
    elapsed_s: float
    fraction: float | None = None
    """Of this download, where its size is known."""


Listener = Callable[[Progress], None]


class Unavailable(Exception):
    """No way led to a program. The message says what was tried and what to install."""


@dataclasses.dataclass(frozen=True)
class Binaries:
    """The programs of one control plane, as absolute paths."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kube_scheduler: Path
    kubectl: Path
    remarks: tuple[str, ...] = ()
    """What was found but not used, and why; for people."""


async def ensure(settings: sandbox_settings.Settings, on_progress: Listener | None = None) -> Binaries:
    """Returns paths that exist. Downloads or builds what is missing, which may take minutes; `on_progress` hears of it.

    Raises `Unavailable` or `programs.UnknownPlatform`. Concurrent calls, in any process, get each program once.
    """
    cache = settings.cache_folder / f"{programs.KUBERNETES_VERSION}-{programs.this_platform()}"
    found, remarks = await asyncio.to_thread(find, cache)
    missing = [program for program in programs.ALL if program.name not in found]
    if missing:
        await _Acquisition(settings, cache, on_progress or (lambda _: None), remarks).run(len(missing))
        found, _ = await asyncio.to_thread(find, cache)
    return Binaries(
        etcd=found["etcd"],
        kube_apiserver=found["kube-apiserver"],
        kube_controller_manager=found["kube-controller-manager"],
        kube_scheduler=found["kube-scheduler"],
        kubectl=found["kubectl"],
        remarks=tuple(remarks),
    )


def find(cache: Path) -> tuple[dict[str, Path], list[str]]:
    """Programs at hand, by name, and remarks on those passed over. Asks those outside the cache for their version."""
    found: dict[str, Path] = {}
    remarks: list[str] = []
    assets = os.environ.get(ASSETS_VARIABLE)
    if assets and not Path(assets).is_dir():
        remarks.append(f"{ASSETS_VARIABLE} is {assets!r}, which is no folder; looked elsewhere")
        assets = None
    for program in programs.ALL:
        path = _find_one(program, Path(assets) if assets else None, cache, remarks)
        if path is not None:
            found[program.name] = path.absolute()
    return found, remarks


def _find_one(program: programs.Program, assets: Path | None, cache: Path, remarks: list[str]) -> Path | None:
    named = assets / program.name if assets else None
    # A development build that states no version is used when the user pointed at it, not when it merely lies around.
    if named is not None and named.exists() and _fits(program, named, remarks, unstated_fits=True):
        return named
    on_path = shutil.which(program.name)
    if on_path is not None and _fits(program, Path(on_path), [], unstated_fits=False):
        return Path(on_path)
    cached = cache / program.name
    return cached if os.access(cached, os.X_OK) else None


def _fits(program: programs.Program, path: Path, remarks: list[str], *, unstated_fits: bool) -> bool:
    try:
        minor = programs.ask_minor(program, path)
    except OSError as error:
        remarks.append(f"{path} can't be run ({error.strerror}); looked elsewhere")
        return False
    if minor is None:
        return unstated_fits
    if minor not in program.accepted_minors:
        remarks.append(f"{path} is version {minor}, not {' or '.join(program.accepted_minors)}; looked elsewhere")
        return False
    return True


class _Acquisition:
    """One pass over the missing programs, under the cache's lock."""

    def __init__(
        self, settings: sandbox_settings.Settings, cache: Path, on_progress: Listener, remarks: list[str]
    ) -> None:
        self._settings = settings
        self._cache = cache
        self._on_progress = on_progress
        self._remarks = remarks
        self._platform = programs.this_platform()
        self._started_s = time.monotonic()
        self._unreachable: dict[str, str] = {}

    async def run(self, expected: int) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        async with self._locked(expected):
            found, _ = await asyncio.to_thread(find, self._cache)
            missing = [program for program in programs.ALL if program.name not in found]
            for n, program in enumerate(missing, start=1):
                await self._get(program, n, len(missing))

    @contextlib.asynccontextmanager
    async def _locked(self, expected: int) -> AsyncIterator[None]:
        with (self._cache / LOCK_FILE).open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self._say("waiting", "all", 1, expected)
                    await asyncio.sleep(LOCK_POLL_S)
            yield

    async def _get(self, program: programs.Program, n: int, of: int) -> None:
        unfinished = self._cache / f"{program.name}{UNFINISHED}"
        unfinished.unlink(missing_ok=True)  # Go refuses to overwrite what it did not build, such as half a download
        try:
            if not await self._download(program, unfinished, n, of):
                await self._build(program, unfinished, n, of)
            await asyncio.to_thread(_publish, unfinished, self._cache / program.name)
        finally:
            unfinished.unlink(missing_ok=True)

    async def _download(self, program: programs.Program, target: Path, n: int, of: int) -> bool:
        if program.module in self._unreachable:
            return False
        self._say("looking", program.name, n, of)
        try:
            await releases.download(
                program,
                self._platform,
                self._settings,
                sha256=await releases.checksum(program, self._platform, self._settings),
                target=target,
                on_fraction=lambda fraction: self._say("downloading", program.name, n, of, fraction),
            )
        except releases.NotReachable as error:
            self._unreachable[program.module] = str(error)
            return False
        except releases.Corrupt as error:
            self._remarks.append(f"{error}; built from source instead")
            return False
        return True

    async def _build(self, program: programs.Program, target: Path, n: int, of: int) -> None:
        try:
            await builds.build(program, target=target, on_tick=lambda: self._say("building", program.name, n, of))
        except builds.GoMissing:
            raise Unavailable(self._install_go(program)) from None
        except builds.BuildFailed as error:
            raise Unavailable(
                f"{program.name} {program.version} could neither be downloaded "
                f"({self._unreachable.get(program.module, 'checksum mismatch')}) nor built: {error}"
            ) from error

    def _install_go(self, program: programs.Program) -> str:
        tried = self._unreachable.get(program.module, "its download did not match its checksum")
        return (
            f"install Go 1.26 or newer (https://go.dev/doc/install) to build {program.name} {program.version}, or set "
            f"{ASSETS_VARIABLE} to a folder that holds it, because it is not on this machine and can't be "
            f"downloaded ({tried})"
        )

    def _say(
        self,
        action: Action,
        program: str,
        n: int,
        of: int,
        fraction: float | None = None,
    ) -> None:
        self._on_progress(Progress(action, program, n, of, time.monotonic() - self._started_s, fraction))


def _publish(unfinished: Path, target: Path) -> None:
    unfinished.chmod(0o755)
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(target)
