"""What a client asks for: the body of `POST /provision`, checked field by field. Pure.

Fields that are not known are passed over, as the service this replaces did, except under `gpu`, where a misspelt limit
would cost money.
"""

import hashlib
import re
from typing import Annotated, Any, Literal

import msgspec

from bareboat.provision import images, refusals, ssh_keys
from bareboat.workload import annotations, needs

HTTP_PORT = 8080
SSH_PORT = 22
_LONGEST_NAME = 43
"""So that `client-<name>-<8 digits>-svc` stays within the 63 characters of a Service's name."""

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]*$")]
Region = Annotated[
    str, msgspec.Meta(pattern=r"^([Aa][Ss][Ii][Aa]|[A-Za-z]{2}([-_ ][A-Za-z0-9]{1,8}){0,2})$", max_length=20)
]
"""Whatever `core.regions` takes for a place."""
Words = Annotated[list[Word], msgspec.Meta(max_length=16)]
Regions = Annotated[list[Region], msgspec.Meta(max_length=16)]


class Gpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the machine has to have; a field that is left out is the virtual node's to decide."""

    count: Annotated[int, msgspec.Meta(ge=1, le=needs.MOST_GPUS, description="GPUs of the machine.")] = 1
    names: Annotated[Words, msgspec.Meta(description="GPU models, the one wanted first: RTX 4090.")] = []
    memory_gib: Annotated[float, msgspec.Meta(ge=0, le=10_000, description="GiB of each GPU.")] | None = None
    max_usd_per_hour: Annotated[float, msgspec.Meta(ge=0.001, le=1000, description="$/h at most.")] | None = None
    regions: Annotated[Regions, msgspec.Meta(description="US-CA, US, SE, or a continent: EU.")] = []
    disk_gib: Annotated[float, msgspec.Meta(ge=1, le=100_000, description="GiB of disk.")] | None = None
    min_reliability: Annotated[float, msgspec.Meta(ge=0, le=1, description="0 to 1.")] | None = None
    verified_only: bool | None = None
    pricing: Literal["on-demand", "spot"] | None = None
    clouds: Annotated[Words, msgspec.Meta(description="Clouds to rent from.")] = []

    def annotations(self) -> dict[str, str]:
        """As the virtual node reads them from a pod."""
        given: dict[str, object] = {
            annotations.GPU_NAMES: ", ".join(self.names),
            annotations.GPU_MEMORY: self.memory_gib,
            annotations.MAX_PRICE: self.max_usd_per_hour,
            annotations.REGIONS: ", ".join(self.regions),
            annotations.DISK: self.disk_gib,
            annotations.RELIABILITY: self.min_reliability,
            annotations.VERIFIED: None if self.verified_only is None else str(self.verified_only).lower(),
            annotations.PRICING: self.pricing,
            annotations.CLOUDS: ", ".join(self.clouds),
        }
        return {
            annotations.OURS + name: f"{value:f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
            for name, value in given.items()
            if value not in (None, "")
        }


class Body(msgspec.Struct, frozen=True):
    """The document's fields, `port` with its default, and `gpu`."""

    container_img_url: str
    ssh_public_key: str
    port: int = SSH_PORT
    gpu: Gpu | None = None


class Order(msgspec.Struct, frozen=True):
    """A body that makes sense."""

    image: str
    reference: images.Reference
    key: ssh_keys.PublicKey
    ssh_port: int
    gpu: Gpu | None

    @property
    def name(self) -> str:
        """`client-<image>-<8 digits>`: the same for the same image, key (whatever its comment) and port."""
        asked = "\n".join((str(self.reference), self.key.identity, str(self.ssh_port)))
        digits = hashlib.sha256(asked.encode()).hexdigest()[:8]
        spelt = re.sub(r"[^a-z0-9]+", "-", self.reference.name)[:_LONGEST_NAME].strip("-")
        return f"client-{spelt}-{digits}"


def read(body: bytes, patterns: tuple[str, ...] = ()) -> Order:
    """Raises `refusals.Refused`: 400 for what is no JSON, 422 with every field that is wrong, 403 for the image."""
    try:
        asked = msgspec.convert(_whole(msgspec.json.decode(body)), Body)
    except msgspec.ValidationError as wrong:
        raise _misfit(wrong) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise refusals.refused(400, "body", f"is no JSON ({str(wrong)[:200]})") from None
    return _checked(asked, patterns)


def _whole(decoded: Any) -> Any:
    """JSON knows one kind of number: 22.0 is as good a port as 22."""
    if not isinstance(decoded, dict):
        return decoded
    gpu = decoded.get("gpu")
    for place, name in ((decoded, "port"), (gpu if isinstance(gpu, dict) else {}, "count")):
        value = place.get(name)
        if isinstance(value, float) and value.is_integer():
            place[name] = int(value)
    return decoded


def _checked(asked: Body, patterns: tuple[str, ...]) -> Order:
    problems: list[refusals.Problem] = []
    reference = key = None
    try:
        reference = images.parse(asked.container_img_url)
    except images.NoReference as wrong:
        problems.append(refusals.Problem("container_img_url", str(wrong)))
    try:
        key = ssh_keys.parse(asked.ssh_public_key)
    except ssh_keys.NoKey as wrong:
        problems.append(refusals.Problem("ssh_public_key", str(wrong)))
    problems += _port(asked.port)
    if problems or reference is None or key is None:
        raise refusals.Refused(422, problems)
    if not images.allowed(reference, patterns):
        shown = ", ".join(patterns)
        raise refusals.refused(403, "container_img_url", f"is {str(reference)!r}; this service allows only {shown}")
    return Order(asked.container_img_url, reference, key, asked.port, asked.gpu)


def _port(port: int) -> list[refusals.Problem]:
    if not 1 <= port <= 65535:
        return [refusals.Problem("port", f"is {port}; allowed are 1 to 65535")]
    if port == HTTP_PORT:
        return [refusals.Problem("port", f"is {HTTP_PORT}, which is the port of HTTP; choose another one for ssh")]
    return []


def _misfit(wrong: msgspec.ValidationError) -> refusals.Refused:
    """msgspec says what is wrong and, at the end, where: "Expected `int`, got `str` - at `$.port`"."""
    message, _, place = str(wrong).partition(" - at `$")
    field = place.rstrip("`").lstrip(".")
    missing = re.search(r"required field `(\w+)`|unknown field `(\w+)`", message)
    if missing:
        field = ".".join(part for part in (field, missing[1] or missing[2]) if part)
        message = "is missing" if missing[1] else "is not known"
    return refusals.refused(422, field or "body", message[:1].lower() + message[1:])


def schema() -> tuple[dict[str, Any], dict[str, Any]]:
    """JSON Schema of a body and the schemas it refers to, for the service's description."""
    (reference,), parts = msgspec.json.schema_components([Body], ref_template="#/components/schemas/{name}")
    return reference, parts
