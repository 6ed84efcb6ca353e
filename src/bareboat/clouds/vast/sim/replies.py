"""Vast's ways to answer: JSON without a charset (old clients discard anything else), and its several error shapes."""

from typing import Any

import msgspec
from aiohttp import web

_encode = msgspec.json.Encoder().encode


class Refused(Exception):
    """A request that is not granted. `body` replaces the canonical error object, `text` answers plain text."""

    def __init__(
        self,
        status: int,
        error: str,
        msg: str,
        *,
        body: dict[str, Any] | None = None,
        text: str | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(msg)
        self.status = status
        self.error = error
        self.msg = msg
        self.body = {"success": False, "error": error, "msg": msg, **extra} if body is None else body
        self.text = text

    def response(self) -> web.Response:
        if self.text is not None:
            return web.Response(status=self.status, body=self.text.encode(), content_type="text/plain")
        return as_json(self.body, self.status)


def as_json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=_encode(value), status=status, content_type="application/json")


def html(status: int) -> web.Response:
    """What a proxy in front of the API answers in its own name."""
    title = {502: "502 Bad Gateway", 503: "503 Service Temporarily Unavailable", 504: "504 Gateway Time-out"}
    name = title.get(status, f"{status} Internal Server Error")
    head, body = f"<head><title>{name}</title></head>", f"<body>\r\n<center><h1>{name}</h1></center>\r\n</body>"
    page = f"<html>\r\n{head}\r\n{body}\r\n</html>"
    return web.Response(status=status, body=page.encode(), content_type="text/html")


async def json_body(request: web.Request) -> dict[str, Any]:
    """The body as an object; an empty one counts as {}."""
    raw = await request.read()
    if not raw:
        return {}
    try:
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise Refused(400, "invalid_request", "Invalid json body") from error
    if not isinstance(value, dict):
        raise Refused(400, "invalid_request", "Invalid json body")
    return value


def json_argument(request: web.Request, name: str, default: Any) -> Any:
    """A query argument that carries JSON."""
    raw = request.query.get(name)
    if raw is None or raw == "":
        return default
    try:
        return msgspec.json.decode(raw.encode())
    except msgspec.DecodeError as error:
        raise Refused(400, "invalid_request", f"Error in query parameters: {name} is not valid json") from error
