"""What probes mean: thresholds, delays, and which of them take effect."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareboat.workload import pod as pods
from bareboat.workload import probing

YES = probing.Answer(True)
NO = probing.Answer(False, "port 80: connection refused")


def a_pod(**container: Any) -> pods.Pod:
    ports = [{"name": "web", "containerPort": 8080}, {"containerPort": 9000}]
    spec = {"containers": [{"name": "main", "ports": ports, **container}]}
    return msgspec.convert({"metadata": {}, "spec": spec}, pods.Pod)


def a_check(role: probing.Role = probing.Role.READINESS, **more: Any) -> probing.Check:
    return probing.Check(role=role, port=80, **more)


def ask(probe: probing.Probe, *answers: probing.Answer) -> probing.Verdict:
    for answer in answers:
        probe.step(answer, probe.due_s)
    return probe.verdict


def test_pod_without_probes_has_no_plan() -> None:
    assert probing.plan(a_pod()) is None


def test_probes_that_take_no_effect_give_no_plan() -> None:
    pod = a_pod(
        livenessProbe={"httpGet": {"port": 80}},
        readinessProbe={"exec": {"command": ["true"]}},
        startupProbe={"grpc": {"port": 80}},
    )
    assert probing.plan(pod) is None


def test_http_probe_is_read_with_all_its_fields() -> None:
    probe = {
        "httpGet": {
            "path": "healthz",
            "port": "web",
            "scheme": "HTTPS",
            "httpHeaders": [{"name": "Host", "value": "a"}],
        },
        "initialDelaySeconds": 3,
        "periodSeconds": 4,
        "timeoutSeconds": 5,
        "failureThreshold": 6,
        "successThreshold": 7,
    }
    planned = probing.plan(a_pod(readinessProbe=probe))
    assert planned is not None
    assert planned.startup is None
    assert planned.readiness == probing.Check(
        role=probing.Role.READINESS,
        port=8080,
        port_name="web",
        http=probing.Http("/healthz", "https", (("Host", "a"),)),
        initial_delay_s=3,
        period_s=4,
        timeout_s=5,
        failures=6,
        successes=7,
    )


@pytest.mark.parametrize(
    ("wanted", "number"),
    [(8080, 8080), ("web", 8080), ("9000", 9000), (1234, 1234), ("nobody", None), (0, None), (70000, None),
     (None, None), ("", None)],
)  # fmt: skip
def test_port_is_a_number_or_the_name_of_a_declared_one(wanted: Any, number: int | None) -> None:
    assert probing.port(a_pod().spec.containers[0], wanted) == number


def test_ports_of_probes_are_named_once_so_that_they_can_be_mapped() -> None:
    pod = a_pod(startupProbe={"tcpSocket": {"port": 7000}}, readinessProbe={"httpGet": {"port": 7000}})
    assert [port.number for port in probing.ports(pod)] == [7000]
    assert probing.ports(a_pod()) == ()


def test_container_is_not_ready_until_its_probe_succeeds() -> None:
    probe = probing.Probe(probing.Plan(readiness=a_check()), 100.0)
    assert not probe.verdict.ready
    assert probe.verdict.started
    assert ask(probe, NO).message == "Readiness probe: port 80: connection refused"
    assert ask(probe, YES) == probing.Verdict(started=True, ready=True)


def test_ready_container_stays_ready_below_the_failure_threshold() -> None:
    probe = probing.Probe(probing.Plan(readiness=a_check(failures=3)), 0.0)
    assert ask(probe, YES, NO, NO).ready
    assert ask(probe, YES, NO, NO).ready
    assert not ask(probe, NO).ready


def test_success_threshold_counts_answers_in_a_row() -> None:
    probe = probing.Probe(probing.Plan(readiness=a_check(successes=2)), 0.0)
    assert not ask(probe, YES, NO, YES).ready
    assert ask(probe, YES).ready


def test_readiness_waits_for_startup_and_is_then_asked_at_once() -> None:
    startup, readiness = a_check(probing.Role.STARTUP, period_s=5), a_check(initial_delay_s=2)
    probe = probing.Probe(probing.Plan(startup, readiness), 100.0)
    assert (probe.check, probe.due_s) == (startup, 100.0)
    assert not ask(probe, NO).started
    assert probe.due_s == 105.0
    assert ask(probe, YES) == probing.Verdict(True, False, "Readiness probe: not probed yet")
    assert (probe.check, probe.due_s) == (readiness, 105.0)


def test_container_with_a_startup_probe_alone_is_ready_when_it_has_started_and_not_asked_again() -> None:
    probe = probing.Probe(probing.Plan(startup=a_check(probing.Role.STARTUP)), 0.0)
    assert not probe.verdict.ready
    assert ask(probe, YES) == probing.Verdict(started=True, ready=True)
    assert probe.check is None


def test_failed_startup_is_reported_and_a_late_success_still_counts() -> None:
    probe = probing.Probe(probing.Plan(startup=a_check(probing.Role.STARTUP, failures=2)), 0.0)
    assert not ask(probe, NO).startup_failed
    assert ask(probe, NO).startup_failed
    assert ask(probe, YES) == probing.Verdict(started=True, ready=True)


def test_first_try_waits_for_the_initial_delay_and_others_keep_the_beat() -> None:
    probe = probing.Probe(probing.Plan(readiness=a_check(initial_delay_s=30, period_s=10)), 100.0)
    assert probe.due_s == 130.0
    probe.step(NO, 130.4)
    assert probe.due_s == 140.0
    probe.step(NO, 165.0)
    assert probe.due_s == 165.0


def test_container_that_was_ready_stays_so_when_the_node_starts_anew() -> None:
    planned = probing.Plan(a_check(probing.Role.STARTUP), a_check(failures=2))
    probe = probing.Probe(planned, 0.0, resumed=probing.Verdict(started=True, ready=True))
    assert probe.verdict.ready
    assert probe.check == planned.readiness
    assert ask(probe, NO).ready
    assert not ask(probe, NO).ready


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4), st.integers(1, 4))
def test_readiness_changes_only_after_as_many_equal_answers_as_its_threshold(
    answers: list[bool], failures: int, successes: int
) -> None:
    probe = probing.Probe(probing.Plan(readiness=a_check(failures=failures, successes=successes)), 0.0)
    ready = False
    for index, ok in enumerate(answers):
        probe.step(YES if ok else NO, probe.due_s)
        least = successes if ok else failures
        latest = answers[max(0, index + 1 - least) : index + 1]
        if len(latest) == least and all(each is ok for each in latest):
            ready = ok
        assert probe.verdict.ready is ready
        assert bool(probe.verdict.message) is not ready
