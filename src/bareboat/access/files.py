"""Files on their way into a machine: whole or not at all, with their modes, many small ones and single large ones.

Each is written beside its place and renamed into it. SFTP where the server has it; where not, commands that every
image's shell knows. Folders that lack are made; what is there already is replaced.
"""

import asyncio
import contextlib
import posixpath
import secrets
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field

import asyncssh

from bareboat.access import failures, machine

# A large file goes faster through a command's input than in SFTP's blocks, each of which is answered.
LARGE_BYTES = 1 << 20
_AT_ONCE = 32
_COMMANDS_AT_ONCE = 4
_SFTP_ENDINGS = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.ConnectionLost)


@dataclass(frozen=True, slots=True)
class File:
    """`path` is absolute."""

    path: str
    content: bytes = field(repr=False)
    mode: int = 0o644


class Files:
    """Uploads to one machine. Remembers that it has no SFTP."""

    def __init__(self, to: machine.Machine) -> None:
        self._machine = to
        self._has_sftp = True

    async def upload(self, files: Sequence[File], *, timeout_s: float = 120.0) -> None:
        """Returns when all are in place. Raises RemoteFailed with what the machine said (no space, no permission, or
        longer than `timeout_s` of real time), then some may be in place; safe to repeat."""
        small = [file for file in files if len(file.content) < LARGE_BYTES]
        large = [file for file in files if len(file.content) >= LARGE_BYTES]
        try:
            async with asyncio.timeout(timeout_s):
                if small and not await self._by_sftp(small):
                    large = list(files)
                gate = asyncio.Semaphore(_COMMANDS_AT_ONCE)
                await _each(self._by_command(file, gate) for file in large)
        except TimeoutError:
            why = f"{len(files)} files were not uploaded within {timeout_s:g} s"
            raise failures.RemoteFailed(self._machine.instance_id, why) from None

    async def read(self, path: str, *, timeout_s: float = 60.0) -> bytes:
        """A file's content. Raises RemoteFailed, for one that isn't there too."""
        done = await self._machine.run(["cat", "--", path], timeout_s=timeout_s)
        if done.exit.code != 0:
            raise self._failed(path, done)
        return done.stdout

    async def _by_sftp(self, files: Sequence[File]) -> bool:
        """False when there is no SFTP: then nothing has been done."""
        if not self._has_sftp:
            return False
        try:
            async with self._client() as client:
                await self._put_all(client, files)
        except _NoSftp:
            self._has_sftp = False
            return False
        except _SFTP_ENDINGS as problem:
            why = f"the connection broke during an upload: {problem}"
            raise failures.Dropped(self._machine.instance_id, why) from None
        return True

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[asyncssh.SFTPClient]:
        leaving: list[Callable[[], None]] = []

        async def begin(connection: asyncssh.SSHClientConnection, leave: Callable[[], None]) -> asyncssh.SFTPClient:
            leaving.append(leave)
            return await connection.start_sftp_client()

        try:
            client = await self._machine.connection.open_session(self._machine.patience_s, begin)
        except failures.RemoteFailed:
            raise _NoSftp from None
        except asyncssh.SFTPError:
            raise _NoSftp from None
        try:
            yield client
        finally:
            client.exit()
            await client.wait_closed()
            leaving[-1]()

    async def _put_all(self, client: asyncssh.SFTPClient, files: Sequence[File]) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)
        for folder in sorted({posixpath.dirname(file.path) for file in files}):
            await self._sftp(folder, client.makedirs(folder, exist_ok=True))

        async def put(file: File) -> None:
            async with gate:
                await self._sftp(file.path, _put(client, file))

        await _each(put(file) for file in files)

    async def _sftp(self, path: str, work: Awaitable[None]) -> None:
        try:
            await work
        except _SFTP_ENDINGS:
            raise
        except asyncssh.SFTPError as problem:
            raise failures.RemoteFailed(self._machine.instance_id, f"{path}: {problem.reason}") from None

    async def _by_command(self, file: File, gate: asyncio.Semaphore) -> None:
        folder, beside = shlex.quote(posixpath.dirname(file.path)), shlex.quote(_beside(file.path))
        place = shlex.quote(file.path)
        # The rest of the line is not reached after a failure, and a half-written file does not stay.
        line = (
            f"umask 077 && mkdir -p -- {folder} && cat > {beside} && chmod {file.mode:o} {beside}"
            f" && mv -f -- {beside} {place} || {{ rm -f -- {beside}; exit 1; }}"
        )
        async with gate:
            done = await self._machine.run(line, input=file.content, timeout_s=3600.0)
        if done.exit.code != 0:
            raise self._failed(file.path, done)

    def _failed(self, path: str, done: machine.Finished) -> failures.RemoteFailed:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return failures.RemoteFailed(
            self._machine.instance_id, f"{path}: {said[-1] if said else 'no reason was given'}"
        )


async def _each(work: Iterable[Coroutine[None, None, None]]) -> None:
    """All of it, to its end; then the first failure, if any."""
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


class _NoSftp(Exception):
    pass


def _beside(path: str) -> str:
    folder, name = posixpath.split(path)
    return posixpath.join(folder, f".{name[:200]}.{secrets.token_hex(4)}")


async def _put(client: asyncssh.SFTPClient, file: File) -> None:
    beside = _beside(file.path)
    try:
        async with client.open(beside, "wb", asyncssh.SFTPAttrs(permissions=0o600)) as target:
            await target.write(file.content)
            await target.chmod(file.mode)
            size = (await target.stat()).size
            if size != len(file.content):
                raise asyncssh.SFTPFailure(f"No space left: {size} of {len(file.content)} bytes arrived")
        await client.posix_rename(beside, file.path)
    except asyncssh.SFTPError:
        with contextlib.suppress(asyncssh.SFTPError):
            await client.remove(beside)
        raise
