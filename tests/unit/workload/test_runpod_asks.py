"""Annotations under `runpod.io/`: what they ask of a machine, and what of a launch."""

import pytest

from bareboat.core import launches, needs, offers
from bareboat.kube import objects
from bareboat.workload import annotations, launch, runpod_asks
from bareboat.workload import needs as wants
from bareboat.workload import pod as pods

OFFER = offers.Offer("runpod", "o", "RTX A4000", 1, 0.25)


def a_pod(**notes: str) -> pods.Pod:
    given = {f"runpod.io/{name.replace('_', '-')}": text for name, text in notes.items()}
    container = pods.Container(name="main", image="busybox", command=["true"], ports=[pods.ContainerPort(8000)])
    return pods.Pod(objects.ObjectMeta(name="x", annotations=given), pods.PodSpec(containers=[container]))


def wanted(**notes: str) -> needs.Needs:
    return wants.from_pod(a_pod(**notes), wants.Defaults(min_reliability=0.9))


def test_nothing_is_asked_without_them() -> None:
    assert runpod_asks.read(None) == runpod_asks.Asks()
    assert wanted() == wants.from_pod(pods.Pod(objects.ObjectMeta(), a_pod().spec), wants.Defaults(min_reliability=0.9))


def test_memory_is_a_need_on_any_cloud() -> None:
    assert wanted(required_gpu_memory="16").gpu_memory_gib == 16 and wanted(required_gpu_memory="16").clouds == ()


def test_our_own_annotation_goes_before_runpods() -> None:
    pod = a_pod(required_gpu_memory="16")
    assert pod.metadata.annotations is not None
    pod.metadata.annotations["bareboat.dev/min-gpu-memory-gib"] = "40"
    assert wants.from_pod(pod, wants.Defaults()).gpu_memory_gib == 40


def test_data_centres_are_regions_of_runpod_alone() -> None:
    found = wanted(datacenter_ids="EU-RO-1, us-ks-2,EUR-IS-1")
    assert (found.regions, found.clouds) == (("RO-1", "US-KS-2", "IS-1"), ("runpod",))


@pytest.mark.parametrize(
    ("text", "datacenter", "verified", "reliability"),
    [("SECURE", True, True, 0.9), ("community", False, False, 0.0), ("ALL", None, True, 0.9)],
)
def test_cloud_type_chooses_among_runpods_two(
    text: str, datacenter: bool | None, verified: bool, reliability: float
) -> None:
    found = wanted(cloud_type=text)
    assert (found.datacenter, found.verified_only, found.min_reliability) == (datacenter, verified, reliability)


@pytest.mark.parametrize("ssh", [False, True])
def test_template_login_and_ports_go_into_the_launch(ssh: bool) -> None:
    pod = a_pod(templateId="tpl1", container_registry_auth_id="reg1", ports="8000/http,22/tcp,9000")
    need = wants.from_pod(pod, wants.Defaults())
    if ssh:
        made = launch.build_for_ssh(pod, login=None, wanted=need, offer=OFFER, public_keys=())
    else:
        made = launch.build(pod, command=("true",), args=(), env={}, login=None, wanted=need, offer=OFFER, attempt="1")
    assert (made.template, made.registry_auth_id) == ("tpl1", "reg1")
    assert made.ports == (launches.Port(8000, "HTTP"), launches.Port(22, "TCP"), launches.Port(9000, "TCP"))
    assert need.clouds == ("runpod",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("required_gpu_memory", "16GB"),
        ("required_gpu_memory", "1e3"),
        ("required_gpu_memory", "20000"),
        ("required_gpu_memory", "٣"),
        ("cloud_type", "secure-ish"),
        ("datacenter_ids", "EU-RO-99"),
        ("templateId", "../x"),
        ("container_registry_auth_id", "a" * 65),
        ("ports", "0/tcp"),
        ("ports", "80:80"),
        ("ports", ",".join(f"{port}/http" for port in range(1, 12))),
    ],
)
def test_nonsense_names_the_annotation(name: str, text: str) -> None:
    with pytest.raises(annotations.Invalid, match=f"annotation runpod.io/{name.replace('_', '-')} is .*; allowed: "):
        wanted(**{name: text})
