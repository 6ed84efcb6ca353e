"""A streaming request before it streams: what is asked of which container, and the answers that refuse it. Pure."""

import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass

from bareboat.kubelet import containers

_VERBS: dict[str, containers.Verb] = {
    "exec": "exec",
    "attach": "attach",
    "portForward": "port-forward",
    "run": "run",
}


class Refusal(Exception):
    """The request ends with this answer. The text is one line: kubectl shows it as it is."""

    def __init__(self, status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.text = " ".join(text.split())
        self.headers = headers


@dataclass(frozen=True)
class Ask:
    """`container` is None for port-forward."""

    verb: containers.Verb
    pod: containers.PodRef
    container: str | None
    query: tuple[tuple[str, str], ...]

    @property
    def command(self) -> list[str]:
        """Of exec: each word as it was given. Of run: one text, split at spaces as the kubelet does."""
        if self.verb == "run":
            return " ".join(value for name, value in self.query if name == "cmd").split()
        return [value for name, value in self.query if name == "command"]


def parse(path: str, query: Iterable[tuple[str, str]]) -> Ask | None:
    """Of an undecoded path: `/exec/{namespace}/{pod}[/{uid}]/{container}` and so on; None for any other."""
    first, *rest = (urllib.parse.unquote(part) for part in path.removeprefix("/").split("/"))
    verb = _VERBS.get(first)
    if verb is None or not all(rest):
        return None
    container = None if verb == "port-forward" else rest.pop() if rest else None
    if len(rest) not in (2, 3) or (container is None and verb != "port-forward"):
        return None
    return Ask(verb, containers.PodRef(*rest), container, tuple(query))
