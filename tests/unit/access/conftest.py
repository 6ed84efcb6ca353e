"""A small ssh server in this process: what connections need to be tried without a machine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncssh
import pytest

from bareboat.access import connections, keys


@dataclass
class Server:
    """Takes one key; runs no command, but holds each until it is told. `refusing` hangs up on whoever comes."""

    key: str
    port: int = 0
    logins: int = 0
    refusing: bool = False
    most_sessions: int = 100
    open: list[asyncssh.SSHServerConnection] = field(default_factory=list)

    @property
    def address(self) -> connections.Address:
        return connections.Address("127.0.0.1", self.port)

    def drop(self) -> None:
        """Breaks every connection."""
        for connection in self.open:
            connection.abort()
        self.open.clear()


class _Server(asyncssh.SSHServer):
    def __init__(self, of: Server) -> None:
        self._of = of
        self._sessions = 0
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        if self._of.refusing:
            conn.abort()

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return key.export_public_key().decode().split()[1] == self._of.key.split()[1]

    def auth_completed(self) -> None:
        assert self._connection is not None
        self._of.logins += 1
        self._of.open.append(self._connection)

    def session_requested(self) -> Any:
        assert self._connection is not None
        if self._sessions >= self._of.most_sessions:
            return False
        self._sessions += 1
        return self._connection.create_server_channel(None), asyncssh.SSHServerProcess(_hold, None, 3, False)


async def _hold(process: "asyncssh.SSHServerProcess[bytes]") -> None:
    with contextlib.suppress(asyncssh.Error):
        await process.stdin.read()
    process.exit(0)


@pytest.fixture
async def ring() -> keys.Ring:
    return keys.Ring(keys.make())


@pytest.fixture
async def server(ring: keys.Ring) -> AsyncIterator[Server]:
    told = Server(ring.current.public)
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=lambda: _Server(told),
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        encoding=None,
    )
    told.port = acceptor.get_port()
    yield told
    acceptor.close()
    told.drop()
    await acceptor.wait_closed()


async def until(true: object) -> None:
    async with asyncio.timeout(10):
        while not true():  # type: ignore[operator] # noqa: ASYNC110 - the other side is asyncssh's
            await asyncio.sleep(0.005)
