"""Bytes that are no proper HTTP end in the errors of the seam, never in those of a library; and nothing blocks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from blockbuster import blockbuster_ctx
from tests.unit.vast import fakes

from bareboat.core import errors, needs

BROKEN = {
    "garbage": b"\x16\x03\x01 hello \xff\r\n\r\n",
    "no status": b"HTTP/1.1 abc\r\n\r\n",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    "half a header": b"HTTP/1.1 200 OK\r\nContent-Le",
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "no gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    "endless header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "no utf-8": b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"msg": "\xff"}',
    "deep": b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"[" * 20_000,
    "deep error": b"HTTP/1.1 400 No\r\nContent-Length: 20010\r\n\r\n" + b'{"error": ' + b"[" * 20_000,
    "nothing": b"",
}


@contextlib.asynccontextmanager
async def _answering(answer: bytes) -> AsyncIterator[str]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_answer_to_a_rent_call_is_an_unknown_outcome(answer: bytes) -> None:
    async with _answering(answer) as url, fakes.client(url) as cloud:
        with pytest.raises(errors.OutcomeUnknown):
            await cloud.rent(fakes.an_offer(), fakes.a_launch(), fakes.a_mark())


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_answer_to_a_read_is_a_cloud_that_is_down(answer: bytes) -> None:
    async with _answering(answer) as url, fakes.client(url, tries=2) as cloud:
        for call in (cloud.instances, cloud.census, cloud.credit_usd):
            with pytest.raises(errors.CloudDown):
                await call()
        with pytest.raises(errors.CloudDown):
            await cloud.search(needs.Needs())


async def test_no_call_blocks_the_event_loop() -> None:
    async with fakes.serving(fakes.says({"success": True, "new_contract": 7, "credit": 1.0})) as server:
        with blockbuster_ctx():
            async with fakes.client(server.url) as cloud:
                await cloud.rent(fakes.an_offer(), fakes.a_launch(), fakes.a_mark())
                await cloud.credit_usd()
                await cloud.destroy("7")
