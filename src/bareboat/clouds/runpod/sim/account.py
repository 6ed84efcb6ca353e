"""The account: its keys, credit, registry logins and ssh keys, shared by the three APIs."""

import dataclasses
import secrets
from typing import TYPE_CHECKING

from aiohttp import web

from bareboat.clouds.runpod.sim import pods, replies
from bareboat.simulation import images

if TYPE_CHECKING:
    from bareboat.clouds.runpod.sim import simulator

USER_ID = "user_2synthetic0000000000000"


@dataclasses.dataclass(slots=True)
class Registry:
    """A registry login. RunPod never shows user and password again."""

    id: str
    name: str
    username: str
    password: str = dataclasses.field(repr=False)
    usable_from_s: float = 0.0


@dataclasses.dataclass(slots=True)
class Template:
    """A launch template; `body` is in the words of v2."""

    id: str
    name: str
    body: dict[str, object]


class Account:
    def __init__(self, sim: "simulator.Simulator", api_key: str) -> None:
        self._sim = sim
        self.api_keys = {api_key}
        self.read_only: set[str] = set()
        self.registries: dict[str, Registry] = {}
        self.templates: dict[str, Template] = {}
        self.ssh_keys: list[str] = []

    def knows(self, key: str) -> bool:
        return key in self.api_keys or self._sim.pods.by_key(key) is not None

    def login(self, registry_id: str | None) -> images.Login | None:
        """Of a registry's id; raises Refused for one that isn't there."""
        if registry_id is None:
            return None
        registry = self.registry(registry_id)
        if self._sim.estate.now() < registry.usable_from_s:
            return None  # "access forbidden" until it has gone round
        return images.Login(registry.username, registry.password)

    def registry(self, registry_id: str) -> Registry:
        found = self.registries.get(registry_id)
        if found is None:
            raise replies.Refused(404, "registry not found")
        return found

    def add_registry(self, name: str, username: str, password: str) -> Registry:
        if not name or not username or not password:
            raise replies.Refused(
                422, "Request validation failed.", v1_status=400, errors=["$: name, username and password are required"]
            )
        if any(each.name == name for each in self.registries.values()):
            raise replies.Refused(400, f"a registry credential named {name!r} already exists")
        made = Registry(f"reg{secrets.token_hex(5)}", name, username, password)
        late = self._sim.estate.faults.strikes("login_late", self._sim.estate.now(), {})
        if late is not None:
            made.usable_from_s = self._sim.estate.now() + late.number("for_s")
        self.registries[made.id] = made
        return made

    def remove_registry(self, registry_id: str) -> None:
        """Raises Refused while a pod uses it."""
        self.registry(registry_id)
        if any(pods.terms(rental).wish.registry == registry_id for rental in self._sim.estate.live()):
            raise replies.Refused(400, "registry credential is in use and can't be deleted")
        del self.registries[registry_id]


def key_of(request: web.Request) -> str:
    """From the header, or from the query as old clients send it; empty without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme == "Bearer" else request.query.get("api_key", "")


def new_api_key() -> str:
    return f"rpa_{secrets.token_hex(20).upper()}"
