"""`kubectl logs` of containers in ssh access: the runner's own log files while the machine is there, what was kept of
them afterwards. Each line once, with the time at which it was written, also when the connection breaks or the machine
goes while somebody reads."""

import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime

from bareboat.access import documents, failures, processes, runner
from bareboat.kubelet import cri_logs, logs
from bareboat.node import endings, records, sessions

GONE = 6
"""The runner's exit code for a log that it has not got."""


async def open_log(
    session: sessions.Session | None,
    record: records.Record,
    kept: endings.KeptLogs,
    pod: str,
    container: str,
    options: logs.LogOptions,
    waiting: Callable[[], str],
) -> logs.Lines:
    """The container's lines. Raises a `LogsError`. `waiting` says what a container that never ran waits for."""
    state = _state(record.told, container)
    if options.previous and (state is None or not state.restarts):
        raise logs.no_previous(container, pod)
    if session is None or session.told is None:
        return _kept(record, kept, pod, container, waiting)
    if state is None or (state.running is None and state.terminated is None and state.last is None):
        reason = state.waiting.reason if state is not None and state.waiting is not None else waiting()
        raise logs.waiting(container, pod, reason)
    reading = _Reading(session, container, options, lambda: kept.get(f"{record.uid}/{container}"))
    try:
        process = await reading.begin()
    except failures.AccessError as away:
        if kept.get(f"{record.uid}/{container}") is not None:
            return _kept(record, kept, pod, container, waiting)  # it went just now
        raise logs.Unavailable(f"the machine can't be reached: {away.why}") from None
    return reading.lines(process)


def _wanted(container: str, options: logs.LogOptions) -> runner.Log:
    since = ""
    if options.since_ns is not None:
        seconds, rest_ns = divmod(max(0, options.since_ns), logs.NS)
        since = f"{datetime.fromtimestamp(seconds, UTC).strftime('%Y-%m-%dT%H:%M:%S')}.{rest_ns:09d}Z"
    # Lines of one stream alone are counted here, from all that there are.
    tail = options.tail_lines if options.stream is None else None
    return runner.Log(container, follow=options.follow, previous=options.previous, tail=tail, since=since)


class _Reading:
    """One log on its way to a client, over as many connections as it takes."""

    def __init__(
        self, session: sessions.Session, container: str, options: logs.LogOptions, kept: Callable[[], str | None]
    ) -> None:
        self._session = session
        self._container = container
        self._options = options
        self._kept = kept
        self._last_ns = 0
        self._told = 0
        """How many lines of the time `_last_ns` were told."""

    async def begin(self) -> processes.Process:
        """From where it was read to. Raises an AccessError."""
        options = self._options
        if self._told:
            options = dataclasses.replace(options, since_ns=self._last_ns, tail_lines=None)
        return await self._session.runner.logs(_wanted(self._container, options))

    async def lines(self, process: processes.Process) -> logs.Lines:
        if self._options.follow:
            # The runner has counted back already: from here on each line is wanted.
            yield logs.CAUGHT_UP
        while True:
            try:
                async with contextlib.aclosing(self._unseen(_printed(process))) as found:
                    async for line in found:
                        yield line
                return
            except failures.AccessError as away:
                # What is kept is written before a machine is given back: with it, the log has come to its end.
                text, why = self._kept(), away.why
            if text is not None:
                async for line in self._rest(text):
                    yield line
                return
            try:
                process = await self.begin()
            except failures.AccessError:
                raise logs.Unavailable(f"the machine was lost while its log was read: {why}") from None

    async def _rest(self, text: str) -> AsyncGenerator[logs.LogLine, None]:
        found = [line async for line in _lines(text) if isinstance(line, logs.LogLine)]
        if self._told == 0 and self._options.follow and self._options.tail_lines is not None:
            found = found[len(found) - min(len(found), self._options.tail_lines) :]
        if self._told and found and found[0].time_ns > self._last_ns:
            raise logs.Unavailable("the machine is gone, and lines in between were not kept")
        async for line in self._unseen(_each(found)):
            yield line

    async def _unseen(self, lines: AsyncGenerator[logs.LogLine, None]) -> AsyncGenerator[logs.LogLine, None]:
        """Without those that were told from an earlier source: older ones, and as many of the newest time as there
        were."""
        until_ns, again = self._last_ns, self._told
        async with contextlib.aclosing(lines):
            async for line in lines:
                if again and line.time_ns < until_ns:
                    continue
                if again and line.time_ns == until_ns:
                    again -= 1
                    continue
                again = 0
                self._told = self._told + 1 if line.time_ns == self._last_ns else 1
                self._last_ns = line.time_ns
                yield line


async def _printed(process: processes.Process) -> AsyncGenerator[logs.LogLine, None]:
    """What the runner prints, to its end."""
    reader = cri_logs.Reader()
    async with process:
        process.end_input()
        while data := await process.read_stdout():
            for line in reader.feed(data):
                yield line
        for line in reader.end():
            yield line
        said = (await process.read_stderr()).decode(errors="replace").strip()
        if (await process.wait()).code == GONE:
            raise logs.Lost(said or "the log is gone")


async def _each(lines: list[logs.LogLine]) -> AsyncGenerator[logs.LogLine, None]:
    for line in lines:
        yield line


def _kept(
    record: records.Record, kept: endings.KeptLogs, pod: str, container: str, waiting: Callable[[], str]
) -> logs.Lines:
    text = kept.get(f"{record.uid}/{container}")
    if text is None and record.end is None and not record.has_run:
        raise logs.waiting(container, pod, waiting())
    if text is None:
        raise logs.Unavailable(
            f'the machine of pod "{pod}" can\'t be asked, and nothing was kept of its log: it is gone, or it has not '
            "been reached since the node was started"
        )
    return _lines(text)


async def _lines(text: str) -> logs.Lines:
    reader = cri_logs.Reader()
    for line in reader.feed(text.encode()):
        yield line
    for line in reader.end():
        yield line


def _state(told: documents.State | None, container: str) -> documents.ContainerState | None:
    every = () if told is None else (*told.containers, *told.init)
    return next((each for each in every if each.name == container), None)
