"""The form of a row: a kubectl command line, and what must come of it in each access mode where it applies.

A check runs the words itself and raises AssertionError with what was wrong.
"""

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.e2e.kubectl import ground

Words = Sequence[str]
Check = Callable[[ground.Ground, Words], None]
MODES = ("ssh", "plain")


@dataclass(frozen=True)
class Row:
    """`line` as typed, without `kubectl`; `{web}` and the like are the pods of the mode. A mode without a check does
    not apply."""

    line: str
    what: str
    ssh: Check | None
    plain: Check | None = None

    def check(self, mode: str) -> Check | None:
        return self.ssh if mode == "ssh" else self.plain

    def words(self, on: ground.Ground, mode: str) -> list[str]:
        end = "" if mode == "ssh" else "-plain"
        names = {name: f"{name}{end}" for name in ("web", "done", "unlucky", "new")}
        return shlex.split(self.line.format(**names, crash="crash", node=on.node.name, folder=on.folder))


def says(out: str | None = None, *, err: str = "", code: int = 0, stdin: str = "", never: str = "") -> Check:
    """`out` is the whole standard output, as a pattern; `err` is found in standard error; `never` in neither."""

    def check(on: ground.Ground, words: Words) -> None:
        said = on.run(words, stdin)
        told = f"exit code {said.code}\nstdout: {said.out[-2000:]}\nstderr: {said.err[-2000:]}"
        assert said.code == code, f"exit code {code} was wanted; {told}"
        assert out is None or re.fullmatch(out, said.out, re.DOTALL), f"{out!r} was wanted; {told}"
        assert re.search(err, said.err), f"{err!r} was wanted; {told}"
        assert not never or not re.search(never, said.out + said.err), f"{never!r} must not be there; {told}"

    return check


def both(*checks: Check) -> Check:
    """One after the other, with the same words."""

    def check(on: ground.Ground, words: Words) -> None:
        for each in checks:
            each(on, words)

    return check


def refused(verb: str) -> Check:
    """In plain access: in words that tell what to do."""
    return says("", err=f"plain access has no {verb}: .* bareboat.dev/access: ssh has every verb", code=1)
