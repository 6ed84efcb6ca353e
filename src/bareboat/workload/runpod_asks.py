"""What annotations under `runpod.io/` ask for, in RunPod's own words. Pure; nonsense raises `annotations.Invalid`.

They hold beside our own, on pods however they came to their node. Unlike our own they are read strictly: a value that
was meant for another program and not understood here must not rent the wrong machine.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bareboat.clouds.runpod import create, places
from bareboat.core import launches
from bareboat.workload import annotations

PREFIX = "runpod.io/"
MEMORY = PREFIX + "required-gpu-memory"
CLOUD_TYPE = PREFIX + "cloud-type"
TEMPLATE = PREFIX + "templateId"
DATA_CENTERS = PREFIX + "datacenter-ids"
PORTS = PREFIX + "ports"
REGISTRY_AUTH = PREFIX + "container-registry-auth-id"
NAMES = (MEMORY, CLOUD_TYPE, TEMPLATE, DATA_CENTERS, PORTS, REGISTRY_AUTH)

CLOUD = "runpod"
MOST_GB = 10_000
KNOWN_DATA_CENTERS = frozenset(
    [
        "AP-JP-1",
        "CA-MTL-1",
        "CA-MTL-2",
        "CA-MTL-3",
        "EU-CZ-1",
        "EU-FR-1",
        "EU-NL-1",
        "EU-RO-1",
        "EU-SE-1",
        "EUR-IS-1",
        "EUR-IS-2",
        "EUR-IS-3",
        "EUR-NO-1",
        "OC-AU-1",
        "US-CA-2",
        "US-DE-1",
        "US-GA-1",
        "US-GA-2",
        "US-IL-1",
        "US-KS-2",
        "US-KS-3",
        "US-NC-1",
        "US-TX-1",
        "US-TX-3",
        "US-TX-4",
        "US-WA-1",
    ]
)
"""Those that the description of REST v1 names. A pod for one that is newer asks by `bareboat.dev/regions`."""

_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PORT = re.compile(r"([0-9]{1,5})(?:/(tcp|http))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asks:
    """None and empty where nothing is asked. `datacenter`: Secure Cloud (True), Community Cloud (False)."""

    memory_gib: float | None = None
    datacenter: bool | None = None
    template: str | None = None
    regions: tuple[str, ...] = ()
    ports: tuple[launches.Port, ...] = ()
    registry_auth_id: str | None = None

    @property
    def clouds(self) -> tuple[str, ...]:
        """Where alone this can be had; empty when anywhere."""
        own = self.datacenter is not None or self.template or self.regions or self.registry_auth_id
        return (CLOUD,) if own else ()


def read(notes: Mapping[str, str] | None) -> Asks:
    """Of a pod's annotations, or a Job's."""
    given = {name: text.strip() for name, text in (notes or {}).items() if name in NAMES and text.strip()}
    return Asks(
        memory_gib=_memory(given.get(MEMORY)),
        datacenter=_cloud_type(given.get(CLOUD_TYPE)),
        template=_id(TEMPLATE, given.get(TEMPLATE), "a template"),
        regions=_regions(given.get(DATA_CENTERS)),
        ports=_ports(given.get(PORTS)),
        registry_auth_id=_id(REGISTRY_AUTH, given.get(REGISTRY_AUTH), "a registry login"),
    )


def _memory(text: str | None) -> float | None:
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or float(text) > MOST_GB:
        raise annotations.Invalid(f"annotation {MEMORY}", text, f'a number from 0 to {MOST_GB}, in GB, such as "16"')
    return float(text) or None


def _cloud_type(text: str | None) -> bool | None:
    if text is None or text.upper() == "ALL":
        return None
    if text.upper() not in ("SECURE", "COMMUNITY"):
        raise annotations.Invalid(f"annotation {CLOUD_TYPE}", text, "SECURE, COMMUNITY or ALL")
    return text.upper() == "SECURE"


def _id(name: str, text: str | None, what: str) -> str | None:
    if text is not None and not _ID.fullmatch(text):
        raise annotations.Invalid(
            f"annotation {name}", text, f"the id of {what} of the RunPod account: letters, digits"
        )
    return text


def _regions(text: str | None) -> tuple[str, ...]:
    found = []
    for word in filter(None, (part.strip().upper() for part in (text or "").split(","))):
        if word not in KNOWN_DATA_CENTERS:
            allowed = f"data centres of RunPod, separated by commas: {', '.join(sorted(KNOWN_DATA_CENTERS))}"
            raise annotations.Invalid(f"annotation {DATA_CENTERS}", word, allowed)
        found.append(places.region(word) or word)
    return tuple(dict.fromkeys(found))


def _ports(text: str | None) -> tuple[launches.Port, ...]:
    found = []
    for word in filter(None, (part.strip() for part in (text or "").split(","))):
        match = _PORT.fullmatch(word)
        if match is None or not 1 <= int(match[1]) <= 65535:
            allowed = 'ports from 1 to 65535 with /tcp or /http, separated by commas, such as "8888/http,22/tcp"'
            raise annotations.Invalid(f"annotation {PORTS}", word, allowed)
        found.append(launches.Port(int(match[1]), (match[2] or "tcp").upper()))
    proxied = sum(port.protocol == "HTTP" for port in set(found))
    if proxied > create.MAX_HTTP_PORTS:
        raise annotations.Invalid(f"annotation {PORTS}", text, f"at most {create.MAX_HTTP_PORTS} ports with /http")
    return tuple(dict.fromkeys(found))
