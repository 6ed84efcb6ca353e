"""Bodies of patches, as bytes. A uid in them is a precondition: OtherObject instead of writing to a namesake.

Strategic merge on lists: conditions merge by type, containerStatuses are replaced as a whole (send all of them), podIPs
merge by ip (a change of address needs Patch.MERGE). In a mapping None removes a key; in a struct it is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Values = Mapping[str, str | None]

_encode = msgspec.json.Encoder().encode


def status(
    uid: str,
    status: msgspec.Struct | Mapping[str, Any] | bytes,
    *,
    annotations: Values | None = None,
    labels: Values | None = None,
    resource_version: str | None = None,
) -> bytes:
    """For an object's `/status`. Annotations and labels travel in the same write: pods take them there, nodes too.

    `status` as bytes is JSON that was encoded before.
    """
    body: dict[str, Any] = {"metadata": _metadata(uid, annotations, labels, resource_version)}
    body["status"] = msgspec.Raw(status) if isinstance(status, bytes) else status
    return _encode(body)


def metadata(
    uid: str | None = None,
    *,
    annotations: Values | None = None,
    labels: Values | None = None,
    resource_version: str | None = None,
) -> bytes:
    """For the object itself; other annotations and labels stay as they are."""
    return _encode({"metadata": _metadata(uid, annotations, labels, resource_version)})


def without_addresses(uid: str) -> bytes:
    """Takes a pod's addresses away; send as Patch.MERGE to `/status`."""
    return _encode({"metadata": {"uid": uid}, "status": {"podIP": None, "podIPs": None}})


def without_condition(uid: str, type_: str) -> bytes:
    """Takes one condition away; send as Patch.STRATEGIC to `/status`."""
    return _encode({"metadata": {"uid": uid}, "status": {"conditions": [{"$patch": "delete", "type": type_}]}})


def finalizers(uid: str, resource_version: str, names: Sequence[str]) -> bytes:
    """Sets the whole list; send as Patch.MERGE. The resourceVersion keeps finalizers that others add meanwhile."""
    pinned = {"uid": uid, "resourceVersion": resource_version}
    return _encode({"metadata": {**pinned, "finalizers": list(names) or None}})


def steps(uid: str, operations: Sequence[Mapping[str, Any]]) -> bytes:
    """A JSON patch that tests the uid first; send as Patch.JSON. Build paths with `pointer`."""
    return _encode([{"op": "test", "path": "/metadata/uid", "value": uid}, *operations])


def pointer(*parts: str | int) -> str:
    """A JSON pointer; keys such as `example.com/name` come out escaped."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def _metadata(
    uid: str | None, annotations: Values | None, labels: Values | None, resource_version: str | None
) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for key, value in (("uid", uid), ("resourceVersion", resource_version)):
        if value is not None:
            body[key] = value
    for key, values in (("annotations", annotations), ("labels", labels)):
        if values:
            body[key] = values
    return body
