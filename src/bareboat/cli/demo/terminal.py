"""How the demo looks: acts, commands and what they say, at any width, in colour on a terminal and plain elsewhere."""

import contextlib
import re
import sys
import textwrap
import time
from collections.abc import Iterator

import rich.console
import rich.text

READING_S = 2.5
_NAMED_WIDTH = 22


class Teller:
    """Prints. Everything is on standard output, in the order in which it happened."""

    def __init__(self) -> None:
        self.out = rich.console.Console(highlight=False)
        self.err = rich.console.Console(stderr=True, highlight=False)
        self._started_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    @property
    def reading_s(self) -> float:
        """A person at a terminal gets time to read; a file doesn't."""
        return READING_S if self.out.is_terminal else 0.0

    @property
    def coloured(self) -> bool:
        return self.out.is_terminal and self.out.color_system is not None and not self.out.no_color

    def act(self, title: str) -> None:
        self.out.print()
        self.out.print(rich.text.Text(f"── {title} ".ljust(min(self.out.width, 80), "─"), style="bold blue"))

    def say(self, sentence: str) -> None:
        self.out.print(rich.text.Text(sentence))

    def line(self, text: str) -> None:
        """To be copied: never wrapped."""
        self.out.print(rich.text.Text(text), soft_wrap=True)

    def part(self, name: str, what: str, took_s: float) -> None:
        """Something that is up now."""
        took = f" ({took_s:.1f} s)" if took_s >= 0.1 else ""
        name = name.ljust(_NAMED_WIDTH)
        self.out.print(rich.text.Text.assemble(("✓ ", "green"), (name, "bold"), what, (took, "dim")))

    def note(self, remark: str) -> None:
        self.out.print(rich.text.Text(f"  note: {remark}", style="dim"))

    def good(self, sentence: str) -> None:
        self.out.print(rich.text.Text(sentence, style="bold green"))

    def bad(self, sentence: str) -> None:
        self.out.print(rich.text.Text(sentence, style="bold red"))

    def error(self, sentence: str) -> None:
        self.err.print(rich.text.Text(f"bareboat demo: {sentence}"), soft_wrap=True)

    def command(self, text: str) -> None:
        self.out.print(rich.text.Text.assemble(("$ ", "green"), (text, "bold")), soft_wrap=True)

    def output(self, line: str) -> None:
        """A line that a command printed, as it is; drawn tables are cut at the terminal's edge rather than broken."""
        if self.out.is_terminal and len(line) > self.out.width and _is_drawn(line):
            line = line[: self.out.width - 1] + "…"
        self.out.file.write(line + "\n")
        self.out.file.flush()

    def event(self, line: str) -> None:
        """A line of `kubectl get events`; when it is too long, its message goes below the rest."""
        words = re.split(r"\s{2,}", line.strip(), maxsplit=4)
        if len(words) < 5:
            self.output(line)
            return
        seen, kind, reason, thing, message = words
        of_kind = (f"{kind:<8}", "yellow" if kind == "Warning" else "")
        self.out.print(rich.text.Text.assemble((f"{seen:<5}", "dim"), of_kind, (f"{reason:<17} ", "bold"), thing))
        for below in textwrap.wrap(message, max(20, self.out.width - 5)):
            self.out.print(rich.text.Text(f"     {below}"), soft_wrap=True)

    @contextlib.contextmanager
    def waiting(self, sentence: str) -> Iterator[None]:
        """Shows on a terminal that something goes on."""
        if not self.out.is_terminal:
            yield
            return
        with self.out.status(sentence):
            yield


def prepare_output() -> None:
    """A terminal or file that can't show a sign gets a question mark for it, not an end of the program."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def _is_drawn(line: str) -> bool:
    return line[:1] in "+|" and line[-1:] in "+|"
