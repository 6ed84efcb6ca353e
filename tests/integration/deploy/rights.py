"""The rules of manifests, one right at a time, and which of them a request takes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.integration.deploy import recording

Json = dict[str, Any]


@dataclass(frozen=True)
class Right:
    """`namespaces` None: in all of them, and for what lies in none. `name` empty: whatever the name."""

    verb: str
    group: str
    resource: str
    name: str
    namespaces: frozenset[str] | None

    def covers(self, request: recording.Request) -> bool:
        return (
            (self.verb, self.group, self.resource) == (request.verb, request.group, request.resource)
            and self.name in ("", request.name)
            and (self.namespaces is None or request.namespace in self.namespaces)
        )

    def __str__(self) -> str:
        where = "everywhere" if self.namespaces is None else f"in {', '.join(sorted(self.namespaces))}"
        return f"{self.verb} {self.resource} {self.name} ({self.group or 'core'}) {where}"


def granted(manifests: list[Json]) -> list[Right]:
    """All that the bindings among the manifests give by roles among the manifests."""
    roles = {_key(each["kind"], each): each["rules"] for each in manifests if each["kind"] in ("Role", "ClusterRole")}
    found: dict[tuple[str, str, str, str], set[str] | None] = {}
    for binding in [each for each in manifests if each["kind"].endswith("Binding")]:
        reference = binding["roleRef"]
        namespace = binding["metadata"].get("namespace")
        key = (reference["kind"], reference["name"], namespace if reference["kind"] == "Role" else None)
        for right in _rights(roles.get(key, [])):
            held = found.setdefault(right, set())
            if namespace is None or held is None:
                found[right] = None
            else:
                held.add(namespace)
    return [Right(*right, None if where is None else frozenset(where)) for right, where in found.items()]


def _key(kind: str, manifest: Json) -> tuple[str, str, str | None]:
    return kind, manifest["metadata"]["name"], manifest["metadata"].get("namespace")


def _rights(rules: list[Json]) -> Iterator[tuple[str, str, str, str]]:
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames", [""]):
                        yield verb, group, resource, name
