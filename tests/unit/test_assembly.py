"""What the parts are given when they are put together."""

import msgspec
import pytest
from tests.fakes import pods as fake_pods

from bareboat import assembly
from bareboat.workload import pod as pods


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.8.0.1", "127.8.0.1"),
        ("10.1.2.3", "0.0.0.0"),
        ("::1", "::1"),
        ("fd00:10:244::7", "::"),
    ],
)
def test_the_kubelet_api_listens_in_the_family_of_the_nodes_address(address: str, host: str) -> None:
    assert assembly.listening_host(address) == host


def test_pods_that_wait_or_have_ended_are_not_among_the_running() -> None:
    known = [
        msgspec.convert(fake_pods.manifest(phase.lower()) | {"status": {"phase": phase}}, pods.Pod)
        for phase in ("Pending", "Running", "Succeeded", "Failed", "Unknown")
    ]
    assert [pod.metadata.name for pod in assembly.running(known)] == ["running"]
