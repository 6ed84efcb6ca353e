"""The log of a part, shown as it grows: an event and its facts, at any width."""

import json
import textwrap
from collections.abc import Collection
from pathlib import Path

from bareboat.cli.demo import terminal

_NOT_SHOWN = ("event", "level", "timestamp", "config", "pid", "hash", "attempt")


class Lines:
    """Reads a log of JSON lines from where the last look ended; what is no JSON (nginx's own lines) is passed over."""

    def __init__(
        self, path: Path, teller: terminal.Teller, *, without: Collection[str] = (), only: Collection[str] = ()
    ) -> None:
        self._path = path
        self._teller = teller
        self._without = without
        self._only = only
        self._read = 0
        self._last = ""
        self.said: list[str] = []
        """Names of all events so far."""

    def show(self) -> None:
        """Prints what is new."""
        with self._path.open("rb") as log:
            log.seek(self._read)
            fresh = log.read()
        whole, newline, _ = fresh.rpartition(b"\n")
        self._read += len(whole) + len(newline)
        for line in whole.decode(errors="replace").splitlines():
            if line.startswith("{"):
                self._tell(line)

    def _tell(self, line: str) -> None:
        try:
            told = json.loads(line)
        except ValueError:
            return
        event = str(told.get("event", ""))
        self.said.append(event)
        facts = "  ".join(_fact(name, value) for name, value in told.items() if name not in _NOT_SHOWN and value)
        if event in self._without or (self._only and event not in self._only) or (event + facts) == self._last:
            return
        self._last = event + facts
        width = max(40, min(self._teller.out.width, 80))
        for shown in textwrap.wrap(f"{event:<18} {facts}", width, subsequent_indent=" " * 19, break_long_words=True):
            self._teller.output(shown)


def _fact(name: str, value: object) -> str:
    return str(value) if name in ("why", "gpu", "note") else f"{name}={value}"
