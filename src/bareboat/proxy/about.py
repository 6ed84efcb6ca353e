"""What the proxy was told: whose instance it keeps, from which template, found how, fronted how. Plain values, checked
by whoever made them; the words of `docker login` are read here."""

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from bareboat.core import launches

LABEL = "k8s_pod"
UNNAMED_CLUSTER = "proxy"
"""Stands in the mark when no cluster id is set: such an instance belongs to whoever carries its pod's name."""

Query = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class About:
    """`upstream_port` is the port inside the instance; 0 takes the template's first. `query` is in the cloud's words.
    `cap_usd_per_hour`: no dearer instance is rented or kept."""

    pod_name: str
    template_name: str
    image: str
    login: launches.RegistryLogin
    query: Query
    upstream_port: int = 0
    cluster_id: str = UNNAMED_CLUSTER
    cap_usd_per_hour: float | None = None

    @property
    def label(self) -> str:
        return f"{LABEL}={self.pod_name}"


@dataclass(frozen=True, slots=True)
class Site:
    """How nginx is set up. Empty template paths stand for the built-in ones; an empty address for all of them."""

    config_path: Path
    listen_port: int
    listen_address: str
    max_body_size: str
    state_dir: Path
    program: str = "nginx"
    site_template: Path | None = None
    main_template: Path | None = None
    drain_s: float = 25.0
    debug: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two looks at the cloud (when all is well, and while something changes), and patience.

    `template_s`: how often the template is read again while an instance serves; 0: only when one is to be made.
    """

    poll_s: float = 10.0
    busy_poll_s: float = 3.0
    check_s: float = 5.0
    unreachable_s: float = 60.0
    template_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Banning:
    """When hosts are banned, and where it is kept. `redis_url` may hold a password."""

    redis_url: str = field(repr=False)
    ban_after_s: float = 1200.0
    ban_ttl_s: float = 604_800.0
    restart_ttl_s: float = 3600.0
    restart_threshold: int = 5


class _Words(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse would quote the words, and one of them is a password.
        raise ValueError("it is not understood; write -u <user> -p <password> <host>")


def docker_login(text: str) -> launches.RegistryLogin:
    """`-u <user> -p <password> <host>` as for docker login; no host is Docker Hub. Raises `ValueError` with a sentence
    that shows nothing of the text."""
    words = _Words(add_help=False, allow_abbrev=False)
    words.add_argument("-u", "--username", default="")
    words.add_argument("-p", "--password", default="")
    words.add_argument("host", nargs="?", default="docker.io")
    try:
        parts = shlex.split(text)
    except ValueError:
        raise ValueError("its quotes don't close; write -u <user> -p <password> <host>") from None
    if parts[:2] == ["docker", "login"]:
        parts = parts[2:]
    told = words.parse_args(parts)
    for flag, value, name in (("-u", told.username, "user"), ("-p", told.password, "password")):
        if not value:
            raise ValueError(f"it has no {flag} <{name}>; write -u <user> -p <password> <host>")
        if any(map(str.isspace, value)):
            raise ValueError(f"its {name} holds blanks, which Vast can't carry")
    return launches.RegistryLogin(server=told.host, username=told.username, password=told.password)
