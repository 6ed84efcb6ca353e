"""Both roles of a SPDY session against each other: any order of halves closing, any split, a peer that vanishes."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bareboat.kubelet.streams import spdy_framing as framing
from bareboat.kubelet.streams import spdy_session as sessions


class Conversation(RuleBasedStateMachine):
    """A client and a server who do whatever they like; what arrives is what was sent, in order, until a reset."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = {"client": sessions.Session(client=True), "server": sessions.Session()}
        self.wires = {"client": bytearray(), "server": bytearray()}
        self.sent: dict[tuple[str, int], bytearray] = {}
        self.got: dict[tuple[str, int], bytearray] = {}
        self.finished: set[tuple[str, int]] = set()
        self.ended: set[tuple[str, int]] = set()
        self.gone: dict[str, set[int]] = {"client": set(), "server": set()}
        self.ready: dict[str, list[int]] = {"client": [], "server": []}
        self.known: list[int] = []

    def collect(self) -> None:
        for name, session in self.ends.items():
            self.wires[name] += session.take_output()

    @rule()
    def open(self) -> None:
        self.known.append(self.ends["client"].open({"streamtype": "data"}))
        self.collect()

    @precondition(lambda self: any(self.ready.values()))
    @rule(data=st.data(), payload=st.binary(max_size=50), fin=st.booleans())
    def send(self, data: st.DataObject, payload: bytes, fin: bool) -> None:
        name = data.draw(st.sampled_from([name for name, ready in self.ready.items() if ready]))
        stream_id = data.draw(st.sampled_from(self.ready[name]))
        could = stream_id not in self.gone[name] and (name, stream_id) not in self.finished
        assert self.ends[name].send(stream_id, payload, fin=fin) == could
        if could:
            self.sent.setdefault((name, stream_id), bytearray()).extend(payload)
            if fin:
                self.finished.add((name, stream_id))
        self.collect()

    @precondition(lambda self: any(self.ready.values()))
    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name, ready in self.ready.items() if ready]))
        stream_id = data.draw(st.sampled_from(self.ready[name]))
        self.ends[name].reject(stream_id, framing.CANCEL)
        self.gone[name].add(stream_id)
        self.collect()

    @rule(name=st.sampled_from(["client", "server"]))
    def ping(self, name: str) -> None:
        self.ends[name].ping()
        self.collect()

    @precondition(lambda self: any(self.wires.values()))
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        sender = data.draw(st.sampled_from([name for name, wire in self.wires.items() if wire]))
        receiver = "server" if sender == "client" else "client"
        size = data.draw(st.integers(1, len(self.wires[sender])))
        piece = bytes(self.wires[sender][:size])
        del self.wires[sender][:size]
        for event in self.ends[receiver].receive(piece):
            self.handle(sender, receiver, event)
        self.collect()

    def handle(self, sender: str, receiver: str, event: sessions.Event) -> None:
        if isinstance(event, sessions.Opened):
            self.ends[receiver].accept(event.stream_id)
            self.ready[receiver].append(event.stream_id)
        elif isinstance(event, sessions.Accepted):
            self.ready[receiver].append(event.stream_id)
        elif isinstance(event, sessions.Received):
            assert (sender, event.stream_id) not in self.ended
            self.got.setdefault((sender, event.stream_id), bytearray()).extend(event.data)
            self.ends[receiver].consumed(len(event.data))
        elif isinstance(event, sessions.Ended):
            self.ended.add((sender, event.stream_id))
            assert self.got.get((sender, event.stream_id), b"") == self.sent.get((sender, event.stream_id), b"")
        elif isinstance(event, sessions.WasReset):
            self.gone[receiver].add(event.stream_id)

    @invariant()
    def what_arrived_is_what_was_sent(self) -> None:
        for key, got in self.got.items():
            assert self.sent[key].startswith(bytes(got))

    def teardown(self) -> None:
        while any(self.wires.values()):
            for sender in ("client", "server"):
                receiver = "server" if sender == "client" else "client"
                piece, self.wires[sender] = bytes(self.wires[sender]), bytearray()
                for event in self.ends[receiver].receive(piece):
                    self.handle(sender, receiver, event)
                self.collect()
        reset = self.gone["client"] | self.gone["server"]
        for name, stream_id in self.finished:
            assert stream_id in reset or (name, stream_id) in self.ended
        for stream_id in self.known:
            closed = {("client", stream_id), ("server", stream_id)} <= self.finished
            if closed or stream_id in reset:
                assert not self.ends["client"].is_open(stream_id)
                assert not self.ends["server"].is_open(stream_id)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def a_server(*types: str) -> tuple[sessions.Session, sessions.Session, list[int]]:
    """Client, server and the ids of streams that both know."""
    client, server = sessions.Session(client=True), sessions.Session()
    opened = [client.open({"streamtype": kind}) for kind in types]
    for event in server.receive(client.take_output()):
        if isinstance(event, sessions.Opened):
            server.accept(event.stream_id)
    client.receive(server.take_output())
    return client, server, opened


def test_pings_are_echoed_and_own_ones_are_even() -> None:
    client, server, _ = a_server()
    client.ping()
    assert client.receive(server.take_output()) == [] and server.receive(client.take_output()) == []
    assert client.receive(server.take_output()) == [sessions.Ponged()]
    server.ping()
    ping = server.take_output()
    assert ping[-1] % 2 == 0
    client.receive(ping)
    assert server.receive(client.take_output()) == [sessions.Ponged()]


@pytest.mark.parametrize("stream_id", [2, 1, 0])
def test_a_stream_id_out_of_order_is_reset_and_its_headers_are_unpacked_all_the_same(stream_id: int) -> None:
    client, server, _ = a_server("error")
    encoder = client._encoder
    events = server.receive(encoder.syn_stream(stream_id, {"a": "b"}) + encoder.syn_stream(3, {"a": "b"}))
    assert events == [sessions.Opened(3, {"a": "b"})]
    assert server.take_output() == framing.reset(stream_id, framing.PROTOCOL_ERROR)


def test_data_on_a_stream_that_never_was_is_reset_and_on_one_just_ended_is_dropped() -> None:
    _client, server, (stream_id,) = a_server("stdin")
    assert server.receive(framing.data_header(9, 1) + b"x") == []
    assert server.take_output() == framing.reset(9, framing.INVALID_STREAM)
    server.reject(stream_id)
    server.take_output()
    assert server.receive(framing.data_header(stream_id, 1) + b"x") == []
    assert server.take_output() == b"" and server.wants_data


def test_reading_pauses_above_1_mib_and_goes_on_below_256_kib() -> None:
    client, server, (stream_id,) = a_server("stdin")
    client.send(stream_id, b"x" * (sessions.HIGH_WATER_BYTES + 1))
    server.receive(client.take_output())
    assert not server.wants_data
    server.consumed(sessions.HIGH_WATER_BYTES // 2)
    assert not server.wants_data
    server.consumed(sessions.HIGH_WATER_BYTES // 4 + 1)
    assert server.wants_data


def test_streams_are_bounded() -> None:
    client, server, _ = a_server(*["data"] * sessions.MAX_STREAMS)
    over = client.open({"streamtype": "data"})
    assert server.receive(client.take_output()) == []
    assert client.receive(server.take_output()) == [sessions.WasReset(over, framing.REFUSED_STREAM)]


def test_nothing_is_sent_on_a_stream_that_was_not_replied_to() -> None:
    client = sessions.Session(client=True)
    with pytest.raises(ValueError, match="would be lost"):
        client.send(client.open({}), b"x")
