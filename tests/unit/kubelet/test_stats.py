"""Figures in the shapes that metrics-server and Prometheus read."""

import json

import msgspec
from prometheus_client import parser

from bareboat.kubelet import containers, stats

NOW_S = 1_790_000_000.0
POD = stats.PodReference(name="p", namespace="default", uid="u-1")


def measured() -> stats.Summary:
    cpu = stats.Cpu.at(NOW_S, nano_cores=250_000_000, core_nano_seconds=1_500_000_000)
    memory = stats.Memory.at(NOW_S, working_set_bytes=4096)
    gpu = stats.Accelerator(
        make="nvidia", model="RTX 4090", id="GPU-0", memory_total=24 * 2**30, memory_used=2**30, duty_cycle=50
    )
    started = cpu.time
    container = stats.Container(name="main", start_time=started, cpu=cpu, memory=memory, accelerators=[gpu])
    pod = stats.Pod(pod_ref=POD, start_time=started, containers=[container], cpu=cpu, memory=memory)
    return stats.Summary(stats.Node(node_name="virt-1"), [pod])


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], tuple[float, object]]:
    return {
        (sample.name, tuple(sample.labels.items())): (sample.value, sample.timestamp)
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_summary_is_stats_v1alpha1() -> None:
    answer = json.loads(msgspec.json.encode(measured()))
    assert answer["node"] == {"nodeName": "virt-1"}
    (pod,) = answer["pods"]
    assert pod["podRef"] == {"name": "p", "namespace": "default", "uid": "u-1"}
    (container,) = pod["containers"]
    assert container["cpu"] == {
        "time": "2026-09-21T14:13:20Z",
        "usageNanoCores": 250_000_000,
        "usageCoreNanoSeconds": 1_500_000_000,
    }
    assert container["memory"] == {"time": "2026-09-21T14:13:20Z", "workingSetBytes": 4096}
    assert container["accelerators"][0]["memoryTotal"] == 24 * 2**30


def test_accelerators_are_left_out_when_only_cpu_and_memory_are_asked_for() -> None:
    answer = json.loads(msgspec.json.encode(stats.cpu_and_memory_only(measured())))
    assert "accelerators" not in answer["pods"][0]["containers"][0]
    assert "cpu" in answer["pods"][0]["containers"][0]


def test_resource_metrics_carry_their_time_and_sorted_labels() -> None:
    text = stats.resource_text(measured())
    assert (
        'container_cpu_usage_seconds_total{container="main",namespace="default",pod="p"} 1.500000000 1790000000000\n'
        in text
    )
    found = samples(text)
    container = (("container", "main"), ("namespace", "default"), ("pod", "p"))
    pod = (("namespace", "default"), ("pod", "p"))
    assert found["container_memory_working_set_bytes", container] == (4096, NOW_S)
    assert found["container_start_time_seconds", container] == (NOW_S, NOW_S)
    assert found["pod_cpu_usage_seconds_total", pod] == (1.5, NOW_S)
    assert found["pod_memory_working_set_bytes", pod] == (4096, NOW_S)
    assert found["resource_scrape_error", ()] == (0, None)


def test_cadvisor_metrics_name_the_container() -> None:
    container = (("container", "main"), ("namespace", "default"), ("pod", "p"))
    assert samples(stats.cadvisor_text(measured())) == {
        ("container_cpu_usage_seconds_total", container): (1.5, NOW_S),
        ("container_memory_working_set_bytes", container): (4096, NOW_S),
    }


def test_a_node_that_measures_nothing_lists_what_runs_and_since_when() -> None:
    started = "2026-09-21T14:13:20Z"
    pods = [
        {
            "metadata": {"name": "p", "namespace": "default", "uid": "u-1", "labels": {"a": "b"}},
            "spec": {"nodeName": "virt-1"},
            "status": {
                "startTime": started,
                "containerStatuses": [
                    {"name": "main", "state": {"running": {"startedAt": started}}},
                    {"name": "done", "state": {"terminated": {"exitCode": 0}}},
                ],
            },
        },
        msgspec.Raw(b'{"metadata": {"name": "q", "namespace": "default", "uid": "u-2"}}'),
        {"metadata": {"name": "r", "namespace": "default", "uid": "u-3"}, "status": {"containerStatuses": None}},
    ]
    summary = stats.of_pods("virt-1", pods)
    assert [(pod.pod_ref, [container.name for container in pod.containers]) for pod in summary.pods] == [
        (POD, ["main"])
    ]
    found = samples(stats.resource_text(summary))
    container = (("container", "main"), ("namespace", "default"), ("pod", "p"))
    assert found == {
        ("container_start_time_seconds", container): (NOW_S, NOW_S),
        ("resource_scrape_error", ()): (0, None),
        ("scrape_error", ()): (0, None),
    }


def running(*names: str, sidecar: str = "") -> dict[str, object]:
    state = {"running": {"startedAt": "2026-09-21T14:13:20Z"}}
    return {
        "metadata": {"name": "p", "namespace": "default", "uid": "u-1"},
        "status": {
            "containerStatuses": [{"name": name, "state": state} for name in names],
            "initContainerStatuses": [{"name": sidecar, "state": state}] if sidecar else None,
        },
    }


def usage(container: str, cpu_ns: int, **more: int) -> containers.Usage:
    return containers.Usage(container, NOW_S + 0.25, cpu_ns, memory_bytes=8192, working_set_bytes=4096, **more)


def test_figures_of_each_container_come_from_the_machine_and_add_up() -> None:
    asked = []

    def used(pod: containers.PodRef) -> list[containers.Usage]:
        asked.append(pod)
        return [usage("main", 1_500_000_000, cpu_nano_cores=250_000_000), usage("helper", 500_000_000)]

    summary = stats.of_pods("virt-1", [running("main", "unmeasured", sidecar="helper")], used)
    assert asked == [containers.PodRef("default", "p", "u-1")]
    found = samples(stats.resource_text(summary))
    pod = (("namespace", "default"), ("pod", "p"))
    main, helper = ((("container", name), *pod) for name in ("main", "helper"))
    assert found["container_cpu_usage_seconds_total", main] == (1.5, NOW_S + 0.25)
    assert found["container_memory_working_set_bytes", helper] == (4096, NOW_S + 0.25)
    assert found["pod_cpu_usage_seconds_total", pod] == (2.0, NOW_S + 0.25)
    assert found["node_memory_working_set_bytes", ()] == (8192, NOW_S + 0.25)
    assert ("container_cpu_usage_seconds_total", (("container", "unmeasured"), *pod)) not in found
    assert found["container_start_time_seconds", (("container", "unmeasured"), *pod)] == (NOW_S, NOW_S)
    answer = json.loads(msgspec.json.encode(summary))
    by_name = {container["name"]: container for container in answer["pods"][0]["containers"]}
    assert by_name["main"]["cpu"]["usageNanoCores"] == 250_000_000
    assert by_name["main"]["memory"]["usageBytes"] == 8192


def test_the_nodes_cpu_time_never_goes_back() -> None:
    meter = stats.Meter()

    def total(*pods: dict[str, object], cpu_ns: int) -> int | None:
        summary = meter.of_node(stats.of_pods("virt-1", pods, lambda _: [usage("main", cpu_ns)]))
        return None if summary.node.cpu is None else summary.node.cpu.usage_core_nano_seconds

    assert total(running("main"), cpu_ns=5) == 5
    assert total(running("main"), cpu_ns=7) == 7
    assert total(running("main"), cpu_ns=1) == 8
    assert total(cpu_ns=0) is None
    assert total(running("main"), cpu_ns=3) == 11
