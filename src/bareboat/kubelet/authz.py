"""May the caller do this: one SubjectAccessReview on the node (or a few, finest first), remembered for a while.

Owns the mapping from path and method to the subresource of `nodes` that guards it (Kubernetes 1.36, fine-grained).
"""

from dataclasses import dataclass
from typing import Any, Literal

from bareboat.kube import objects, resources
from bareboat.kubelet import authn, verdicts
from bareboat.plumbing import clock as clocks

VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_SUBRESOURCES = {
    "stats": "stats",
    "metrics": "metrics",
    "logs": "log",
    "checkpoint": "checkpoint",
    "statusz": "statusz",
    "flagz": "configz",
}
_FINER = {"pods": "pods", "runningpods": "pods", "healthz": "healthz", "configz": "configz"}


@dataclass(frozen=True)
class Settings:
    """Named after the kubelet's flags (`--authorization-mode` …)."""

    authorization_mode: Literal["Webhook", "AlwaysAllow"] = "Webhook"
    authorization_webhook_cache_authorized_ttl_s: float = 300.0
    authorization_webhook_cache_unauthorized_ttl_s: float = 30.0

    def __post_init__(self) -> None:
        if self.authorization_mode not in ("Webhook", "AlwaysAllow"):
            raise ValueError(
                f"authorization mode is {self.authorization_mode!r}; allowed are 'Webhook' and 'AlwaysAllow'"
            )


@dataclass(frozen=True)
class Action:
    """What is asked of the node: the verb, and the subresources any of which is enough, finest first."""

    verb: str
    subresources: tuple[str, ...]

    @classmethod
    def of(cls, method: str, path: str) -> "Action":
        """Exec over WebSocket is a GET and so needs `get` on nodes/proxy."""
        first = path.strip("/").partition("/")[0]
        verb = VERBS.get(method, "")
        if first in _SUBRESOURCES:
            return cls(verb, (_SUBRESOURCES[first],))
        return cls(verb, (_FINER[first], "proxy") if first in _FINER else ("proxy",))


class _Verdict(objects.Partial, frozen=True):
    allowed: bool = False


class _Review(objects.Partial, frozen=True):
    status: _Verdict = _Verdict()


class Authorizer:
    """Answers for one node. One per server."""

    def __init__(self, reviews: authn.Reviews, node_name: str, settings: Settings, clock: clocks.Clock) -> None:
        self._reviews = reviews
        self.node_name = node_name
        self._settings = settings
        self._known: verdicts.Verdicts[tuple[authn.User, str, str], bool] = verdicts.Verdicts(clock)

    @property
    def allows_everything(self) -> bool:
        return self._settings.authorization_mode == "AlwaysAllow"

    async def refusal(self, user: authn.User, action: Action) -> str | None:
        """None when allowed, else the sentence of the 403. One call for each subresource not remembered, until a yes.

        Raises a `kube.errors.KubeError` when the API server gave no verdict: answer 500, as nothing is known.
        """
        if self.allows_everything:
            return None
        for subresource in action.subresources:
            if await self._allowed(user, action.verb, subresource):
                return None
        tried = " ".join(action.subresources)
        return f"Forbidden (user={user.name}, verb={action.verb}, resource=nodes, subresource(s)=[{tried}])"

    async def _allowed(self, user: authn.User, verb: str, subresource: str) -> bool:
        key = (user, verb, subresource)
        known = self._known.get(key)
        if known is not None:
            return known
        question = self._question(user, verb, subresource)
        review = await self._reviews.create(resources.SUBJECT_ACCESS_REVIEWS.path(), question, type=_Review)
        allowed = review.status.allowed
        settings = self._settings
        self._known.put(
            key,
            allowed,
            settings.authorization_webhook_cache_authorized_ttl_s
            if allowed
            else settings.authorization_webhook_cache_unauthorized_ttl_s,
        )
        return allowed

    def _question(self, user: authn.User, verb: str, subresource: str) -> dict[str, Any]:
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user.name,
                "uid": user.uid,
                "groups": list(user.groups),
                "extra": {key: list(values) for key, values in user.extra},
                "resourceAttributes": {
                    "verb": verb,
                    "version": "v1",
                    "resource": "nodes",
                    "subresource": subresource,
                    "name": self.node_name,
                },
            },
        }
