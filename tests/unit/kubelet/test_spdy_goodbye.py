"""The end of a SPDY connection: not before the client has read everything, however slowly, nor later than it must."""

import asyncio

from bareboat.kubelet.streams import spdy_connection, spdy_session
from bareboat.plumbing import clock as clocks


class Link:
    """Remembers; the peer reads when the test says so."""

    def __init__(self) -> None:
        self.unread = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.unread += data

    async def room(self) -> None:
        return

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Ending:
    """A connection with one stream, some output on it, and a goodbye that has begun."""

    def __init__(self) -> None:
        self.clock = clocks.ManualClock()
        self.link = Link()
        self.streams: list[spdy_connection.Stream] = []
        self.client = spdy_session.Session(client=True)
        self.connection = spdy_connection.Connection(self.clock, self._accept)
        self.connection.use(self.link)
        self.client.open({"streamtype": "stdout"})
        self.connection.received(self.client.take_output())

    def _accept(self, stream: spdy_connection.Stream) -> bool:
        self.streams.append(stream)
        return True

    async def begin(self) -> asyncio.Task[None]:
        await self.streams[0].write(b"output")
        self.streams[0].finish(b" and status")
        task = asyncio.create_task(self.connection.goodbye(4 * 3600, 5), name="test.goodbye")
        await self.clock.advance(0)
        return task

    def client_reads(self) -> list[spdy_session.Event]:
        unread, self.link.unread = self.link.unread, b""
        events = self.client.receive(unread)
        self.connection.received(self.client.take_output())
        return events


async def test_a_client_that_reads_slowly_is_waited_for_until_it_has_read_all() -> None:
    """Closing a TLS connection gives what is unsent one second; kubectl would exit 0 with half of the output."""
    ending = Ending()
    goodbye = await ending.begin()
    await ending.clock.advance(3 * 3600)
    assert not ending.link.closed
    received = [event.data for event in ending.client_reads() if isinstance(event, spdy_session.Received)]
    assert b"".join(received) == b"output and status"
    await ending.clock.advance(4)
    assert not ending.link.closed
    assert spdy_session.GoingAway() in ending.client_reads()
    await ending.clock.advance(1)
    await goodbye
    assert ending.link.closed


async def test_a_client_that_hangs_up_is_not_waited_for() -> None:
    ending = Ending()
    goodbye = await ending.begin()
    ending.connection.lost()
    await asyncio.wait_for(goodbye, 1)


async def test_a_client_that_never_reads_is_given_up() -> None:
    ending = Ending()
    goodbye = await ending.begin()
    await ending.clock.advance(4 * 3600 + 5)
    await asyncio.wait_for(goodbye, 1)
    assert ending.link.closed


async def test_a_goodbye_that_is_cut_short_closes_all_the_same() -> None:
    ending = Ending()
    goodbye = await ending.begin()
    goodbye.cancel()
    await asyncio.wait([goodbye])
    assert ending.link.closed
