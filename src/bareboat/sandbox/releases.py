"""Official release downloads, each verified by its published SHA-256. Decides nothing about where else to look."""

import asyncio
import hashlib
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import aiohttp

from bareboat.sandbox import programs
from bareboat.sandbox import settings as sandbox_settings

CHUNK_BYTES = 1 << 18
# A download may take as long as it takes, but not stand still.
STALL_TIMEOUT_S = 20.0


class NotReachable(Exception):
    """The release server gave no useful answer in time. Get the program in another way."""


class Corrupt(Exception):
    """What came is not what the checksum promises. Use none of it."""


async def checksum(program: programs.Program, platform: programs.Platform, settings: sandbox_settings.Settings) -> str:
    """The published SHA-256 of the program's download; at most `probe_timeout_s`, so this also is the probe.

    Raises `NotReachable`, also when there is no release for this platform.
    """
    timeout = aiohttp.ClientTimeout(total=settings.probe_timeout_s)
    url = _checksum_url(program, platform, settings)
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as client, client.get(url) as response:
            if response.status != 200:
                raise NotReachable(f"{url} answered {response.status}")
            text = (await response.content.read(1 << 20)).decode(errors="replace")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise NotReachable(f"{url}: {str(error) or type(error).__name__}") from error
    found = _find_checksum(text, Path(_url(program, platform, settings)).name)
    if found is None:
        raise NotReachable(f"{url} holds no SHA-256 of {program.name}")
    return found


async def download(
    program: programs.Program,
    platform: programs.Platform,
    settings: sandbox_settings.Settings,
    *,
    sha256: str,
    target: Path,
    on_fraction: Callable[[float | None], None],
) -> None:
    """Writes the executable to `target`, overwriting it; `on_fraction` hears how much is done, None if unknown.

    Raises `NotReachable` or `Corrupt`; `target` may then hold anything.
    """
    url = _url(program, platform, settings)
    packed = url.endswith(".tar.gz")
    received = target.with_name(f"{target.name}.tar.gz") if packed else target
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=settings.probe_timeout_s, sock_read=STALL_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as client, client.get(url) as response:
            if response.status != 200:
                raise NotReachable(f"{url} answered {response.status}")
            digest = await _receive(response, received, on_fraction)
        if digest != sha256:
            raise Corrupt(f"{url} has SHA-256 {digest}, but {sha256} was published")
        if packed:
            await asyncio.to_thread(_unpack, received, program.name, target)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise NotReachable(f"{url}: {str(error) or type(error).__name__}") from error
    finally:
        if packed:
            received.unlink(missing_ok=True)


async def _receive(response: aiohttp.ClientResponse, target: Path, on_fraction: Callable[[float | None], None]) -> str:
    digest = hashlib.sha256()
    done_bytes = 0
    with target.open("wb") as file:
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            digest.update(chunk)
            await asyncio.to_thread(file.write, chunk)
            done_bytes += len(chunk)
            on_fraction(done_bytes / response.content_length if response.content_length else None)
    return digest.hexdigest()


def _unpack(archive: Path, name: str, target: Path) -> None:
    try:
        with tarfile.open(archive) as packed:
            for member in packed:
                if member.isfile() and Path(member.name).name == name:
                    content = packed.extractfile(member)
                    assert content is not None
                    with target.open("wb") as file:
                        while chunk := content.read(CHUNK_BYTES):
                            file.write(chunk)
                    return
    except tarfile.TarError as error:
        raise Corrupt(f"{archive.name} is not a tar archive: {error}") from error
    raise Corrupt(f"{archive.name} holds no {name}")


def _url(program: programs.Program, platform: programs.Platform, settings: sandbox_settings.Settings) -> str:
    if program is programs.ETCD:
        # etcd's releases for macOS are zip files; the Kubernetes servers have none there, so Go is needed anyway.
        name = f"etcd-{program.version}-{platform.system}-{platform.architecture}.tar.gz"
        return f"{settings.etcd_url.rstrip('/')}/{program.version}/{name}"
    folder = f"{program.version}/bin/{platform.system}/{platform.architecture}"
    return f"{settings.kubernetes_url.rstrip('/')}/{folder}/{program.name}"


def _checksum_url(program: programs.Program, platform: programs.Platform, settings: sandbox_settings.Settings) -> str:
    if program is programs.ETCD:
        return f"{settings.etcd_url.rstrip('/')}/{program.version}/SHA256SUMS"
    return f"{_url(program, platform, settings)}.sha256"


def _find_checksum(text: str, name: str) -> str | None:
    """From a lone digest, or from lines of `digest  name`."""
    for line in text.splitlines():
        words = line.split()
        if words and re.fullmatch(r"[0-9a-fA-F]{64}", words[0]) and (len(words) == 1 or words[1].lstrip("*") == name):
            return words[0].lower()
    return None
