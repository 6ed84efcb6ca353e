"""The shapes that Vast sends, as far as we read them.

Decoded leniently, since any figure may be null, missing, a string or of another kind altogether: a field that makes no
sense reads as absent. Only bytes of no known shape at all are `Nonsense`.
"""

from typing import Annotated, Any, TypeVar

import msgspec

# Leniency would read "nan" and "inf" as numbers too.
Number = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]


class Nonsense(ValueError):
    """The bytes are not what the route answers, in any of its known variants."""


class Ask(msgspec.Struct, gc=False):
    """One offer of a search. Prices in $/h, sizes in MiB, `disk_space` in GB, `inet_*` in Mb/s, `duration` in s."""

    id: int | None = None
    ask_contract_id: int | None = None
    machine_id: int | None = None
    host_id: int | None = None
    gpu_name: str | None = None
    num_gpus: Number | None = None
    gpu_frac: Number | None = None
    gpu_ram: Number | None = None
    cpu_cores: Number | None = None
    cpu_cores_effective: Number | None = None
    cpu_ram: Number | None = None
    disk_space: Number | None = None
    dph_base: Number | None = None
    dph_total: Number | None = None
    storage_cost: Number | None = None
    storage_total_cost: Number | None = None
    min_bid: Number | None = None
    reliability2: Number | None = None
    reliability: Number | None = None
    verification: str | None = None
    hosting_type: Number | None = None
    geolocation: str | None = None
    inet_up: Number | None = None
    inet_down: Number | None = None
    inet_up_cost: Number | None = None
    inet_down_cost: Number | None = None
    cuda_max_good: Number | None = None
    dlperf: Number | None = None
    direct_port_count: Number | None = None
    static_ip: bool | None = None
    public_ipaddr: str | None = None
    duration: Number | None = None
    rentable: bool | None = None
    rented: bool | None = None
    is_bid: bool | None = None


class Rental(msgspec.Struct):
    """One instance. `ports`, `label` and `extra_env` are kept as they came: they have been seen in several kinds."""

    id: int | None = None
    actual_status: str | None = None
    intended_status: str | None = None
    cur_state: str | None = None
    next_state: str | None = None
    status_msg: str | None = None
    label: Any = None
    machine_id: int | None = None
    host_id: int | None = None
    gpu_name: str | None = None
    num_gpus: Number | None = None
    geolocation: str | None = None
    country_code: str | None = None
    public_ipaddr: str | None = None
    ports: Any = None
    dph_base: Number | None = None
    dph_total: Number | None = None
    is_bid: bool | None = None
    start_date: Number | None = None
    image_uuid: str | None = None
    template_hash_id: str | None = None
    image_runtype: str | None = None
    ssh_host: str | None = None
    ssh_port: int | None = None
    extra_env: Any = None


class Page(msgspec.Struct):
    """One page of the instances of the account, each a `Rental` still to be read."""

    instances: msgspec.Raw
    total_instances: int | None = None
    next_token: str | None = None


class Single(msgspec.Struct):
    """The single read: one object under the plural key, or null."""

    instances: msgspec.Raw


class Found(msgspec.Struct):
    """The answer to a search."""

    offers: msgspec.Raw


class Created(msgspec.Struct):
    """The answer to a rent call. The key of the instance that comes along is left unread."""

    new_contract: int | None = None


class LogsRequested(msgspec.Struct):
    """Where the text will be, once it has been uploaded."""

    result_url: str | None = None


class User(msgspec.Struct):
    """The account."""

    credit: Number | None = None
    id: int | None = None


class Template(msgspec.Struct):
    """One launch template."""

    id: int | None = None
    hash_id: str | None = None
    name: str | None = None
    created_at: Number | None = None
    creator_id: int | None = None
    private: bool | None = None
    image: str | None = None
    tag: str | None = None
    env: str | None = None
    recommended_disk_space: Number | None = None


class TemplatesFound(msgspec.Struct):
    """The answer to a look-up of templates."""

    templates: msgspec.Raw


T = TypeVar("T")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decode(body: bytes | msgspec.Raw, shape: type[T]) -> T:
    """One object of `shape`; raises `Nonsense` when the bytes are no JSON object."""
    decoder = _decoders.get(shape)
    if decoder is None:
        decoder = _decoders.setdefault(shape, msgspec.json.Decoder(shape, strict=False))
    try:
        value: T = decoder.decode(body)
        return value
    except msgspec.ValidationError:
        return _salvaged(body, shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Nonsense(f"not JSON: {error}") from None


def records(raw: msgspec.Raw, shape: type[T]) -> list[T]:
    """The records of a list that may also be null, `{}` or a single object."""
    text = bytes(raw).strip()
    if text[:1] == b"[":
        try:
            every: list[T] = decode(raw, list[shape])  # type: ignore[valid-type]
            return every
        except Nonsense:
            return [decode(each, shape) for each in decode(raw, list[msgspec.Raw]) if bytes(each).strip() != b"null"]
    if text in (b"null", b"", b"{}"):
        return []
    return [decode(raw, shape)]


def _salvaged(body: bytes | msgspec.Raw, shape: type[T]) -> T:
    """Field by field: what can't be read is left at its default."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Nonsense(f"not JSON: {error}") from None
    if not isinstance(fields, dict) or not isinstance(shape, type) or not issubclass(shape, msgspec.Struct):
        raise Nonsense(f"expected an object, got {type(fields).__name__}")
    kept: dict[str, Any] = {}
    for field in msgspec.structs.fields(shape):
        if field.encode_name not in fields:
            continue
        value = fields[field.encode_name]
        try:
            if field.type is msgspec.Raw:
                kept[field.name] = msgspec.Raw(msgspec.json.encode(value))
            else:
                kept[field.name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError:
            continue
    try:
        return msgspec.convert(kept, shape) if not _raw_fields(shape) else shape(**kept)
    except (msgspec.ValidationError, TypeError) as error:
        raise Nonsense(str(error)) from None


def _raw_fields(shape: type[msgspec.Struct]) -> bool:
    return any(field.type is msgspec.Raw for field in msgspec.structs.fields(shape))
