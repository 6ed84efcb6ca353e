"""A machine that has nothing of a control plane, and a release server on loopback."""

import hashlib
import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import test_utils, web

from bareboat.sandbox import binaries, builds, programs
from bareboat.sandbox import settings as sandbox_settings

REFUSED = "http://127.0.0.1:9/nothing-listens-here"


def executable(path: Path, script: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder on PATH, empty: no Go, no kubectl, no assets."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv(binaries.ASSETS_VARIABLE, raising=False)
    monkeypatch.setattr(builds, "USUAL_GO", tmp_path / "no-go")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> sandbox_settings.Settings:
    """Folders of the test's own, and release servers that refuse every connection."""
    return sandbox_settings.Settings(
        cache_folder=tmp_path / "cache",
        state_folder=tmp_path / "state",
        kubernetes_url=REFUSED,
        etcd_url=REFUSED,
        probe_timeout_s=2,
    )


@pytest.fixture
def cache(settings: sandbox_settings.Settings) -> Path:
    """Where the settings' cache keeps programs for this platform."""
    return settings.cache_folder / f"{programs.KUBERNETES_VERSION}-{programs.this_platform()}"


class Releases:
    """Serves files as the official servers lay them out, checksums included."""

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        platform = programs.this_platform()
        for program in programs.ALL:
            content = f"#!/bin/sh\necho {program.name}\n".encode()
            if program is programs.ETCD:
                name = f"etcd-{program.version}-{platform}.tar.gz"
                packed = _tar(f"etcd-{program.version}-{platform}/etcd", content)
                self.files[f"/etcd/{program.version}/{name}"] = packed
                sums = f"{'0' * 64}  another.zip\n{hashlib.sha256(packed).hexdigest()}  {name}\n"
                self.files[f"/etcd/{program.version}/SHA256SUMS"] = sums.encode()
            else:
                path = f"/kubernetes/{program.version}/bin/{platform.system}/{platform.architecture}/{program.name}"
                self.files[path] = content
                self.files[f"{path}.sha256"] = hashlib.sha256(content).hexdigest().encode()

    def path_of(self, end: str) -> str:
        (found,) = [path for path in self.files if path.endswith(end)]
        return found

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path not in self.files:
            raise web.HTTPNotFound
        return web.Response(body=self.files[request.path])


def _tar(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for member, data in ((f"{name}.md", b"read me"), (name, content)):
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


@pytest.fixture
async def release_server(settings: sandbox_settings.Settings) -> AsyncIterator[Releases]:
    """A release server that `settings` then point to."""
    releases = Releases()
    application = web.Application()
    application.router.add_get("/{path:.*}", releases.handle)
    async with test_utils.TestServer(application, host="127.0.0.1") as server:
        releases.url = str(server.make_url("/")).rstrip("/")
        settings.kubernetes_url = f"{releases.url}/kubernetes"
        settings.etcd_url = f"{releases.url}/etcd/"
        yield releases
