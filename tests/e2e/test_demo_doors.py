"""`bareboat demo proxy` and `bareboat demo provision` as a person runs them."""

import re
import signal
import time
from collections.abc import Callable

import pytest
from tests.e2e import test_demo

demo = test_demo.demo
pytestmark = pytest.mark.timeout(180)


def told_in_order(running: test_demo.Demo, story: list[str]) -> None:
    place = 0
    for words in story:
        found = running.told.find(words, place)
        assert found >= 0, f"{words!r} is not told, or not in its place:\n{running.text}"
        place = found + len(words)
    assert "\x1b" not in running.text, "colours in what is no terminal"
    assert max(map(len, running.text.splitlines())) <= 80, running.text


def test_the_proxys_demo_tells_of_an_instance_its_end_and_its_replacement(
    demo: Callable[..., test_demo.Demo],
) -> None:
    started_s = time.monotonic()
    running = demo("proxy")
    assert running.end() == 0, running.text
    served = "Welcome to nginx!"
    told_in_order(
        running,
        [
            "POD_NAME=vast-pod-0",
            "$ bareboat proxy",
            "instance.rented",
            "k8s_pod=vast-pod-0",
            "proxy.ready",
            "$ curl -sS http://127.0.0.1:",
            served,
            "Somebody destroys the instance",
            "does not answer",
            served,
            "You edit the template",
            "its template has been edited",
            "instance.rented",
            served,
            "proxy.stopping",
            "Exit code 0; still rented: 1.",
            "$ bareboat proxy destroy",
            "destroyed: ",
            "nothing left running",
        ],
    )
    assert running.told.count("instance.rented") == 3, running.text
    assert time.monotonic() - started_s < test_demo.DEMO_S


def test_the_offload_demo_tells_of_a_queue_that_overflows(demo: Callable[..., test_demo.Demo]) -> None:
    started_s = time.monotonic()
    running = demo("offload")
    assert running.end() == 0, running.text
    told_in_order(
        running,
        [
            "one GPU; a stand-in",
            "$ bareboat offload --max-pending-time=5",
            "$ bareboat offload --explain",
            "default/train-",
            "stays: it may be pending for 5 s",
            "They wait for 5 s, and leave",
            "offload.bound",
            "rule=time",
            "Complete 1/1",
            "$ kubectl get pods -l runpod.io/managed=true",
            "GPU 0: NVIDIA",
            "runpod.io/cost-per-hr: 0.",
            "runpod.io/pod-id: ",
            "by rule time (pending for",
            "nothing left running",
        ],
    )
    assert running.told.count("offload.bound") == 2, running.text
    assert time.monotonic() - started_s < test_demo.DEMO_S


def test_the_provisioning_demo_tells_of_two_clients_one_of_them_on_a_rented_gpu(
    demo: Callable[..., test_demo.Demo],
) -> None:
    started_s = time.monotonic()
    running = demo("provision")
    assert running.end() == 0, running.text
    told_in_order(
        running,
        [
            "bareboat provision http://127.0.0.1:",
            "$ cat request.json",
            "mock-inference:latest",
            '"connect_http_port": 30080',
            "ssh-authorized-keys",
            "Another client's, on a GPU",
            '"connect_http_port": 30081',
            '"ready": true',
            "1/1 Running",
            '"rented": {',
            "RTX 3090",
            "curl -sS -X DELETE",
            "No resources found",
            "nothing left running",
        ],
    )
    assert re.search(r"rented \d+ s simulated, \$0\.\d{4}", running.told)
    assert time.monotonic() - started_s < test_demo.DEMO_S


def test_a_proxys_demo_that_is_killed_leaves_no_process(demo: Callable[..., test_demo.Demo]) -> None:
    running = demo("proxy")
    running.until("proxy.ready")
    assert running.end(signal.SIGKILL) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("window",), "there is no door 'window'; there are node, provision, proxy"),
        (("proxy", "--pod", "mine.yaml"), "--pod is for the node's demo"),
    ],
)
def test_a_door_that_is_none_ends_it_with_a_sentence(
    demo: Callable[..., test_demo.Demo], words: tuple[str, ...], sentence: str
) -> None:
    running = demo(*words)
    assert running.end() == 2
    assert sentence.split("; there")[0] in running.told
