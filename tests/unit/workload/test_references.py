"""A container's environment: order, precedence, expansion, and what is said of what is missing."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareboat.workload import expansion, references, sources
from bareboat.workload import pod as pods

NODE = sources.NodeFacts(addresses=("10.1.2.3", "fd00::3"), allocatable={"cpu": "8", "memory": "32Gi"})


def a_pod(*env: dict[str, Any], **container: Any) -> pods.Pod:
    spec = {"name": "main", "image": "busybox", "env": list(env), **container}
    return msgspec.convert(
        {
            "metadata": {
                "name": "job-1",
                "namespace": "team",
                "uid": "u-1",
                "labels": {"b": "2", "a": 'say "hi"\n'},
                "annotations": {"Example.com/Note": "x"},
            },
            "spec": {"containers": [spec], "nodeName": "vast-1", "serviceAccountName": "robot"},
        },
        pods.Pod,
    )


def resolve(pod: pods.Pod, found: sources.Sources | None = None, **more: Any) -> references.Resolved:
    return references.resolve(pod, pod.spec.containers[0], found or sources.Sources(), NODE, **more)


def value_of(env: dict[str, Any]) -> str:
    resolved = resolve(a_pod({"name": "X", **env}))
    assert resolved.problems == ()
    return resolved.env["X"]


def from_key(kind: str, optional: bool = False) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {f"{kind}KeyRef": {"name": "thing", "key": "k", "optional": optional}}}


def config(**data: str) -> sources.Sources:
    return sources.Sources(config_maps={"thing": sources.ConfigMap(data=data)})


def secret(**data: bytes) -> sources.Sources:
    return sources.Sources(secrets={"thing": sources.Secret(data=data)})


def test_env_overrides_env_from_and_later_env_from_overrides_earlier() -> None:
    found = sources.Sources(
        config_maps={"one": sources.ConfigMap(data={"A": "1", "B": "1", "C": "1"})},
        secrets={"two": sources.Secret(data={"B": b"2", "C": b"2"})},
    )
    pod = a_pod(
        {"name": "C", "value": "3"},
        envFrom=[{"configMapRef": {"name": "one"}}, {"secretRef": {"name": "two"}}],
    )
    assert resolve(pod, found).env == {"A": "1", "B": "2", "C": "3"}


def test_env_keeps_its_order() -> None:
    names = ["Z", "A", "M", "B"]
    assert list(resolve(a_pod(*({"name": name, "value": "1"} for name in names))).env) == names


def test_prefix_is_prepended_and_names_that_are_no_identifiers_are_kept() -> None:
    found = sources.Sources(config_maps={"thing": sources.ConfigMap(data={"log.level": "debug", "1st": "x"})})
    pod = a_pod(envFrom=[{"prefix": "APP_", "configMapRef": {"name": "thing"}}])
    assert resolve(pod, found).env == {"APP_log.level": "debug", "APP_1st": "x"}


def test_value_expands_what_stands_before_it_and_not_what_comes_after() -> None:
    pod = a_pod({"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(C)"}, {"name": "C", "value": "3"})
    assert resolve(pod).env["B"] == "1$(C)"


def test_empty_value_is_kept() -> None:
    assert resolve(a_pod({"name": "A", "value": ""}, {"name": "B"})).env == {"A": "", "B": ""}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("$(A)-$(A)", "1-1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$(MISSING)", "$(MISSING)"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
        ("$(A$$", "$(A$"),
        ("$()", "$()"),
        ("$(B)", "$(A)"),
        ("costs $5", "costs $5"),
        ("$é$(A)", "$é1"),
    ],
)
def test_expansion_follows_the_rules_of_kubernetes(text: str, expanded: str) -> None:
    assert expansion.expand(text, {"A": "1", "B": "$(A)"}) == expanded


def reference_expansion(text: str, env: dict[str, str]) -> str:
    """The same rules, a character at a time."""
    out, at = "", 0
    while at < len(text):
        if text[at] != "$" or at + 1 == len(text):
            out, at = out + text[at], at + 1
        elif text[at + 1] == "$":
            out, at = out + "$", at + 2
        elif text[at + 1] == "(" and (end := text.find(")", at)) > 0:
            name = text[at + 2 : end]
            out, at = out + env.get(name, f"$({name})"), end + 1
        else:
            out, at = out + text[at : at + 2], at + 2
    return out


@given(st.text(alphabet="$()AB \n", max_size=24))
def test_expansion_agrees_with_a_reading_character_by_character(text: str) -> None:
    env = {"A": "$(B)", "B": "$$", "": "void"}
    assert expansion.expand(text, env) == reference_expansion(text, env)


@given(st.text())
def test_text_with_each_dollar_doubled_expands_to_itself(text: str) -> None:
    assert expansion.expand(text.replace("$", "$$"), {"A": "1", "": "2"}) == text


def test_command_and_arguments_expand_and_empty_ones_leave_the_images_own() -> None:
    assert references.expand(["sh", "-c", "echo $(A) $$(A)"], {"A": "1"}) == ("sh", "-c", "echo 1 $(A)")
    assert references.expand(None, {}) is None
    assert references.expand([], {}) is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "job-1"),
        ("metadata.namespace", "team"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['b']", "2"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['Example.com/Note']", "x"),
        ("metadata.labels", 'a="say \\"hi\\"\\n"\nb="2"'),
        ("spec.nodeName", "vast-1"),
        ("spec.host", "vast-1"),
        ("spec.serviceAccountName", "robot"),
        ("status.hostIP", "10.1.2.3"),
        ("status.hostIPs", "10.1.2.3,fd00::3"),
    ],
)
def test_field_of_the_pod_is_given(path: str, value: str) -> None:
    assert value_of({"valueFrom": {"fieldRef": {"fieldPath": path}}}) == value


@pytest.mark.parametrize("path", ["status.podIP", "status.podIPs", "status.phase", "spec.labels['a']", ""])
def test_field_that_would_be_a_lie_is_refused_for_good_in_a_sentence(path: str) -> None:
    blocking = resolve(a_pod({"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}})).blocking
    assert blocking is not None
    assert blocking.kind is references.Kind.UNSUPPORTED_SOURCE
    assert blocking.lasting
    assert repr(path) in blocking.message


def test_pod_address_is_given_where_there_is_one() -> None:
    pod = a_pod({"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}})
    assert resolve(pod, pod_ips=("10.9.0.1", "fd00::1")).env == {"X": "10.9.0.1,fd00::1"}


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [
        ("limits.cpu", "", "2"),
        ("limits.cpu", "1m", "1500"),
        ("requests.cpu", "0", "1"),
        ("limits.memory", "", str(2**30 + 1)),
        ("limits.memory", "1Mi", "1025"),
        ("requests.memory", "1Mi", "0"),
        ("limits.hugepages-2Mi", "1Mi", "4"),
    ],
)
def test_resource_is_divided_and_rounded_up(resource: str, divisor: str, value: str) -> None:
    pod = a_pod(
        {"name": "X", "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor}}},
        resources={
            "limits": {"cpu": "1500m", "memory": str(2**30 + 1), "hugepages-2Mi": "4Mi"},
            "requests": {"cpu": "100m"},
        },
    )
    assert resolve(pod).env == {"X": value}


@pytest.mark.parametrize(
    ("resource", "value"), [("limits.cpu", "8"), ("limits.memory", str(2**35)), ("requests.cpu", "0")]
)
def test_limit_that_is_not_set_is_what_the_node_has(resource: str, value: str) -> None:
    assert value_of({"valueFrom": {"resourceFieldRef": {"resource": resource}}}) == value


@pytest.mark.parametrize(
    "selector",
    [{"resource": "limits.gpu"}, {"resource": "cpu"}, {"resource": "limits.cpu", "containerName": "nobody"},
     {"resource": "limits.cpu", "divisor": "much"}],
)  # fmt: skip
def test_resource_that_makes_no_sense_blocks_with_a_sentence(selector: dict[str, str]) -> None:
    blocking = resolve(a_pod({"name": "X", "valueFrom": {"resourceFieldRef": selector}})).blocking
    assert blocking is not None
    assert blocking.message.startswith("X: ")


def test_file_key_ref_is_refused_in_a_sentence() -> None:
    pod = a_pod({"name": "X", "valueFrom": {"fileKeyRef": {"key": "k", "path": "p", "volumeName": "v"}}})
    blocking = resolve(pod).blocking
    assert blocking is not None
    assert "ConfigMap or a Secret" in blocking.message


@pytest.mark.parametrize(
    ("kind", "found", "reason", "message"),
    [
        (
            "configMap",
            sources.Sources(config_maps={"thing": None}),
            "MandatoryConfigMapNotFound",
            'configmap "thing" not found',
        ),
        ("secret", sources.Sources(secrets={"thing": None}), "MandatorySecretNotFound", 'secret "thing" not found'),
        (
            "configMap",
            config(other="1"),
            "MandatoryConfigMapKeyNotFound",
            "couldn't find key k in ConfigMap team/thing",
        ),
        ("secret", secret(other=b"1"), "MandatorySecretKeyNotFound", "couldn't find key k in Secret team/thing"),
    ],
)
def test_something_mandatory_missing_blocks_with_the_kubelets_words(
    kind: str, found: sources.Sources, reason: str, message: str
) -> None:
    blocking = resolve(a_pod(from_key(kind)), found).blocking
    assert blocking is not None
    assert (blocking.kind.value, blocking.message) == (reason, message)
    assert not blocking.lasting


@pytest.mark.parametrize(
    ("kind", "found", "reason"),
    [
        ("configMap", sources.Sources(config_maps={"thing": None}), "OptionalConfigMapNotFound"),
        ("secret", sources.Sources(secrets={"thing": None}), "OptionalSecretNotFound"),
        ("configMap", config(other="1"), "OptionalConfigMapKeyNotFound"),
        ("secret", secret(other=b"1"), "OptionalSecretKeyNotFound"),
    ],
)
def test_something_optional_missing_leaves_the_variable_out_and_says_so(
    kind: str, found: sources.Sources, reason: str
) -> None:
    resolved = resolve(a_pod({"name": "A", "value": "1"}, from_key(kind, optional=True)), found)
    assert resolved.env == {"A": "1"}
    assert resolved.blocking is None
    assert [problem.kind.value for problem in resolved.problems] == [reason]


@pytest.mark.parametrize("optional", [True, False])
def test_what_can_not_be_read_blocks_even_when_it_is_optional(optional: bool) -> None:
    found = sources.Sources(secrets={"thing": sources.Unreadable("the API server is away")})
    blocking = resolve(a_pod(from_key("secret", optional)), found).blocking
    assert blocking is not None
    assert blocking.kind.value == f"FailedToRead{'Optional' if optional else 'Mandatory'}Secret"
    assert blocking.message == "the API server is away"


def test_missing_env_from_blocks_unless_it_is_optional() -> None:
    found = sources.Sources(config_maps={"thing": None})
    mandatory = resolve(a_pod(envFrom=[{"configMapRef": {"name": "thing"}}]), found)
    optional = resolve(a_pod(envFrom=[{"configMapRef": {"name": "thing", "optional": True}}]), found)
    assert mandatory.blocking is not None
    assert optional.blocking is None


def test_one_missing_object_is_told_once_however_often_it_is_named() -> None:
    env = [{"name": f"V{n}", "valueFrom": {"secretKeyRef": {"name": "thing", "key": "k"}}} for n in range(5)]
    assert len(resolve(a_pod(*env), sources.Sources(secrets={"thing": None})).problems) == 1


def test_secret_that_is_not_text_blocks_and_nothing_of_it_is_shown() -> None:
    for raw in (b"\xff\xfehidden", b"hid\0den"):
        resolved = resolve(a_pod(from_key("secret")), secret(k=raw))
        assert resolved.blocking is not None
        assert resolved.blocking.kind is references.Kind.INVALID_VALUE
        assert "hid" not in str(resolved.problems)


def test_no_value_of_a_secret_is_in_a_repr() -> None:
    found = secret(k=b"s3cret")
    assert "s3cret" not in repr(found) + repr(resolve(a_pod(from_key("secret")), found))


def test_name_that_can_not_be_one_is_skipped_and_told() -> None:
    resolved = resolve(a_pod({"name": "A=B", "value": "1"}, {"name": "C", "value": "2"}))
    assert resolved.env == {"C": "2"}
    assert [problem.kind for problem in resolved.problems] == [references.Kind.INVALID_NAMES]


def test_wanted_names_each_object_once_and_nothing_for_a_pod_without_references() -> None:
    pod = a_pod(
        from_key("secret"),
        from_key("configMap", optional=True),
        {"name": "Y", "value": "literal", "valueFrom": {"secretKeyRef": {"name": "unused", "key": "k"}}},
        envFrom=[{"secretRef": {"name": "thing"}}, {"configMapRef": {"name": "more"}}],
    )
    pod.spec.image_pull_secrets = [pods.NameSelector(name="login")]
    assert {(ref.kind.value, ref.namespace, ref.name) for ref in references.wanted(pod)} == {
        ("secret", "team", "thing"),
        ("secret", "team", "login"),
        ("configmap", "team", "thing"),
        ("configmap", "team", "more"),
    }
    assert references.wanted(a_pod({"name": "A", "value": "1"})) == frozenset()


def a_service(name: str, namespace: str, address: str = "10.0.0.9") -> sources.Service:
    ports = [{"port": 80, "name": "http"}, {"port": 53, "name": "dns-udp", "protocol": "UDP"}]
    body = {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": address, "ports": ports}}
    return msgspec.convert(body, sources.Service)


SERVICES = (
    a_service("kubernetes", "default", "fd00::1"),
    a_service("my-db", "team"),
    a_service("headless", "team", "None"),
    a_service("other", "elsewhere"),
)


def test_services_give_no_variables_unless_they_are_handed_in_and_the_users_own_are_left_alone() -> None:
    pod = a_pod({"name": "MY_DB_SERVICE_HOST", "value": "db.example.com"})
    assert resolve(pod).env == {"MY_DB_SERVICE_HOST": "db.example.com"}
    assert resolve(pod, services=SERVICES).env["MY_DB_SERVICE_HOST"] == "db.example.com"


def test_service_variables_are_those_of_the_kubelet() -> None:
    env = resolve(a_pod({"name": "URL", "value": "$(MY_DB_SERVICE_HOST)"}), services=SERVICES).env
    assert env["URL"] == "10.0.0.9"
    assert env["MY_DB_SERVICE_PORT"] == "80"
    assert env["MY_DB_SERVICE_PORT_DNS_UDP"] == "53"
    assert env["MY_DB_PORT"] == "tcp://10.0.0.9:80"
    assert env["MY_DB_PORT_53_UDP"] == "udp://10.0.0.9:53"
    assert env["MY_DB_PORT_53_UDP_PROTO"] == "udp"
    assert env["MY_DB_PORT_53_UDP_PORT"] == "53"
    assert env["MY_DB_PORT_53_UDP_ADDR"] == "10.0.0.9"
    assert env["KUBERNETES_PORT"] == "tcp://[fd00::1]:80"
    assert not any(name.startswith(("HEADLESS", "OTHER")) for name in env)


def test_without_service_links_only_the_api_server_is_told() -> None:
    pod = a_pod()
    pod.spec.enable_service_links = False
    env = resolve(pod, services=SERVICES).env
    assert "KUBERNETES_SERVICE_HOST" in env
    assert "MY_DB_SERVICE_HOST" not in env
