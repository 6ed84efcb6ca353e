"""The workflow as a table: what stays, what ends and why, when one is made."""

import dataclasses
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from bareboat.core import instances
from bareboat.core.instances import Fault, State
from bareboat.proxy import decide

WANTED = decide.Wanted(image="me/web:1", template_hash="a" * 32, port=8000, ban_after_s=1200.0, cap_usd_per_hour=1.0)


def an_instance(instance_id: str = "1", **changes: Any) -> instances.Instance:
    good = instances.Instance(
        cloud="vast",
        id=instance_id,
        state=State.RUNNING,
        host_id="h1",
        machine_id="m1",
        address="203.0.113.7",
        ports={(8000, "TCP"): 41000},
        usd_per_hour=0.4,
        image="me/web:1",
        template="a" * 32,
    )
    return dataclasses.replace(good, **changes)


def decided(*found: instances.Instance, wanted: decide.Wanted = WANTED, **known: Any) -> decide.Decision:
    return decide.decide(found, wanted, decide.Known(**({"now_s": 10_000.0} | known)))


def test_nothing_found_means_one_is_made() -> None:
    assert decided().create


def test_one_that_is_up_to_date_stays_and_nothing_is_made() -> None:
    decision = decided(an_instance())
    assert decision.keep == an_instance() and not decision.ends and not decision.create


@pytest.mark.parametrize(
    ("changes", "known", "why"),
    [
        ({"image": "me/web:2"}, {}, "its image is me/web:2, wanted is me/web:1"),
        ({"template": "b" * 32}, {}, "its template has been edited"),
        ({"template": None}, {}, "without the template"),
        ({"state": State.EXITED}, {}, "its process has ended"),
        ({"state": State.STOPPED}, {}, "it is stopped"),
        ({"state": State.UNREACHABLE}, {"silent_since_s": {"1": 9_900.0}}, "offline for 100 s"),
        ({}, {"banned_hosts": {"h1": "too slow"}}, "host h1 is banned: too slow"),
        ({}, {"condemned": {"1"}}, "banned because of it"),
        ({"usd_per_hour": 1.2}, {}, "over the cap"),
        ({"state": State.PULLING, "ports": {}}, {"waiting_since_s": {"1": 8_000.0}}, "not up after 2000 s"),
        ({"ports": {}}, {"waiting_since_s": {"1": 8_000.0}}, "not up after 2000 s"),
        ({"state": State.FAILED, "fault": Fault.IMAGE_NOT_FOUND}, {}, "can't be pulled"),
        ({"state": State.FAILED, "fault": Fault.CREATE_FAILED}, {}, "can't be created"),
    ],
)
def test_one_that_won_t_do_is_ended_with_the_reason_before_another_is_made(
    changes: dict[str, Any], known: dict[str, Any], why: str
) -> None:
    decision = decided(an_instance(**changes), **known)
    [end] = decision.ends
    assert why in end.verdict.why
    assert decision.keep is None and not decision.create


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({"state": State.PROVISIONING, "ports": {}}, {"waiting_since_s": {"1": 9_900.0}}),
        ({"state": State.UNREACHABLE}, {"silent_since_s": {"1": 9_990.0}}),
        ({"image": "docker.io/me/web:1"}, {}),
        ({"image": "something/else", "tags": {decide.IMAGE_TAG: "me/web:1"}}, {}),
        ({"usd_per_hour": None}, {}),
        ({"state": State.FAILED, "fault": Fault.IMAGE_PULL, "ports": {}}, {}),
    ],
)
def test_patience(changes: dict[str, Any], known: dict[str, Any]) -> None:
    decision = decided(an_instance(**changes), **known)
    assert decision.keep is not None and not decision.ends


def test_without_the_blacklist_nothing_is_given_up_for_being_slow() -> None:
    patient = dataclasses.replace(WANTED, ban_after_s=None)
    slow = an_instance(state=State.PULLING, ports={})
    assert decided(slow, wanted=patient, waiting_since_s={"1": 0.0}).keep == slow


def test_of_two_the_one_that_serves_stays_and_the_other_is_a_stray() -> None:
    booting, serving = an_instance("1", state=State.PULLING, ports={}), an_instance("2")
    decision = decided(booting, serving)
    assert decision.keep == serving
    assert [(end.instance.id, "a stray" in end.verdict.why) for end in decision.ends] == [("1", True)]


def test_bad_hosts_and_hopeless_images_are_told_apart() -> None:
    [slow] = decided(an_instance(ports={}), waiting_since_s={"1": 0.0}).ends
    [missing] = decided(an_instance(state=State.FAILED, fault=Fault.IMAGE_UNAUTHORIZED)).ends
    [ended] = decided(an_instance(state=State.EXITED)).ends
    assert (slow.verdict.bad_host, slow.verdict.hopeless) == (True, False)
    assert (missing.verdict.bad_host, missing.verdict.hopeless) == (False, True)
    assert (ended.verdict.bad_host, ended.verdict.hopeless) == (False, False)


@pytest.mark.parametrize(
    ("ours", "mark", "foreign"),
    [
        ("east", "bareboat/west/pod/1", True),
        ("east", "bareboat/east/pod/1", False),
        ("east", None, False),
        ("east", "bareboat/proxy/pod/1", False),
        ("proxy", "bareboat/west/pod/1", False),
    ],
)
def test_an_instance_of_another_cluster_is_left_alone(ours: str, mark: str | None, foreign: bool) -> None:
    found = an_instance(state=State.EXITED, tags={decide.MARK_TAG: mark} if mark else {})
    decision = decided(found, wanted=dataclasses.replace(WANTED, cluster_id=ours))
    assert bool(decision.foreign) is foreign and bool(decision.ends) is not foreign
    assert decision.create is foreign


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("nginx", "docker.io/library/nginx:latest", True),
        ("index.docker.io/me/web:1", "me/web:1", True),
        ("me/web:1", "me/web:2", False),
        ("host:5000/web", "host:5000/web:latest", True),
        ("host/web@sha256:aa", "host/web:latest", False),
        ("vastai/base:@vastai-automatic-tag", "vastai/base:cuda-12", True),
    ],
)
def test_names_of_one_image_are_one(one: str, other: str, same: bool) -> None:
    assert decide.same_image(one, other) is same


def test_the_upstream_is_the_public_side_of_the_port_once_it_runs() -> None:
    assert decide.upstream(an_instance(), 8000) == ("203.0.113.7", 41000)
    assert decide.upstream(an_instance(state=State.STARTING), 8000) is None
    assert decide.upstream(an_instance(address=None), 8000) is None
    assert decide.upstream(an_instance(), 9000) is None
    moved = an_instance(ports={(41001, "TCP"): 41001, (22, "TCP"): 41002})
    assert decide.upstream(moved, 70000) == ("203.0.113.7", 41001)


@hypothesis.given(
    states=strategies.lists(strategies.sampled_from(list(State)), max_size=5),
    fresh=strategies.lists(strategies.booleans(), min_size=5, max_size=5),
)
def test_never_two_and_never_one_made_beside_another(states: list[State], fresh: list[bool]) -> None:
    found = [
        an_instance(str(number), state=state, template=("a" if fresh[number] else "b") * 32)
        for number, state in enumerate(states)
    ]
    decision = decided(*found)
    assert len(decision.ours) == len(found) and {each.id for each in decision.ours} == {each.id for each in found}
    assert decision.create is not bool(found)
