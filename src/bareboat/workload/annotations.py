"""Names of every annotation and label that Bareboat reads or writes on pods, and how their text is read.

Users' annotations live under `bareboat.dev/`; the same names under `vast.ai/` are read as aliases.
"""

from collections.abc import Mapping
from dataclasses import dataclass

OURS = "bareboat.dev/"
PREFIXES = (OURS, "vast.ai/")

ATTEMPT = OURS + "attempt"
ATTEMPTED_AT = OURS + "attempted-at"
CLOUD = OURS + "cloud-used"
OFFER = OURS + "offer"
MACHINE = OURS + "machine"
GPU = OURS + "gpu"
REGION = OURS + "region-used"
PRICE = OURS + "usd-per-hour"
INSTANCE = OURS + "instance"
IMAGE = OURS + "launched-image"
AVOID = OURS + "avoid-machines"
ADDRESS = OURS + "address"
PORTS = OURS + "ports"
SPENT = OURS + "spent-usd"
ACCESS_USED = OURS + "access-used"
HOST_KEY = OURS + "ssh-host-key"

RENT = "rent"
ACCESS = "access"
EXIT_CODE = "exit-code"
GPU_NAMES = "gpu-names"
GPU_MEMORY = "min-gpu-memory-gib"
MAX_PRICE = "max-usd-per-hour"
REGIONS = "regions"
RELIABILITY = "min-reliability"
DISK = "disk-gib"
PRICING = "pricing"
CLOUDS = "clouds"
VERIFIED = "verified-only"
CUDA = "min-cuda"
DOWNLOAD = "min-inet-down-mbps"

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    GPU_NAMES: ("gpu-name", "gpu-type", "gpu-types"),
    GPU_MEMORY: ("min-gpu-memory", "gpu-memory", "gpu-memory-gib"),
    MAX_PRICE: ("max-price", "price-max", "max-dph"),
    REGIONS: ("region", "geolocation"),
    RELIABILITY: ("reliability",),
    DISK: ("disk", "disk-size"),
    PRICING: ("price-type",),
    CLOUDS: ("cloud",),
    VERIFIED: ("verified",),
    CUDA: ("cuda",),
    DOWNLOAD: ("min-download-mbps",),
}


class Invalid(ValueError):
    """A value that makes no sense. Says which field, which value and what is allowed; nothing is rented for it."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field} is {str(value)[:120]!r}; allowed: {allowed}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Found:
    """An annotation as the user spelled it."""

    name: str
    text: str


class Annotations:
    """A pod's annotations, read by our own name whatever spelling and prefix the user took. First spelling wins."""

    def __init__(self, annotations: Mapping[str, str] | None) -> None:
        self._all = annotations or {}

    def find(self, name: str) -> Found | None:
        for prefix in PREFIXES:
            for spelling in (name, *SPELLINGS.get(name, ())):
                text = self._all.get(prefix + spelling)
                if text is not None and text.strip():
                    return Found(prefix + spelling, text.strip())
        return None

    def number(self, name: str, least: float, most: float, unit: str) -> float | None:
        found = self.find(name)
        if found is None:
            return None
        allowed = f"a number from {least:g} to {most:g} {unit}".rstrip()
        try:
            number = float(found.text.removesuffix("GiB").removesuffix("Gi").removeprefix("$"))
        except ValueError:
            raise Invalid(f"annotation {found.name}", found.text, allowed) from None
        if not least <= number <= most:  # also catches nan
            raise Invalid(f"annotation {found.name}", found.text, allowed)
        return number

    def words(self, name: str) -> tuple[str, ...]:
        found = self.find(name)
        return tuple(word.strip() for word in found.text.split(",") if word.strip()) if found else ()

    def flag(self, name: str) -> bool | None:
        found = self.find(name)
        if found is None:
            return None
        if found.text.lower() in ("true", "yes", "1"):
            return True
        if found.text.lower() in ("false", "no", "0"):
            return False
        raise Invalid(f"annotation {found.name}", found.text, "true or false")

    def choice(self, name: str, choices: Mapping[str, str]) -> str | None:
        """`choices` maps each accepted word to the one that is meant."""
        found = self.find(name)
        if found is None:
            return None
        meant = choices.get(found.text.lower())
        if meant is None:
            raise Invalid(f"annotation {found.name}", found.text, ", ".join(choices))
        return meant
