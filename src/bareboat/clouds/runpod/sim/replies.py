"""RunPod's ways to say no: problem documents (v2), `{error, status}` (v1), HTTP 200 with errors (GraphQL)."""

import http
from typing import Any

import msgspec
from aiohttp import web

_encode = msgspec.json.Encoder().encode


class Refused(Exception):
    """A request that is not granted, in no API's shape yet. `v1_status`: where v1 answers with another status."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        code: str = "RUNPOD",
        v1_status: int | None = None,
        errors: list[str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.v1_status = v1_status or status
        self.detail = detail
        self.code = code
        self.errors = errors
        self.headers = headers or {}

    def as_v2(self) -> web.Response:
        body: dict[str, Any] = {"title": _title(self.status), "status": self.status, "detail": self.detail}
        if self.errors:
            body["errors"] = self.errors
        response = as_json(body, self.status, self.headers)
        response.content_type = "application/problem+json"
        return response

    def as_v1(self) -> web.Response:
        return as_json({"error": self.detail, "status": self.v1_status}, self.v1_status, self.headers)

    def as_graphql(self, path: list[str]) -> web.Response:
        if self.status in (401, 403, 429):
            return as_json({"errors": [{"message": self.detail}]}, self.status, self.headers)
        error = {"message": self.detail, "path": path, "extensions": {"code": self.code}}
        return as_json({"errors": [error], "data": dict.fromkeys(path) or None}, 200)


def as_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=_encode(value), status=status, content_type="application/json", headers=headers)


def html(status: int, title: str | None = None) -> web.Response:
    """What stands in front of the API answers in its own name."""
    name = title or f"{status}: {_title(status)}"
    head, body = f"<head><title>api.runpod.io | {name}</title></head>", f"<body><h1>{name}</h1></body>"
    page = f"<!DOCTYPE html>\n<html>{head}{body}</html>\n"
    return web.Response(status=status, body=page.encode(), content_type="text/html")


async def json_body(request: web.Request) -> dict[str, Any]:
    """The body as an object; an empty one counts as {}."""
    raw = await request.read()
    if not raw:
        return {}
    try:
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise Refused(400, "request body is not valid JSON") from error
    if not isinstance(value, dict):
        raise Refused(422, "Request validation failed.", v1_status=400, errors=["$: expected object"])
    return value


def _title(status: int) -> str:
    if status in (520, 522, 524):
        return "A timeout occurred" if status == 524 else "Web server is returning an unknown error"
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"
