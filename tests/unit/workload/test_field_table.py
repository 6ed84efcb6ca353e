"""The table of fields: complete in itself, told in the document, and what the code says is what it says."""

import collections
import dataclasses
from pathlib import Path

import msgspec
import pytest
from tools import pod_fields

from bareboat.workload import pod as pods
from bareboat.workload.fields import rows, table

ROOT = Path(__file__).parents[3]
READ: dict[str, type[msgspec.Struct]] = {
    "PodSpec": pods.PodSpec,
    "Container": pods.Container,
    "Volume": pods.Volume,
    "VolumeMount": pods.VolumeMount,
    "ContainerPort": pods.ContainerPort,
    "EnvVar": pods.EnvVar,
    "EnvVarSource": pods.EnvSource,
    "EnvFromSource": pods.EnvFrom,
    "ObjectFieldSelector": pods.FieldSelector,
    "ResourceFieldSelector": pods.ResourceSelector,
    "ResourceRequirements": pods.Resources,
}


def test_document_is_what_the_table_says() -> None:
    written = (ROOT / "docs" / "pod-fields.md").read_text()
    assert written == pod_fields.text(), "run `make docs`"


def test_no_field_stands_twice() -> None:
    counted = collections.Counter((row.kind, row.field) for row in table.ROWS)
    assert [field for field, count in counted.items() if count > 1] == []


@pytest.mark.parametrize("kind", READ)
def test_every_field_that_the_code_reads_is_in_the_table(kind: str) -> None:
    told = {row.field for row in table.ROWS if row.kind == kind}
    read = {field.encode_name for field in msgspec.structs.fields(READ[kind])}
    assert read <= told


def test_a_rejection_says_why_and_what_to_do_or_points_to_where_it_is_said() -> None:
    kinds = {row.kind for row in table.ROWS}
    fields = {f"{row.kind}.{row.field}" for row in table.ROWS}
    for row in table.ROWS:
        for handling in (row.plain, row.ssh):
            if handling.how.startswith("see "):
                target = handling.how.removeprefix("see ")
                assert target in kinds or target in fields or f"{row.kind}.{target}" in fields, handling.how
            if handling.verdict in (rows.Verdict.REJECTED, rows.Verdict.EMULATED, rows.Verdict.LEFT_OUT):
                assert handling.how, f"{row.kind}.{row.field} doesn't say how"


def test_every_rule_has_a_word_for_people() -> None:
    for access in rows.Access:
        for rule in table.rules(access):
            assert rule.field
            assert len(rule.why) > 10
            assert not rule.why.endswith(".")
            assert access in rule.access


def test_rows_stay_as_they_are() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.ROWS[0].field = "other"  # type: ignore[misc]
