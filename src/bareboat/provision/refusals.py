"""What the service says no with: an HTTP status, a sentence, and the fields that are wrong.

Everything a client gets to read about a failure is made here; a failure of the cluster is told in the words of the
request that met it, never with a traceback.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bareboat.kube import errors


@dataclass(frozen=True, slots=True)
class Problem:
    """One field of the request (`gpu.max_usd_per_hour`, `body`, or a setting such as NAMESPACE) and what is wrong."""

    field: str
    message: str


class Refused(Exception):
    """An answer of 4xx or 5xx. `after_s` is how long the client had better wait."""

    def __init__(self, status: int, problems: Sequence[Problem], after_s: float | None = None) -> None:
        super().__init__("; ".join(f"{each.field}: {each.message}" for each in problems))
        self.status = status
        self.problems = tuple(problems)
        self.after_s = after_s

    def document(self) -> dict[str, object]:
        """The body of the answer."""
        return {
            "error": str(self),
            "fields": [{"field": each.field, "message": each.message} for each in self.problems],
        }


def refused(status: int, field: str, message: str, after_s: float | None = None) -> Refused:
    return Refused(status, [Problem(field, message)], after_s)


def from_cluster(failure: errors.KubeError, doing: str, namespace: str, field: str = "cluster") -> Refused:
    """A failure of the Kubernetes API while `doing` ("make the Pod …"); `field` is what an Invalid is about."""
    if isinstance(failure, errors.NotFound) and f'namespaces "{namespace}" not found' in failure.detail:
        return refused(404, "NAMESPACE", f"is {namespace!r}, and the cluster has no such namespace; create it first")
    if isinstance(failure, errors.Forbidden):
        return _forbidden(failure, doing, namespace)
    if isinstance(failure, errors.Unauthorized):
        return refused(502, "cluster", f"could not {doing}: the cluster refuses this service's credentials")
    if isinstance(failure, errors.TooManyRequests):
        return refused(429, "cluster", f"could not {doing}: the API server asks to wait", failure.after_s or 1.0)
    if isinstance(failure, errors.Invalid):
        return refused(422, field, f"could not {doing}: {failure.detail}")
    if isinstance(failure, errors.Conflict):
        return refused(409, field, f"could not {doing}: {failure.detail}; repeat the request")
    if isinstance(failure, errors.ApiError) and failure.status < 500:
        return refused(422, field, f"could not {doing}: {failure.detail}")
    after_s = failure.after_s or 2.0
    return refused(503, "cluster", f"could not {doing}: the Kubernetes API is in trouble or can't be reached", after_s)


def _forbidden(failure: errors.Forbidden, doing: str, namespace: str) -> Refused:
    if "exceeded quota" in failure.detail:
        return refused(
            403, "NAMESPACE", f"could not {doing}: a ResourceQuota of {namespace!r} says no: {failure.detail}"
        )
    if "being terminated" in failure.detail:
        return refused(409, "NAMESPACE", f"could not {doing}: namespace {namespace!r} is being deleted")
    return refused(403, "NAMESPACE", f"could not {doing} in {namespace!r}: {failure.detail}")
