"""Vast's records in our words: units, places, states, ports, and every kind of gap."""

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from bareboat.clouds.vast import regions, translate, wire
from bareboat.core import instances, launches
from bareboat.core.instances import Fault, State

ASK: dict[str, Any] = {
    "id": 31870044,
    "ask_contract_id": 31870044,
    "machine_id": 52044,
    "host_id": 81044,
    "gpu_name": "RTX 4090",
    "num_gpus": 2,
    "gpu_frac": 0.25,
    "gpu_ram": 24564,
    "cpu_cores": 96,
    "cpu_cores_effective": 24.0,
    "cpu_ram": 515_000,
    "disk_space": 900.0,
    "dph_base": 0.742,
    "dph_total": 0.744,
    "storage_cost": 0.18,
    "storage_total_cost": 0.002,
    "min_bid": 0.4749,
    "reliability": 0.5,
    "reliability2": "0.9984",
    "verification": "verified",
    "hosting_type": 1,
    "geolocation": "Texas, US",
    "inet_up": 2100.0,
    "inet_down": 2300.0,
    "inet_up_cost": 0.006,
    "inet_down_cost": 0.005,
    "cuda_max_good": 12.6,
    "dlperf": 80.0,
    "direct_port_count": 999,
    "static_ip": True,
    "public_ipaddr": "203.0.113.4\n",
    "duration": 86400.0,
    "score": 9,
    "whatever": {"new": []},
}


def _ask(**told: Any) -> wire.Ask:
    return wire.decode(json.dumps(ASK | told).encode(), wire.Ask)


def _rental(**told: Any) -> wire.Rental:
    return wire.decode(json.dumps({"id": 7, "intended_status": "running"} | told).encode(), wire.Rental)


def test_an_offer_is_told_in_our_units() -> None:
    offer = translate.offer(_ask())
    assert offer is not None
    assert (offer.id, offer.gpu_name, offer.gpu_count, offer.gpu_memory_gib) == ("31870044", "RTX 4090", 2, 24.0)
    assert (offer.usd_per_hour, offer.spot_usd_per_hour, offer.usd_per_gib_month) == (0.742, 0.4749, 0.18)
    assert offer.price(8.0) == pytest.approx(0.742 + 0.18 * 8 / 720)
    assert (offer.machine_id, offer.host_id, offer.region) == ("52044", "81044", "US-TX")
    assert (offer.reliability, offer.verified, offer.datacenter, offer.static_ip) == (0.9984, True, True, True)
    assert offer.memory_gib == pytest.approx(515_000 / 4 / 1024)
    assert (offer.cpu_cores, offer.disk_gib, offer.ports, offer.duration_s) == (24.0, 900.0, 999, 86400.0)
    assert (offer.inet_up_mbps, offer.inet_down_mbps, offer.usd_per_gb_up, offer.usd_per_gb_down) == (
        2100,
        2300,
        0.006,
        0.005,
    )
    assert (offer.cuda, offer.performance, offer.address) == (12.6, 80.0, "203.0.113.4")


@pytest.mark.parametrize(
    ("mib", "gib"),
    [
        (24564, 24),
        (24576, 24),
        (81559, 80),
        (32607, 32),
        (46068, 45),
        (16384, 16),
        (15360, 15),
        (0, None),
        (None, None),
    ],
)
def test_gpu_memory_is_what_the_name_of_the_card_says(mib: int | None, gib: float | None) -> None:
    offer = translate.offer(_ask(gpu_ram=mib))
    assert offer is not None and offer.gpu_memory_gib == gib


@pytest.mark.parametrize("missing", ["gpu_name", "num_gpus", "dph_base"])
def test_an_offer_without_what_it_takes_to_rent_is_none(missing: str) -> None:
    assert translate.offer(_ask(**{missing: None, "dph_total": None})) is None


def test_gaps_of_an_offer_are_unknown_and_not_zero() -> None:
    told = dict.fromkeys(set(ASK) - {"id", "gpu_name", "num_gpus", "dph_base"})
    offer = translate.offer(_ask(**told))
    assert offer is not None
    assert (offer.reliability, offer.cpu_cores, offer.memory_gib, offer.region, offer.ports) == (None,) * 5
    assert (offer.disk_gib, offer.inet_down_mbps, offer.spot_usd_per_hour, offer.machine_id) == (None,) * 4


def test_memory_without_cores_follows_the_share_of_gpus() -> None:
    for cores in (None, 0):
        offer = translate.offer(_ask(cpu_cores=cores, cpu_cores_effective=None))
        assert offer is not None and offer.memory_gib == pytest.approx(515_000 / 4 / 1024)


def test_a_price_without_its_base_is_the_total_less_the_disk() -> None:
    offer = translate.offer(_ask(dph_base=None))
    assert offer is not None and offer.usd_per_hour == pytest.approx(0.742)


@pytest.mark.parametrize(
    ("place", "country", "region"),
    [
        ("California, US", None, "US-CA"),
        ("Quebec, CA", None, "CA-QC"),
        ("Québec, CA", None, "CA-QC"),
        ("Sweden, SE", None, "SE"),
        (", US", None, "US"),
        ("US", None, "US"),
        ("TX, US", None, "US-TX"),
        ("Georgia, US", None, "US-GA"),
        ("Georgia, GE", None, "GE"),
        ("Kyiv, UA", None, "UA"),
        ("new york , us", None, "US-NY"),
        ("Atlantis, US", None, "US"),
        ("California", "US", "US-CA"),
        ("California", None, None),
        ("", "SE", "SE"),
        (None, None, None),
        ("Somewhere else", "12", None),
    ],
)
def test_places(place: str | None, country: str | None, region: str | None) -> None:
    assert regions.normalised(place, country) == region


@pytest.mark.parametrize(
    ("told", "state", "fault"),
    [
        ({"actual_status": None, "cur_state": "running"}, State.PROVISIONING, None),
        ({"actual_status": "loading", "status_msg": "a1b2: Download complete"}, State.PULLING, None),
        ({"actual_status": "loading"}, State.PULLING, None),
        ({"actual_status": "created"}, State.STARTING, None),
        ({"actual_status": "rebooting"}, State.STARTING, None),
        ({"actual_status": "running", "status_msg": "success, running x/ssh\n"}, State.RUNNING, None),
        ({"actual_status": "running", "status_msg": "Error: old news"}, State.RUNNING, None),
        ({"actual_status": "exited", "cur_state": "running"}, State.EXITED, None),
        ({"actual_status": "exited", "cur_state": "running", "status_msg": "Error: exit 3"}, State.EXITED, None),
        ({"actual_status": "stopped"}, State.STOPPED, None),
        ({"actual_status": "frozen"}, State.STOPPED, None),
        ({"actual_status": "unknown"}, State.UNREACHABLE, None),
        ({"actual_status": "offline", "status_msg": "Error"}, State.UNREACHABLE, None),
        ({"actual_status": "a-new-word"}, State.UNREACHABLE, None),
        ({"actual_status": " Running\n"}, State.RUNNING, None),
        (
            {"actual_status": "loading", "status_msg": "manifest unknown: manifest unknown"},
            State.FAILED,
            Fault.IMAGE_NOT_FOUND,
        ),
        (
            {"actual_status": "loading", "status_msg": 'x: failed to resolve reference "y": y: not found'},
            State.FAILED,
            Fault.IMAGE_NOT_FOUND,
        ),
        (
            {"actual_status": "loading", "status_msg": "failed to resolve reference: i/o timeout"},
            State.FAILED,
            Fault.IMAGE_PULL,
        ),
        ({"actual_status": "loading", "status_msg": "repository does not exist"}, State.FAILED, Fault.IMAGE_NOT_FOUND),
        (
            {"actual_status": "created", "status_msg": "unauthorized: log in first"},
            State.FAILED,
            Fault.IMAGE_UNAUTHORIZED,
        ),
        (
            {"actual_status": None, "status_msg": "pull access denied for x, repository does not exist or may require"},
            State.FAILED,
            Fault.IMAGE_UNAUTHORIZED,
        ),
        (
            {"actual_status": "created", "status_msg": "docker: Error: OCI runtime create failed: boom"},
            State.FAILED,
            Fault.CREATE_FAILED,
        ),
        (
            {"actual_status": "exited", "status_msg": "x: OCI runtime create failed: boom"},
            State.FAILED,
            Fault.CREATE_FAILED,
        ),
        ({"actual_status": "loading", "status_msg": "Error pulling the image"}, State.FAILED, Fault.OTHER),
        (
            {"actual_status": "loading", "status_msg": "Error response from daemon: No such container: C.7"},
            State.PULLING,
            None,
        ),
    ],
)
def test_states(told: dict[str, Any], state: State, fault: Fault | None) -> None:
    instance = translate.instance(_rental(**told))
    assert (instance.state, instance.fault) == (state, fault)


STOPPED = {"cur_state": "stopped", "intended_status": "stopped", "next_state": "stopped"}


@pytest.mark.parametrize("actual", ["exited", "stopped", "running", None, "loading"])
def test_a_bid_stopped_in_all_three_words_was_outbid(actual: str | None) -> None:
    bid = translate.instance(_rental(actual_status=actual, is_bid=True, **STOPPED))
    assert (bid.state, bid.fault) == (State.STOPPED, Fault.OUTBID)
    on_demand = translate.instance(_rental(actual_status=actual, is_bid=False, **STOPPED))
    assert (on_demand.state, on_demand.fault) == (State.STOPPED, None)


def test_a_start_that_waits_for_its_gpu_is_stopped_and_not_ended() -> None:
    queued = _rental(actual_status="exited", intended_status="running", cur_state="stopped", next_state="running")
    instance = translate.instance(queued)
    assert (instance.state, instance.fault) == (State.STOPPED, None)
    assert "waits" in instance.message


@pytest.mark.parametrize(
    ("told", "ports"),
    [
        (
            {"8001/tcp": [{"HostIp": "0.0.0.0", "HostPort": "41234"}, {"HostIp": "::", "HostPort": "41234"}]},
            {(8001, "TCP"): 41234},
        ),
        ({"53/udp": [{"HostPort": 4000}], "80": [{"HostPort": "81"}]}, {(53, "UDP"): 4000, (80, "TCP"): 81}),
        ({"22/tcp": None, "23/tcp": [], "24/tcp": [{}], "x/tcp": [{"HostPort": "1"}]}, {}),
        ({"25/tcp": [{"HostPort": "no"}, {"HostPort": "70000"}, {"HostPort": "7"}], "26/tcp": "9"}, {(25, "TCP"): 7}),
        (None, {}),
        ([], {}),
        ([22, 80], {}),
        ("x", {}),
    ],
)
def test_ports(told: Any, ports: dict[tuple[int, str], int]) -> None:
    assert translate.instance(_rental(ports=told)).ports == ports


def test_an_instance_is_told_in_our_words() -> None:
    instance = translate.instance(
        _rental(
            actual_status="running",
            label="bareboat/c/u/1",
            public_ipaddr="203.0.113.9\n",
            dph_total=0.34,
            dph_base=0.33,
            machine_id="52",
            host_id=8,
            gpu_name="L4",
            num_gpus=1,
            geolocation=None,
            country_code="SE",
            image_uuid="busybox:1",
            start_date=1790000000.5,
            template_hash_id="f" * 32,
            instance={"totalHour": 0.01},
            extra_env=[["TOKEN", "secret"]],
        )
    )
    assert instance.mark is not None and instance.mark.owner_uid == "u"
    assert (instance.address, instance.region, instance.usd_per_hour) == ("203.0.113.9", "SE", 0.34)
    assert (instance.machine_id, instance.host_id, instance.gpu_count) == ("52", "8", 1)
    assert (instance.image, instance.template, instance.started_s) == ("busybox:1", "f" * 32, 1790000000.5)
    assert "secret" not in repr(instance) and "secret" not in repr(instance.raw)


JSON = strategies.recursive(
    strategies.one_of(
        strategies.none(),
        strategies.booleans(),
        strategies.integers(-(2**70), 2**70),
        strategies.floats(allow_nan=False, allow_infinity=False),
        strategies.sampled_from(["inf", "nan", "-Infinity", "12", "1e999", "true"]),
        strategies.text(max_size=8),
    ),
    lambda inner: strategies.one_of(
        strategies.lists(inner, max_size=3), strategies.dictionaries(strategies.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@hypothesis.given(strategies.dictionaries(strategies.sampled_from(sorted(wire.Rental.__struct_fields__)), JSON))
def test_an_instance_of_any_content_is_read_or_refused_as_nonsense(told: dict[str, Any]) -> None:
    rental = wire.decode(json.dumps(told).encode(), wire.Rental)
    if rental.id is None:
        with pytest.raises(wire.Nonsense):
            translate.instance(rental)
    else:
        assert isinstance(translate.instance(rental), instances.Instance)


@hypothesis.given(strategies.dictionaries(strategies.sampled_from(sorted(wire.Ask.__struct_fields__)), JSON))
def test_an_offer_of_any_content_is_read_or_left_out(told: dict[str, Any]) -> None:
    offer = translate.offer(wire.decode(json.dumps(ASK | told).encode(), wire.Ask))
    assert offer is None or (offer.id and offer.usd_per_hour > 0 and offer.gpu_count >= 1)


@hypothesis.given(strategies.binary(max_size=30) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_shape_or_nonsense(body: bytes) -> None:
    for shape in (wire.Page, wire.Single, wire.Found, wire.Created, wire.User):
        try:
            wire.decode(body, shape)
        except wire.Nonsense:
            continue


def test_a_page_with_one_odd_record_keeps_the_others() -> None:
    body = b'{"offers": [{"id": 1, "gpu_ram": {}}, {"id": "2", "gpu_ram": "24564"}, null, {"id": 3}]}'
    found = wire.records(wire.decode(body, wire.Found).offers, wire.Ask)
    assert [(each.id, each.gpu_ram) for each in found] == [(1, None), (2, 24564.0), (3, None)]


@pytest.mark.parametrize("odd", ["nan", "inf", "-Infinity", 1e18, True, [], {}, "many"])
def test_a_figure_that_is_no_number_is_unknown(odd: Any) -> None:
    offer = translate.offer(_ask(reliability2=odd, gpu_ram=odd, direct_port_count=odd))
    assert offer is not None
    assert (offer.reliability, offer.gpu_memory_gib, offer.ports) == (0.5, None, None)
    assert translate.offer(_ask(dph_base=odd, dph_total=odd)) is None


def test_our_own_variables_are_told_as_tags_and_nothing_else_of_the_environment() -> None:
    pairs = [["TOKEN", "secret"], ["BAREBOAT_MARK", "bareboat/c/u/1"], ["-p 80:80", "1"], "odd"]
    for shape in (pairs, {"TOKEN": "secret", "BAREBOAT_MARK": "bareboat/c/u/1"}):
        assert translate.instance(_rental(extra_env=shape)).tags == {"BAREBOAT_MARK": "bareboat/c/u/1"}
    assert translate.instance(_rental(extra_env="odd")).tags == {}


def test_a_template_is_told_with_its_ports_and_whose_it_is() -> None:
    record = wire.Template(
        id=7,
        hash_id="a" * 32,
        name="web",
        creator_id=5,
        image="me/web",
        tag="1",
        env="-e A=b -p 8000:8001 -p 53:53/udp",
    )
    told = translate.template(record, 5)
    assert (told.own, told.image, told.hash) == (True, "me/web:1", "a" * 32)
    assert told.ports == (launches.Port(8001), launches.Port(53, "UDP"))
    assert translate.template(record, 6).own is False
    record.private = True
    assert translate.template(record, None).own is True


@pytest.mark.parametrize(
    ("mode", "ports", "expected"),
    [
        ("ssh ssh_direc ssh_proxy", {"22/tcp": [{"HostPort": "4001"}]}, [("1.2.3.4", 4001), ("ssh5.vast.ai", 10022)]),
        ("ssh ssh_direc ssh_proxy", None, [("ssh5.vast.ai", 10022)]),
        ("ssh ssh_direc ssh_proxy", {"22/tcp": None}, [("ssh5.vast.ai", 10022)]),
        ("jupyter_proxy ssh_proxy", None, [("ssh5.vast.ai", 10023)]),
        ("args", {"22/tcp": [{"HostPort": "4001"}]}, []),
        (None, None, []),
    ],
)
def test_ssh_is_reached_on_the_mapped_port_first_and_through_the_proxy_then(
    mode: Any, ports: Any, expected: list[tuple[str, int]]
) -> None:
    told = {"id": 7, "public_ipaddr": "1.2.3.4\n", "ssh_host": "ssh5.vast.ai", "ssh_port": 10022, "ports": ports}
    rental = wire.decode(json.dumps(told | {"image_runtype": mode}).encode(), wire.Rental)
    assert [(each.host, each.port) for each in translate.instance(rental).ssh] == expected
