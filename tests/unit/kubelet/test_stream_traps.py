"""The traps of streaming that real clients fall into, one test each."""

import asyncio
import json

import pytest
from tests.fakes import local_containers
from tests.unit.kubelet import streaming

from bareboat.kubelet import containers
from bareboat.kubelet.streams import spdy_framing, watch

SUCCESS = {"metadata": {}, "status": "Success"}


async def test_trap_1_a_stopping_server_tells_a_status_first() -> None:
    async with streaming.kubelet() as kubelet:
        command = await kubelet.exec("sh", "-c", "echo half; sleep 1000")
        await command.client.until(lambda: command.text("stdout") == b"half\n")
        stopping = asyncio.create_task(kubelet.api.server.__aexit__(None, None, None), name="test.stop")
        status = json.loads(await command.status())
        assert (status["status"], status["reason"]) == ("Failure", "InternalError")
        assert status["message"] == "the node agent is shutting down"
        await kubelet.local.started[0].closed.wait()
        command.client.writer.close()
        await stopping


async def test_trap_1_a_machine_that_is_lost_is_a_failure() -> None:
    class Lost(local_containers.LocalProcess):
        async def read_stdout(self, limit: int) -> bytes:
            raise containers.MachineAway("the connection to vast/1 was lost")

    class Losing(local_containers.LocalContainers):
        async def exec(self, *given: object, **named: object) -> local_containers.LocalProcess:
            started = await local_containers.start(["sleep", "1000"], stdin=False, tty=False)
            started.__class__ = Lost
            self.started.append(started)
            return started

    losing = Losing()
    async with streaming.kubelet(local=losing) as kubelet:
        command = await kubelet.exec("any")
        status = json.loads(await command.status())
        assert (status["reason"], status["message"]) == ("InternalError", "the connection to vast/1 was lost")
        assert losing.started[0].closed.is_set()


async def test_trap_1_a_defect_is_a_failure() -> None:
    class Defective(local_containers.LocalContainers):
        async def exec(self, *given: object, **named: object) -> local_containers.LocalProcess:
            raise ZeroDivisionError

    async with streaming.kubelet(local=Defective()) as kubelet:
        command = await kubelet.exec("any")
        status = json.loads(await command.status())
        assert (status["reason"], status["message"]) == ("InternalError", watch.CRASHED)


async def test_trap_1_a_client_that_speaks_no_spdy_any_more_is_told() -> None:
    async with streaming.kubelet() as kubelet:
        command = await kubelet.exec("sleep", "1000", stdin=True)
        command.client.writer.write(b"\x80\x02\x00\x01\x00\x00\x00\x00")
        assert b"the client sent a frame of SPDY version 2" in await command.status()
        await command.client.until(lambda: command.client.went_away)
        await kubelet.api.clock.advance(watch.Limits().linger_s)
        await command.client.eof()


async def test_trap_2_early_bytes_after_the_head_are_not_lost() -> None:
    async with streaming.kubelet() as kubelet:
        client = await kubelet.dial()
        head = streaming.upgrade_head("/exec/default/p/main?command=cat&input=1&output=1", streaming.V4)
        streams = {name: client.session.open({"streamType": name}) for name in ("error", "stdin", "stdout")}
        client.received = {stream_id: bytearray() for stream_id in streams.values()}
        client.writer.write(head + client.session.take_output())
        answer = await client.reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 ")
        await client.until(lambda: len(client.accepted) == 3)
        client.send(streams["stdin"], b"early", fin=True)
        await client.until(lambda: streams["error"] in client.ended)
        assert client.received[streams["stdout"]] == b"early"


async def test_trap_3_a_client_that_vanishes_while_nothing_is_read_is_noticed_by_our_pings() -> None:
    """Pings write, and what writes to a dead connection finds out."""
    async with streaming.kubelet(watch.Limits(probe_s=5)) as kubelet:
        command = await stalled(kubelet)
        command.client.writer.transport.abort()
        async with asyncio.timeout(10):
            while not kubelet.local.started[0].closed.is_set():
                await kubelet.api.clock.advance(5)
                await asyncio.sleep(0.01)


async def test_trap_3_a_session_in_which_nothing_moves_ends_though_the_peer_answers_pings() -> None:
    """Behind a proxy that is itself blocked the client's end never shows; own pings are no progress."""
    async with streaming.kubelet(watch.Limits(probe_s=5, stalled_s=60)) as kubelet:
        command = await stalled(kubelet)
        reading = asyncio.create_task(command.status(), name="test.reader")
        async with asyncio.timeout(10):
            while not kubelet.local.started[0].closed.is_set():
                await kubelet.api.clock.advance(5)
                await asyncio.sleep(0.01)
        status = json.loads(await reading)
        assert status["message"] == "nothing moved for 1 min while the process left its input unread"


async def stalled(kubelet: streaming.Kubelet) -> streaming.Command:
    """An exec whose process reads nothing, with so much input that the connection isn't read any more."""
    command = await kubelet.exec("sleep", "1000", stdin=True)
    with pytest.raises(TimeoutError):
        for _ in range(1024):
            command.client.send(command["stdin"], b"x" * 65536)
            await asyncio.wait_for(command.client.writer.drain(), 0.6)
    return command


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_trap_4_a_client_that_leaves_takes_the_process_along(how: str) -> None:
    async with streaming.kubelet() as kubelet:
        command = await kubelet.exec("sleep", "1000", stdin=True)
        getattr(command.client.writer.transport, how)()
        async with asyncio.timeout(10):
            await kubelet.local.has_started.wait()
            await kubelet.local.started[0].closed.wait()


async def test_trap_5_no_connection_stays_in_a_table_after_its_end() -> None:
    async with streaming.kubelet() as kubelet:
        for _ in range(3):
            command = await kubelet.exec("true")
            assert json.loads(await command.status()) == SUCCESS
            command.client.writer.close()
            await command.client.eof()
        await kubelet.api.clock.advance(0)
        assert not kubelet.api.server.streaming_connections
        assert not kubelet.api.server._connections()


async def test_traps_6_and_7_every_stream_ends_by_itself_while_the_connection_is_open() -> None:
    async with streaming.kubelet() as kubelet:
        command = await kubelet.exec("sh", "-c", "echo out; echo err >&2; exit 4", stdin=True)
        status = json.loads(await command.status())
        assert not command.client.at_eof
        assert (command.text("stdout"), command.text("stderr")) == (b"out\n", b"err\n")
        assert (status["reason"], status["details"]) == (
            "NonZeroExitCode",
            {"causes": [{"reason": "ExitCode", "message": "4"}]},
        )
        await command.client.until(lambda: command.client.went_away)
        await kubelet.api.clock.advance(watch.Limits().linger_s)
        await command.client.eof()


async def test_traps_8_and_9_streams_are_replied_to_at_once_and_before_any_data() -> None:
    """The command starts only with the last stream; the client fails the test if data comes before its reply."""
    async with streaming.kubelet() as kubelet:
        client, status, _headers, _body = await kubelet.upgrade(
            "/exec/default/p/main?command=echo&command=hi&output=1&error=1", streaming.V4
        )
        assert status == 101
        error, stdout = await client.opened("error"), await client.opened("stdout")
        await asyncio.sleep(0.05)
        assert not kubelet.local.started
        await client.opened("stderr")
        await client.until(lambda: error in client.ended)
        assert client.received[stdout] == b"hi\n"


async def test_trap_10_input_that_nobody_reads_does_not_hold_up_the_end() -> None:
    async with streaming.kubelet() as kubelet:
        command = await kubelet.exec("sh", "-c", "head -c 1 >/dev/null; exit 3", stdin=True)
        for _ in range(256):
            command.client.send(command["stdin"], b"x" * 65536)
        assert json.loads(await command.status())["details"]["causes"][0]["message"] == "3"
        await command.client.writer.drain()


async def test_trap_11_a_background_child_that_holds_stdout_keeps_the_session() -> None:
    async with streaming.kubelet() as kubelet:
        command = await kubelet.exec("sh", "-c", "(sleep 0.5; echo late) & echo now")
        assert json.loads(await command.status()) == SUCCESS
        assert command.text("stdout") == b"now\nlate\n"


async def test_trap_12_a_refused_connection_ends_without_a_word_and_leaves_the_session() -> None:
    async with streaming.kubelet() as kubelet, an_echo() as port:
        client = await forwarding(kubelet)
        error, data = await a_pair(client, "1", 1)
        await client.until(lambda: error in client.ended and data in client.resets)
        assert client.received[error] == b""
        error, data = await a_pair(client, "2", port)
        client.send(data, b"still there", fin=True)
        await client.until(lambda: data in client.ended)
        assert client.received[data] == b"still there"
        await client.until(lambda: error in client.ended)


async def test_an_idle_forward_ends_when_its_pod_is_gone() -> None:
    there = {"p"}
    async with streaming.kubelet(has_pod=lambda namespace, pod, uid: pod in there) as kubelet, an_echo() as port:
        client = await forwarding(kubelet)
        await a_pair(client, "1", port)
        await kubelet.api.clock.advance(30)
        assert not client.went_away
        there.clear()
        await kubelet.api.clock.advance(10)
        await client.until(lambda: client.went_away)


async def test_trap_13_one_connection_that_nobody_reads_holds_the_others_until_it_is_drained() -> None:
    """Inherent to one connection without windows; what matters is that it goes on afterwards."""
    blocked = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await blocked.wait()
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        while await reader.read(1 << 20):
            pass
        writer.close()

    async with (
        await asyncio.start_server(deaf, "127.0.0.1", 0) as server,
        an_echo() as port,
        streaming.kubelet() as kubelet,
    ):
        client = await forwarding(kubelet)
        _error, stuck = await a_pair(client, "1", server.sockets[0].getsockname()[1])
        _error, lively = await a_pair(client, "2", port)
        for _ in range(256):
            client.send(stuck, b"x" * 65536)
        client.send(lively, b"hello", fin=True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.until(lambda: lively in client.ended), 0.5)
        blocked.set()
        await client.until(lambda: lively in client.ended)
        client.send(stuck, b"", fin=True)
        await client.until(lambda: stuck in client.ended)


async def test_trap_14_a_reset_of_a_data_stream_is_a_normal_end() -> None:
    left = asyncio.Event()

    async def closes_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        await reader.read()
        left.set()
        writer.close()

    async with await asyncio.start_server(closes_first, "127.0.0.1", 0) as server, streaming.kubelet() as kubelet:
        client = await forwarding(kubelet)
        error, data = await a_pair(client, "1", server.sockets[0].getsockname()[1])
        await client.until(lambda: data in client.ended and error in client.ended)
        assert client.received[data] == b"bye"
        client.session.reject(data, spdy_framing.CANCEL)
        client.flush()
        await asyncio.wait_for(left.wait(), 5)


async def test_trap_14_a_reset_ends_the_connection_to_the_pod_as_well() -> None:
    arrived, left = asyncio.Event(), asyncio.Event()

    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()
        left.set()
        writer.close()

    async with await asyncio.start_server(waits, "127.0.0.1", 0) as server, streaming.kubelet() as kubelet:
        client = await forwarding(kubelet)
        error, data = await a_pair(client, "1", server.sockets[0].getsockname()[1])
        await asyncio.wait_for(arrived.wait(), 5)
        client.session.reject(data, spdy_framing.CANCEL)
        client.flush()
        await asyncio.wait_for(left.wait(), 5)
        await client.until(lambda: error in client.ended)
        assert client.received[error] == b""


async def test_trap_17_the_end_of_a_terminal_is_the_end_of_its_output() -> None:
    async with streaming.kubelet() as kubelet:
        command = await kubelet.exec("sh", "-c", "tty; stty size; exit 5", stdin=True, tty=True)
        assert json.loads(await command.status())["details"]["causes"][0]["message"] == "5"
        assert command.text("stdout").startswith(b"/dev/pts/")


async def test_trap_18_output_goes_out_in_large_frames() -> None:
    async with streaming.kubelet() as kubelet:
        command = await kubelet.exec("head", "-c", "8388608", "/dev/zero")
        frames = 0
        original = command.client._handle

        def counted(event: object) -> None:
            nonlocal frames
            frames += type(event).__name__ == "Received"
            original(event)  # type: ignore[arg-type]

        command.client._handle = counted  # type: ignore[method-assign]
        assert json.loads(await command.status()) == SUCCESS
        assert len(command.text("stdout")) == 8 << 20
        # Parts of frames count, too, as they come in reads of 64 KiB.
        assert frames <= 4 * (8 << 20) // 65536


async def test_trap_19_every_request_passes_the_guard_and_reaches_its_handler() -> None:
    async with streaming.kubelet() as kubelet:
        assert await kubelet.api.get("/healthz", user=None) == (401, "Unauthorized")
        assert await kubelet.api.get("/healthz") == (200, "ok")


async def test_trap_21_a_quiet_stream_outlives_the_http_servers_keep_alive() -> None:
    async with streaming.kubelet() as kubelet:
        http = kubelet.api.server._runner.server
        assert http is not None
        http._kwargs["keepalive_timeout"] = 0.05
        command = await kubelet.exec("sh", "-c", "sleep 0.4; echo still here")
        assert json.loads(await command.status()) == SUCCESS
        assert command.text("stdout") == b"still here\n"


def an_echo() -> "Echo":
    return Echo()


class Echo:
    """A server on loopback that sends back what it gets."""

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    @staticmethod
    async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        writer.close()


async def forwarding(kubelet: streaming.Kubelet) -> streaming.Client:
    client, status, headers, _body = await kubelet.upgrade("/portForward/default/p", "portforward.k8s.io")
    assert (status, headers["x-stream-protocol-version"]) == (101, "portforward.k8s.io")
    return client


async def a_pair(client: streaming.Client, request: str, port: int) -> tuple[int, int]:
    """As kubectl opens it: the error stream first, whose own half it ends at once."""
    error = await client.opened("error", port=str(port), requestID=request)
    client.send(error, b"", fin=True)
    return error, await client.opened("data", port=str(port), requestID=request)
