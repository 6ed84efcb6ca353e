"""The control socket of one machine, at the simulator's end: commands out, events in, one JSON line each."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from bareboat.simulation.machines import machine


class Control(asyncio.Protocol):
    """`status` and `ended` speak of the present run; `answer` gets the reason why a start failed, or nothing."""

    def __init__(self) -> None:
        self.status: machine.ExitStatus | None = None
        self.ended = asyncio.Event()
        self.closed = asyncio.Event()
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.is_set():
            self._end(machine.ExitStatus(137, reason="the machine was taken down"))
        self._answer("the machine's monitor ended without a word")
        self.closed.set()

    def send(self, message: Mapping[str, Any]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(json.dumps(message).encode() + b"\n")

    def hang_up(self) -> None:
        """Has the monitor take everything down; `closed` is set when it is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def expect_answer(self) -> None:
        self.ended.clear()
        self.status = None
        self.answer = asyncio.get_running_loop().create_future()

    def _take(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "failed":
            self._answer(event["reason"])
            return
        if event["event"] == "ended":
            self._end(machine.ExitStatus(event["code"], event["oom"], event["reason"]))
        self._answer("")

    def _end(self, status: machine.ExitStatus) -> None:
        self.status = status
        self.ended.set()

    def _answer(self, reason: str) -> None:
        if not self.answer.done():
            self.answer.set_result(reason)
