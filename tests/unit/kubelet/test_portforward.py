"""Which streams make a forwarded connection."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bareboat.kubelet.streams import portforward


def headers(kind: str, port: str = "80", request: str = "") -> dict[str, str]:
    return {"streamtype": kind, "port": port, **({"requestid": request} if request else {})}


@settings(deadline=None)
@given(st.permutations([(number, kind) for number in range(5) for kind in ("error", "data")]))
def test_pairs_find_each_other_in_any_order(order: list[tuple[int, str]]) -> None:
    pairing = portforward.Pairing()
    pairs = []
    for position, (number, kind) in enumerate(order):
        pair = pairing.add(2 * position + 1, headers(kind, str(8000 + number), f"r{number}"), 0)
        if pair is not None:
            pairs.append((pair.port, order[pair.error_id // 2], order[pair.data_id // 2]))
    assert sorted(pairs) == [(8000 + number, (number, "error"), (number, "data")) for number in range(5)]
    assert pairing.overdue(1000) == []


def test_without_a_request_id_the_next_stream_is_the_other_half() -> None:
    pairing = portforward.Pairing()
    assert pairing.add(1, headers("error"), 0) is None
    assert pairing.add(3, headers("data"), 0) == portforward.Pair(80, 1, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        headers("stdin"),
        headers("data", ""),
        headers("data", "0"),
        headers("data", "65536"),
        headers("data", "-1"),
        headers("data", "８０"),
        {},
    ],
)
def test_headers_that_make_no_connection_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(portforward.BadStream):
        portforward.Pairing().add(1, wrong, 0)


def test_a_request_id_is_used_once_for_each_half_and_for_one_port() -> None:
    pairing = portforward.Pairing()
    pairing.add(1, headers("error", "80", "a"), 0)
    with pytest.raises(portforward.BadStream, match="two error streams"):
        pairing.add(3, headers("error", "80", "a"), 0)
    with pytest.raises(portforward.BadStream, match="port 80 and port 81"):
        pairing.add(5, headers("data", "81", "a"), 0)


def test_a_half_that_waits_too_long_is_told_once() -> None:
    pairing = portforward.Pairing()
    pairing.add(1, headers("error", "80", "a"), 100)
    assert pairing.overdue(129) == []
    assert pairing.overdue(130) == [1]
    assert pairing.overdue(200) == []


def test_ports_of_a_query_come_one_by_one_or_with_commas() -> None:
    assert portforward.ports([("port", "80,443"), ("x", "1"), ("port", "8080")]) == [80, 443, 8080]
    assert portforward.greeting(8080) == b"\x90\x1f"


@pytest.mark.parametrize("query", [[], [("port", "")], [("port", "80,x")], [("port", ",".join(["1"] * 101))]])
def test_wrong_ports_of_a_query_are_refused(query: list[tuple[str, str]]) -> None:
    with pytest.raises(portforward.BadOptions):
        portforward.ports(query)
