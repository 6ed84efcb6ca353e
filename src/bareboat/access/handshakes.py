"""One try to log in at one address: options of the ssh client, the check of the host key, and errors in our words."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncssh

from bareboat.access import failures, host_keys, keys
from bareboat.core import instances

# aes-gcm first: with AES in the processor it moves twice what chacha20 does; see benchmarks/ssh.py.
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
)
# The first that the server has too is used. A post-quantum exchange costs three times the CPU of this one.
EXCHANGES = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "diffie-hellman-group14-sha256")
HOST_KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256")
_OF_TYPE: Mapping[str, tuple[str, ...]] = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}

Address = instances.SshAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`timeout_s` is for one try: name look-up, connection, key exchange and login; `dial_s` for the first two, since a
    mapped port that nothing answers on is no rarity, and the next address waits behind it. A silent peer is given up
    after `keepalive_s` times `keepalive_misses`, in real seconds."""

    timeout_s: float = 15.0
    dial_s: float = 5.0
    keepalive_s: float = 15.0
    keepalive_misses: int = 3


class Client(asyncssh.SSHClient):
    """Hears of one connection. `offered` is the host key that its server showed."""

    def __init__(self, pinned: str | None, on_lost: Callable[["Client"], None]) -> None:
        self.offered = ""
        self.lost = asyncio.Event()
        self._pinned = pinned
        self._on_lost = on_lost

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.offered = host_keys.line_of(key)
        return self._pinned is None or self.offered == self._pinned

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        self._on_lost(self)


@dataclass(frozen=True, slots=True)
class Login:
    """A connection that is in. `host_key` is a line for `host_keys.Pins`."""

    connection: asyncssh.SSHClientConnection
    client: Client
    address: Address
    host_key: str


async def log_in(
    instance_id: str,
    address: Address,
    ring: keys.Ring,
    pinned: str | None,
    on_lost: Callable[[Client], None],
    settings: Settings,
) -> Login:
    """One connection to one address. Raises Unreachable, KeyRefused or HostKeyChanged; cancelling leaves nothing."""
    where = f"{address.host}:{address.port}"
    made: list[Client] = []

    def client() -> Client:
        made.append(Client(pinned, on_lost))
        return made[-1]

    sock = await _dialled(instance_id, address, min(settings.dial_s, settings.timeout_s))
    try:
        async with asyncio.timeout(settings.timeout_s):
            connection = await asyncssh.connect(
                address.host,
                address.port,
                sock=sock,
                client_factory=client,
                **_options(address, ring, pinned, settings),
            )
    except asyncssh.HostKeyNotVerifiable:
        offered = made[-1].offered
        raise failures.HostKeyChanged(instance_id, _shown(pinned), _shown(offered), where) from None
    except asyncssh.KeyExchangeFailed as problem:
        if pinned is not None and "host key" in problem.reason:
            raise failures.HostKeyChanged(instance_id, _shown(pinned), "of another type", where) from None
        raise failures.Unreachable(instance_id, f"no ssh server for us at {where}: {problem.reason}") from None
    except asyncssh.PermissionDenied:
        raise failures.KeyRefused(instance_id, f"the ssh server at {where} takes none of our keys") from None
    except TimeoutError:
        why = f"no ssh login at {where} within {settings.timeout_s:g} s"
        raise failures.Unreachable(instance_id, why) from None
    except (OSError, asyncssh.Error) as problem:
        why = f"no ssh server at {where}: {_reason(problem)}"
        raise failures.Unreachable(instance_id, why) from None
    finally:
        if not made:
            sock.close()  # nobody has taken it over
    return Login(connection, made[-1], address, made[-1].offered)


async def _places(address: Address) -> list[tuple[int, tuple[Any, ...]]]:
    """Family and socket address of each address of the host. A number needs no look-up, which costs a thread's turn."""
    try:
        version = ipaddress.ip_address(address.host).version
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        return [(family, place) for family, _, _, _, place in found]
    return [(socket.AF_INET if version == 4 else socket.AF_INET6, (address.host, address.port))]


async def _dialled(instance_id: str, address: Address, timeout_s: float) -> socket.socket:
    """A connected socket to the first of the host's addresses that answers."""
    loop, where = asyncio.get_running_loop(), f"{address.host}:{address.port}"
    problem: OSError = OSError("the name has no address")
    try:
        async with asyncio.timeout(timeout_s):
            for family, place in await _places(address):
                sock = socket.socket(family, socket.SOCK_STREAM)
                try:
                    sock.setblocking(False)
                    await loop.sock_connect(sock, place)
                    return sock
                except OSError as refusal:
                    sock.close()
                    problem = refusal
                except BaseException:
                    sock.close()
                    raise
    except TimeoutError:
        raise failures.Unreachable(instance_id, f"nothing answers at {where} within {timeout_s:g} s") from None
    except OSError as unknown:
        problem = unknown
    raise failures.Unreachable(instance_id, f"no ssh server at {where}: {_reason(problem)}")


def _options(address: Address, ring: keys.Ring, pinned: str | None, settings: Settings) -> dict[str, object]:
    host_key_types: tuple[str, ...] = HOST_KEY_TYPES
    if pinned is not None:
        kind = host_keys.algorithm(pinned)
        host_key_types = _OF_TYPE.get(kind, (kind,))
    return {
        "username": address.user,
        "client_keys": [keys.signer(pair.private) for pair in ring.all()],
        # An empty list asks the client; None would trust anybody.
        "known_hosts": ([], [], []),
        "server_host_key_algs": host_key_types,
        "encryption_algs": CIPHERS,
        "kex_algs": EXCHANGES,
        "compression_algs": None,
        "preferred_auth": ["publickey"],
        "agent_path": None,
        "config": None,
        "gss_host": None,
        "keepalive_interval": settings.keepalive_s,
        "keepalive_count_max": settings.keepalive_misses,
        "login_timeout": settings.timeout_s,
    }


def _reason(problem: Exception) -> str:
    if isinstance(problem, OSError):
        return problem.strerror or str(problem) or type(problem).__name__
    return str(getattr(problem, "reason", "")) or type(problem).__name__


def _shown(line: str | None) -> str:
    return host_keys.fingerprint(line) if line else "unknown"
