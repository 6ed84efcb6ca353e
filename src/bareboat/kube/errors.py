"""What can go wrong between us and an API server, named by what the caller does next.

KubeError
├── ConfigError            the kubeconfig or the service account is wrong: tell a person
├── Unreachable            no answer: try again later; a write may have been applied
│   └── Timeout            no answer in time
├── Malformed              an answer that is not what was asked for
└── ApiError               the API server answered, and said no
    ├── NotFound           404: it is not there (any more)
    ├── Conflict           409: somebody else wrote first, or it exists already: read again
    ├── Invalid            422: the object is wrong; sending it again is of no use
    │   └── OtherObject    the uid we meant is gone, another object bears its name (is a Conflict as well)
    ├── Forbidden          403: a right is missing
    ├── Unauthorized       401: credentials were refused, after they had been read afresh once
    ├── Gone               410: the resourceVersion or list page is too old: list again
    ├── TooManyRequests    429: wait `after_s`
    └── ServerError        5xx: try again later
"""

from collections.abc import Mapping

import msgspec

LONGEST_MESSAGE = 600


class KubeError(Exception):
    """Everything this package raises on purpose. `after_s`: how long the server asked us to wait, if it did."""

    after_s: float | None = None


class ConfigError(KubeError):
    """A kubeconfig, context or service account that can't be used; the message is for people."""


class Unreachable(KubeError):
    """No answer. Of a write it is not known whether it was applied."""


class Timeout(Unreachable):
    """No answer in time."""


class Malformed(KubeError):
    """An answer that can't be read as the type that was asked for."""


class ApiError(KubeError):
    """A refusal by the API server; `reason` is its own word (`AlreadyExists`), `detail` its message, clipped."""

    def __init__(self, verb: str, path: str, status: int, reason: str, detail: str) -> None:
        super().__init__(f"{verb} {path}: {status} {reason}: {detail}")
        self.verb = verb
        self.path = path
        self.status = status
        self.reason = reason
        self.detail = detail


class NotFound(ApiError):
    pass


class Conflict(ApiError):
    @property
    def already_exists(self) -> bool:
        """The object of a create is there already (and not: our resourceVersion is stale)."""
        return self.reason == "AlreadyExists"


class Invalid(ApiError):
    pass


class OtherObject(Invalid, Conflict):
    """Another object of that name. A status write says it with 422, a delete and a binding with 409."""


class Forbidden(ApiError):
    pass


class Unauthorized(ApiError):
    pass


class Gone(ApiError):
    pass


class TooManyRequests(ApiError):
    pass


class ServerError(ApiError):
    pass


BY_STATUS: Mapping[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


class _Details(msgspec.Struct):
    retryAfterSeconds: float | None = None


class _Status(msgspec.Struct):
    message: str | None = None
    reason: str | None = None
    code: int | None = None
    details: _Details | None = None


_status = msgspec.json.Decoder(_Status)


def clip(text: str, longest: int = LONGEST_MESSAGE) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text)} characters)"


def from_answer(verb: str, path: str, status: int, retry_after: str | None, body: bytes) -> ApiError:
    """The error for an answer with a status of 300 and above; also for the Status object of a watch's ERROR event.

    A proxy in between may answer with HTML: then the clipped body is the message.
    """
    try:
        told = _status.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = _Status(message=body[: 4 * LONGEST_MESSAGE].decode("utf-8", "replace").strip() or "(empty body)")
    detail = clip(told.message or "(no message)")
    kind = BY_STATUS.get(status) or (ServerError if status >= 500 else ApiError)
    if _speaks_of_another_object(status, detail):
        kind = OtherObject
    error = kind(verb, path, status, told.reason or "-", detail)
    error.after_s = _wait_s(retry_after, told)
    return error


def from_watch(path: str, body: bytes) -> ApiError:
    """The error for the Status object inside a watch's ERROR event."""
    try:
        code = _status.decode(body).code or 500
    except (msgspec.DecodeError, UnicodeDecodeError):
        code = 500
    return from_answer("WATCH", path, code, None, body)


def unreachable(verb: str, path: str, server: str, problem: BaseException) -> Unreachable:
    return Unreachable(f"{verb} {path}: {server} can't be reached: {type(problem).__name__}: {problem}")


def _speaks_of_another_object(status: int, detail: str) -> bool:
    # The API server has no code of its own for it (seen on 1.36): status writes fail in validation, deletes and
    # bindings in the precondition checks of two layers with two wordings.
    if status == 422:
        return "metadata.uid" in detail and "immutable" in detail
    return status == 409 and ("UID in precondition" in detail or "UID in the precondition" in detail)


def _wait_s(header: str | None, told: _Status) -> float | None:
    if header is not None and header.strip().isdigit():
        return float(header)
    return told.details.retryAfterSeconds if told.details is not None else None
