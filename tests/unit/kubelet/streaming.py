"""A kubelet API whose containers are local processes, and a SPDY client that does exactly what a test says."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import local_containers
from tests.unit.kubelet import serving

from bareboat.kubelet import containers
from bareboat.kubelet.streams import heads, spdy_session, watch

DEADLINE_S = 10.0
V4 = "v4.channel.k8s.io"


@dataclass
class Client:
    """Client role of one connection. What came is in `received` by stream, `ended` and `resets`."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    session: spdy_session.Session = field(default_factory=lambda: spdy_session.Session(client=True))
    received: dict[int, bytearray] = field(default_factory=dict)
    accepted: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    resets: dict[int, int] = field(default_factory=dict)
    pongs: int = 0
    went_away: bool = False
    at_eof: bool = False

    def open(self, stream_type: str, **headers: str) -> int:
        stream_id = self.session.open({"streamType": stream_type, **headers})
        self.received[stream_id] = bytearray()
        self.flush()
        return stream_id

    async def opened(self, stream_type: str, **headers: str) -> int:
        """And replied to."""
        stream_id = self.open(stream_type, **headers)
        await self.until(lambda: stream_id in self.accepted or stream_id in self.resets)
        return stream_id

    def send(self, stream_id: int, data: bytes, *, fin: bool = False) -> None:
        self.session.send(stream_id, data, fin=fin)
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.session.take_output())

    async def until(self, happened: Callable[[], Any]) -> None:
        """Reads until then. Fails when the connection ends first, or after a while."""
        async with asyncio.timeout(DEADLINE_S):
            while not happened():
                assert not self.at_eof, f"the connection ended; received: {self.received}"
                await self.take()

    async def take(self) -> None:
        data = await self.reader.read(1 << 16)
        self.at_eof = not data
        for event in self.session.receive(data):
            self._handle(event)
        self.flush()

    def _handle(self, event: spdy_session.Event) -> None:
        if isinstance(event, spdy_session.Accepted):
            self.accepted.add(event.stream_id)
        elif isinstance(event, spdy_session.Received):
            assert event.stream_id in self.accepted, "data before the reply is lost on real clients"
            self.received[event.stream_id] += event.data
        elif isinstance(event, spdy_session.Ended):
            self.ended.add(event.stream_id)
        elif isinstance(event, spdy_session.WasReset):
            self.resets[event.stream_id] = event.status
        elif isinstance(event, spdy_session.Ponged):
            self.pongs += 1
        elif isinstance(event, spdy_session.GoingAway):
            self.went_away = True

    async def eof(self) -> None:
        """Until the server has closed the connection."""
        async with asyncio.timeout(DEADLINE_S):
            while not self.at_eof:
                await self.take()


@dataclass
class Command:
    """An exec or attach in which all streams are open."""

    client: Client
    streams: Mapping[str, int]

    def __getitem__(self, stream_type: str) -> int:
        return self.streams[stream_type]

    def text(self, stream_type: str) -> bytes:
        return bytes(self.client.received[self.streams[stream_type]])

    async def status(self) -> bytes:
        """After the error stream and the outputs have ended, each by a FIN of its own."""
        outputs = [self.streams[name] for name in ("stdout", "stderr", "error") if name in self.streams]
        await self.client.until(lambda: all(stream in self.client.ended for stream in outputs))
        return self.text("error")


@dataclass
class Kubelet:
    api: serving.Api
    local: local_containers.LocalContainers

    async def dial(self, user: str | None = "admin") -> Client:
        context: ssl.SSLContext = self.api.client_tls(user)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.api.server.port, ssl=context)
        self.writers.append(writer)
        return Client(reader, writer)

    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def request(self, head: bytes, *, user: str | None = "admin") -> tuple[Client, int, dict[str, str], bytes]:
        """Sends raw bytes; the answer's status, headers (lower-case names) and body."""
        client = await self.dial(user)
        client.writer.write(head)
        async with asyncio.timeout(DEADLINE_S):
            raw = await client.reader.readuntil(heads.END)
            first, *rest = raw[: -len(heads.END)].decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
            status = int(first.split()[1])
            length = int(headers.get("content-length", "0"))
            body = await client.reader.readexactly(length) if status != 101 else b""
        return client, status, headers, body

    async def upgrade(
        self, path: str, *protocols: str, user: str | None = "admin", **headers: str
    ) -> tuple[Client, int, dict[str, str], bytes]:
        return await self.request(upgrade_head(path, *protocols, **headers), user=user)

    async def exec(
        self, *argv: str, stdin: bool = False, tty: bool = False, protocol: str = V4, verb: str = "exec"
    ) -> Command:
        """Upgrades and opens all streams, in kubectl's order."""
        query = [f"command={quoted(word)}" for word in argv] + ["output=1"]
        names = ["error", *(["stdin"] if stdin else []), "stdout"]
        query += ["input=1"] if stdin else []
        if tty:
            query.append("tty=1")
            names.append("resize")
        else:
            query.append("error=1")
            names.append("stderr")
        path = f"/{verb}/default/p/main?{'&'.join(query)}"
        client, status, _headers, body = await self.upgrade(path, protocol)
        assert status == 101, body
        return Command(client, {name: await client.opened(name) for name in names})


def quoted(word: str) -> str:
    return "".join(letter if letter.isalnum() else f"%{ord(letter):02X}" for letter in word)


def upgrade_head(path: str, *protocols: str, method: str = "POST", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: SPDY/3.1"]
    lines += [f"X-Stream-Protocol-Version: {protocol}" for protocol in protocols]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + heads.END


@asynccontextmanager
async def kubelet(
    limits: watch.Limits | None = None, local: containers.Containers | None = None, **more: Any
) -> AsyncIterator[Kubelet]:
    """Fails when a task or a process outlives it."""
    before = asyncio.all_tasks()
    machine = local_containers.LocalContainers()
    served = serving.served(serving.handlers(containers=local or machine, **more), limits=limits)
    async with served as api:
        running = Kubelet(api, machine)
        try:
            yield running
        finally:
            for writer in running.writers:
                writer.transport.abort()
    assert all(process.closed.is_set() for process in machine.started), "a process outlived its session"
    await machine.close()
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    assert not left, f"tasks that outlived the server: {left}"
