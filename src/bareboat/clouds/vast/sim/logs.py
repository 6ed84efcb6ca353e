"""Logs and the three commands: a request uploads the text to a result host of its own origin, where it shows up late
and is fetched without the key."""

import dataclasses
import hashlib
import shlex
from typing import TYPE_CHECKING

from aiohttp import web

from bareboat.clouds.vast.sim import create, replies
from bareboat.simulation import rentals

if TYPE_CHECKING:
    from bareboat.clouds.vast.sim import simulator

MOST_COMMAND = 512
COMMANDS = ("ls", "rm", "du")


@dataclasses.dataclass(slots=True)
class Upload:
    """One result; the first `missing` reads find nothing (None: every read)."""

    text: str
    missing: int | None
    status: int


class Logs:
    def __init__(self, sim: "simulator.Simulator") -> None:
        self._sim = sim
        self._uploads: dict[str, Upload] = {}

    async def request(self, request: web.Request) -> web.Response:
        rental = self._sim.instances.find(request.match_info["id"])
        if rental is None:
            raise replies.Refused(404, "invalid_id", "Invalid instance id.")
        body = await replies.json_body(request)
        daemon = str(body.get("daemon_logs", "")).lower() == "true"
        text = self._daemon_text(rental) if daemon else await self._container_text(rental)
        lines = text.splitlines(keepends=True)
        if body.get("filter"):
            lines = [line for line in lines if str(body["filter"]) in line]
        tail = str(body.get("tail") or "")
        if tail.isdigit():
            lines = lines[max(0, len(lines) - int(tail)) :]
        name = f"{'D' if daemon else ''}{rental.terms.log_secret}{rental.id}.log"
        url = self._upload(rental, name, "".join(lines))
        return replies.as_json({"success": True, "result_url": url, "msg": "Log request sent."})

    async def command(self, request: web.Request) -> web.Response:
        rental = self._sim.instances.find(request.match_info["id"])
        if rental is None:
            raise replies.Refused(400, "invalid_container_id", "Invalid container id.")
        try:
            body = await replies.json_body(request)
        except replies.Refused as refused:
            raise replies.Refused(483, refused.error, refused.msg) from refused
        command = body.get("command")
        if not isinstance(command, str) or not 0 < len(command) <= MOST_COMMAND:
            raise replies.Refused(400, "invalid_args", f"command has to be a text of at most {MOST_COMMAND} characters")
        if shlex.split(command)[0] not in COMMANDS:
            raise replies.Refused(400, "invalid_args", f"Invalid command. Allowed: {', '.join(COMMANDS)}")
        url = self._upload(rental, f"C{rental.terms.log_secret}{rental.id}.log", "")
        path = f"/var/lib/docker/overlay2/{rental.terms.log_secret}/diff/"
        return replies.as_json({"success": True, "writeable_path": path, "result_url": url, "msg": ""})

    async def result(self, request: web.Request) -> web.Response:
        """The result host. An upload that is not there yet answers 403 or 404, as object stores do."""
        upload = self._uploads.get(request.match_info["name"])
        if upload is None or upload.missing is None or upload.missing > 0:
            if upload is not None and upload.missing:
                upload.missing -= 1
            status = 403 if upload is None else upload.status
            code = "AccessDenied" if status == 403 else "NoSuchKey"
            page = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'
            return web.Response(status=status, body=page.encode(), content_type="application/xml")
        return web.Response(body=upload.text.encode(), content_type="binary/octet-stream")

    # -- how

    def _upload(self, rental: rentals.Rental, name: str, text: str) -> str:
        estate = self._sim.estate
        late = estate.faults.strikes("logs_late", estate.clock.now_s(), rental.subject())
        missing: int | None = 0
        if late is not None:
            missing = None if late.chance("never") else round(late.number("tries"))
        key = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest() + ".log"
        self._uploads[key] = Upload(text, missing, int(late.number("status")) if late else 404)
        return f"{self._sim.result_url}/vast.ai/instance_logs/{key}"

    async def _container_text(self, rental: rentals.Rental) -> str:
        estate = self._sim.estate
        stage = rental.at(estate.clock.now_s()).stage
        hosting = estate.hosting
        machine = None if hosting is None else hosting.machine(rental.id)
        if machine is not None:
            return await machine.log_text()
        ran = stage in (rentals.Stage.RUNNING, rentals.Stage.EXITED, rentals.Stage.STOPPED, rentals.Stage.STOPPING)
        if ran and hosting is None:
            return "" if rental.running_since_s is None else self._imagined(rental)
        if stage is rentals.Stage.PLACING:
            path = f"/var/lib/vastai_kaalia/data/instance_logs/C.{rental.id}.log"
            return f"cat: {path}: No such file or directory\n"
        return f"Error response from daemon: No such container: C.{rental.id}\n"

    @staticmethod
    def _imagined(rental: rentals.Rental) -> str:
        """What a world without processes says in place of output."""
        terms = rental.terms
        assert isinstance(terms, create.Terms)
        return f"no process runs in this simulation; it would be {rental.image} {shlex.join(terms.args)}\n"

    def _daemon_text(self, rental: rentals.Rental) -> str:
        lines = []
        for moment in rental.life:
            if moment.at_s > self._sim.estate.clock.now_s():
                break
            if moment.stage is rentals.Stage.PULLING and not moment.message:
                layer = f"{(rental.id * 2_654_435_761) % 2**48:012x}"
                lines += [f"Pulling from {rental.image}", f"{layer}: Pulling fs layer", f"{layer}: Download complete"]
            elif moment.stage is rentals.Stage.CREATED and not moment.message:
                lines.append(f"Status: Downloaded newer image for {rental.image}")
            elif moment.message:
                lines.append(moment.message)
        return "".join(f"{line}\n" for line in lines)
