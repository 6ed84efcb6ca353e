"""What a Job's annotations say about leaving; what makes no sense keeps it here, with a sentence."""

import pytest
from tests.unit.offload.jobbing import FORCED, MANAGED, a_job

from bareboat.offload import selectors, wishes
from bareboat.workload import annotations


def test_jobs_without_the_annotation_are_nobody_of_ours() -> None:
    assert wishes.read(a_job(annotations={})) is None
    assert wishes.read(a_job(annotations={"runpod.io/managed": "false"})) is None
    assert wishes.read(a_job(annotations={"runpod.io/offload": "true"})) is None
    assert wishes.read(a_job(annotations={}, gpus="nonsense")) is None


@pytest.mark.parametrize("prefix", ["runpod.io/", "bareboat.dev/"])
def test_both_prefixes_say_the_same(prefix: str) -> None:
    wish = wishes.read(a_job(annotations={f"{prefix}managed": "true"}, gpus=2))
    assert wish is not None and (wish.gpus, wish.forced_by) == (2, "")
    forced = wishes.read(a_job(annotations={f"{prefix}managed": "True", f"{prefix}offload": "true"}))
    assert forced is not None and forced.forced_by == f"{prefix}offload"


def test_a_jobs_annotations_are_handed_down_and_results_are_not() -> None:
    asked = {
        "runpod.io/required-gpu-memory": "16",
        "runpod.io/cloud-type": "SECURE",
        "runpod.io/templateId": "abc123",
        "runpod.io/datacenter-ids": "EU-RO-1,US-KS-2",
        "runpod.io/ports": "8888/http,22/tcp",
        "runpod.io/container-registry-auth-id": "cl1",
        "bareboat.dev/gpu-names": "RTX 4090",
        "vast.ai/max-price": "0.2",
    }
    results = {"runpod.io/pod-id": "x", "bareboat.dev/instances": "[]", "example.com/mine": "1"}
    wish = wishes.read(a_job(annotations={**FORCED, **asked, **results}))
    assert wish is not None and wish.handed_down == asked
    assert wish.most_usd_per_hour == 0.2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"runpod.io/managed": "yes"}, 'annotation runpod.io/managed is \'yes\'; allowed: "true" or "false"'),
        ({**MANAGED, "runpod.io/offload": "1"}, 'annotation runpod.io/offload is \'1\'; allowed: "true" or "false"'),
        ({**MANAGED, "runpod.io/required-gpu-memory": "16GB"}, "is '16GB'; allowed: a number from 0 to 10000, in GB"),
        ({**MANAGED, "runpod.io/required-gpu-memory": "lots"}, "is 'lots'; allowed: a number"),
        ({**MANAGED, "runpod.io/required-gpu-memory": "-1"}, "is '-1'; allowed: a number"),
        ({**MANAGED, "runpod.io/required-gpu-memory": "nan"}, "is 'nan'; allowed: a number"),
        (
            {**MANAGED, "runpod.io/datacenter-ids": "EU-RO-1,XX-YY-9"},
            "datacenter-ids is 'XX-YY-9'; allowed: data centres",
        ),
        ({**MANAGED, "runpod.io/cloud-type": "cheap"}, "cloud-type is 'cheap'; allowed: SECURE, COMMUNITY or ALL"),
        ({**MANAGED, "runpod.io/templateId": "a b"}, "templateId is 'a b'; allowed: the id of a template"),
        ({**MANAGED, "runpod.io/ports": "99999/tcp"}, "ports is '99999/tcp'; allowed: ports from 1 to 65535"),
        ({**MANAGED, "runpod.io/ports": "80/udp"}, "ports is '80/udp'; allowed"),
        ({**MANAGED, "bareboat.dev/max-usd-per-hour": "cheap"}, "max-usd-per-hour is 'cheap'; allowed: a number"),
    ],
)
@pytest.mark.parametrize("where", ["job", "template"])
def test_nonsense_names_annotation_value_and_what_is_allowed(given: dict[str, str], told: str, where: str) -> None:
    own = {name: text for name, text in given.items() if name not in MANAGED}
    job = a_job(annotations=given) if where == "job" or len(given) == 1 else a_job(template=own)
    if where == "template" and "runpod.io/offload" in own:
        assert wishes.read(job) is not None  # a pod does not decide when its Job leaves
        return
    with pytest.raises(annotations.Invalid) as caught:
        wishes.read(job)
    assert told in str(caught.value)


def test_a_job_without_gpu_stays() -> None:
    with pytest.raises(annotations.Invalid, match="at least 1 GPU"):
        wishes.read(a_job(gpus=None))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        ("tier=batch", True),
        ("tier==batch,team=a", True),
        ("tier!=batch", False),
        ("team in (a, b)", True),
        ("team notin (a,b)", False),
        ("missing notin (a)", True),
        ("missing!=x", True),
        ("tier", True),
        ("missing", False),
        ("!missing,!tier", False),
    ],
)
def test_selectors_read_as_kubectl_reads_them(text: str, fits: bool) -> None:
    assert selectors.parse(text).fits({"tier": "batch", "team": "a"}) is fits


@pytest.mark.parametrize("text", ["a b", "=x", "team in a", "x in ()y"])
def test_bad_selector_says_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="allowed are terms such as"):
        selectors.parse(text)
