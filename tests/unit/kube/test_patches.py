"""Bodies carry the uid, leave out what was not asked for and say removal with null."""

import json

from bareboat.kube import objects, patches


def test_a_status_patch_carries_uid_annotations_and_the_whole_status() -> None:
    body = patches.status(
        "u1", {"phase": "Running", "podIP": None}, annotations={"a": "1", "gone": None}, resource_version="7"
    )
    assert json.loads(body) == {
        "metadata": {"uid": "u1", "resourceVersion": "7", "annotations": {"a": "1", "gone": None}},
        "status": {"phase": "Running", "podIP": None},
    }


def test_a_status_may_be_a_struct_or_bytes_encoded_before() -> None:
    struct = objects.Status(status="Success", code=200)
    assert json.loads(patches.status("u", struct)) == {
        "metadata": {"uid": "u"},
        "status": {"status": "Success", "code": 200},
    }
    assert patches.status("u", b'{"x":1}') == b'{"metadata":{"uid":"u"},"status":{"x":1}}'


def test_a_metadata_patch_without_anything_changes_nothing() -> None:
    assert patches.metadata() == b'{"metadata":{}}'
    assert json.loads(patches.metadata("u", labels={"l": "v"})) == {"metadata": {"uid": "u", "labels": {"l": "v"}}}


def test_finalizers_are_set_as_a_whole_and_the_last_one_leaves_null() -> None:
    assert json.loads(patches.finalizers("u", "5", ["x"]))["metadata"]["finalizers"] == ["x"]
    assert json.loads(patches.finalizers("u", "5", [])) == {
        "metadata": {"uid": "u", "resourceVersion": "5", "finalizers": None}
    }


def test_addresses_and_conditions_are_taken_away() -> None:
    assert json.loads(patches.without_addresses("u"))["status"] == {"podIP": None, "podIPs": None}
    assert json.loads(patches.without_condition("u", "Ready"))["status"] == {
        "conditions": [{"$patch": "delete", "type": "Ready"}]
    }


def test_a_json_patch_tests_the_uid_before_anything_else() -> None:
    path = patches.pointer("metadata", "annotations", "example.com/a~b", 0)
    assert path == "/metadata/annotations/example.com~1a~0b/0"
    steps = json.loads(patches.steps("u", [{"op": "remove", "path": path}]))
    assert steps == [{"op": "test", "path": "/metadata/uid", "value": "u"}, {"op": "remove", "path": path}]
