"""A container's log from a cloud that only gives "the newest N lines": following by polls that overlap.

No line is shown twice. None is lost either, unless more lines come between two polls than the cloud gives at once (then
a line says so) or the newest N lines repeat themselves exactly (then nobody can tell how often).
The cloud tells no times: a line's time is that of the poll that first had it, or of the container's end if earlier.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bareboat.core import errors
from bareboat.kubelet import logs
from bareboat.plumbing import backoff
from bareboat.plumbing import clock as clocks

Fetch = Callable[[int | None], Awaitable[str]]
"""The newest n lines (None: all there are); `core.cloud.HasLogs.logs` with the instance filled in."""

GAP = "[bareboat: lines are missing here: output came faster than the cloud's log could be read]"


@dataclass(frozen=True)
class Settings:
    window_lines: int = 500
    """Asked for in each poll of a follower."""
    widest_window_lines: int = 16_000
    """Asked for when a window had no line in common with the one before."""
    first_pause_s: float = 1.0
    longest_pause_s: float = 10.0
    """Between polls, growing while nothing new comes."""
    drain_s: float = 10.0
    """How long after a container's end the cloud may still add to its log."""


@dataclass(frozen=True)
class Merge:
    """`new` is what to show, `seen` what the next fetch is compared with."""

    new: list[str]
    seen: list[str]
    gap: bool = False
    """The two fetches had nothing in common."""
    stale: bool = False
    """The fetch is older than what was seen; as if it had not been made."""


def merge_tail(seen: Sequence[str], fetched: Sequence[str]) -> Merge:
    """What `fetched` has beyond `seen`, both the newest lines of one log that only grows, fetched after one another.

    Takes the longest overlap that fits, so that a repeated line is rather left out than shown twice; exact as long as
    both reach back to the log's first line. Linear time.
    """
    if not seen:
        return Merge(list(fetched), list(fetched))
    if not fetched:
        return Merge([], list(seen), stale=True)
    overlap, inside = _overlap(seen, fetched)
    if inside and overlap < len(fetched):
        return Merge([], list(seen), stale=True)
    new = list(fetched[overlap:])
    # Of two that end alike the longer one tells more: a stale answer may be short.
    return Merge(new, list(fetched if new else seen), gap=overlap == 0)


def _overlap(seen: Sequence[str], fetched: Sequence[str]) -> tuple[int, bool]:
    """How many first lines of `fetched` are the last of `seen`, at most; and whether all of it lies within `seen`."""
    borders = _borders(fetched)
    matched, inside = 0, False
    for line in seen:
        if matched == len(fetched):
            inside = True
            matched = borders[-1]
        while matched and fetched[matched] != line:
            matched = borders[matched - 1]
        if fetched[matched] == line:
            matched += 1
    return matched, inside


def _borders(lines: Sequence[str]) -> list[int]:
    """For each prefix, the length of its longest proper prefix that is also its suffix (Knuth, Morris and Pratt)."""
    borders = [0] * len(lines)
    length = 0
    for number in range(1, len(lines)):
        while length and lines[number] != lines[length]:
            length = borders[length - 1]
        if lines[number] == lines[length]:
            length += 1
        borders[number] = length
    return borders


class PolledLog:
    """One container's log. Each `open` polls for itself; nothing is kept when nobody reads."""

    def __init__(
        self, fetch: Fetch, ended_s: Callable[[], float | None], clock: clocks.Clock, settings: Settings | None = None
    ) -> None:
        """`ended_s` tells when the container ended (Unix seconds), None while it has not; asked before each poll."""
        self._fetch = fetch
        self._ended_s = ended_s
        self._clock = clock
        self._settings = settings or Settings()

    async def open(self, options: logs.LogOptions) -> logs.Lines:
        """Fetches once, so that what goes wrong can still be told to the client; a follower then goes on polling.

        Raises a `logs.LogsError`. Costs one call, and one for each poll of a follower.
        """
        tail, window = options.tail_lines, self._settings.window_lines
        asked = max(tail, window) if tail is not None and options.follow else tail
        ended_s = self._ended_s()
        try:
            text = await self._fetch(asked)
        except errors.CloudError as error:
            raise _for_people(error) from error
        if options.follow:
            return self._follow(text, ended_s)
        return whole(text, self._time_s(ended_s))

    async def _follow(self, text: str, ended_s: float | None) -> logs.Lines:
        reader = _Reader(self._settings.window_lines)
        for line in self._lines(reader.take(text), ended_s):
            yield line
        # The first answer may be a whole log; a follower that lives for days must not hold on to it.
        del text
        yield logs.CAUGHT_UP
        failure: errors.CloudError | None = None
        pause = backoff.Backoff(self._settings.first_pause_s, self._settings.longest_pause_s)
        while not self._drained(ended_s):
            await self._clock.sleep(self._settings.first_pause_s if ended_s is not None else pause.next_s())
            # The first answer counts: one that moves on with the clock would keep the follower here for ever.
            ended_s = self._ended_s() if ended_s is None else ended_s
            new, failure = await self._poll(reader)
            if new:
                pause.reset()
            for line in self._lines(new, ended_s):
                yield line
            if isinstance(failure, errors.InstanceGone):
                failure = None
                break
        for line in self._lines(reader.rest(), ended_s):
            yield line
        if failure is not None:
            raise _for_people(failure) from failure

    def _drained(self, ended_s: float | None) -> bool:
        return ended_s is not None and self._clock.now_s() >= ended_s + self._settings.drain_s

    async def _poll(self, reader: "_Reader") -> tuple[list[str], errors.CloudError | None]:
        """New lines, or why there are none this time. Raises `logs.Unavailable` when asking again is of no use."""
        try:
            return await self._widening(reader), None
        except (errors.InstanceGone, errors.CloudDown) as error:
            return [], error
        except errors.Throttled as error:
            await self._clock.sleep(error.after_s)
            return [], error
        except errors.CloudError as error:
            raise _for_people(error) from error

    async def _widening(self, reader: "_Reader") -> list[str]:
        """New lines. A window without overlap is asked for again, wider, before lines are given up."""
        window = self._settings.window_lines
        while True:
            text = await self._fetch(window)
            if text.count("\n") < window - 1 or not reader.misses(text):
                # Fewer lines than asked for are all there are: the log was cut or begun anew, and nothing is missing.
                return reader.take(text)
            if window >= self._settings.widest_window_lines:
                return [GAP, *reader.take(text)]
            window = min(window * 4, self._settings.widest_window_lines)

    def _lines(self, texts: Sequence[str], ended_s: float | None) -> list[logs.LogLine]:
        return _stamped(texts, self._time_s(ended_s))

    def _time_s(self, ended_s: float | None) -> float:
        now_s = self._clock.now_s()
        return now_s if ended_s is None else min(now_s, ended_s)


async def whole(text: str, time_s: float) -> logs.Lines:
    """A log that will not grow any more, such as one kept from a machine that is gone: ends at once for followers too.

    `time_s` (Unix seconds) stands for the time of every line: that of the container's end, if it is known.
    """
    finished, last = _finished(text)
    for line in _stamped([*finished, last] if last else finished, time_s):
        yield line


def _stamped(texts: Sequence[str], time_s: float) -> list[logs.LogLine]:
    return [logs.LogLine(int(time_s * logs.NS), text.encode(errors="replace")) for text in texts]


class _Reader:
    """What one follower has shown.

    A last line without a newline may be unfinished, so it waits for its end; some clouds cut the last newline, so one
    that two fetches in a row end with is shown as it is, and what it grows by later is shown as a line of its own.
    """

    def __init__(self, window_lines: int) -> None:
        self._window_lines = window_lines
        self._seen: list[str] = []
        self._last = ""
        self._last_shown = ""

    def misses(self, text: str) -> bool:
        """There is nothing in common with what was shown before."""
        return merge_tail(self._seen, _finished(text)[0]).gap

    def take(self, text: str) -> list[str]:
        """New lines to show."""
        finished, last = _finished(text)
        merged = merge_tail(self._seen, finished)
        if merged.stale:
            return []
        self._seen = merged.seen[-self._window_lines :]
        new = merged.new
        if new and self._last_shown:
            new[:1] = _beyond(new[0], self._last_shown)
            self._last_shown = ""
        if last and last == self._last:
            new += _beyond(last, self._last_shown)
            self._last_shown = last
        self._last = last
        return new

    def rest(self) -> list[str]:
        """What was held back, at the end."""
        return _beyond(self._last, self._last_shown)


def _beyond(line: str, shown: str) -> list[str]:
    """What to show of a line whose beginning was shown already."""
    rest = line[len(shown) :] if line.startswith(shown) else line
    return [rest] if rest else []


def _finished(text: str) -> tuple[list[str], str]:
    """The lines that end in a newline, and what comes after the last of them."""
    *lines, last = text.split("\n")
    return lines, last


def _for_people(error: errors.CloudError) -> logs.LogsError:
    if isinstance(error, errors.InstanceGone):
        return logs.Lost("the rented machine is gone, and its log with it")
    if isinstance(error, errors.Throttled):
        return logs.Unavailable(f"{error.cloud} was asked too often for logs; try again in {error.after_s:.0f} s")
    return logs.Unavailable(f"{error.cloud} gives no log at the moment: {error.why}")
