"""Programs are taken from where they are at hand, else fetched and verified, else built; each once, and whole."""

import asyncio
import socket
import time
from pathlib import Path

import pytest
from tests.unit.sandbox import conftest

from bareboat.sandbox import binaries, programs
from bareboat.sandbox import settings as sandbox_settings

VERSIONS = {
    "etcd": "etcd Version: 3.5.21",
    "kube-apiserver": "Kubernetes v1.36.0",
    "kube-controller-manager": "Kubernetes v1.36.3",
    "kube-scheduler": "Kubernetes v1.36.9",
    "kubectl": "Client Version: v1.36.1",
}


def fill(folder: Path, **changed: str) -> None:
    for name, version in VERSIONS.items():
        conftest.executable(folder / name, f"echo '{changed.get(name.replace('-', '_'), version)}'")


def paths(found: binaries.Binaries) -> set[Path]:
    return {
        path.parent
        for path in (
            found.etcd,
            found.kube_apiserver,
            found.kube_controller_manager,
            found.kube_scheduler,
            found.kubectl,
        )
    }


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def a_go(folder: Path, script: str = "") -> Path:
    """A stand-in for Go: notes its arguments and writes what it was asked to build."""
    calls = folder.parent / "go-calls"
    conftest.executable(
        folder / "go",
        f"""echo "$PWD CGO_ENABLED=$CGO_ENABLED GOWORK=$GOWORK" "$@" >> {calls}
for argument in "$@"; do
  case $argument in -o=*) target=${{argument#-o=}};; esac
done
{script}
echo built > "$target" """,
    )
    return calls


async def test_programs_on_path_are_used_when_their_version_fits(
    on_path: Path, settings: sandbox_settings.Settings
) -> None:
    fill(on_path)
    found = await binaries.ensure(settings)
    assert paths(found) == {on_path}
    assert found.remarks == ()


async def test_an_older_kubectl_on_path_is_not_taken_for_ours(
    on_path: Path, cache: Path, settings: sandbox_settings.Settings
) -> None:
    fill(on_path, kubectl="Client Version: v1.32.0")
    conftest.executable(cache / "kubectl")
    assert (await binaries.ensure(settings)).kubectl == cache / "kubectl"


async def test_the_assets_folder_comes_before_path_and_may_hold_unstamped_builds(
    on_path: Path, tmp_path: Path, settings: sandbox_settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(on_path)
    fill(tmp_path / "assets", kube_apiserver="Kubernetes v0.0.0-master+$Format:%H$")
    monkeypatch.setenv(binaries.ASSETS_VARIABLE, str(tmp_path / "assets"))
    assert paths(await binaries.ensure(settings)) == {tmp_path / "assets"}


async def test_a_wrong_version_in_the_assets_folder_is_passed_over_and_said_aloud(
    on_path: Path, tmp_path: Path, settings: sandbox_settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(on_path)
    fill(tmp_path / "assets", kube_apiserver="Kubernetes v1.30.2")
    monkeypatch.setenv(binaries.ASSETS_VARIABLE, str(tmp_path / "assets"))
    found = await binaries.ensure(settings)
    assert found.kube_apiserver == on_path / "kube-apiserver"
    assert found.etcd == tmp_path / "assets" / "etcd"
    (remark,) = found.remarks
    assert remark.endswith("kube-apiserver is version 1.30, not 1.36; looked elsewhere")


async def test_an_assets_folder_that_is_not_there_is_said_aloud(
    on_path: Path, settings: sandbox_settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(on_path)
    monkeypatch.setenv(binaries.ASSETS_VARIABLE, "/no/such/folder")
    assert (await binaries.ensure(settings)).remarks == (
        "KUBEBUILDER_ASSETS is '/no/such/folder', which is no folder; looked elsewhere",
    )


@pytest.mark.usefixtures("on_path")
async def test_releases_are_downloaded_verified_and_cached(
    cache: Path, settings: sandbox_settings.Settings, release_server: conftest.Releases
) -> None:
    steps: list[binaries.Progress] = []
    found = await binaries.ensure(settings, steps.append)
    assert paths(found) == {cache}
    assert found.etcd.read_text() == "#!/bin/sh\necho etcd\n"
    assert found.kubectl.stat().st_mode & 0o777 == 0o755
    assert {(step.program, step.n, step.of) for step in steps if step.action == "downloading"} == {
        (program.name, n, 5) for n, program in enumerate(programs.ALL, start=1)
    }
    assert steps[-1].fraction == 1
    release_server.asked.clear()
    assert await binaries.ensure(settings) == found
    assert release_server.asked == []


@pytest.mark.usefixtures("on_path")
@pytest.mark.parametrize("end", ["/kubectl", ".tar.gz"])
async def test_a_download_that_does_not_match_its_checksum_is_never_used(
    cache: Path, settings: sandbox_settings.Settings, release_server: conftest.Releases, end: str
) -> None:
    release_server.files[release_server.path_of(end)] += b"changed on its way"
    with pytest.raises(binaries.Unavailable, match="did not match its checksum"):
        await binaries.ensure(settings)
    assert ("kubectl" if end == "/kubectl" else "etcd") not in names(cache)
    assert not [name for name in names(cache) if ".part" in name]


async def test_a_corrupt_download_is_built_instead_and_said_aloud(
    on_path: Path, settings: sandbox_settings.Settings, release_server: conftest.Releases
) -> None:
    a_go(on_path)
    release_server.files[release_server.path_of("/kubectl")] = b"changed"
    found = await binaries.ensure(settings)
    assert found.kubectl.read_text() == "built\n"
    (remark,) = found.remarks
    assert "was published; built from source instead" in remark


async def test_without_a_release_server_everything_is_built_from_the_pinned_modules(
    on_path: Path, cache: Path, settings: sandbox_settings.Settings
) -> None:
    calls = a_go(on_path)
    steps: list[binaries.Progress] = []
    found = await binaries.ensure(settings, steps.append)
    assert paths(found) == {cache}
    lines = calls.read_text().splitlines()
    assert [line.split()[-1] for line in lines] == [program.package for program in programs.ALL]
    assert all("CGO_ENABLED=0 GOWORK=off build -trimpath" in line for line in lines)
    assert all("-X k8s.io/component-base/version.gitVersion=v1.36.3" in line for line in lines[1:])
    assert lines[0].split()[0].endswith("sandbox/gomodules/etcd")
    # One look at each release server is enough to know that it can't be reached.
    assert [step.program for step in steps if step.action == "looking"] == ["etcd", "kube-apiserver"]
    assert {(step.program, step.n) for step in steps if step.action == "building"} == {
        (program.name, n) for n, program in enumerate(programs.ALL, start=1)
    }


@pytest.mark.usefixtures("on_path")
async def test_a_silent_release_server_holds_nobody_up(settings: sandbox_settings.Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.etcd_url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings.probe_timeout_s = 0.2
        started_s = time.monotonic()
        with pytest.raises(binaries.Unavailable, match="TimeoutError"):
            await binaries.ensure(settings)
        assert time.monotonic() - started_s < 2


@pytest.mark.usefixtures("on_path")
async def test_without_go_one_sentence_says_what_to_install(settings: sandbox_settings.Settings) -> None:
    with pytest.raises(binaries.Unavailable) as error:
        await binaries.ensure(settings)
    message = str(error.value)
    assert message.startswith("install Go 1.26 or newer (https://go.dev/doc/install) to build etcd v3.6.16, or set")
    assert "\n" not in message


async def test_a_failed_build_shows_what_go_said_and_leaves_nothing_in_the_cache(
    on_path: Path, cache: Path, settings: sandbox_settings.Settings
) -> None:
    a_go(on_path, 'echo half > "$target"; echo "no space left on device" >&2; exit 1')
    with pytest.raises(binaries.Unavailable, match="no space left on device"):
        await binaries.ensure(settings)
    assert names(cache).isdisjoint({"etcd", "etcd.part"})


async def test_what_an_interrupted_start_left_does_not_disturb_the_next(
    on_path: Path, cache: Path, settings: sandbox_settings.Settings
) -> None:
    a_go(on_path, '[ ! -e "$target" ] || exit 1')
    conftest.executable(cache / "etcd.part", "half of it")
    assert (await binaries.ensure(settings)).etcd.read_text() == "built\n"


async def test_two_starts_at_once_build_each_program_once(on_path: Path, settings: sandbox_settings.Settings) -> None:
    calls = a_go(on_path, "/bin/sleep 0.1")
    steps: list[binaries.Progress] = []
    first, second = await asyncio.gather(
        binaries.ensure(settings, steps.append), binaries.ensure(settings, steps.append)
    )
    assert first == second
    assert len(calls.read_text().splitlines()) == len(programs.ALL)
    assert "waiting" in {step.action for step in steps}


async def test_a_cancelled_start_ends_the_compiler(on_path: Path, settings: sandbox_settings.Settings) -> None:
    noted = on_path.parent / "pid"
    a_go(on_path, f"echo $$ > {noted}.part; /bin/mv {noted}.part {noted}; exec /bin/sleep 600")
    work = asyncio.create_task(binaries.ensure(settings))
    while not noted.exists():
        assert not work.done()
        await asyncio.sleep(0.01)
    pid = int(noted.read_text())
    assert lives(pid)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not lives(pid)
