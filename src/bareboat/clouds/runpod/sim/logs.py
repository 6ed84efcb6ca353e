"""The log stream of v2: server-sent events that begin with the newest lines, go on for ever, and break at times.

Two sources: the container's own output, and what the host says of it (`system`). Events are numbered within one stream
of a pod and source, so that a client can take up where it was.
"""

import asyncio
import datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from aiohttp import web

from bareboat.clouds.runpod.sim import pods, replies, times
from bareboat.simulation import rentals

if TYPE_CHECKING:
    from bareboat.clouds.runpod.sim import simulator

POLL_S = 0.1
Stage = rentals.Stage


class Event(NamedTuple):
    """One line; `number` counts from 1 within its pod."""

    number: int
    at: str
    source: str
    line: str

    @property
    def id(self) -> str:
        return f"{self.at}/{self.number:012d}"


class Logs:
    def __init__(self, sim: "simulator.Simulator") -> None:
        self._sim = sim

    async def stream(self, request: web.Request) -> web.StreamResponse:
        rental = self._sim.pods.find(request.match_info["id"])
        sources = set(request.query.get("source", "container,system").split(","))
        if not sources <= {"container", "system"}:
            raise replies.Refused(422, "Request validation failed.", errors=["$.source: unknown"])
        tail = _tail(request.query.get("tail"))
        after = _number(request.headers.get("Last-Event-ID", ""))
        events = await self._events(rental, sources)
        if after is None:
            wanted = [each for each in events if not _older(each, request.query.get("since"))]
            wanted = wanted[len(wanted) - min(tail, len(wanted)) :]
            after = wanted[0].number - 1 if wanted else len(events)
        strike = self._sim.estate.faults.strikes("stream_drops", self._sim.estate.now(), rental.subject())
        most = None if strike is None else int(strike.number("lines"))
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        sent = 0
        while not self._sim.closing.is_set():
            for event in (each for each in events if each.number > after):
                if most is not None and sent >= most:
                    raise ConnectionAbortedError
                data = {"ts": event.at, "source": event.source, "line": event.line}
                await response.write(f"id: {event.id}\ndata: {msgspec.json.encode(data).decode()}\n\n".encode())
                after, sent = event.number, sent + 1
            if rental.is_gone(self._sim.estate.now()):
                break
            await self._pause()
            events = await self._events(rental, sources)
        return response

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._sim.closing.wait()
        except TimeoutError:
            return

    async def _events(self, rental: rentals.Rental, sources: set[str]) -> list[Event]:
        """Everything so far, in the order of arrival, numbered the same at every look."""
        estate = self._sim.estate
        lines: list[tuple[str, str, str]] = []
        if "system" in sources:
            lines += self._system(rental)
        if "container" in sources and not pods.terms(rental).silent:
            machine = None if estate.hosting is None else estate.hosting.machine(rental.id)
            if machine is not None:
                lines += [(each.at, "container", each.text) for each in await machine.log_lines()]
            elif estate.hosting is None:
                lines += self._imagined(rental)
        return [Event(number, *line) for number, line in enumerate(lines, start=1)]

    def _system(self, rental: rentals.Rental) -> list[tuple[str, str, str]]:
        if pods.terms(rental).silent:
            return []
        words = {
            Stage.PULLING: f"create container {rental.image}",
            Stage.CREATED: f"{rental.image} Pulling from library: Status: Downloaded newer image",
            Stage.RUNNING: "start container",
            Stage.STOPPING: "stop container",
        }
        found = []
        for moment in rental.life:
            if moment.at_s > self._sim.estate.clock.now_s():
                break
            text = moment.message or words.get(moment.stage)
            if text:
                found.append((times.iso_ms(moment.at_s), "system", text))
        return found

    def _imagined(self, rental: rentals.Rental) -> list[tuple[str, str, str]]:
        """What a world without processes says in place of output: a line for each start."""
        about = pods.terms(rental)
        text = f"no process runs in this simulation; it would be {rental.image} {about.wish.args}".rstrip()
        now_s = self._sim.estate.clock.now_s()
        starts = [each.at_s for each in rental.life if each.stage is Stage.RUNNING and each.at_s <= now_s]
        return [(times.iso_ms(at_s), "container", text) for at_s in starts]


def _tail(text: str | None) -> int:
    if text is None:
        return 100
    if not text.isdigit() or int(text) > 5000:
        raise replies.Refused(422, "Request validation failed.", errors=["$.tail: must be between 0 and 5000"])
    return int(text)


def _number(event_id: str) -> int | None:
    _, _, number = event_id.rpartition("/")
    return int(number) if number.isdigit() else None


def _older(event: Event, since: str | None) -> bool:
    if not since:
        return False
    try:
        return datetime.datetime.fromisoformat(event.at) < datetime.datetime.fromisoformat(since)
    except ValueError as error:
        raise replies.Refused(422, "Request validation failed.", errors=["$.since: not a date-time"]) from error
