"""A small OCI registry for the images of a catalog: enough for clients that read config and digests, no pushing.

Tokens are asked for as Docker Hub does, also for public images; Basic credentials on a request are taken, too. One
endpoint stands in for every registry: the query parameter `ns`, which mirrors are asked with, says which is meant.
"""

import base64
import binascii
import contextlib
import json
import secrets
from collections.abc import AsyncIterator

from aiohttp import web

from bareboat.simulation import images

_SERVICE = "simulated-registry"
_TOKEN_LIFE_S = 300


class Registry:
    """Answers for `catalog`. `challenge` is how a client without credentials is told to come back."""

    def __init__(self, catalog: images.Catalog, *, challenge: str = "Bearer") -> None:
        self._catalog = catalog
        self._challenge = challenge
        self._tokens: dict[str, images.Login | None] = {}
        self._documents: dict[str, tuple[str, str, bytes]] = {}

    def application(self) -> web.Application:
        """To be served by aiohttp; see `serve` for the short way."""
        app = web.Application()
        app.router.add_get("/v2/", self._ping)
        app.router.add_get("/token", self._token)
        app.router.add_get(r"/v2/{name:.+}/manifests/{reference}", self._manifest)
        app.router.add_get(r"/v2/{name:.+}/blobs/{digest}", self._blob)
        app.router.add_get(r"/v2/{name:.+}/tags/list", self._tags)
        return app

    async def _ping(self, request: web.Request) -> web.Response:
        allowed, _ = self._who(request)
        return _json_response({}) if allowed else self._unauthorized(request, "")

    async def _token(self, request: web.Request) -> web.Response:
        login = _basic(request)
        if request.headers.get("Authorization") and login is None:
            return _error(401, "UNAUTHORIZED", "incorrect username or password")
        name = request.query.get("scope", "").removeprefix("repository:").rpartition(":")[0]
        if name and login is not None:
            found = self._catalog.resolve(_reference(request, name, "latest"), login)
            if isinstance(found, images.Refusal) and found.kind == "login-wrong":
                return _error(401, "UNAUTHORIZED", "incorrect username or password")
        token = secrets.token_urlsafe(24)
        self._tokens[token] = login
        return _json_response({"token": token, "access_token": token, "expires_in": _TOKEN_LIFE_S})

    async def _manifest(self, request: web.Request) -> web.Response:
        name, reference = request.match_info["name"], request.match_info["reference"]
        if refused := self._refused(request, name):
            return refused
        if reference.startswith("sha256:"):
            return self._document(name, reference, "MANIFEST_UNKNOWN")
        found = self._catalog.resolve(_reference(request, name, reference), self._who(request)[1])
        if isinstance(found, images.Refusal):
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown", {"tag": reference})
        documents = self._remember(name, found)
        kind = images.INDEX_TYPE if _takes_index(request) else images.MANIFEST_TYPE
        return _content(kind, documents.index if kind == images.INDEX_TYPE else documents.manifest)

    async def _blob(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return self._refused(request, name) or self._document(name, request.match_info["digest"], "BLOB_UNKNOWN")

    async def _tags(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return self._refused(request, name) or _json_response({"name": name, "tags": ["latest"]})

    def _document(self, name: str, digest: str, unknown: str) -> web.Response:
        if digest not in self._documents:
            self._remember_latest(name)
        owner, kind, document = self._documents.get(digest, ("", "", b""))
        if owner != name:
            return _error(404, unknown, f"{unknown.lower().replace('_', ' ')} to registry", {"digest": digest})
        return _content(kind, document)

    def _remember_latest(self, name: str) -> None:
        for login in (None, *self._tokens.values()):
            found = self._catalog.resolve(f"{images.DOCKER_HUB}/{name}:latest", login)
            if isinstance(found, images.Image):
                self._remember(name, found)

    def _remember(self, name: str, image: images.Image) -> images.Documents:
        documents = images.documents(image)
        for kind, document in (
            (images.INDEX_TYPE, documents.index),
            (images.MANIFEST_TYPE, documents.manifest),
            (images.CONFIG_TYPE, documents.config),
            (images.LAYER_TYPE, documents.layer),
        ):
            self._documents[images.digest_of(document)] = (name, kind, document)
        return documents

    def _refused(self, request: web.Request, name: str) -> web.Response | None:
        """The answer to those who may not read `name`, None for the others."""
        allowed, login = self._who(request)
        if not allowed:
            return self._unauthorized(request, name)
        found = self._catalog.resolve(_reference(request, name, "latest"), login)
        if isinstance(found, images.Image):
            return None
        if found.kind in ("login-required", "login-wrong"):
            return self._unauthorized(request, name)
        if found.kind == "bad-reference":
            return _error(400, "NAME_INVALID", found.message)
        return _error(404, "NAME_UNKNOWN", "repository name not known to registry", {"name": name})

    def _who(self, request: web.Request) -> tuple[bool, images.Login | None]:
        """Whether the request carries anything that counts, and the login behind it."""
        kind, _, value = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer" and value in self._tokens:
            return True, self._tokens[value]
        login = _basic(request)
        return login is not None, login

    def _unauthorized(self, request: web.Request, name: str) -> web.Response:
        answer = _error(401, "UNAUTHORIZED", "authentication required")
        if self._challenge == "Bearer":
            told = f'Bearer realm="{request.url.origin()}/token",service="{_SERVICE}"'
            told += f',scope="repository:{name}:pull"' if name else ""
        else:
            told = f'{self._challenge} realm="{_SERVICE}"'
        answer.headers["WWW-Authenticate"] = told
        return answer


@contextlib.asynccontextmanager
async def serve(catalog: images.Catalog, *, port: int = 0, challenge: str = "Bearer") -> AsyncIterator[str]:
    """Serves on the loopback address while the context lasts; gives the base URL."""
    runner = web.AppRunner(Registry(catalog, challenge=challenge).application(), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _reference(request: web.Request, name: str, tag: str) -> str:
    return f"{request.query.get('ns', images.DOCKER_HUB)}/{name}:{tag}"


def _takes_index(request: web.Request) -> bool:
    accepted = ",".join(request.headers.getall("Accept", ["*/*"]))
    return any(kind in accepted for kind in (images.INDEX_TYPE, "manifest.list", "*/*"))


def _basic(request: web.Request) -> images.Login | None:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return images.Login(user, password) if colon else None


def _json_response(value: object, status: int = 200) -> web.Response:
    answer = web.Response(body=json.dumps(value).encode(), status=status, content_type="application/json")
    answer.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
    return answer


def _error(status: int, code: str, message: str, detail: object = None) -> web.Response:
    return _json_response({"errors": [{"code": code, "message": message, "detail": detail}]}, status)


def _content(kind: str, document: bytes) -> web.Response:
    answer = web.Response(body=document)
    answer.headers["Content-Type"] = kind
    answer.headers["Docker-Content-Digest"] = images.digest_of(document)
    answer.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
    return answer
