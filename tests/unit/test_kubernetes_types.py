"""Our partial types of Kubernetes objects against a second opinion: the models generated from its published API.

Those models import only beside a client that is no part of this project, so their source is read instead.
"""

import ast
import functools
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect

from bareboat.kube import leases, objects
from bareboat.kubelet import serving_certificate
from bareboat.node import registration
from bareboat.provision import found
from bareboat.workload import pod as pods
from bareboat.workload import sources

KINDS = [
    (pods.Pod, "core_v1.Pod"),
    (found.Pod, "core_v1.Pod"),
    (found.Service, "core_v1.Service"),
    (found.Secret, "core_v1.Secret"),
    (sources.ConfigMap, "core_v1.ConfigMap"),
    (sources.Secret, "core_v1.Secret"),
    (sources.Service, "core_v1.Service"),
    (registration.Node, "core_v1.Node"),
    (leases.Lease, "coordination_v1.Lease"),
    (serving_certificate.SigningRequest, "certificates_v1.CertificateSigningRequest"),
    (objects.Metadata, "core_v1.Pod"),
    (objects.Status, "meta_v1.Status"),
    (objects.ListMeta, "meta_v1.ListMeta"),
]
SCALARS = {"StrType": "str", "IntType": "int", "BoolType": "bool", "FloatType": "float"}
# Quantities and ports that are numbers or names, and bytes in base64, are texts in the models.
AS_TEXT = {"meta_v1.Time", "meta_v1.MicroTime", "resource.Quantity", "util_intstr.IntOrString"}

# One struct of ours stands for every reference by name.
SPARE = {"core_v1.Pod.spec.imagePullSecrets.optional: there is no such field"}


@functools.cache
def models(module: str) -> dict[str, dict[str, str]]:
    """Class → field as on the wire → its type, of one module of the models."""
    package = importlib.util.find_spec("lightkube.models")
    assert package is not None and package.submodule_search_locations
    source = Path(package.submodule_search_locations[0], f"{module}.py").read_text()
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return {each.name: dict(_fields(each)) for each in classes}


def _fields(model: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for node in model.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.annotation, ast.Constant):
            other = re.search(r"'json': '([^']+)'", ast.unparse(node.value)) if node.value is not None else None
            yield other.group(1) if other else ast.unparse(node.target), str(node.annotation.value)


def differences(ours: type[msgspec.Struct], theirs: str) -> list[str]:
    info = inspect.type_info(ours)
    assert isinstance(info, inspect.StructType)
    return list(_struct(info, theirs, theirs, set()))


def _struct(ours: inspect.StructType, theirs: str, where: str, seen: set[tuple[type, str]]) -> Iterator[str]:
    module, _, name = theirs.rpartition(".")
    if (ours.cls, theirs) in seen:
        return
    seen.add((ours.cls, theirs))
    known = models(module)[name]
    for field in ours.fields:
        at = f"{where}.{field.encode_name}"
        if field.encode_name not in known:
            yield f"{at}: there is no such field"
            continue
        kind = known[field.encode_name].removeprefix("Optional[")
        kind = kind.removesuffix("]") if kind != known[field.encode_name] else kind
        yield from _value(field.type, kind, module, at, seen)


def _value(ours: inspect.Type, theirs: str, module: str, at: str, seen: set[tuple[type, str]]) -> Iterator[str]:
    if isinstance(ours, inspect.UnionType):
        some = [each for each in ours.types if not isinstance(each, inspect.NoneType)]
        if len(some) > 1:  # a quantity as text or number
            return
        ours = some[0]
    item = re.fullmatch(r"List\[(.+)\]", theirs)
    if isinstance(ours, inspect.ListType | inspect.VarTupleType):
        if item is None:
            yield f"{at}: ours is a list, theirs {theirs}"
            return
        yield from _value(ours.item_type, item.group(1), module, at, seen)
    elif item is not None:
        yield f"{at}: theirs is a list of {item.group(1)}"
    elif isinstance(ours, inspect.StructType):
        named = theirs if "." in theirs else f"{module}.{theirs}"
        if not named.rpartition(".")[2][:1].isupper():
            yield f"{at}: ours is an object, theirs {theirs}"
            return
        yield from _struct(ours, named, at, seen)
    else:
        wanted = SCALARS.get(type(ours).__name__)
        plain = "str" if theirs in AS_TEXT else theirs
        if wanted is not None and wanted != plain:
            yield f"{at}: ours is {wanted}, theirs {theirs}"


@pytest.mark.parametrize(("ours", "theirs"), KINDS, ids=lambda each: each if isinstance(each, str) else each.__module__)
def test_every_field_that_we_read_is_a_field_of_kubernetes(ours: type[msgspec.Struct], theirs: str) -> None:
    assert set(differences(ours, theirs)) <= SPARE


def test_a_field_that_does_not_exist_or_is_something_else_is_found() -> None:
    class Wrong(objects.Partial, frozen=True):
        metadata: objects.ObjectMeta
        speck: str = ""
        spec: list[str] = msgspec.field(default_factory=list)
        api_version: int = 0

    assert differences(Wrong, "core_v1.Pod") == [
        "core_v1.Pod.speck: there is no such field",
        "core_v1.Pod.spec: ours is a list, theirs PodSpec",
        "core_v1.Pod.apiVersion: ours is int, theirs str",
    ]
