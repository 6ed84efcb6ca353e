"""The head of an HTTP/1.1 request that asks for SPDY, and the answers to it. Pure.

aiohttp's parser knows no upgrade to SPDY; whatever else comes is left to it, malformed requests too.
"""

import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

END = b"\r\n\r\n"
_REQUEST = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[\x21-\x7e]*) HTTP/1\.1", re.ASCII)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)


class Malformed(Exception):
    """No head of an HTTP/1.1 request."""


@dataclass(frozen=True)
class Head:
    """`path` is undecoded, header names are in lower case, one entry for each line."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str | None:
        """The first of that name (lower case)."""
        return next((value for given, value in self.headers if given == name), None)

    def listed(self, name: str) -> list[str]:
        """All values of all lines of that name, split at commas."""
        return [
            part.strip() for given, value in self.headers if given == name for part in value.split(",") if part.strip()
        ]

    @property
    def asks_for_spdy(self) -> bool:
        connection = [token.lower() for token in self.listed("connection")]
        return "upgrade" in connection and "spdy/3.1" in [token.lower() for token in self.listed("upgrade")]

    @property
    def has_body(self) -> bool:
        return self.header("transfer-encoding") is not None or self.header("content-length") not in (None, "0")


def parse(raw: bytes) -> Head:
    """`raw` up to and with the blank line. Raises `Malformed`."""
    lines = raw[: -len(END)].decode("latin-1").split("\r\n")
    request = _REQUEST.fullmatch(lines[0])
    if request is None:
        raise Malformed
    path, _, query = request[2].partition("?")
    return Head(
        request[1],
        path,
        tuple(urllib.parse.parse_qsl(query, keep_blank_values=True)),
        tuple(_header(line) for line in lines[1:]),
    )


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not _NAME.fullmatch(name) or "\0" in value or "\n" in value or "\r" in value:
        raise Malformed
    return name.lower(), value.strip(" \t")


def switching(protocol: str) -> bytes:
    """The head after which everything is SPDY."""
    return _written(
        HTTPStatus.SWITCHING_PROTOCOLS,
        [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", protocol)],
    )


def refusal(status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """A whole answer, after which the connection is closed. `text` is what kubectl's user reads: one line."""
    body = text.encode()
    return (
        _written(
            HTTPStatus(status),
            [
                *headers,
                ("Content-Type", "text/plain; charset=utf-8"),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            ],
        )
        + body
    )


def _written(status: HTTPStatus, headers: Sequence[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode() + END
