"""exec, attach and port-forward for clients that speak WebSocket: every sub-protocol, and its traps."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from tests.unit.kubelet import streaming, test_stream_traps

from bareboat.kubelet.streams import remotecommand as words
from bareboat.kubelet.streams import spdy_session, watch

SCRIPT = "cat; echo err >&2; exit 4"


@asynccontextmanager
async def dialled(
    kubelet: streaming.Kubelet, path: str, *protocols: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        kubelet.api.client() as session,
        session.ws_connect(kubelet.api.url(path), protocols=protocols, max_msg_size=0) as socket,
    ):
        yield socket


def exec_path(*argv: str, stdin: bool = True) -> str:
    command = "&".join(f"command={streaming.quoted(word)}" for word in argv)
    return f"/exec/default/p/main?{command}&output=1&error=1{'&input=1' if stdin else ''}"


async def received(socket: aiohttp.ClientWebSocketResponse, protocol: str) -> dict[int, bytes]:
    """All of each channel, up to the close."""
    got: dict[int, bytes] = {}
    async with asyncio.timeout(10):
        async for message in socket:
            sent = words.unpack(protocol, message.data)
            if sent is not None:
                got[sent.channel] = got.get(sent.channel, b"") + sent.data
    return got


async def test_trap_16_a_session_ends_with_a_close_frame_after_its_status() -> None:
    """Without it kubectl takes a good end for a failure. v5 also ends stdin."""
    async with streaming.kubelet() as kubelet, dialled(kubelet, exec_path("sh", "-c", SCRIPT), words.V5) as socket:
        assert socket.protocol == words.V5
        await socket.send_bytes(b"\x00hello")
        await socket.send_bytes(b"\xff\x00")
        got = await received(socket, words.V5)
        assert (got[1], got[2]) == (b"hello", b"err\n")
        assert json.loads(got[3])["details"]["causes"] == [{"reason": "ExitCode", "message": "4"}]
        assert socket.close_code == aiohttp.WSCloseCode.OK


@pytest.mark.parametrize("protocol", [words.V4, words.V4_BASE64, words.V1, words.V1_BASE64, words.NONE])
async def test_every_older_protocol_carries_all_channels(protocol: str) -> None:
    path = exec_path("sh", "-c", "read line; echo got $line; echo err >&2; exit 4")
    async with streaming.kubelet() as kubelet, dialled(kubelet, path, *([protocol] if protocol else [])) as socket:
        assert (socket.protocol or "") == protocol
        packed = words.pack(protocol, 0, b"hello\n")
        await (socket.send_str(packed) if isinstance(packed, str) else socket.send_bytes(packed))
        got = await received(socket, protocol)
        assert (got[1], got[2]) == (b"got hello\n", b"err\n")
        if protocol in (words.V4, words.V4_BASE64):
            assert json.loads(got[3])["reason"] == "NonZeroExitCode"
        else:
            assert got[3] == b"command terminated with non-zero exit code: 4"


async def test_success_in_v1_says_nothing_but_output() -> None:
    """What the conformance test of exec over websockets accepts."""
    path = exec_path("echo", "remote execution", stdin=False)
    async with streaming.kubelet() as kubelet, dialled(kubelet, path, words.V1) as socket:
        assert (await socket.receive()).data == b"\x01"
        assert await received(socket, words.V1) == {1: b"remote execution\n"}


async def test_a_terminal_is_resized() -> None:
    path = "/exec/default/p/main?command=sh&input=1&output=1&tty=1"
    async with streaming.kubelet() as kubelet, dialled(kubelet, path, words.V4) as socket:
        await socket.send_bytes(b'\x04{"Width":101,"Height":42}')
        await kubelet.local.has_started.wait()
        process = kubelet.local.started[0]
        async with asyncio.timeout(10):
            while not process.sizes:
                await process.resized()
        await socket.send_bytes(b"\x00stty size; exit 3\n")
        got = await received(socket, words.V4)
        assert b"42 101" in got[1]
        assert json.loads(got[3])["details"]["causes"][0]["message"] == "3"


async def test_unknown_channels_are_ignored() -> None:
    async with streaming.kubelet() as kubelet, dialled(kubelet, exec_path("cat"), words.V5) as socket:
        for message in (b"\x09x", b"\x01x", b"", b"\xff\x07", b"\x00ok", b"\xff\x00"):
            await socket.send_bytes(message)
        assert (await received(socket, words.V5))[1] == b"ok"


@pytest.mark.parametrize("path", [exec_path("true"), "/portForward/default/p?port=80"])
async def test_trap_15_no_upgrade_without_a_common_protocol(path: str) -> None:
    async with streaming.kubelet() as kubelet:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with dialled(kubelet, path, "v9.channel.k8s.io"):
                pass
        assert refused.value.status == 403


async def test_trap_15_a_message_of_8_mib_is_taken() -> None:
    async with streaming.kubelet() as kubelet, dialled(kubelet, exec_path("wc", "-c"), words.V5) as socket:
        await socket.send_bytes(b"\x00" + b"x" * (8 << 20))
        await socket.send_bytes(b"\xff\x00")
        assert (await received(socket, words.V5))[1].strip() == b"8388608"


async def test_trap_20_a_failure_after_the_upgrade_stands_on_the_error_channel() -> None:
    async with streaming.kubelet() as kubelet, dialled(kubelet, exec_path("no-such-program"), words.V4) as socket:
        status = json.loads((await received(socket, words.V4))[3])
        assert status["reason"] == "InternalError" and "no-such-program" in status["message"]


@pytest.mark.parametrize("protocol, message", [(words.V1_BASE64, "0no base64"), (words.V5, "\x04hello")])
async def test_a_client_that_breaks_the_protocol_is_told(protocol: str, message: str) -> None:
    async with streaming.kubelet() as kubelet, dialled(kubelet, exec_path("sleep", "100"), protocol) as socket:
        await kubelet.local.has_started.wait()
        await socket.send_str(message)
        got = await received(socket, protocol)
        assert b"the client sent a" in got[3]
        assert kubelet.local.started[0].closed.is_set()


async def test_a_client_that_vanishes_takes_the_process_along() -> None:
    async with streaming.kubelet() as kubelet, dialled(kubelet, exec_path("sleep", "100"), words.V4) as socket:
        await kubelet.local.has_started.wait()
        assert socket._response.connection is not None
        transport = socket._response.connection.transport
        assert transport is not None
        transport.abort()
        await asyncio.wait_for(kubelet.local.started[0].closed.wait(), 5)


@pytest.mark.parametrize("peer", ["vanishes", "answers pings"])
async def test_trap_3_a_process_that_reads_nothing_hides_no_client_that_left(peer: str) -> None:
    limits = watch.Limits(probe_s=5, stalled_s=60 if peer == "answers pings" else 1e9)
    async with streaming.kubelet(limits) as kubelet, dialled(kubelet, exec_path("sleep", "100"), words.V5) as socket:
        with pytest.raises(TimeoutError):
            for _ in range(1024):
                await asyncio.wait_for(socket.send_bytes(b"\0" + b"x" * 65536), 0.6)
        reading = asyncio.create_task(received(socket, words.V5), name="test.reader")
        if peer == "vanishes":
            assert socket._response.connection is not None and socket._response.connection.transport is not None
            socket._response.connection.transport.abort()
        async with asyncio.timeout(10):
            while not kubelet.local.started[0].closed.is_set():
                await kubelet.api.clock.advance(5)
                await asyncio.sleep(0.01)
        got = await reading
        assert peer == "vanishes" or b"nothing moved for 1 min" in got[3]


async def test_a_stopping_server_tells_a_status_first() -> None:
    async with streaming.kubelet() as kubelet, dialled(kubelet, exec_path("sleep", "100"), words.V4) as socket:
        await kubelet.local.has_started.wait()
        stopping = asyncio.create_task(kubelet.api.server.__aexit__(None, None, None), name="test.stop")
        assert b"the node agent is shutting down" in (await received(socket, words.V4))[3]
        await stopping


async def test_an_idle_stream_ends_after_four_hours_with_a_word() -> None:
    async with streaming.kubelet() as kubelet, dialled(kubelet, exec_path("sleep", "100"), words.V4) as socket:
        await kubelet.local.has_started.wait()
        reading = asyncio.create_task(received(socket, words.V4), name="test.reader")
        await kubelet.api.clock.advance(4 * 3600 + 10)
        assert b"the stream was idle for 4 h" in (await reading)[3]


@pytest.mark.parametrize("offer", [["v5.channel.k8s.io", words.V4], [words.V4], []])
async def test_ports_are_forwarded_in_the_old_form(offer: list[str]) -> None:
    """Python's client offers v5 and v4; only the latter has this form."""
    async with (
        streaming.kubelet() as kubelet,
        test_stream_traps.an_echo() as port,
        dialled(kubelet, f"/portForward/default/p?port={port},{port}", *offer) as socket,
    ):
        greeting = port.to_bytes(2, "little")
        assert [(await socket.receive()).data for _ in range(4)] == [bytes([n]) + greeting for n in range(4)]
        await socket.send_bytes(b"\x00first")
        await socket.send_bytes(b"\x02second")
        answers = {(await socket.receive()).data for _ in range(2)}
        assert answers == {b"\x00first", b"\x02second"}


async def test_a_refused_port_is_said_on_its_error_channel() -> None:
    path = "/portForward/default/p?port=1"
    async with streaming.kubelet() as kubelet, dialled(kubelet, path, words.V4) as socket:
        got = await received(socket, words.V4)
        assert got[0] == b"\x01\x00"
        assert got[1].startswith(b"\x01\x00port 1: ")


async def test_a_forward_without_ports_is_refused() -> None:
    async with streaming.kubelet() as kubelet:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with dialled(kubelet, "/portForward/default/p", words.V4):
                pass
        assert refused.value.status == 400


async def test_the_tunnel_carries_spdy() -> None:
    async with (
        streaming.kubelet() as kubelet,
        test_stream_traps.an_echo() as port,
        dialled(kubelet, "/portForward/default/p", "SPDY/3.1+portforward.k8s.io") as socket,
    ):
        assert socket.protocol == "SPDY/3.1+portforward.k8s.io"
        client = spdy_session.Session(client=True)
        for kind in ("error", "data"):
            client.open({"streamtype": kind, "port": str(port), "requestid": "1"})
        # Borders of messages mean nothing.
        for byte in client.take_output():
            await socket.send_bytes(bytes([byte]))
        got, accepted = b"", 0
        sent = False
        async with asyncio.timeout(10):
            while got != b"through the tunnel":
                for event in client.receive((await socket.receive()).data):
                    accepted += isinstance(event, spdy_session.Accepted)
                    got += event.data if isinstance(event, spdy_session.Received) else b""
                if accepted == 2 and not sent:
                    sent = client.send(3, b"through the tunnel", fin=True)
                    await socket.send_bytes(client.take_output())
        client.go_away()
        await socket.send_bytes(client.take_output())
