"""One document from one registry, with the login that it asks for. Owns HTTP, tokens, limits and what answers mean;
leaves which document to `client`.

A body is read up to a limit and checked against its digest; what a server sends as text goes into no message, since the
server is whatever host a pod's image name says. A password goes to the registry, and to the token server that it names,
which has to speak https unless it is the registry's own origin.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
import msgspec
import yarl

from bareboat.core import launches
from bareboat.plumbing import clock as clocks
from bareboat.registry import challenges, errors, references

REQUEST_S = 10.0
MOST_BYTES = 8 * 1024 * 1024
TOKEN_BYTES = 256 * 1024
MOST_REDIRECTS = 5
MOST_TOKENS = 1024
# By the token specification, when the server does not say; a little is taken off either way, for the way there.
TOKEN_LIFE_S = 60.0
TOKEN_HASTE_S = 5.0
THROTTLED_S = 60.0
HUB_HOST = "registry-1.docker.io"
EVERY_REGISTRY = "*"

Login = launches.RegistryLogin | None


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A repository at the address where it is asked for. `namespace` tells a mirror which registry is meant."""

    reference: references.Reference
    base: yarl.URL
    namespace: str = ""

    def url(self, kind: str, name: str) -> yarl.URL:
        """`kind` is manifests or blobs."""
        url = self.base.joinpath("v2", *self.reference.repository.split("/"), kind, name)
        return url.update_query(ns=self.namespace) if self.namespace else url


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    challenges: tuple[challenges.Challenge, ...]
    digest: str


@dataclass(slots=True)
class _Tokens:
    """Authorization headers that were good lately."""

    kept: dict[tuple[yarl.URL, str, Login], tuple[str, float]] = field(default_factory=dict)

    def get(self, place: Place, login: Login, now_s: float) -> str | None:
        found = self.kept.get((place.base, place.reference.repository, login))
        return found[0] if found is not None and now_s < found[1] else None

    def put(self, place: Place, login: Login, header: str, until_s: float) -> None:
        self.kept.pop((place.base, place.reference.repository, login), None)
        self.kept[(place.base, place.reference.repository, login)] = header, until_s
        while len(self.kept) > MOST_TOKENS:
            del self.kept[next(iter(self.kept))]

    def drop(self, place: Place, login: Login) -> None:
        self.kept.pop((place.base, place.reference.repository, login), None)


class Fetcher:
    """`mirrors` maps a registry, or `*` for all others, to the base URL that answers in its stead."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        clock: clocks.Clock,
        mirrors: Mapping[str, str],
        request_s: float = REQUEST_S,
    ) -> None:
        self._session = session
        self._clock = clock
        self._mirrors = {name: yarl.URL(base) for name, base in mirrors.items()}
        self._timeout = aiohttp.ClientTimeout(total=request_s)
        self._tokens = _Tokens()

    def place(self, reference: references.Reference) -> Place:
        """Where to ask for it."""
        registry = reference.registry
        mirror = self._mirrors.get(registry, self._mirrors.get(EVERY_REGISTRY))
        if mirror is not None:
            return Place(reference, mirror, registry)
        host = HUB_HOST if registry == references.HUB else registry
        # As Docker does: a registry on the own machine needs no certificate.
        scheme = "http" if yarl.URL(f"//{host}").host in ("localhost", "127.0.0.1", "::1") else "https"
        return Place(reference, yarl.URL(f"{scheme}://{host}"))

    async def get(self, place: Place, kind: str, name: str, accept: str, login: Login) -> bytes:
        """The document as bytes. Two or three requests the first time, one as long as a token lasts. Raises
        `errors.RegistryError`."""
        return (await self._request("GET", place, place.url(kind, name), accept, login)).body

    async def digest(self, place: Place, name: str, accept: str, login: Login) -> str:
        """What a tag stands for now, empty if the registry doesn't tell. Not counted as a pull by Docker Hub, which
        bounds the documents that one gets."""
        return (await self._request("HEAD", place, place.url("manifests", name), accept, login)).digest

    async def _request(self, method: str, place: Place, url: yarl.URL, accept: str, login: Login) -> _Answer:
        header = self._tokens.get(place, login, self._clock.monotonic_s())
        answer = await self._ask(method, place, url, accept, header, MOST_BYTES)
        if answer.status == 401:
            self._tokens.drop(place, login)
            header = await self._authorize(place, answer.challenges, login)
            answer = await self._ask(method, place, url, accept, header, MOST_BYTES)
        if answer.status == 200:
            return answer
        raise _refusal(place, answer.status, login)

    async def _ask(
        self, method: str, place: Place, url: yarl.URL, accept: str, authorization: str | None, limit: int
    ) -> _Answer:
        headers = {"Accept": accept} | ({"Authorization": authorization} if authorization else {})
        image, host = str(place.reference), url.host
        try:
            async with self._session.request(
                method, url, headers=headers, timeout=self._timeout, allow_redirects=True, max_redirects=MOST_REDIRECTS
            ) as answer:
                if answer.status == 429:
                    why = f"registry {host} has had too many requests; pull secrets may raise its limit"
                    raise errors.Throttled(image, why, _retry_after(answer))
                body = await _read(answer, limit) if answer.status == 200 else b""
                asked = challenges.read(answer.headers.getall("WWW-Authenticate", ()))
                return _Answer(answer.status, body, asked, answer.headers.get("Docker-Content-Digest", ""))
        except TimeoutError:
            why = f"registry {host} did not answer within {self._timeout.total:g} s"
            raise errors.RegistryDown(image, why) from None
        except _TooLarge:
            raise errors.RegistryDown(image, f"registry {host} sent more than {limit // 1024} KiB") from None
        except aiohttp.TooManyRedirects:
            raise errors.RegistryDown(image, f"registry {host} redirects in circles") from None
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            # ValueError: a redirect to something that is no address. The kind of trouble says enough; its text may
            # quote what the server sent.
            raise errors.RegistryDown(image, f"registry {host} can't be reached ({type(problem).__name__})") from None

    async def _authorize(self, place: Place, asked: tuple[challenges.Challenge, ...], login: Login) -> str:
        """The Authorization header that the registry asks for; remembered while it is good."""
        for challenge in asked:
            if challenge.scheme == "bearer":
                return await self._bearer(place, challenge, login)
            if challenge.scheme == "basic" and login is not None:
                header = _basic(login)
                self._tokens.put(place, login, header, float("inf"))
                return header
        if login is None:
            raise _refusal(place, 401, None)
        words = ", ".join(challenge.scheme for challenge in asked) or "none"
        raise errors.Unauthorized(
            str(place.reference), f"its registry takes no login of a kind known here (asked for: {words[:60]})"
        )

    async def _bearer(self, place: Place, challenge: challenges.Challenge, login: Login) -> str:
        image = str(place.reference)
        realm = _realm(place, challenge.parameters.get("realm", ""))
        if realm is None:
            raise errors.RegistryDown(image, "its registry names no usable token server (https with a host)")
        query = {"scope": f"repository:{place.reference.repository}:pull"}
        if service := challenge.parameters.get("service"):
            query["service"] = service
        basic = _basic(login) if login is not None else None
        url = realm.update_query(query)
        answer = await self._ask("GET", place, url, "application/json", basic, TOKEN_BYTES)
        if answer.status in (400, 401, 403):
            raise _refusal(place, 401, login)
        if answer.status != 200:
            raise errors.RegistryDown(image, f"token server {realm.host} answered {answer.status}")
        try:
            found = msgspec.json.decode(answer.body, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = _Token()
        token = found.token or found.access_token
        if not token or not token.isascii() or not token.isprintable():
            raise errors.RegistryDown(image, f"token server {realm.host} gave no token")
        life_s = TOKEN_LIFE_S if found.expires_in is None or found.expires_in <= 0 else found.expires_in
        until_s = self._clock.monotonic_s() + max(0.0, life_s - TOKEN_HASTE_S)
        self._tokens.put(place, login, f"Bearer {token}", until_s)
        return f"Bearer {token}"


class _TooLarge(Exception):
    pass


async def _read(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """Unpacked bytes count, so that a small answer can't become a large one."""
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_chunked(64 * 1024):
        size += len(part)
        if size > limit:
            raise _TooLarge
        parts.append(part)
    return b"".join(parts)


def _basic(login: launches.RegistryLogin) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()


def _realm(place: Place, text: str) -> yarl.URL | None:
    try:
        url = yarl.URL(text)
    except ValueError:
        return None
    if not url.host or url.user is not None:
        return None
    return url if url.scheme == "https" or url.origin() == place.base.origin() else None


def _retry_after(answer: aiohttp.ClientResponse) -> float:
    text = answer.headers.get("Retry-After", "")
    return min(float(text), 3600.0) if text.isascii() and text.isdigit() and len(text) < 6 else THROTTLED_S


def _refusal(place: Place, status: int, login: Login) -> errors.RegistryError:
    image, host = str(place.reference), place.reference.registry
    if status in (401, 403):
        if login is None:
            why = f"registry {host} wants a login, or has no such image; name an image pull secret in the pod"
        else:
            why = f"registry {host} refused the login of user {login.username!r}, or has no such image"
        return errors.Unauthorized(image, why)
    if status == 404:
        return errors.ImageNotFound(image, f"registry {host} has no such image")
    if 400 <= status < 500 and status not in (408, 425):
        return errors.ImageNotFound(image, f"registry {host} refused to say anything of it ({status})")
    return errors.RegistryDown(image, f"registry {host} answered {status}")
