"""Pods as manifests, through launch document and files into the real runner, and its words back into a pod's status."""

from typing import Any

import msgspec
import pytest
from tests.integration.runner import boxes

from bareboat.access import documents
from bareboat.registry import configs
from bareboat.workload import pod as pods
from bareboat.workload import sources, ssh_launch, ssh_status, status, volume_files

NOW_S = 1_790_000_000.0
IMAGE = configs.Image(
    "docker.io/library/busybox",
    "sha256:abc",
    configs.Config(entrypoint=("sh", "-c"), cmd=("echo of the image; exit 9",), env=(("OF", "the image"),)),
)
FOUND = sources.Sources(
    {"c": sources.ConfigMap(data={"greeting": "hello"}, binary_data={"raw": b"\0\1"})},
    {"s": sources.Secret(data={"key": b"opensesame"})},
)


class Life:
    """One pod on one machine: its status after each of the runner's words, as the API would have it."""

    def __init__(self, box: boxes.Box, **spec: Any) -> None:
        metadata = {"name": "web", "namespace": "ns", "uid": "0b5f", "generation": 1, "labels": {"app": "web"}}
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            container["image"] = "busybox"
        self.pod = msgspec.convert({"metadata": metadata, "spec": {"restartPolicy": "Never", **spec}}, pods.Pod)
        built = ssh_launch.build(self.pod, ssh_launch.Known(IMAGE, FOUND), attempt="1")
        assert built.launch is not None, built.blocking
        tokens = {each.request: volume_files.Token("t0ken", 0, 1) for each in volume_files.tokens(self.pod)}
        made = volume_files.build(self.pod, FOUND, sources.NodeFacts(), tokens)
        assert made.blocking is None
        for volume, files in made.files.items():
            for path, (content, mode) in files.items():
                place = box.root / "incoming" / volume / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
                place.chmod(mode)
        self.follower = box.run(built.launch)
        self.phases: list[str] = []

    def ended(self) -> pods.PodStatus:
        """The last status. On the way to it, the laws that hold at every step."""
        self.follower.ended()
        for state in self.follower.states:
            self.take(state)
        return self.pod.status

    def take(self, state: documents.State) -> None:
        known = ssh_status.Known(NOW_S, state, image_id=IMAGE.image_id, network_up=True)
        now = ssh_status.build(self.pod, known, "10.0.0.1", NOW_S)
        for each in (*now.container_statuses, *now.init_container_statuses):
            standing = [each.state.waiting, each.state.running, each.state.terminated]
            assert sum(one is not None for one in standing) == 1
        if not self.phases or self.phases[-1] != now.phase:
            self.phases.append(now.phase)
        self.pod = msgspec.structs.replace(self.pod, status=now)


def main(script: str, **more: Any) -> dict[str, Any]:
    return {"name": "main", "args": [script], **more}


def terminated(found: pods.PodStatus, name: str = "main") -> pods.Terminated:
    every = (*found.container_statuses, *found.init_container_statuses)
    how = next(each.state.terminated for each in every if each.name == name)
    assert how is not None
    return how


def test_pod_with_files_of_every_kind_steps_and_a_sidecar_succeeds(either_box: boxes.Box) -> None:
    at = either_box.files / "etc"
    volumes = [
        {"name": "config", "configMap": {"name": "c", "items": [{"key": "greeting", "path": "deep/greeting"}]}},
        {"name": "secret", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "all", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token"}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ]}},
        {"name": "scratch", "emptyDir": {}},
    ]  # fmt: skip
    scratch = {"name": "scratch", "mountPath": f"{at}/scratch"}
    life = Life(
        either_box,
        volumes=volumes,
        initContainers=[
            {"name": "step", "args": [f"echo prepared > {at}/scratch/made"], "volumeMounts": [scratch]},
            {"name": "side", "args": ["trap 'exit 0' TERM; while :; do sleep 0.02; done"], "restartPolicy": "Always"},
        ],
        containers=[
            main(
                f'cd {at}; cat config/deep/greeting; echo; cat secret/key; echo; cat all/token all/labels; echo; '
                f'cat scratch/made; stat -L -c %a secret/key; echo "$WHO $OF $HOSTNAME"',
                env=[{"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                volumeMounts=[scratch, *({"name": name, "mountPath": f"{at}/{name}"} for name in
                                         ("config", "secret", "all"))],
            )
        ],
    )  # fmt: skip
    found = life.ended()
    assert either_box.log() == 'hello\nopensesame\nt0kenapp="web"\nprepared\n400\nweb the image web\n'
    assert (found.phase, life.phases[-2:]) == ("Succeeded", ["Running", "Succeeded"])
    assert [terminated(found, name).reason for name in ("step", "main")] == ["Completed", "Completed"]
    assert {each.type: (each.status, each.reason) for each in found.conditions}["Ready"] == ("False", "PodCompleted")
    ids = [each.container_id for each in (*found.container_statuses, *found.init_container_statuses)]
    assert all(each.startswith(ssh_status.SCHEME) for each in ids)
    assert len(set(ids)) == 3
    assert found.container_statuses[0].image_id == IMAGE.image_id


def test_image_decides_what_the_pod_leaves_open_and_its_exit_code_fails_the_pod(box: boxes.Box) -> None:
    life = Life(box, containers=[{"name": "main", "terminationMessagePolicy": "FallbackToLogsOnError"}])
    found = life.ended()
    assert (found.phase, terminated(found).exit_code, terminated(found).reason) == ("Failed", 9, "Error")
    assert "of the image" in terminated(found).message


def test_failed_step_ends_the_pod_before_its_containers_begin(box: boxes.Box) -> None:
    life = Life(box, initContainers=[{"name": "step", "args": ["exit 4"]}], containers=[main("echo never")])
    found = life.ended()
    assert (found.phase, terminated(found, "step").exit_code) == ("Failed", 4)
    assert found.container_statuses[0].state.waiting is not None
    assert {each.type: each.status for each in found.conditions}["Initialized"] == "False"
    assert life.phases == ["Pending", "Failed"]


def test_command_that_does_not_exist_has_a_state_that_says_so(box: boxes.Box) -> None:
    life = Life(box, containers=[{"name": "main", "command": ["/no/such/program"]}])
    found = life.ended()
    assert found.phase == "Failed"
    assert terminated(found).exit_code in (127, 128)
    assert "/no/such/program" in terminated(found).message


@pytest.mark.parametrize(("policy", "code", "restarts"), [("OnFailure", 0, 1), ("Always", 3, 1)])
def test_restarted_container_has_a_last_state_and_counts(box: boxes.Box, policy: str, code: int, restarts: int) -> None:
    mark = box.files / "mark"
    script = f"[ -e {mark} ] && {{ sleep 0.2; exit {code}; }}; touch {mark}; exit 3"
    box.environment["RUNNER_TIME_SCALE"] = "50"
    life = Life(box, restartPolicy=policy, containers=[main(script)])
    state = life.follower.until(
        lambda told: told.containers[0].restarts >= restarts and bool(told.containers[0].running)
    )
    life.take(state)
    now = life.pod.status.container_statuses[0]
    assert (life.pod.status.phase, now.restart_count) == ("Running", restarts)
    last = now.last_state.terminated
    assert last is not None
    assert (last.exit_code, last.container_id != now.container_id) == (3, True)
    if policy == "OnFailure":
        assert life.ended().phase == "Succeeded"
    else:
        life.follower.ask("stop", grace_s=1)
        assert life.ended().phase == "Failed"


def test_readiness_and_events_of_a_probe_with_a_named_port(box: boxes.Box) -> None:
    life = Life(
        box,
        containers=[
            main(
                "sleep 60",
                ports=[{"containerPort": 1, "name": "web"}],
                readinessProbe={"tcpSocket": {"port": "web"}, "periodSeconds": 1},
            )
        ],
    )
    state = life.follower.until(lambda told: any(each.reason == "Unhealthy" for each in told.occurrences))
    life.take(state)
    now = {each.type: each.status for each in life.pod.status.conditions}
    assert (now["Ready"], now["Initialized"], life.pod.status.phase) == ("False", "True", "Running")
    events = [each for each in ssh_status.events(life.pod, state, 0) if each.reason == "Unhealthy"]
    assert events[0].field_path == "spec.containers{main}"
    assert events[0].warning
    assert events[0].message.startswith("Readiness probe failed")


def test_pod_that_is_told_to_stop_ends_by_its_exit_code(box: boxes.Box) -> None:
    script = "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done"
    life = Life(box, restartPolicy="Always", containers=[main(script)])
    boxes.eventually(lambda: "up" in box.log(), "its trap is set")
    life.follower.ask("stop", grace_s=5)
    found = life.ended()
    assert (found.phase, terminated(found).exit_code) == ("Succeeded", 0)
    assert found.phase in status.TERMINAL
