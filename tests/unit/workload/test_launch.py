"""What is sent to a cloud for a pod."""

from typing import Any

import msgspec
import pytest

from bareboat.core import launches, needs, offers
from bareboat.workload import annotations as notes
from bareboat.workload import launch
from bareboat.workload import pod as pods

OFFER = offers.Offer(
    cloud="vast",
    id="1",
    gpu_name="RTX 4090",
    gpu_count=1,
    usd_per_hour=0.3,
    spot_usd_per_hour=0.2,
    usd_per_gib_month=7.2,
)
SPOT = needs.Needs(pricing=needs.Pricing.SPOT)


def a_pod(container: dict[str, Any] | None = None, **spec: Any) -> pods.Pod:
    told = {"metadata": {"name": "web-0"}, "spec": {"containers": [{"image": "nginx:1", **(container or {})}], **spec}}
    return msgspec.convert(told, pods.Pod)


def built(pod: pods.Pod, wanted: needs.Needs | None = None, **changes: Any) -> launches.Launch:
    told: dict[str, Any] = {"command": (), "args": (), "env": {"A": "1"}, "login": None, "attempt": "3"}
    return launch.build(pod, wanted=wanted or needs.Needs(disk_gib=12), offer=OFFER, **(told | changes))


def test_an_image_that_decides_everything_gets_no_command() -> None:
    made = built(a_pod())
    assert (made.image, made.command, made.args, made.disk_gib) == ("nginx:1", None, None, 12)
    assert made.env == {"A": "1"} and made.hostname == "web-0" and made.bid_usd_per_hour is None


def test_ports_come_once_with_those_of_probes() -> None:
    container = {
        "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 80}],
        "readinessProbe": {"httpGet": {"port": 8080}},
    }
    assert built(a_pod(container)).ports == (launches.Port(80), launches.Port(53, "UDP"), launches.Port(8080))


def test_a_long_name_is_cut_to_what_a_hostname_may_have() -> None:
    pod = a_pod()
    assert (
        len(
            built(msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, name="x" * 200))).hostname
            or ""
        )
        == 63
    )
    assert built(a_pod(hostname="db")).hostname == "db"


@pytest.mark.parametrize(("most", "bid"), [(None, 0.23), (1.0, 0.23), (0.31, 0.21), (0.3, 0.2)])
def test_a_bid_is_a_little_over_the_lowest_within_the_pods_limit_with_disk(most: float | None, bid: float) -> None:
    wanted = needs.Needs(pricing=needs.Pricing.SPOT, max_usd_per_hour=most)
    assert built(a_pod(), wanted).bid_usd_per_hour == pytest.approx(bid)


def test_on_demand_has_no_bid() -> None:
    assert launch.bid(OFFER, needs.Needs()) is None


@pytest.mark.parametrize("text", ["perhaps", "1"])
def test_a_switch_that_makes_no_sense_is_refused(text: str) -> None:
    pod = a_pod({"command": ["x"]})
    metadata = msgspec.structs.replace(pod.metadata, annotations={"bareboat.dev/exit-code": text})
    with pytest.raises(notes.Invalid, match="exit-code"):
        launch.reports_exit_code(msgspec.structs.replace(pod, metadata=metadata))


def test_a_password_is_in_no_text_of_a_launch() -> None:
    login = launches.RegistryLogin("ghcr.io", "me", "hunter2")
    assert "hunter2" not in repr(built(a_pod(), login=login, env={"TOKEN": "hunter2"}))
