"""The files of volumes: names, bytes, modes, and what is missing, as a kubelet has them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bareboat.workload import pod as pods
from bareboat.workload import references, sources, volume_files

FACTS = sources.NodeFacts(addresses=("10.0.0.5",), allocatable={"cpu": "4", "memory": "8Gi"})
FOUND = sources.Sources(
    {"c": sources.ConfigMap(data={"a": "1", "b": "zwei"}, binary_data={"raw": b"\0\xff"}), "gone": None},
    {"s": sources.Secret(data={"key": b"opensesame"}), "gone": None, "odd": sources.Unreadable("nobody may read it")},
)
TOKEN = volume_files.Token("t0ken", 1000.0, 4600.0)


def a_pod(*volumes: dict[str, Any], **spec: Any) -> pods.Pod:
    metadata = {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "x"}}
    main = {"name": "main", "image": "x", "resources": {"limits": {"memory": "1Gi"}}}
    return msgspec.convert({"metadata": metadata, "spec": {"containers": [main], "volumes": volumes, **spec}}, pods.Pod)


def found(
    *volumes: dict[str, Any], given: dict[volume_files.TokenRequest, volume_files.Token] | None = None, **spec: Any
) -> volume_files.Found:
    return volume_files.build(a_pod(*volumes, **spec), FOUND, FACTS, given or {})


def files(volume: dict[str, Any], **spec: Any) -> dict[str, tuple[bytes, int]]:
    made = found({"name": "v", **volume}, **spec)
    assert made.blocking is None
    return dict(made.files["v"])


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        ({"configMap": {"name": "c"}}, {"a": (b"1", 0o644), "b": (b"zwei", 0o644), "raw": (b"\0\xff", 0o644)}),
        ({"configMap": {"name": "c", "defaultMode": 0o400, "items": [{"key": "a", "path": "x/y"}]}},
         {"x/y": (b"1", 0o400)}),
        ({"configMap": {"name": "c", "items": [{"key": "a", "path": "p", "mode": 0o755}]}}, {"p": (b"1", 0o755)}),
        ({"configMap": {"name": "c", "items": []}}, {}),
        ({"secret": {"secretName": "s"}}, {"key": (b"opensesame", 0o644)}),
        ({"secret": {"secretName": "gone", "optional": True}}, {}),
        ({"configMap": {"name": "c", "optional": True, "items": [{"key": "none", "path": "x"}]}}, {}),
        ({"emptyDir": {}}, {}),
        ({"downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "memory", "mode": 0o440, "resourceFieldRef": {"containerName": "main", "resource": "limits.memory",
                                                                  "divisor": "1Mi"}},
         ]}}, {"labels": (b'app="x"', 0o644), "memory": (b"1024", 0o440)}),
        ({"projected": {"defaultMode": 0o600, "sources": [
            {"configMap": {"name": "c", "items": [{"key": "a", "path": "same"}]}},
            {"secret": {"name": "s", "items": [{"key": "key", "path": "same"}]}},
            {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
         ]}}, {"same": (b"opensesame", 0o600), "ns": (b"ns", 0o600)}),
    ],
)  # fmt: skip
def test_files_of_each_kind_of_volume(volume: dict[str, Any], expected: dict[str, tuple[bytes, int]]) -> None:
    assert files(volume) == expected


@pytest.mark.parametrize(
    ("volume", "kind", "words"),
    [
        ({"configMap": {"name": "gone"}}, "MandatoryConfigMapNotFound", 'configmap "gone" not found'),
        ({"secret": {"secretName": "gone"}}, "MandatorySecretNotFound", 'secret "gone" not found'),
        ({"secret": {"secretName": "odd", "optional": True}}, "FailedToReadOptionalSecret", "nobody may read it"),
        ({"configMap": {"name": "unasked"}}, "FailedToReadMandatoryConfigMap", "not been read yet"),
        ({"configMap": {"name": "c", "items": [{"key": "none", "path": "x"}]}}, "MandatoryConfigMapKeyNotFound",
         "references non-existent config key: none"),
        ({"secret": {"secretName": "s", "items": [{"key": "none", "path": "x"}]}}, "MandatorySecretKeyNotFound",
         "references non-existent secret key: none"),
        ({"downwardAPI": {"items": [{"path": "ip", "fieldRef": {"fieldPath": "status.podIP"}}]}},
         "UnsupportedVolumeSource", "no address in the cluster"),
        ({"projected": {"sources": [{"clusterTrustBundle": {"path": "x"}}]}}, "UnsupportedVolumeSource",
         "allowed are configMap"),
        ({"projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]}},
         "FailedToReadServiceAccountToken", "audience vault"),
        ({"configMap": {"name": "c", "items": [{"key": "a", "path": "../x"}]}}, "InvalidVolumePath",
         "leads out of the volume"),
    ],
)  # fmt: skip
def test_what_is_missing_keeps_the_pod_from_starting_in_words(volume: dict[str, Any], kind: str, words: str) -> None:
    blocking = found({"name": "v", **volume}).blocking
    assert blocking is not None
    assert blocking.kind == kind
    assert blocking.message.startswith('MountVolume.SetUp failed for volume "v" : ')
    assert words in blocking.message


def test_missing_optional_object_is_told() -> None:
    (problem,) = found({"name": "v", "secret": {"secretName": "gone", "optional": True}}).problems
    assert (problem.kind, problem.blocks) == (references.Kind.OPTIONAL_SECRET_NOT_FOUND, False)


API_ACCESS = {
    "name": "kube-api-access-abcde",
    "projected": {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "c", "items": [{"key": "a", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ],
    },
}


def test_token_that_every_pod_has() -> None:
    request = volume_files.TokenRequest("", 3607)
    pod = a_pod(API_ACCESS)
    assert volume_files.tokens(pod) == (volume_files.TokenFile("kube-api-access-abcde", "token", request),)
    assert volume_files.references_of(pod) == {sources.Reference(sources.Kind.CONFIG_MAP, "ns", "c")}
    made = found(API_ACCESS, given={request: TOKEN})
    assert made.files["kube-api-access-abcde"] == {
        "token": (b"t0ken", 0o644), "ca.crt": (b"1", 0o644), "namespace": (b"ns", 0o644)
    }  # fmt: skip


def test_with_fs_group_its_group_may_read_and_the_token_is_for_nobody_else() -> None:
    request = volume_files.TokenRequest("", 3607)
    made = found(API_ACCESS, given={request: TOKEN}, securityContext={"fsGroup": 5})
    modes = {path: mode for path, (_, mode) in made.files["kube-api-access-abcde"].items()}
    assert modes == {"token": 0o640, "ca.crt": 0o644, "namespace": 0o644}
    assert files({"secret": {"secretName": "s", "defaultMode": 0o400}}, securityContext={"fsGroup": 5}) == {
        "key": (b"opensesame", 0o440)
    }


@pytest.mark.parametrize(
    ("life_s", "after_s"), [(3600.0, 2880.0), (600.0, 480.0), (365 * 86400.0, 86400.0), (-5.0, 0.0)]
)
def test_token_is_refreshed_at_80_percent_and_after_a_day_at_the_latest(life_s: float, after_s: float) -> None:
    assert volume_files.Token("x", 1000.0, 1000.0 + life_s).refresh_s == 1000.0 + after_s


def test_no_content_is_in_a_repr() -> None:
    made = found(
        {"name": "v", "secret": {"secretName": "s"}}, API_ACCESS, given={volume_files.TokenRequest("", 3607): TOKEN}
    )
    assert "opensesame" not in repr(made)
    assert "t0ken" not in repr(made) + repr(TOKEN)


def test_references_of_all_volumes_are_wanted_once() -> None:
    pod = a_pod(
        {"name": "a", "configMap": {"name": "c"}},
        {"name": "b", "secret": {"secretName": "s"}},
        {"name": "d", "projected": {"sources": [{"secret": {"name": "s"}}, {"configMap": {"name": "e"}}]}},
        {"name": "f", "emptyDir": {}},
    )
    assert {(each.kind.value, each.name) for each in volume_files.references_of(pod)} == {
        ("configmap", "c"), ("configmap", "e"), ("secret", "s")
    }  # fmt: skip


names = st.text(alphabet="ab./\0", max_size=6)


@settings(deadline=None)
@given(st.lists(st.tuples(names, st.none() | st.integers(0, 0o777)), max_size=5), st.integers(0, 0o777), st.booleans())
def test_no_file_leaves_its_volume_whatever_a_pod_says(
    paths: list[tuple[str, int | None]], default_mode: int, group: bool
) -> None:
    items = [{"key": "a", "path": path, **({} if mode is None else {"mode": mode})} for path, mode in paths]
    context = {"fsGroup": 5} if group else {}
    made = found({"name": "v", "configMap": {"name": "c", "items": items, "defaultMode": default_mode}},
                 securityContext=context)  # fmt: skip
    for path, (content, mode) in made.files["v"].items():
        assert volume_files.is_inside(path)
        assert ".." not in path.split("/")
        assert not path.startswith("/")
        assert content == b"1"
        assert 0 <= mode <= 0o777
    assert (made.blocking is None) is all(volume_files.is_inside(path) for path, _ in paths)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["items", "name", "sources", "optional", "key"]), inner)
        ),
        max_leaves=8,
    )
)
def test_volume_that_makes_no_sense_is_no_end(source: Any) -> None:
    if isinstance(source, dict):
        for kind in ("configMap", "secret", "projected", "downwardAPI"):
            volume_files.tokens(a_pod({"name": "v", kind: source}))
            found({"name": "v", kind: source})
