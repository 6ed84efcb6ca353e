"""The parts of Kubernetes objects that every kind shares, as partial structs: unknown fields are skipped unread.

Kinds of their own (Pod, Job, …) belong to those who read them: a struct with a `metadata: ObjectMeta` is enough for
the client and the informer. Structs are frozen because caches hand them out, and untracked by the garbage collector
because they hold no cycles: a cache of thousands then costs the collector nothing.
"""

from datetime import datetime
from typing import Generic, Protocol, TypeVar

import msgspec


class Partial(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True, kw_only=True):
    """Base of partial structs: snake_case here, camelCase on the wire, defaults left out when encoded.

    Subclasses say `frozen=True` again (type checkers want it).
    """


class OwnerReference(Partial, frozen=True):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Partial, frozen=True):
    name: str = ""
    generate_name: str | None = None
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None
    finalizers: list[str] | None = None
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    deletion_grace_period_seconds: int | None = None


class ListMeta(Partial, frozen=True):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")
    remaining_item_count: int | None = None


class HasMetadata(Protocol):
    """What an informer can hold."""

    @property
    def metadata(self) -> ObjectMeta: ...


class Metadata(Partial, frozen=True):
    """Any object, its metadata alone (what a server sends for `as=PartialObjectMetadata`)."""

    metadata: ObjectMeta


class Status(Partial, frozen=True):
    """What the API server answers to a binding, to most deletes and to failures."""

    status: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0


T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True, rename="camel", kw_only=True):
    """One page of a list."""

    metadata: ListMeta = ListMeta()
    items: list[T] | None = None  # Go encodes an empty list as null


class Event(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """One line of a watch."""

    type: str
    object: T
