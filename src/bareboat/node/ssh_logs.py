"""`kubectl logs` of containers in ssh access: the runner's own log files while the machine is there, what was kept of
them afterwards. Each line once, with the time at which it was written."""

from collections.abc import Callable
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
    try:
        process = await session.runner.logs(_wanted(container, options))
    except failures.AccessError as away:
        if kept.get(f"{record.uid}/{container}") is not None:
            return _kept(record, kept, pod, container, waiting)  # it went just now
        raise logs.Unavailable(f"the machine can't be reached: {away.why}") from None
    return _read(process, options)


def _wanted(container: str, options: logs.LogOptions) -> runner.Log:
    since = ""
    if options.since_ns is not None:
        seconds, rest_ns = divmod(max(0, options.since_ns), logs.NS)
        since = f"{datetime.fromtimestamp(seconds, UTC).strftime('%Y-%m-%dT%H:%M:%S')}.{rest_ns:09d}Z"
    # Lines of one stream alone are counted here, from all that there are.
    tail = options.tail_lines if options.stream is None else None
    return runner.Log(container, follow=options.follow, previous=options.previous, tail=tail, since=since)


async def _read(process: processes.Process, options: logs.LogOptions) -> logs.Lines:
    reader = cri_logs.Reader()
    async with process:
        process.end_input()
        if options.follow:
            # The runner has counted back already: from here on each line is wanted.
            yield logs.CAUGHT_UP
        try:
            while data := await process.read_stdout():
                for line in reader.feed(data):
                    yield line
            for line in reader.end():
                yield line
            said = (await process.read_stderr()).decode(errors="replace").strip()
            if (await process.wait()).code == GONE:
                raise logs.Lost(said or "the log is gone")
        except failures.AccessError as away:
            raise logs.Unavailable(f"the machine was lost while its log was read: {away.why}") from None


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
