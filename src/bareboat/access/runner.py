"""The client of the runner, the program beside a pod's processes: brings it, starts it, hears its states, asks of it.

What the two say to each other is in docs/runner-protocol.md and `documents`. Every method may be repeated; the runner
goes on by itself whatever becomes of the connection.
"""

import asyncio
import contextlib
import itertools
import posixpath
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace

from bareboat.access import binaries, documents, failures, files, machine, processes
from bareboat.plumbing import backoff
from bareboat.plumbing import clock as clocks

_MARK = "bareboat-found"
# The word before each line tells them from whatever else an image's shell may print.
_LOOK = f"""\
if mkdir -p /var/lib/bareboat 2>/dev/null && [ -w /var/lib/bareboat ]; then r=/var/lib/bareboat
else r="$HOME/.bareboat"; mkdir -p "$r"; fi
echo "{_MARK} $(uname -m) $r"
echo "{_MARK} $("$r/runner" version 2>/dev/null)"
"""
_OTHER_ATTEMPT, _NOTHING_HERE, _UNREADABLE, _NO_LOG = 3, 4, 5, 6
_NO_PROGRAM = (126, 127)
_QUICK_S = 30.0


class NothingHere(failures.RemoteFailed):
    """No pod was started on this machine, or it was started anew and has lost everything that ran: start again, or
    give up the pod."""


class OtherAttempt(failures.RemoteFailed):
    """The machine belongs to another attempt or pod; nothing was touched."""


@dataclass(frozen=True, slots=True)
class Log:
    """Which lines of a container's log: of the newest run, of the one before, or of the n-th restart. They begin at
    byte `offset` of that run's file, or later, as `tail` (lines) and `since` (RFC 3339) say."""

    container: str
    follow: bool = False
    previous: bool = False
    restart: int | None = None
    offset: int = 0
    tail: int | None = None
    since: str = ""


class Runner:
    """The runner on one machine. One `states` at a time."""

    def __init__(self, on: machine.Machine, clock: clocks.Clock) -> None:
        self._machine = on
        self._clock = clock
        self._files = files.Files(on)
        self._root = ""
        self._followed: processes.Process | None = None
        self._ids = itertools.count(1)
        self._asked: dict[int, asyncio.Future[documents.Answer]] = {}

    async def prepare(self) -> str:
        """Brings the program unless the machine has this very one; returns its folder. One round trip, or an upload of
        some 6 MB. Raises binaries.NoRunner for a machine that it isn't made for, and RemoteFailed."""
        done = await self._machine.run(_LOOK, timeout_s=_QUICK_S)
        found = [line.split(" ", 2)[1:] for line in done.stdout.decode(errors="replace").splitlines() if _MARK in line]
        if done.exit.code != 0 or len(found) != 2 or len(found[0]) != 2:
            raise self._failed("look at the machine", done)
        [architecture, root], version = found[0], " ".join(found[1])
        if not binaries.build() or f'"{binaries.build()}"' not in version:
            program = await asyncio.to_thread(binaries.content, architecture)
            await self._files.upload([files.File(f"{root}/runner", program, 0o755)])
        self._root = root
        return root

    async def start(
        self, launch: documents.Launch, volumes: Mapping[str, Sequence[files.File]] | None = None
    ) -> documents.Started:
        """Brings the document and the volumes' files (whose paths are relative to their volume) and starts the pod, or
        finds that this attempt runs or has ended already. Raises OtherAttempt, and RemoteFailed with what is wrong with
        the document; then `states` tells of the failure too."""
        root = self._root or await self.prepare()
        brought = [
            replace(file, path=posixpath.join(root, "incoming", volume, file.path))
            for volume, content in (volumes or {}).items()
            for file in content
        ]
        document = files.File(f"{root}/launch.json", documents.encode_launch(launch), 0o600)
        await self._files.upload([*brought, document])
        done = await self._machine.run(self._command("start"), timeout_s=_QUICK_S)
        if done.exit.code == _OTHER_ATTEMPT:
            raise OtherAttempt(self._machine.instance_id, _said(done))
        if done.exit.code != 0:
            raise self._failed("start the pod", done)
        return documents.decode_started(done.stdout)

    async def states(self) -> AsyncGenerator[documents.State, None]:
        """The runner's state now and at each change, over reconnections, each newer than the one before; ends after one
        that has `ended`. While the machine can't be reached it waits: `machine.connection.problem` says why. Raises
        NothingHere, HostKeyChanged, Gone, and RemoteFailed for a runner that can't be understood."""
        pause = backoff.Backoff(0.2, 10.0, jitter=0.3)
        newest = -1
        while True:
            with contextlib.suppress(failures.Unreachable, failures.KeyRefused, failures.Dropped):
                if not self._root:
                    await self.prepare()
                async with contextlib.aclosing(self._follow()) as told:
                    async for state in told:
                        pause.reset()
                        if state.number > newest:
                            newest = state.number
                            yield state
                        if state.ended:
                            return
            await self._clock.sleep(pause.next_s())

    async def stop(self, grace_s: float | None = None) -> None:
        """Begins the end of the pod, with its own grace unless one is given; a later, shorter one shortens it. The end
        itself is a state."""
        await self._ask(documents.Command(next(self._ids), "stop", grace_s=grace_s))

    async def usage(self) -> documents.UsageReport:
        """What the containers use at this moment. One round trip beside `states`."""
        answer = await self._ask(documents.Command(next(self._ids), "usage"))
        if answer.usage is None:
            raise failures.RemoteFailed(self._machine.instance_id, "the runner told no usage")
        return answer.usage

    async def update(self, volume: str, content: Sequence[files.File]) -> None:
        """Replaces the files of a volume as a whole, at one moment for whoever reads them."""
        root = self._root or await self.prepare()
        place = posixpath.join(root, "incoming", volume)
        done = await self._machine.run(["sh", "-c", 'rm -rf -- "$0" && mkdir -p -- "$0"', place], timeout_s=_QUICK_S)
        if done.exit.code != 0:
            raise self._failed(f"replace volume {volume}", done)
        await self._files.upload([replace(file, path=posixpath.join(place, file.path)) for file in content])
        await self._ask(documents.Command(next(self._ids), "update", volume=volume))

    async def logs(self, of: Log) -> processes.Process:
        """Prints CRI lines on standard output, to the end or for ever. Exit code 6: there is no such log (yet)."""
        words = ["--container", of.container]
        words += ["--follow"] if of.follow else []
        words += ["--previous"] if of.previous else []
        for flag, value in (("--restart", of.restart), ("--from", of.offset or None), ("--tail", of.tail)):
            words += [] if value is None else [flag, str(value)]
        words += ["--since", of.since] if of.since else []
        return await self._machine.start(await self._ready_command("logs", *words))

    async def execute(
        self,
        container: str,
        argv: Sequence[str],
        *,
        terminal: processes.Terminal | None = None,
    ) -> processes.Process:
        """A further process in the container, as `kubectl exec` has it. Exit code 125: no such container, or it isn't
        running; 126 and 127 as of a shell. Standard error says which."""
        words = ["--container", container]
        if terminal is not None:
            words += ["--env", f"TERM={terminal.kind}"]
        command = await self._ready_command("exec", *words, "--", *argv)
        return await self._machine.start(command, terminal=terminal)

    async def attach(
        self, container: str, *, stdin: bool = False, terminal: processes.Terminal | None = None
    ) -> processes.Process:
        """The container's own streams, from now on. Exit code 125 as of `execute`."""
        words = ["--container", container, *(["--stdin"] if stdin else [])]
        return await self._machine.start(await self._ready_command("attach", *words), terminal=terminal)

    # -- how

    async def _ready_command(self, name: str, *words: str) -> list[str]:
        if not self._root:
            await self.prepare()
        return self._command(name, *words)

    def _command(self, name: str, *words: str) -> list[str]:
        return [f"{self._root}/runner", name, "--root", self._root, *words]

    async def _follow(self) -> AsyncGenerator[documents.State, None]:
        """One `follow` from its start to its end, which is a return only when the connection is no more to blame."""
        async with await self._machine.start(self._command("follow")) as process:
            self._followed = process
            try:
                while line := await process.read_line():
                    told = self._understood(line)
                    if isinstance(told, documents.State):
                        yield told
                    else:
                        self._take(told)
            finally:
                self._followed = None
                self._give_up()
            await self._ended(process)

    async def _ended(self, process: processes.Process) -> None:
        said = await process.read_stderr()
        ended = await process.wait()
        if ended.code == _NOTHING_HERE or ended.code in _NO_PROGRAM:
            self._root = ""
            raise NothingHere(self._machine.instance_id, _line_of(said) or "the runner is no longer there")

    async def _ask(self, command: documents.Command) -> documents.Answer:
        """Over the `follow` that is open, or over one of its own."""
        if self._followed is None:
            return self._followed_to(await self._ask_apart(command))
        answer: asyncio.Future[documents.Answer] = asyncio.get_running_loop().create_future()
        self._asked[command.id] = answer
        try:
            async with asyncio.timeout(_QUICK_S):
                await self._followed.write(documents.encode_command(command))
                return self._followed_to(await answer)
        except TimeoutError:
            why = f"the runner did not answer to {command.do} within {_QUICK_S:g} s"
            raise failures.RemoteFailed(self._machine.instance_id, why) from None
        finally:
            self._asked.pop(command.id, None)

    async def _ask_apart(self, command: documents.Command) -> documents.Answer:
        line = await self._ready_command("follow")
        async with await self._machine.start(line) as process:
            await process.write(documents.encode_command(command))
            while told := await process.read_line():
                answer = self._understood(told)
                if isinstance(answer, documents.Answer) and answer.id == command.id:
                    return answer
            await self._ended(process)
        raise failures.Dropped(self._machine.instance_id, f"the runner ended before it answered to {command.do}")

    def _followed_to(self, answer: documents.Answer) -> documents.Answer:
        if answer.error:
            raise failures.RemoteFailed(self._machine.instance_id, answer.error)
        return answer

    def _take(self, answer: documents.Answer) -> None:
        waiting = self._asked.get(answer.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _give_up(self) -> None:
        for waiting in self._asked.values():
            if not waiting.done():
                why = "the connection broke before the runner answered"
                waiting.set_exception(failures.Dropped(self._machine.instance_id, why))

    def _understood(self, line: bytes) -> documents.State | documents.Answer:
        if not line.endswith(b"\n"):
            raise failures.Dropped(self._machine.instance_id, "the connection broke within a line of the runner's")
        try:
            return documents.decode_line(line)
        except documents.Unreadable as problem:
            raise failures.RemoteFailed(self._machine.instance_id, str(problem)) from None

    def _failed(self, what: str, done: machine.Finished) -> failures.RemoteFailed:
        why = f"could not {what}: {_said(done) or f'exit code {done.exit.code}'}"
        return failures.RemoteFailed(self._machine.instance_id, why)


def _said(done: machine.Finished) -> str:
    return _line_of(done.stderr)


def _line_of(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("runner: ") if lines else ""
