"""What a pod asks for, and what it can't mean."""

from typing import Any

import msgspec
import pytest

from bareboat.core import needs as core_needs
from bareboat.workload import annotations as notes
from bareboat.workload import needs
from bareboat.workload import pod as pods

DEFAULTS = needs.Defaults()


def a_pod(annotations: dict[str, str] | None = None, *several: dict[str, Any], **resources: Any) -> pods.Pod:
    containers = list(several) or [{"name": "main", "resources": resources}]
    told = {"metadata": {"name": "a", "annotations": annotations or {}}, "spec": {"containers": containers}}
    return msgspec.convert(told, pods.Pod)


def asked(**annotations: str) -> core_needs.Needs:
    return needs.from_pod(
        a_pod({f"bareboat.dev/{key.replace('_', '-')}": text for key, text in annotations.items()}), DEFAULTS
    )


def test_a_pod_that_says_nothing_gets_the_defaults() -> None:
    assert needs.from_pod(a_pod(), DEFAULTS) == core_needs.Needs(gpu_count=0, max_usd_per_hour=1.0)


@pytest.mark.parametrize(
    ("resources", "count"),
    [
        ({"limits": {"nvidia.com/gpu": "2"}}, 2),
        ({"limits": {"nvidia.com/gpu": 4}}, 4),
        ({"requests": {"nvidia.com/gpu": "3"}}, 3),
        ({"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}}, 1),
        ({}, 0),
    ],
)
def test_gpus_are_counted_from_limits_else_requests(resources: dict[str, Any], count: int) -> None:
    assert needs.gpu_count(a_pod(None, **resources)) == count


@pytest.mark.parametrize("amount", ["0.5", "-1", "many", "1e400", "2000", ""])
def test_a_number_of_gpus_that_makes_no_sense_is_refused_by_name(amount: str) -> None:
    with pytest.raises(notes.Invalid) as wrong:
        needs.gpu_count(a_pod(None, limits={"nvidia.com/gpu": amount}))
    assert "spec.containers[0].resources.limits[nvidia.com/gpu]" in str(wrong.value) and repr(amount) in str(
        wrong.value
    )


def test_containers_are_added_up() -> None:
    one = {
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "5Gi"}},
        "ports": [{"containerPort": 80}],
    }
    found = needs.from_pod(a_pod(None, {"name": "a", **one}, {"name": "b", **one}), DEFAULTS)
    assert (found.cpu_cores, found.memory_gib, found.disk_gib, found.ports) == (1.0, 2.0, 10.0, 2)


def test_init_containers_count_as_the_scheduler_counts_them() -> None:
    """One after the other, but sidecars stay: 4 cores while the second step runs beside the sidecar."""

    def asks(name: str, cores: int, gpus: int = 0, **more: Any) -> dict[str, Any]:
        return {"name": name, "resources": {"requests": {"cpu": cores}, "limits": {"nvidia.com/gpu": gpus}}, **more}

    pod = msgspec.convert(
        {
            "metadata": {},
            "spec": {
                "initContainers": [asks("a", 2, 2), asks("side", 1, restartPolicy="Always"), asks("b", 3)],
                "containers": [asks("main", 2, 1)],
            },
        },
        pods.Pod,
    )
    assert (needs.from_pod(pod, DEFAULTS).cpu_cores, needs.gpu_count(pod)) == (4.0, 2)


def test_every_annotation_is_taken() -> None:
    found = asked(
        gpu_names="RTX 4090, H100",
        min_gpu_memory_gib="24",
        max_usd_per_hour="0.7",
        regions="US-CA,SE",
        min_reliability="0.98",
        disk_gib="50",
        pricing="interruptible",
        clouds="Vast, runpod",
        verified_only="false",
        min_cuda="12.4",
        min_inet_down_mbps="500",
    )
    assert found == core_needs.Needs(
        gpu_count=0,
        gpu_names=("RTX 4090", "H100"),
        gpu_memory_gib=24,
        disk_gib=50,
        max_usd_per_hour=0.7,
        regions=("US-CA", "SE"),
        min_reliability=0.98,
        min_inet_down_mbps=500,
        min_cuda=12.4,
        verified_only=False,
        pricing=core_needs.Pricing.SPOT,
        clouds=("vast", "runpod"),
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("max_usd_per_hour", "0"),
        ("max_usd_per_hour", "free"),
        ("max_usd_per_hour", "nan"),
        ("min_reliability", "99"),
        ("disk_gib", "0"),
        ("regions", "Mars!"),
        ("regions", "US-CA,somewhere"),
        ("pricing", "cheap"),
        ("verified_only", "perhaps"),
        ("min_cuda", "-1"),
    ],
)
def test_an_annotation_that_makes_no_sense_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(notes.Invalid, match=rf"annotation bareboat.dev/{name.replace('_', '-')} is .*; allowed: .+"):
        asked(**{name: text})


@pytest.mark.parametrize(
    ("own", "default", "cap", "expected"),
    [
        (None, 1.0, None, 1.0),
        ("2", 1.0, None, 2.0),
        ("2", 1.0, 1.5, 1.5),
        (None, 1.0, 0.5, 0.5),
        (None, None, 0.5, 0.5),
        (None, None, None, None),
        ("0.2", 1.0, 0.5, 0.2),
    ],
)
def test_no_word_of_the_pod_gets_past_the_cap(
    own: str | None, default: float | None, cap: float | None, expected: float | None
) -> None:
    annotations = {} if own is None else {"bareboat.dev/max-usd-per-hour": own}
    defaults = needs.Defaults(max_usd_per_hour=default, pod_cap_usd_per_hour=cap)
    assert needs.from_pod(a_pod(annotations), defaults).max_usd_per_hour == expected


def test_disk_comes_from_the_annotation_else_the_request_else_the_default() -> None:
    request = {"requests": {"ephemeral-storage": "20Gi"}}
    assert needs.from_pod(a_pod({"vast.ai/disk": "30"}, **request), DEFAULTS).disk_gib == 30
    assert needs.from_pod(a_pod(None, **request), DEFAULTS).disk_gib == 20
    assert needs.from_pod(a_pod(), needs.Defaults(disk_gib=15)).disk_gib == 15
