"""What the manifests promise, as far as it can be seen without a cluster."""

from pathlib import Path
from typing import Any

import yaml

from bareboat import settings
from bareboat.core import criteria, scoring
from bareboat.proxy import health
from bareboat.workload import selection

DEPLOY = Path(__file__).parents[3] / "deploy"
Json = dict[str, Any]


def manifests(folder: Path = DEPLOY) -> list[Json]:
    return [
        each
        for path in sorted(folder.glob("[0-9]*.yaml" if folder == DEPLOY else "*.yaml"))
        for each in yaml.safe_load_all(path.read_text())
        if each is not None
    ]


def one(kind: str, name: str, namespace: str | None = None) -> Json:
    """The only one of that kind and name (in that namespace)."""
    (found,) = [
        each
        for each in manifests()
        if (each["kind"], each["metadata"]["name"]) == (kind, name)
        and namespace in (None, each["metadata"].get("namespace"))
    ]
    return found


def container() -> Json:
    (found,) = one("Deployment", "virtual-kubelet-vast")["spec"]["template"]["spec"]["containers"]
    only: Json = found
    return only


def test_shipped_config_maps_say_exactly_the_defaults() -> None:
    config, weights = one("ConfigMap", "vast-provider-config"), one("ConfigMap", "vast-selection-weights")
    found = selection.read(config["data"], weights["data"])
    assert found.errors == found.warnings == ()
    assert found.rules == criteria.Criteria()
    assert found.weights == scoring.Weights()


def test_shipped_config_map_names_every_key_that_no_variable_of_the_deployment_sets() -> None:
    by_variable = {"preferred_regions", "max_latency_ms", "latency_check"}
    assert set(one("ConfigMap", "vast-provider-config")["data"]) == set(selection.FIELDS) - by_variable
    assert set(one("ConfigMap", "vast-selection-weights")["data"]) == set(selection.WEIGHT_KEYS)


def test_variables_of_the_deployment_are_the_defaults() -> None:
    given = {each["name"]: each["value"] for each in container()["env"] if "value" in each}
    assert selection.from_environment(given) == criteria.Criteria()
    assert given["NODENAME"] == settings.Node.model_fields["node_name"].default


def test_rights_name_the_node_that_the_deployment_runs() -> None:
    name = next(each["value"] for each in container()["env"] if each["name"] == "NODENAME")
    rules = [
        rule
        for each in manifests()
        if each["kind"] in ("Role", "ClusterRole")
        for rule in each["rules"]
        if {"nodes", "nodes/status", "leases"} & set(rule["resources"]) and rule["verbs"] != ["create"]
    ]
    assert sorted(rule["resourceNames"] for rule in rules) == [[f"bareboat-{name}"], [name], [name], [name]]


def test_no_right_is_given_by_asterisk_and_no_secret_can_be_listed() -> None:
    for role in [each for each in manifests() if each["kind"] in ("Role", "ClusterRole")]:
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], role["metadata"]["name"]
            if "secrets" in rule["resources"]:
                # To make one is to know nothing of those that are there.
                assert rule["verbs"] in (["get"], ["create"])


def test_every_binding_binds_the_service_account_to_a_role_that_is_there() -> None:
    account = {"kind": "ServiceAccount", "name": "virtual-kubelet-vast", "namespace": "kube-system"}
    assert one("ServiceAccount", account["name"], account["namespace"])
    for binding in [each for each in manifests() if each["kind"].endswith("Binding")]:
        assert binding["subjects"] == [account]
        role = binding["roleRef"]
        namespace = binding["metadata"].get("namespace")
        if role["name"] != "extension-apiserver-authentication-reader":  # Kubernetes brings that one
            assert one(role["kind"], role["name"], namespace if role["kind"] == "Role" else None)


def test_secret_is_shipped_without_data_so_that_applying_it_again_keeps_the_key() -> None:
    secret = one("Secret", "vast-credentials", "kube-system")
    assert "data" not in secret and "stringData" not in secret
    (key,) = [each["valueFrom"]["secretKeyRef"] for each in container()["env"] if each["name"] == "VAST_API_KEY"]
    assert key["name"] == "vast-credentials" and not key.get("optional")


def test_node_runs_without_root_or_any_capability_on_a_file_system_it_cannot_write() -> None:
    spec = one("Deployment", "virtual-kubelet-vast", "kube-system")["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "volumes" not in spec


def test_two_nodes_of_one_name_never_run_side_by_side() -> None:
    spec = one("Deployment", "virtual-kubelet-vast")["spec"]
    assert spec["replicas"] == 1 and spec["strategy"] == {"type": "Recreate"}


def test_metadata_service_is_out_of_reach_and_the_kubelet_port_in_reach() -> None:
    policy = one("NetworkPolicy", "virtual-kubelet-vast", "kube-system")["spec"]
    blocks = [to["ipBlock"] for rule in policy["egress"] for to in rule.get("to", ())]
    assert all("169.254.0.0/16" in each["except"] for each in blocks if each["cidr"] == "0.0.0.0/0")
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": 10250}]}]
    assert container()["ports"] == [{"name": "kubelet", "containerPort": 10250}]


def test_example_services_reach_ports_that_their_deployment_has() -> None:
    found = [each for each in manifests(DEPLOY / "examples") if each["metadata"]["name"].startswith("june-")]
    (june,) = [each for each in found if each["kind"] == "Deployment"]
    ports = {each["name"]: each["containerPort"] for each in june["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert ports == {"stt": 8001, "tts": 8000}
    services = {each["metadata"]["name"]: each["spec"] for each in found if each["kind"] == "Service"}
    assert set(services) == {"june-stt", "june-tts"}
    for service in services.values():
        assert service["selector"].items() <= june["spec"]["template"]["metadata"]["labels"].items()
        (port,) = service["ports"]
        assert ports[port["targetPort"]] == port["port"]


def _variable(name: str, field: Any) -> str:
    names = getattr(field.validation_alias, "choices", ())
    return str(field.alias or next(iter(names), f"BAREBOAT_PROXY_{name}".upper()))


def test_example_proxy_sets_all_that_the_proxy_requires_and_probes_ports_that_it_has() -> None:
    found = manifests(DEPLOY / "examples")
    (proxy,) = [each for each in found if each["kind"] == "StatefulSet"]
    (container,) = proxy["spec"]["template"]["spec"]["containers"]
    given = {each["name"] for each in container["env"]}
    fields = settings.Proxy.model_fields
    assert {_variable(name, field) for name, field in fields.items() if field.is_required()} <= given
    assert given <= {_variable(name, field) for name, field in fields.items()}
    ports = {each["name"] for each in container["ports"]}
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    assert {each["port"] for each in probes} <= ports
    assert [each["path"] for each in probes] == [health.PATHS[kind] for kind in ("started", "ready", "live")]
    services = {each["metadata"]["name"]: each["spec"] for each in found if each["kind"] == "Service"}
    labels = proxy["spec"]["template"]["metadata"]["labels"]
    assert services[proxy["spec"]["serviceName"]]["selector"].items() <= labels.items()
