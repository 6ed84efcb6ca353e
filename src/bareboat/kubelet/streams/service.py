"""The streaming verbs of one kubelet, whichever protocol a client speaks: admits a request, carries it, ends it.

Owns the count of sessions and their end when the server stops. Invariant: an exec or attach that was accepted ends with
a status, unless its client is gone.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

from aiohttp import web

from bareboat.kubelet import containers
from bareboat.kubelet.streams import (
    commands,
    heads,
    portforward,
    remotecommand,
    requests,
    spdy_commands,
    spdy_connection,
    spdy_forwards,
    watch,
    websocket_commands,
    websocket_forwards,
    websockets,
)
from bareboat.plumbing import clock as clocks

HasPod = Callable[[str, str, str | None], bool]
TakeOver = Callable[[spdy_connection.Connection, str], None]
"""(connection, protocol): answers 101 and gives the connection a link to the client."""
NO_UPGRADE = "Upgrade request required"
NEW_CONNECTION = "an upgrade to SPDY has to be the first request of its connection"
STREAM_VERSION = "x-stream-protocol-version"


class Streams:
    """One per server."""

    def __init__(
        self,
        pods: containers.Containers,
        has_pod: HasPod,
        clock: clocks.Clock,
        stopping: asyncio.Event,
        limits: watch.Limits,
    ) -> None:
        self._containers = pods
        self._has_pod = has_pod
        self._clock = clock
        self._stopping = stopping
        self._limits = limits
        self.count = 0
        """Of sessions at the moment."""

    async def spdy(self, head: heads.Head, ask: requests.Ask, take_over: TakeOver) -> None:
        """From the request to the end of the connection. Raises `requests.Refusal` as long as nothing was taken over;
        from then on the connection is closed by the time this returns or is cancelled."""
        await self._admit(ask)
        if head.has_body:
            raise requests.Refusal(400, "a request for an upgrade must not have a body")
        offered = head.listed(STREAM_VERSION)
        if not offered:
            raise requests.Refusal(400, "unable to upgrade: the header X-Stream-Protocol-Version is required")
        with self._session():
            if ask.verb == "port-forward":
                await self._spdy_forwards(ask, _agreed(offered, (portforward.SPDY_PROTOCOL,)), take_over)
            else:
                await self._spdy_command(ask, _agreed(offered, remotecommand.SPDY_PROTOCOLS), take_over)

    async def http(self, request: web.Request) -> web.StreamResponse:
        """The same for what comes through aiohttp: WebSockets, and requests that lack an upgrade."""
        ask = requests.parse(request.rel_url.raw_path, request.query.items())
        try:
            if ask is None:
                raise requests.Refusal(404, "404 page not found")
            await self._admit(ask)
            if ask.verb == "run":
                return await self._run(request, ask)
            upgrade = request.headers.get("Upgrade", "").lower()
            if upgrade != "websocket":
                raise requests.Refusal(400, NEW_CONNECTION if "spdy" in upgrade else NO_UPGRADE)
            with self._session():
                return await self._websocket(request, ask)
        except requests.Refusal as refusal:
            return web.Response(text=refusal.text, status=refusal.status)

    async def _admit(self, ask: requests.Ask) -> None:
        pod = ask.pod
        if not self._has_pod(pod.namespace, pod.name, pod.uid):
            raise requests.Refusal(404, containers.NO_POD)
        try:
            await self._containers.check(pod, ask.container, ask.verb)
        except containers.ContainersError as error:
            raise requests.Refusal(error.status, str(error)) from error
        if ask.verb in ("exec", "run") and not ask.command:
            raise requests.Refusal(400, "no command was given")
        if self._stopping.is_set():
            raise requests.Refusal(503, watch.SHUTTING_DOWN)

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        if self.count >= self._limits.sessions:
            raise requests.Refusal(503, f"{self.count} streams are open, and no more are allowed at the same time")
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    async def _spdy_command(self, ask: requests.Ask, protocol: str, take_over: TakeOver) -> None:
        asked = _asked(ask)
        wire = spdy_commands.SpdyWire(asked, protocol, self._clock, self._limits.linger_s)
        take_over(wire.connection, protocol)

        async def work() -> remotecommand.Outcome:
            if not await wire.opened(self._limits.creation_s):
                return remotecommand.Outcome(failure=spdy_commands.NOT_OPENED)
            return await commands.run(wire, asked, self._start(ask, asked), attach=ask.verb == "attach")

        try:
            ended = await watch.over(work(), wire.connection, self._stopping, self._clock, self._limits)
            if not wire.connection.gone.is_set():
                await wire.end(_outcome(ended), self._limits.idle_s)
        finally:
            wire.connection.link.close()

    async def _spdy_forwards(self, ask: requests.Ask, protocol: str, take_over: TakeOver) -> None:
        pod = ask.pod
        forwards = spdy_forwards.SpdyForwards(
            self._connect(ask),
            self._clock,
            f"{pod.namespace}/{pod.name}",
            lambda: self._has_pod(pod.namespace, pod.name, pod.uid),
        )
        connection = forwards.connection
        take_over(connection, protocol)
        try:
            await watch.over(forwards.run(), connection, self._stopping, self._clock, self._limits)
            if not connection.gone.is_set():
                await connection.goodbye(self._limits.linger_s, self._limits.linger_s)
        finally:
            connection.link.close()

    async def _websocket(self, request: web.Request, ask: requests.Ask) -> web.StreamResponse:
        lines = request.headers.getall("Sec-WebSocket-Protocol", [])
        offered = [name.strip() for line in lines for name in line.split(",") if name.strip()] or [""]
        if ask.verb != "port-forward":
            asked = _asked(ask)
            return await self._websocket_command(
                request, ask, asked, _agreed(offered, remotecommand.WEBSOCKET_PROTOCOLS)
            )
        if portforward.TUNNEL_PROTOCOL in offered:
            return await self._tunnel(request, ask)
        protocol = _agreed(offered, portforward.WEBSOCKET_PROTOCOLS)
        try:
            ports = portforward.ports(ask.query)
        except portforward.BadOptions as error:
            raise requests.Refusal(400, str(error)) from error
        return await self._websocket_forwards(request, ask, protocol, ports)

    async def _websocket_command(
        self, request: web.Request, ask: requests.Ask, asked: remotecommand.Asked, protocol: str
    ) -> web.StreamResponse:
        socket = websockets.response(protocol)
        await socket.prepare(request)
        wire = websocket_commands.WebSocketWire(request, socket, protocol, self._clock)
        await wire.greet(asked)
        async with _beside(wire.receive(), "kubelet.streams.receive"):
            work = commands.run(wire, asked, self._start(ask, asked), attach=ask.verb == "attach")
            ended = await watch.over(work, wire, self._stopping, self._clock, self._limits)
        if ended.result is not None or ended.why:
            await wire.end(_outcome(ended), self._limits.idle_s)
        return socket

    async def _websocket_forwards(
        self, request: web.Request, ask: requests.Ask, protocol: str, ports: list[int]
    ) -> web.StreamResponse:
        socket = websockets.response(protocol)
        await socket.prepare(request)
        session = websocket_forwards.WebSocketForwards(
            request, socket, protocol, self._clock, ports, self._connect(ask)
        )
        async with _beside(session.receive(), "kubelet.streams.receive"):
            await watch.over(session.run(), session, self._stopping, self._clock, self._limits)
        await session.close_socket()
        return socket

    async def _tunnel(self, request: web.Request, ask: requests.Ask) -> web.StreamResponse:
        socket = websockets.response(portforward.TUNNEL_PROTOCOL)
        await socket.prepare(request)
        link = websocket_forwards.TunnelLink(request, socket, self._clock)
        running: list[asyncio.Task[None]] = []

        def take_over(connection: spdy_connection.Connection, _protocol: str) -> None:
            connection.use(link)
            running.append(asyncio.create_task(link.run(connection), name="kubelet.streams.tunnel"))

        try:
            await self._spdy_forwards(ask, portforward.SPDY_PROTOCOL, take_over)
            await asyncio.wait(running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
        return socket

    async def _run(self, request: web.Request, ask: requests.Ask) -> web.StreamResponse:
        """The command's output as the body: what `kubectl get --raw` and old tools use."""
        output = bytearray()
        try:
            process = await self._containers.exec(ask.pod, ask.container or "", ask.command, stdin=False, tty=False)
            try:
                await asyncio.gather(_collect(process.read_stdout, output), _collect(process.read_stderr, output))
                exit_code = await process.wait()
            finally:
                await process.close()
        except containers.ContainersError as error:
            raise requests.Refusal(error.status, str(error)) from error
        if exit_code:
            output += f"\ncommand terminated with exit code {exit_code}".encode()
        return web.Response(body=bytes(output), status=500 if exit_code else 200, content_type="text/plain")

    def _start(self, ask: requests.Ask, asked: remotecommand.Asked) -> commands.Start:
        container = ask.container or ""
        if ask.verb == "attach":
            return lambda: self._containers.attach(ask.pod, container, stdin=asked.stdin, tty=asked.tty)
        return lambda: self._containers.exec(ask.pod, container, ask.command, stdin=asked.stdin, tty=asked.tty)

    def _connect(self, ask: requests.Ask) -> spdy_forwards.Connect:
        return lambda port: self._containers.connect(ask.pod, port)


MAX_RUN_BYTES = 16 << 20


async def _collect(read: Callable[[int], Awaitable[bytes]], output: bytearray) -> None:
    while chunk := await read(remotecommand.CHUNK_BYTES):
        if len(output) < MAX_RUN_BYTES:
            output += chunk


def _asked(ask: requests.Ask) -> remotecommand.Asked:
    try:
        return remotecommand.asked(ask.query)
    except remotecommand.BadOptions as error:
        raise requests.Refusal(400, str(error)) from error


def _agreed(offered: Sequence[str], supported: Sequence[str]) -> str:
    protocol = remotecommand.choose(offered, supported)
    if protocol is None:
        spoken = [name for name in supported if name]
        raise requests.Refusal(
            403,
            f"unable to upgrade: none of the protocols {', '.join(offered)} is spoken here, but {', '.join(spoken)}",
            tuple(("X-Accepted-Stream-Protocol-Versions", name) for name in spoken),
        )
    return protocol


def _outcome(ended: watch.Ended[remotecommand.Outcome]) -> remotecommand.Outcome:
    return ended.result or remotecommand.Outcome(failure=ended.why or commands.LOST)


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Runs `work` until the block is left. What goes wrong in it is the block's to notice."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled() and (crash := task.exception()) is not None:
            raise crash
