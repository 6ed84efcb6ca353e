"""The ssh server inside a machine, as a container image's sshd behaves: stock asyncssh, nothing overridden but habits.

It runs in a process that has joined the machine's namespaces, so files, network, processes and terminals are the
machine's own. It reads its host key and the users' authorized keys from the machine's files, the latter at every login.
The zygote imports this module once: nothing may be imported later, where the machine's files are all there is.
"""

import asyncio
import concurrent.futures.thread  # noqa: F401 - asyncio imports it on first use
import contextlib
import encodings.idna  # noqa: F401
import fnmatch
import logging
import pwd
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncssh

from bareboat.simulation.machines import shells

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
AUTHORIZED_KEYS = ".ssh/authorized_keys"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Large packets: with asyncssh's own 32 KiB the event loop, not the cipher, bounds the throughput.
_PACKET_BYTES = 1 << 17
_WINDOW_BYTES = 1 << 22

Settings = Mapping[str, Any]
"""The plan's `ssh`: banner, motd, tmux, max_sessions, sftp, accept_env; and `root`, "" or the folder of a machine that
has no namespaces of its own."""


def serve(listener: socket.socket, settings: Settings) -> None:
    """Accepts on `listener` until the process ends; returns never."""
    logging.getLogger("asyncssh").setLevel(logging.CRITICAL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)  # a command would inherit what the zygote ignores
    key = asyncssh.import_private_key(Path(settings["root"] + HOST_KEY).read_bytes())
    asyncio.run(_serve(listener, settings, key))


async def _serve(listener: socket.socket, settings: Settings, key: asyncssh.SSHKey) -> None:
    acceptor = await asyncssh.listen(
        sock=listener,
        server_factory=lambda: _Server(settings),
        server_host_keys=[key],
        encoding=None,
        line_editor=False,
        agent_forwarding=False,
        x11_forwarding=False,
        gss_host=None,
        compression_algs=None,
        login_timeout=120,
        server_version="OpenSSH_8.9p1",
    )
    await acceptor.wait_closed()


class _Server(asyncssh.SSHServer):
    """One connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: asyncssh.SSHServerConnection | None = None
        self._sessions = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        assert self._connection is not None
        if self._settings["banner"]:
            self._connection.send_auth_banner(self._settings["banner"])
        self._connection.set_authorized_keys(_authorized(home_of(username, self._settings)))
        return True

    def session_requested(self) -> Any:
        """An OpenSSH server gives one connection ten sessions; a further one is refused, not queued."""
        assert self._connection is not None
        if self._sessions >= self._settings["max_sessions"]:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "open failed")
        self._sessions += 1
        channel = self._connection.create_server_channel(None, "strict", _WINDOW_BYTES, _PACKET_BYTES)
        return channel, _Session(self)

    def session_over(self) -> None:
        self._sessions -= 1

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        return True

    async def run(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        user = process.get_extra_info("username")
        environment = self._environment(user, process)
        shell = environment["SHELL"]
        name = Path(shell).name
        if process.command is not None:
            argv = [name, "-c", process.command]
        else:
            argv = [f"-{name}"]
            if process.term_type:
                process.stdout.write(_greeting(self._settings, environment["HOME"]))
        await shells.run(process, shell, argv, environment)

    def _environment(self, user: str, process: "asyncssh.SSHServerProcess[bytes]") -> dict[str, str]:
        """What sshd gives: nothing of the container's own variables but those in /etc/environment."""
        root = self._settings["root"]
        environment = {"PATH": f"{_PATH}:/opt/sim/bin" if Path("/opt/sim/bin").is_dir() else _PATH}
        environment |= _etc_environment(root)
        environment |= {"HOME": home_of(user, self._settings), "USER": user, "LOGNAME": user, "SHELL": _shell_of(user)}
        for name, value in process.env.items():
            if any(fnmatch.fnmatchcase(str(name), pattern) for pattern in self._settings["accept_env"]):
                environment[str(name)] = str(value)
        peer, own = process.get_extra_info("peername"), process.get_extra_info("sockname")
        environment["SSH_CLIENT"] = f"{peer[0]} {peer[1]} {own[1]}"
        environment["SSH_CONNECTION"] = f"{peer[0]} {peer[1]} {own[0]} {own[1]}"
        if process.term_type:
            environment["TERM"] = process.term_type
        return environment

    @property
    def sftp(self) -> Any:
        return _Files if self._settings["sftp"] else None


class _Session(asyncssh.SSHServerProcess[bytes]):
    def __init__(self, server: _Server) -> None:
        super().__init__(server.run, server.sftp, 3, allow_scp=bool(server.sftp))
        self._server = server

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.session_over()
        super().connection_lost(exc)


class _Files(asyncssh.SFTPServer):
    """asyncssh ends SFTP without an exit status, for which `scp` would fail."""

    def exit(self) -> None:
        self.channel.exit(0)

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """All of it or an error: a full disk takes a part of a block, which asyncssh would report as success."""
        done = 0
        while done < len(data):
            done += super().write(file_obj, offset + done, data[done:])  # type: ignore[operator]
        return done


def home_of(user: str, settings: Settings) -> str:
    if settings["root"]:
        return str(settings["root"])
    try:
        return pwd.getpwnam(user).pw_dir
    except KeyError:
        return "/nonexistent"


def _shell_of(user: str) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(user).pw_shell or "/bin/sh"
    return "/bin/sh"


def _authorized(home: str) -> asyncssh.SSHAuthorizedKeys:
    """The keys that may log in now. A line that is no key is passed over, as sshd does."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path(home, AUTHORIZED_KEYS).read_text(errors="replace").splitlines()
    found = asyncssh.SSHAuthorizedKeys()
    for line in lines:
        with contextlib.suppress(ValueError):
            found.load(line)
    return found


def _etc_environment(root: str) -> dict[str, str]:
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path(f"{root}/etc/environment").read_text(errors="replace").splitlines():
            name, equals, value = line.strip().removeprefix("export ").partition("=")
            if equals and not name.startswith("#"):
                found[name] = value.strip("\"'")
    return found


def _greeting(settings: Settings, home: str) -> bytes:
    """What a login with a terminal sees before its shell. A terminal multiplexer clears the screen and draws a bar."""
    text = str(settings["motd"])
    if settings["tmux"] and not Path(home, ".no_auto_tmux").exists():
        text += "\x1b[?1049h\x1b[H\x1b[2J\x1b[24;1H\x1b[30m\x1b[42m[ssh_tmux] 0:sh*\x1b(B\x1b[m\x1b[H"
    return text.replace("\n", "\r\n").encode()
