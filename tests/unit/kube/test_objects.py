"""What partial structs keep and leave out."""

import msgspec

from bareboat.kube import objects


def test_structs_leave_out_what_has_its_default_and_speak_camel_case() -> None:
    meta = objects.ObjectMeta(name="a", resource_version="5")
    assert msgspec.json.encode(meta) == b'{"name":"a","resourceVersion":"5"}'
    read = msgspec.json.decode(b'{"ownerReferences":[{"uid":"u"}],"managedFields":[{}]}', type=objects.ObjectMeta)
    assert read.owner_references == [objects.OwnerReference(uid="u")]


def test_an_object_round_trips_without_its_unknown_fields() -> None:
    wire = b'{"name":"a","uid":"u","labels":{"x":"y"},"managedFields":[{"manager":"m"}],"deletionGracePeriodSeconds":0}'
    read = msgspec.json.decode(wire, type=objects.ObjectMeta)
    assert read.deletion_grace_period_seconds == 0, "0 is not the same as nothing"
    assert msgspec.json.decode(msgspec.json.encode(read)) == {
        "name": "a",
        "uid": "u",
        "labels": {"x": "y"},
        "deletionGracePeriodSeconds": 0,
    }


def test_a_list_without_items_reads_as_none() -> None:
    page = msgspec.json.decode(b'{"metadata":{"continue":"c"},"items":null}', type=objects.Page[objects.Metadata])
    assert page.items is None and page.metadata.continue_ == "c"
