"""What is sent to a cloud to start one workload."""

import re
from dataclasses import dataclass, field

from bareboat.core import needs

# Nothing in it that a shell would take for more than a word.
_PUBLIC_KEY = re.compile(r"(?:ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]{40,}={0,3}(?: [A-Za-z0-9@._:/-]*)?")


@dataclass(frozen=True, slots=True)
class Port:
    """A port that the workload listens on."""

    number: int
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """Who may pull the image. `password` never appears in a repr, an error or a log."""

    server: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Template:
    """A launch that the cloud keeps. `hash` stands for its content and changes with it; `id` stays. `own`: whether the
    account made it; None when the cloud doesn't tell. `disk_gib` is what an instance gets that asks for none."""

    id: str
    hash: str
    name: str
    own: bool | None = None
    created_s: float | None = None
    image: str | None = None
    ports: tuple[Port, ...] = ()
    disk_gib: float = 0.0


@dataclass(frozen=True, slots=True)
class Launch:
    """`command` overrides the image's ENTRYPOINT when it is not None, `args` its CMD, as in a container spec.

    With `ssh_public_keys` the instance boots in ssh access: nothing but an ssh server that takes these keys, each a
    line of an authorized_keys file. Then `env`, `command` and `args` have to be empty, for a cloud shows to others what
    it was told; what the workload needs follows over ssh. Raises ValueError otherwise, and for a line that is no key.

    `registry_auth_id` names a login that the cloud's account keeps, and goes before `registry_login`.

    `env` is complete: references are resolved. `bid_usd_per_hour` is set exactly for spot pricing. A launch from a
    `template` (its hash) leaves to that what is empty here, the disk of 0 too.
    """

    image: str
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    env: dict[str, str] = field(default_factory=dict, repr=False)
    ports: tuple[Port, ...] = ()
    disk_gib: float = 10.0
    registry_login: RegistryLogin | None = None
    hostname: str | None = None
    pricing: needs.Pricing = needs.Pricing.ON_DEMAND
    bid_usd_per_hour: float | None = None
    template: str | None = None
    ssh_public_keys: tuple[str, ...] = ()
    registry_auth_id: str | None = None

    def __post_init__(self) -> None:
        if not self.ssh_public_keys:
            return
        told = [name for name in ("env", "command", "args") if getattr(self, name)]
        if told:
            raise ValueError(
                f"a launch in ssh access tells the cloud nothing of the workload, but has {', '.join(told)}"
            )
        for number, line in enumerate(self.ssh_public_keys):
            if not _PUBLIC_KEY.fullmatch(line):
                raise ValueError(f"ssh_public_keys[{number}] is no line `type base64 comment` of an OpenSSH public key")
