"""What an image says of itself: the part of its config that decides how a container of it starts. Pure.

The same for Docker's schema 2 and OCI: their configs agree in all that is read here.
"""

from dataclasses import dataclass, field

import msgspec


class Unreadable(ValueError):
    """No image config; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Config:
    """`user` as written in the image (`uid`, `uid:gid`, `name`, `name:group`); `stop_signal` too (`SIGQUIT`, `3`)."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""
    exposed_ports: tuple[tuple[int, str], ...] = ()
    architecture: str = ""
    os: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """An image as its registry had it. `name` has registry and repository in full, no tag (`docker.io/library/nginx`).

    `digest` is what the reference named, an index where there is one: what a container runtime's imageID has.
    """

    name: str
    digest: str
    config: Config = Config()

    @property
    def image_id(self) -> str:
        """`repository@sha256:…`, as in a container's status; empty for an image of which no registry has told."""
        return f"{self.name}@{self.digest}" if self.digest else ""


class _Settings(msgspec.Struct):
    entrypoint: list[str] | None = msgspec.field(name="Entrypoint", default=None)
    cmd: list[str] | None = msgspec.field(name="Cmd", default=None)
    env: list[str] | None = msgspec.field(name="Env", default=None)
    user: str | None = msgspec.field(name="User", default=None)
    working_dir: str | None = msgspec.field(name="WorkingDir", default=None)
    stop_signal: str | None = msgspec.field(name="StopSignal", default=None)
    exposed_ports: dict[str, object] | None = msgspec.field(name="ExposedPorts", default=None)


class _Document(msgspec.Struct):
    architecture: str = ""
    os: str = ""
    config: _Settings | None = None


def decode(document: bytes) -> Config:
    """Raises Unreadable. What makes no sense inside a readable config (an exposed port `http`) is left out."""
    try:
        found = msgspec.json.decode(document, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise Unreadable(f"its config is not what an image's config looks like ({problem})") from None
    settings = found.config or _Settings()
    env = (text.partition("=") for text in settings.env or ())
    ports = (_port(text) for text in settings.exposed_ports or ())
    return Config(
        entrypoint=tuple(settings.entrypoint or ()),
        cmd=tuple(settings.cmd or ()),
        env=tuple((name, value) for name, _, value in env if name),
        user=settings.user or "",
        working_dir=settings.working_dir or "",
        stop_signal=settings.stop_signal or "",
        exposed_ports=tuple(port for port in ports if port is not None),
        architecture=found.architecture,
        os=found.os,
    )


def _port(text: str) -> tuple[int, str] | None:
    number, _, protocol = text.partition("/")
    if not (number.isascii() and number.isdigit() and len(number) < 6 and 0 < int(number) < 65536):
        return None
    return int(number), (protocol or "tcp").lower()
