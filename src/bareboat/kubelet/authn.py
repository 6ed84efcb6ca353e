"""Who calls: a verified client certificate, else a bearer token that the API server knows, else (if allowed) nobody.

Owns the mapping to a `User` and the memory of token reviews. The TLS layer has already checked the certificate's chain.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog

from bareboat.kube import errors, objects, resources
from bareboat.kubelet import verdicts
from bareboat.plumbing import clock as clocks

log = structlog.get_logger()

T = TypeVar("T")

AUTHENTICATED = "system:authenticated"
# A token may be refused for a moment only (its ServiceAccount is just being made), hence much shorter than a yes.
REFUSED_TTL_S = 10.0


class Reviews(Protocol):
    """The one power that authentication and authorization need of the API server; `kube.client.Client` has it."""

    async def create(self, path: str, body: Mapping[str, Any], *, type: type[T]) -> T:
        """Posts `body` and returns the answer as `type`. Raises a `kube.errors.KubeError` when there is none."""
        ...


@dataclass(frozen=True)
class Settings:
    """Named after the kubelet's flags (`--anonymous-auth`, `--authentication-token-webhook` …)."""

    anonymous_auth: bool = False
    authentication_token_webhook: bool = True
    authentication_token_webhook_cache_ttl_s: float = 120.0


@dataclass(frozen=True)
class User:
    """What a SubjectAccessReview asks about."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


ANONYMOUS = User("system:anonymous", groups=("system:unauthenticated",))


class _ReviewedUser(objects.Partial, frozen=True):
    username: str = ""
    uid: str = ""
    groups: list[str] | None = None
    extra: dict[str, list[str]] | None = None


class _ReviewStatus(objects.Partial, frozen=True):
    authenticated: bool = False
    user: _ReviewedUser = _ReviewedUser()


class _Review(objects.Partial, frozen=True):
    status: _ReviewStatus = _ReviewStatus()


class Authenticator:
    """Tells who a request comes from. One per server."""

    def __init__(self, reviews: Reviews, settings: Settings, clock: clocks.Clock) -> None:
        self._reviews = reviews
        self._settings = settings
        self._tokens: verdicts.Verdicts[bytes, tuple[User | None]] = verdicts.Verdicts(clock)
        # Tokens are kept as keyed digests: a memory dump of the cache gives none away.
        self._salt = secrets.token_bytes(32)

    @property
    def takes_anybody(self) -> bool:
        """Whether callers without credentials get past it."""
        return self._settings.anonymous_auth

    async def authenticate(self, certificate: Mapping[str, Any] | None, authorization: str | None) -> User | None:
        """The caller, or None for a 401. At most one call of the API server, none for a remembered token.

        `certificate` is the peer certificate as `ssl.SSLSocket.getpeercert()` gives it, `authorization` the header.
        A bearer token that can't be reviewed counts as refused, as with the kubelet, but is not remembered as such.
        """
        user = of_certificate(certificate)
        if user is not None:
            return user
        token = _bearer(authorization)
        if token is not None and self._settings.authentication_token_webhook:
            return await self._of_token(token)
        # A bad or unreadable credential is never turned into "anonymous".
        return ANONYMOUS if self._settings.anonymous_auth and not authorization else None

    async def _of_token(self, token: str) -> User | None:
        key = hmac.digest(self._salt, token.encode(errors="replace"), hashlib.sha256)
        known = self._tokens.get(key)
        if known is not None:
            return known[0]
        question = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        try:
            review = await self._reviews.create(resources.TOKEN_REVIEWS.path(), question, type=_Review)
        except errors.KubeError as failure:
            log.warning("kubelet.token_review_failed", why=str(failure))
            return None
        user = _of_review(review.status)
        ttl_s = self._settings.authentication_token_webhook_cache_ttl_s
        self._tokens.put(key, (user,), ttl_s if user is not None else min(ttl_s, REFUSED_TTL_S))
        return user


def of_certificate(certificate: Mapping[str, Any] | None) -> User | None:
    """Common name → user, organizations → groups. None without a certificate or without a common name."""
    if not certificate:
        return None
    attributes = [pair for relative_name in certificate.get("subject", ()) for pair in relative_name]
    names = [value for key, value in attributes if key == "commonName" and value]
    if not names:
        return None
    groups = [value for key, value in attributes if key == "organizationName"]
    return User(names[0], groups=_with_authenticated(groups))


def _of_review(status: _ReviewStatus) -> User | None:
    user = status.user
    if not status.authenticated or not user.username:
        return None
    extra = tuple(sorted((key, tuple(values)) for key, values in (user.extra or {}).items()))
    return User(user.username, user.uid, _with_authenticated(user.groups or ()), extra)


def _with_authenticated(groups: Iterable[str]) -> tuple[str, ...]:
    listed = tuple(groups)
    return listed if AUTHENTICATED in listed else (*listed, AUTHENTICATED)


def _bearer(authorization: str | None) -> str | None:
    scheme, _, token = (authorization or "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
