"""Streaming requests that make no sense, come from nobody, or stop half way: a status, a line of text, no leftovers."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import local_containers
from tests.unit.kubelet import serving, streaming

from bareboat.kubelet import authz, containers, routes
from bareboat.kubelet.streams import commands, front, heads, requests, watch

EXEC = "/exec/default/p/main?command=true&output=1"
DIALECT = streaming.V4


@pytest.mark.parametrize(
    "path, protocol, status, text",
    [
        ("/exec/default/other/main?command=ls&output=1", DIALECT, 404, "pod does not exist"),
        ("/exec/default/p/uid-2/main?command=ls&output=1", DIALECT, 404, "pod does not exist"),
        ("/exec/default/p/absent?command=ls&output=1", DIALECT, 400, 'container not found ("absent")'),
        ("/exec/default/p/main?output=1", DIALECT, 400, "no command was given"),
        ("/exec/default/p/main?command=ls", DIALECT, 400, "you must specify at least 1 of stdin, stdout, stderr"),
        (
            "/exec/default/p/main?command=ls&output=1",
            "v9.channel.k8s.io",
            403,
            "none of the protocols v9.channel.k8s.io",
        ),
        ("/exec/default/p/main?command=ls&output=1", "", 400, "X-Stream-Protocol-Version is required"),
        ("/attach/default/p/main", DIALECT, 400, "you must specify at least 1 of"),
        ("/portForward/default/p", DIALECT, 403, "but portforward.k8s.io"),
        ("/exec/default", DIALECT, 404, "404 page not found"),
        ("/exec/default/p/uid-1/main/more?command=ls&output=1", DIALECT, 404, "404 page not found"),
        ("/run/default/p/main?cmd=ls", DIALECT, 404, "404 page not found"),
        ("/pods", DIALECT, 404, "404 page not found"),
    ],
)
async def test_a_wrong_request_is_refused_in_one_line(path: str, protocol: str, status: int, text: str) -> None:
    async with streaming.kubelet() as kubelet:
        client, answered, headers, body = await kubelet.upgrade(path, *([protocol] if protocol else []))
        assert answered == status
        assert text in body.decode() and b"\n" not in body
        assert headers["connection"] == "close"
        await client.eof()


async def test_spoken_protocols_are_listed_to_who_speaks_none() -> None:
    async with streaming.kubelet() as kubelet:
        _client, _status, headers, _body = await kubelet.upgrade("/portForward/default/p", "v9")
        assert headers["x-accepted-stream-protocol-versions"] == "portforward.k8s.io"


@pytest.mark.parametrize("version", ["v5", "v4", "v3", "v2"])
async def test_the_clients_first_choice_is_spoken(version: str) -> None:
    async with streaming.kubelet() as kubelet:
        offered = (f"{version}.channel.k8s.io, channel.k8s.io", "v4.channel.k8s.io")
        _client, status, headers, _body = await kubelet.upgrade(EXEC, *offered)
        assert (status, headers["upgrade"]) == (101, "SPDY/3.1")
        assert headers["x-stream-protocol-version"] == f"{version}.channel.k8s.io"


@pytest.mark.parametrize(
    "error, status, text",
    [
        (containers.PlainOnly("exec"), 501, "plain access has no exec: "),
        (containers.MachineAway("vast/1 can't be reached"), 503, "vast/1 can't be reached"),
        (containers.NotRunning("two\nlines"), 400, "two lines"),
    ],
)
async def test_what_the_containers_refuse_is_said_before_the_upgrade(
    error: containers.ContainersError, status: int, text: str
) -> None:
    async with streaming.kubelet() as kubelet:
        kubelet.local.refusal = error
        _client, answered, _headers, body = await kubelet.upgrade(EXEC, DIALECT)
        assert answered == status
        assert body.decode().startswith(text) and b"\n" not in body


async def test_a_defect_before_the_upgrade_is_a_500_in_one_line() -> None:
    class Defective(local_containers.LocalContainers):
        async def check(self, *_given: object) -> None:
            raise ZeroDivisionError

    async with streaming.kubelet(local=Defective()) as kubelet:
        _client, status, _headers, body = await kubelet.upgrade(EXEC, DIALECT)
        assert (status, body) == (500, b"internal error of the node agent; its log says more")


async def test_a_process_that_can_not_be_closed_does_not_keep_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn(local_containers.LocalProcess):
        async def close(self) -> None:
            if not self.closed.is_set():
                await super().close()
                await asyncio.Event().wait()

    async def start(*given: str, **named: bool) -> Stubborn:
        started = await original(*given, **named)  # type: ignore[arg-type]
        started.__class__ = Stubborn
        return started  # type: ignore[return-value]

    original = local_containers.start
    monkeypatch.setattr(local_containers, "start", start)
    monkeypatch.setattr(commands, "CLOSE_S", 0.1)
    async with streaming.kubelet() as kubelet:
        command = await kubelet.exec("true")
        assert b"Success" in await command.status()


async def test_what_fails_after_the_upgrade_is_said_in_the_status() -> None:
    async with streaming.kubelet() as kubelet:
        command = await kubelet.exec("no-such-program")
        status = json.loads(await command.status())
        assert status["reason"] == "InternalError"
        assert "no-such-program" in status["message"]


async def test_before_v4_a_failure_is_plain_text() -> None:
    async with streaming.kubelet() as kubelet:
        command = await kubelet.exec("sh", "-c", "exit 4", protocol="v2.channel.k8s.io")
        assert await command.status() == b"command terminated with non-zero exit code: 4"
        command = await kubelet.exec("true", protocol="channel.k8s.io")
        assert await command.status() == b""


async def test_nobody_streams_without_leave() -> None:
    async with streaming.kubelet() as kubelet:
        _client, status, _headers, body = await kubelet.upgrade(EXEC, DIALECT, user=None)
        assert (status, body) == (401, b"Unauthorized")


async def test_a_caller_without_the_right_is_refused_before_anything_else() -> None:
    reviewer = serving.Reviewer(allowed={("reader", "get", "proxy")})
    settings = authz.Settings()
    async with serving.served(reviewer=reviewer, authorization=settings) as api:
        kubelet = streaming.Kubelet(api, local_containers.LocalContainers())
        _client, status, _headers, body = await kubelet.upgrade(
            "/exec/default/no-such-pod/main?command=ls&output=1", DIALECT, user="reader"
        )
        assert status == 403
        assert body == b"Forbidden (user=reader, verb=create, resource=nodes, subresource(s)=[proxy])"
        for writer in kubelet.writers:
            writer.close()


async def test_a_bearer_token_is_enough() -> None:
    reviewer = serving.Reviewer(tokens={"t0ken": "alice"})
    async with serving.served(reviewer=reviewer) as api:
        kubelet = streaming.Kubelet(api, local_containers.LocalContainers())
        _client, status, _headers, _body = await kubelet.upgrade(EXEC, DIALECT, user=None, Authorization="Bearer t0ken")
        assert status == 501
        for writer in kubelet.writers:
            writer.close()


async def test_debugging_handlers_that_are_off_are_off_here_too() -> None:
    async with serving.served(endpoints=routes.Settings(enable_debugging_handlers=False)) as api:
        kubelet = streaming.Kubelet(api, local_containers.LocalContainers())
        _client, status, _headers, body = await kubelet.upgrade(EXEC, DIALECT)
        assert (status, body) == (405, b"Debug endpoints are disabled.")
        for writer in kubelet.writers:
            writer.close()


@pytest.mark.parametrize("header", [{"Content_Length": "5"}, {"Transfer_Encoding": "chunked"}])
async def test_an_upgrade_with_a_body_is_refused(header: dict[str, str]) -> None:
    async with streaming.kubelet() as kubelet:
        _client, status, _headers, body = await kubelet.upgrade(EXEC, DIALECT, **header)
        assert (status, body) == (400, b"a request for an upgrade must not have a body")


async def test_a_head_without_end_is_cut_off_at_its_limit() -> None:
    async with streaming.kubelet() as kubelet:
        client, status, _headers, body = await kubelet.request(
            b"GET /x HTTP/1.1\r\nX: " + b"a" * (front.HEAD_BYTES + 1)
        )
        assert (status, body) == (431, b"the head of the request has more than 1048576 bytes")
        await client.eof()


async def test_a_head_that_does_not_come_is_waited_for_no_longer_than_its_limit() -> None:
    async with streaming.kubelet() as kubelet:
        kubelet.api.server._fronts.head_s = 0.1
        _client, status, _headers, body = await kubelet.request(b"POST /exec/default/p/main HTT")
        assert (status, body) == (408, b"no request came")


async def test_silent_connections_are_bounded_and_do_not_keep_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MAX_WAITING", 2)
    async with streaming.kubelet() as kubelet:
        silent = [await kubelet.dial() for _ in range(4)]
        assert (await kubelet.upgrade(EXEC, DIALECT))[1] == 101
        assert await asyncio.wait_for(silent[0].reader.read(), 5) == b""


async def test_a_head_cut_anywhere_is_read() -> None:
    async with streaming.kubelet() as kubelet:
        client = await kubelet.dial()
        for byte in streaming.upgrade_head(EXEC, DIALECT):
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")


async def test_long_commands_fit() -> None:
    """A script of 100 KiB stands in the query; aiohttp's own limit would be 8 KiB."""
    script = "echo " + "x" * 100_000
    async with streaming.kubelet() as kubelet:
        command = await kubelet.exec("sh", "-c", script)
        await command.status()
        assert len(command.text("stdout")) == 100_001
        async with kubelet.api.client() as session:
            url = kubelet.api.url("/exec/default/p/main")
            query = [("command", "sh"), ("command", "-c"), ("command", script), ("output", "1")]
            async with session.ws_connect(url, params=query, protocols=[DIALECT]) as socket:
                received = sum([len(message.data) - 1 async for message in socket if message.data[0] == 1])
                assert received == 100_001


async def test_a_malformed_request_is_left_to_the_http_server() -> None:
    async with streaming.kubelet() as kubelet:
        client = await kubelet.dial()
        client.writer.write(b"NONSENSE\r\n\r\n")
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.0 400 ")


async def test_a_request_without_an_upgrade_is_told_so() -> None:
    async with streaming.kubelet() as kubelet:
        assert await kubelet.api.send("POST", EXEC) == (400, "Upgrade request required")


async def test_an_upgrade_on_a_used_connection_is_told_so() -> None:
    async with streaming.kubelet() as kubelet:
        client = await kubelet.dial()
        client.writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.reader.readuntil(b"ok")
        client.writer.write(streaming.upgrade_head(EXEC, DIALECT))
        answer = await client.reader.readuntil(b"its connection")
        assert answer.startswith(b"HTTP/1.1 400 ")


async def test_streams_that_never_come_end_the_session_after_30_seconds() -> None:
    async with streaming.kubelet() as kubelet:
        client, _status, _headers, _body = await kubelet.upgrade(EXEC, DIALECT)
        error = await client.opened("error")
        reading = asyncio.create_task(client.until(lambda: error in client.ended), name="test.reader")
        await kubelet.api.clock.advance(30)
        await reading
        assert b"the client did not open all streams in time" in client.received[error]
        assert not kubelet.local.started


@pytest.mark.parametrize("stream_type", ["nonsense", "", "error"])
async def test_a_stream_that_nobody_asked_for_is_reset(stream_type: str) -> None:
    async with streaming.kubelet() as kubelet:
        client, _status, _headers, _body = await kubelet.upgrade(EXEC, DIALECT)
        error = await client.opened("error")
        wrong = await client.opened(stream_type)
        assert wrong in client.resets and error not in client.resets


async def test_a_forward_with_wrong_headers_is_reset_and_a_half_of_one_after_a_while() -> None:
    async with streaming.kubelet() as kubelet:
        client, _status, _headers, _body = await kubelet.upgrade("/portForward/default/p", "portforward.k8s.io")
        assert await client.opened("data", port="0", requestID="1") in client.resets
        lonely = await client.opened("error", port="80", requestID="2")
        assert lonely not in client.resets
        reading = asyncio.create_task(client.until(lambda: lonely in client.resets), name="test.reader")
        await kubelet.api.clock.advance(35)
        await reading


async def test_an_idle_stream_ends_after_four_hours_with_a_word() -> None:
    async with streaming.kubelet(watch.Limits(probe_s=600)) as kubelet:
        command = await kubelet.exec("sleep", "1000")
        await kubelet.local.has_started.wait()
        reading = asyncio.create_task(command.status(), name="test.reader")
        await kubelet.api.clock.advance(3.9 * 3600)
        assert not reading.done()
        await kubelet.api.clock.advance(1200)
        assert b"the stream was idle for 4 h" in await reading
        assert kubelet.local.started[0].closed.is_set()


async def test_pings_keep_a_stream_alive() -> None:
    async with streaming.kubelet(watch.Limits(probe_s=600)) as kubelet:
        command = await kubelet.exec("cat", stdin=True)
        for hours in (3, 6, 9):
            await kubelet.api.clock.advance(3 * 3600)
            command.client.session.ping()
            command.client.flush()
            await command.client.until(lambda: command.client.pongs * 3 == hours)  # noqa: B023 - used at once
        command.client.send(command["stdin"], b"still here", fin=True)
        assert b"Success" in await command.status()
        assert command.text("stdout") == b"still here"


async def test_sessions_are_bounded_and_a_place_comes_free() -> None:
    async with streaming.kubelet(watch.Limits(sessions=1)) as kubelet:
        command = await kubelet.exec("cat", stdin=True)
        _client, status, _headers, body = await kubelet.upgrade(EXEC, DIALECT)
        assert (status, body) == (503, b"1 streams are open, and no more are allowed at the same time")
        command.client.send(command["stdin"], b"", fin=True)
        await command.status()
        command.client.writer.close()
        await command.client.eof()
        await kubelet.api.clock.advance(0)
        assert await (await kubelet.exec("true")).status()


async def test_run_answers_with_the_output() -> None:
    async with streaming.kubelet() as kubelet:
        assert await kubelet.api.send("POST", "/run/default/p/main?cmd=echo%20a%20b") == (200, "a b\n")
        status, body = await kubelet.api.send("POST", "/run/default/p/main?cmd=false")
        assert status == 500 and body.endswith("command terminated with exit code 1")


async def test_a_client_that_reads_slowly_gets_everything_and_the_status() -> None:
    """The process ends long before the client has read its output; closing early would cut it off."""
    async with streaming.kubelet() as kubelet:
        command = await kubelet.exec("head", "-c", "3000000", "/dev/zero")
        await kubelet.local.has_started.wait()
        await asyncio.sleep(0.3)
        for _ in range(10):
            await kubelet.api.clock.advance(10)
        assert b"Success" in await command.status()
        assert len(command.text("stdout")) == 3_000_000


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text("GET POST/exec?&=%\r\n: Upgrade", max_size=200).map(str.encode))
def test_a_head_of_any_bytes_is_read_or_refused(raw: bytes) -> None:
    try:
        head = heads.parse(raw + heads.END)
    except heads.Malformed:
        return
    requests.parse(head.path, head.query)
    assert head.asks_for_spdy in (True, False)


@pytest.mark.parametrize("after", range(0, 200, 23))
async def test_a_peer_that_vanishes_at_any_byte_leaves_nothing(after: int) -> None:
    async with streaming.kubelet() as kubelet:
        client = await kubelet.dial()
        client.session.open({"streamtype": "error"})
        client.session.open({"streamtype": "stdout"})
        head = streaming.upgrade_head(EXEC.replace("true", "cat"), DIALECT)
        client.writer.write((head + client.session.take_output())[: len(head) - 60 + after])
        await client.writer.drain()
        client.writer.transport.abort()
