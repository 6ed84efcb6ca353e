"""A pod becomes a launch document with nothing left to look up, by the rules of kubelet and container runtime."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bareboat.access import documents
from bareboat.registry import configs
from bareboat.workload import pod as pods
from bareboat.workload import sources, ssh_launch

CONFIG = configs.Config(
    entrypoint=("/entry", "-x"),
    cmd=("serve",),
    env=(("PATH", "/image/bin"), ("A", "image")),
    user="web:www",
    working_dir="/image",
    stop_signal="QUIT",
)


def a_pod(container: dict[str, Any] | None = None, *, name: str = "p", **spec: Any) -> pods.Pod:
    first = {"name": "main", "image": "x", **(container or {})}
    metadata = {"name": name, "namespace": "ns", "uid": "u"}
    return msgspec.convert({"metadata": metadata, "spec": {"containers": [first], **spec}}, pods.Pod)


def built(pod: pods.Pod, config: configs.Config = CONFIG, **known: Any) -> ssh_launch.Built:
    image = configs.Image("docker.io/library/x", "sha256:1", config)
    return ssh_launch.build(pod, ssh_launch.Known(image=image, **known), attempt="7")


def launched(pod: pods.Pod, config: configs.Config = CONFIG, **known: Any) -> documents.Launch:
    made = built(pod, config, **known)
    assert made.blocking is None
    assert made.launch is not None
    return made.launch


def container(raw: dict[str, Any] | None = None, config: configs.Config = CONFIG, **spec: Any) -> documents.Container:
    return launched(a_pod(raw, **spec), config).containers[0]


def blocked(pod: pods.Pod, config: configs.Config = CONFIG) -> ssh_launch.Problem:
    made = built(pod, config)
    assert made.launch is None
    assert made.blocking is not None
    return made.blocking


@pytest.mark.parametrize(
    ("command", "args", "argv"),
    [
        (None, None, ("/entry", "-x", "serve")),
        (None, ["$(A)"], ("/entry", "-x", "pod")),
        (["run"], None, ("run",)),
        (["run", "$(A)", "$$(A)", "$(NONE)"], ["$(PATH)"], ("run", "pod", "$(A)", "$(NONE)", "$(PATH)")),
        ([], [], ("/entry", "-x", "serve")),
    ],
)
def test_command_and_arguments_stand_over_the_images(
    command: list[str] | None, args: list[str] | None, argv: tuple[str, ...]
) -> None:
    """References see the pod's own variables, never the image's."""
    env = [{"name": "A", "value": "pod"}]
    assert container({"command": command, "args": args, "env": env}).argv == argv


def test_pod_and_image_that_say_nothing_of_a_command_cannot_start() -> None:
    problem = blocked(a_pod(), configs.Config())
    assert (problem.reason, problem.lasting) == ("CreateContainerError", True)
    assert "no command specified" in problem.message


def test_environment_is_the_images_under_the_pods() -> None:
    found = container({"env": [{"name": "A", "value": "pod"}, {"name": "B", "value": "$(A)!"}]})
    assert dict(found.env) == {"HOSTNAME": "p", "PATH": "/image/bin", "A": "pod", "B": "pod!"}


def test_missing_reference_blocks_with_the_kubelets_words() -> None:
    pod = a_pod({"envFrom": [{"configMapRef": {"name": "c"}}]})
    made = built(pod, found=sources.Sources({"c": None}))
    assert made.blocking == ssh_launch.Problem("main", "CreateContainerConfigError", 'configmap "c" not found')


def test_missing_optional_reference_is_told_once_for_all_containers() -> None:
    source = {"envFrom": [{"secretRef": {"name": "s", "optional": True}}]}
    pod = a_pod(source, initContainers=[{"name": "i", "image": "x", **source}])
    made = built(pod, found=sources.Sources({}, {"s": None}))
    assert made.launch is not None
    assert len(made.told) == 1


@pytest.mark.parametrize(
    ("pod_context", "own", "image_user", "user"),
    [
        ({}, {}, "web:www", "web:www"),
        ({}, {}, "", ""),
        ({"runAsUser": 5}, {}, "web:www", "5"),
        ({"runAsUser": 5}, {"runAsUser": 6}, "", "6"),
        ({"runAsUser": 5, "runAsGroup": 7}, {}, "web", "5:7"),
        ({"runAsGroup": 7}, {}, "web:www", "web:7"),
        ({"runAsGroup": 7}, {}, "", "0:7"),
        ({"runAsUser": 0}, {}, "web", "0"),
    ],
)
def test_container_runs_as_whom_it_says_else_its_pod_else_its_image(
    pod_context: dict[str, Any], own: dict[str, Any], image_user: str, user: str
) -> None:
    config = configs.Config(cmd=("x",), user=image_user)
    assert container({"securityContext": own}, config, securityContext=pod_context).user == user


WHO = '(pod: "p_ns(u)", container: main)'


@pytest.mark.parametrize(
    ("context", "image_user", "message"),
    [
        ({}, "", f"container has runAsNonRoot and image will run as root {WHO}"),
        ({}, "0:5", f"container has runAsNonRoot and image will run as root {WHO}"),
        ({"runAsUser": 0}, "5", f"container's runAsUser breaks non-root policy {WHO}"),
        (
            {},
            "web:www",
            "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root " + WHO,
        ),
    ],
)
def test_root_is_kept_out_in_the_kubelets_words(context: dict[str, Any], image_user: str, message: str) -> None:
    pod = a_pod({"securityContext": context}, securityContext={"runAsNonRoot": True})
    problem = blocked(pod, configs.Config(cmd=("x",), user=image_user))
    assert problem == ssh_launch.Problem("main", "CreateContainerConfigError", message, lasting=True)


@pytest.mark.parametrize(
    ("context", "image_user"), [({"runAsUser": 5}, ""), ({}, "1000"), ({"runAsNonRoot": False}, "")]
)
def test_others_are_let_in(context: dict[str, Any], image_user: str) -> None:
    pod = a_pod({"securityContext": context}, securityContext={"runAsNonRoot": True})
    assert launched(pod, configs.Config(cmd=("x",), user=image_user))


def test_restricted_profile_is_taken_to_the_letter() -> None:
    own = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    context = {"runAsUser": 1000, "fsGroup": 2000, "supplementalGroups": [3000, 2000]}
    found = container({"securityContext": own}, securityContext=context)
    assert (found.no_new_privileges, found.read_only_root, found.drop_capabilities) == (True, True, ("ALL",))
    assert (found.user, found.groups) == ("1000", (3000, 2000))


def test_capability_that_is_added_to_none_is_kept() -> None:
    kept = {"capabilities": {"drop": ["all"], "add": ["CAP_NET_BIND_SERVICE"]}}
    dropped = container({"securityContext": kept}).drop_capabilities
    assert "NET_BIND_SERVICE" not in dropped
    assert {"SYS_ADMIN", "NET_RAW", "CHOWN"} < set(dropped)


def test_probes_have_numbers_for_names() -> None:
    found = container(
        {
            "ports": [{"containerPort": 8080, "name": "web"}],
            "startupProbe": {"exec": {"command": ["ls", "/"]}, "failureThreshold": 30},
            "readinessProbe": {
                "httpGet": {"port": "web", "path": "ok", "scheme": "HTTPS",
                            "httpHeaders": [{"name": "H", "value": "v"}]},
                "initialDelaySeconds": 2, "periodSeconds": 3, "timeoutSeconds": 4, "successThreshold": 5,
            },
            "livenessProbe": {"grpc": {"port": 9000, "service": "s"}, "terminationGracePeriodSeconds": 0},
            "lifecycle": {
                "postStart": {"tcpSocket": {"port": "8081", "host": "h"}}, "preStop": {"sleep": {"seconds": 5}},
                "stopSignal": "SIGUSR1",
            },
        }
    )  # fmt: skip
    assert found.startup == documents.Probe(documents.Action("exec", command=("ls", "/")), failure_threshold=30)
    web = documents.Action("http", port=8080, path="/ok", scheme="HTTPS", headers=(documents.Header("H", "v"),))
    assert found.readiness == documents.Probe(web, 2, 3, 4, 5)
    assert found.liveness == documents.Probe(documents.Action("grpc", port=9000, service="s"), grace_s=0)
    assert found.post_start == documents.Action("tcp", host="h", port=8081)
    assert found.pre_stop == documents.Action("sleep", seconds=5)
    assert found.stop_signal == "SIGUSR1"


@pytest.mark.parametrize(
    ("asked", "signal"),
    [("", "SIGQUIT"), ("9", "SIGKILL"), ("SIGINT", "SIGINT"), ("usr1", "SIGUSR1"), ("SIGRTMIN+3", "SIGRTMIN+3"),
     ("99", "SIGTERM"), ("NONSENSE", "SIGTERM")],
)  # fmt: skip
def test_stop_signal_is_the_pods_else_the_images(asked: str, signal: str) -> None:
    assert container({"lifecycle": {"stopSignal": asked}}).stop_signal == signal


def test_image_without_a_stop_signal_ends_on_sigterm() -> None:
    assert container({}, configs.Config(cmd=("x",))).stop_signal == "SIGTERM"


def test_volumes_and_mounts() -> None:
    volumes = [
        {"name": "files", "configMap": {"name": "c"}},
        {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    mounts = [
        {"name": "files", "mountPath": "/etc/app", "subPath": "a/b"},
        {"name": "scratch", "mountPath": "/tmp", "subPathExpr": "$(WHO)/x", "readOnly": True},
        {"name": "scratch", "mountPath": "/var/tmp"},
    ]
    env = [{"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    pod = a_pod({"volumeMounts": mounts, "env": env}, volumes=volumes, securityContext={"fsGroup": 9})
    found = launched(pod)
    assert found.volumes == (
        documents.Volume("files", group=9),
        documents.Volume("scratch", in_memory=True, size_limit_bytes=2**20, mode=0o777, group=9),
    )
    assert found.containers[0].mounts == (
        documents.Mount("files", "/etc/app", "a/b", read_only=True),
        documents.Mount("scratch", "/tmp", "p/x", read_only=True),
        documents.Mount("scratch", "/var/tmp"),
    )


@pytest.mark.parametrize("mount", [{"subPathExpr": "$(NONE)"}, {"subPath": "../x"}, {"subPathExpr": "$(UP)"}])
def test_sub_path_that_leads_nowhere_or_out_is_refused(mount: dict[str, str]) -> None:
    raw = {"volumeMounts": [{"name": "v", "mountPath": "/x", **mount}], "env": [{"name": "UP", "value": "a/../../b"}]}
    problem = blocked(a_pod(raw, volumes=[{"name": "v", "emptyDir": {}}]))
    assert (problem.reason, problem.lasting) == ("CreateContainerConfigError", True)


@pytest.mark.parametrize(
    ("policy", "init", "own", "expected"),
    [
        ("Always", True, "", "OnFailure"),
        ("OnFailure", True, "", "OnFailure"),
        ("Never", True, "", "Never"),
        ("Never", True, "Always", "Always"),
        ("Never", False, "", "Never"),
        ("Always", False, "OnFailure", "OnFailure"),
    ],
)
def test_restart_policy_of_each_kind_of_container(policy: str, init: bool, own: str, expected: str) -> None:
    raw = {"name": "c", "image": "x", "restartPolicy": own}
    pod = a_pod(raw if not init else None, restartPolicy=policy, initContainers=[raw] if init else [])
    found = launched(pod)
    assert (found.init if init else found.containers)[0].restart == expected


@pytest.mark.parametrize(
    ("name", "spec", "expected"),
    [
        ("p", {}, "p"),
        ("p", {"hostname": "h"}, "h"),
        ("a" * 62 + ".-b", {}, "a" * 62),
        ("p", {"hostname": "h", "subdomain": "s"}, "h"),
        ("p", {"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": True}, "h.s.ns.svc.cluster.local"),
        ("p", {"hostname": "h", "hostnameOverride": "o.example.com"}, "o.example.com"),
    ],
)
def test_hostname(name: str, spec: dict[str, Any], expected: str) -> None:
    found = launched(a_pod(name=name, **spec))
    assert found.hostname == expected
    assert ("HOSTNAME", expected) in found.containers[0].env


def test_everything_of_the_pod_as_a_whole() -> None:
    aliases = [{"ip": "10.0.0.1", "hostnames": ["a", "b"]}]
    found = launched(a_pod({"terminationMessagePolicy": "FallbackToLogsOnError", "stdin": True, "tty": True,
                            "resources": {"limits": {"memory": "1Gi", "cpu": "250m"}}, "workingDir": "/own"},
                           hostAliases=aliases, subdomain="s", terminationGracePeriodSeconds=0))  # fmt: skip
    assert (found.pod_uid, found.attempt, found.namespace, found.pod_name) == ("u", "7", "ns", "p")
    assert found.host_aliases == (documents.HostAlias("10.0.0.1", ("a", "b")),)
    assert (found.subdomain, found.grace_s) == ("s", 0)
    main = found.containers[0]
    assert (main.memory_limit_bytes, main.cpu_limit_millis) == (2**30, 250)
    assert (main.working_dir, main.stdin, main.tty, main.termination_message_from_log) == ("/own", True, True, True)
    assert main.termination_message_path == "/dev/termination-log"


def test_container_that_says_nothing_works_in_the_images_folder_with_the_default_grace() -> None:
    found = launched(a_pod())
    assert (found.containers[0].working_dir, found.grace_s) == ("/image", 30)


words = st.text(alphabet="ab$() ", max_size=12)
raws = st.fixed_dictionaries(
    {},
    optional={
        "command": st.lists(words, max_size=3),
        "args": st.lists(words, max_size=3),
        "env": st.lists(st.fixed_dictionaries({"name": st.sampled_from("ABC"), "value": words}), max_size=4),
        "workingDir": words,
        "restartPolicy": st.sampled_from(["", "Always", "Never"]),
        "securityContext": st.fixed_dictionaries(
            {}, optional={"runAsUser": st.integers(0, 9), "capabilities": st.just({"drop": ["ALL"], "add": ["KILL"]})}
        ),
        "livenessProbe": st.sampled_from([{"exec": {}}, {"httpGet": {"port": "x"}}, {}, {"grpc": {"port": 70000}}]),
    },
)


@settings(deadline=None)
@given(
    st.lists(raws, min_size=1, max_size=3),
    st.lists(raws, max_size=2),
    st.sampled_from(["Always", "OnFailure", "Never"]),
)
def test_every_document_can_be_written_and_read_back(
    containers: list[dict[str, Any]], init: list[dict[str, Any]], policy: str
) -> None:
    """And no container of it lacks a command, a name or a known way to restart."""
    named = [{"name": f"c{number}", "image": "x", **raw} for number, raw in enumerate(containers)]
    first = [{"name": f"i{number}", "image": "x", **raw} for number, raw in enumerate(init)]
    made = built(a_pod(containers=named, initContainers=first, restartPolicy=policy))
    assert (made.launch is None) is (made.blocking is not None)
    if made.launch is not None:
        text = msgspec.json.encode(made.launch)
        assert msgspec.json.decode(text, type=documents.Launch) == made.launch
        assert json.loads(text)["pod_uid"] == "u"
        for each in (*made.launch.init, *made.launch.containers):
            assert each.argv
            assert each.restart in ("Always", "OnFailure", "Never")


def test_values_of_the_environment_are_in_no_repr() -> None:
    assert "opensesame" not in repr(built(a_pod({"env": [{"name": "A", "value": "opensesame"}]})))
