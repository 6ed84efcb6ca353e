"""Turns what RunPod says when it refuses into the errors of the seam: pure, one table for reads, one for rents.

Three APIs have three shapes (problem documents, `{error, status}` or `{message}`, HTTP 200 with `errors`), and plain
text and HTML occur in each. Stock that ran out is told by its text alone: the status is 400, 500 or 200.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bareboat.core import errors

CLOUD = "runpod"
_LONGEST_TEXT = 300
_TAG = re.compile(r"<(?:script|style).*?</(?:script|style)>|<[^>]*>", re.DOTALL | re.IGNORECASE)

CAPACITY = (
    "no instances currently available",
    "no longer any instances available",
    "does not have the resources to deploy",
    "not enough free gpus",
    "could not find any pods with required specifications",
    "supply_constraint",
    "below the minimum bid",
)
_CREDIT = ("insufficient balance", "balance is too low", "insufficient funds", "not enough credit", "spend limit")
_KEY = ("unauthorized", "api key", "bearer token", "permission", "scope", "read only", "read-only", "not authenticated")
_NOT_FOUND = ("pod not found", "resource not found", "pod_not_found")
_NOTHING_THERE = re.compile(r"\b(template|registry|container registry auth|network volume|volume)\b.*not found")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: nothing is known yet of whether it is good or bad. `after_s` is its Retry-After."""

    status: int
    body: bytes
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that says no, in one form. `text` is fit for people: short, without markup and without the key."""

    status: int
    text: str
    code: str = ""
    is_json: bool = True
    after_s: float = 0.0
    details: tuple[str, ...] = field(default=())

    def says(self, *phrases: str) -> bool:
        """Whether any of the phrases stands in the code or the text."""
        told = f"{self.code} {self.text}".lower()
        return any(phrase in told for phrase in phrases)


def of(answer: Answer, secret: str = "") -> Failure | None:
    """The failure that an answer tells of; None when it is a success as far as its envelope goes."""
    if answer.status == 204:
        return None
    try:
        body = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _without_json(answer, secret)
    good = 200 <= answer.status < 300
    if isinstance(body, dict) and isinstance(body.get("errors"), list) and body["errors"] and (good or "data" in body):
        return _of_graphql(answer, body["errors"], secret)
    if good:
        return None
    text, details = _told(body)
    return Failure(
        status=answer.status,
        text=_clean(text or answer.body.decode(errors="replace"), secret),
        is_json=isinstance(body, dict),
        after_s=answer.after_s,
        details=tuple(_clean(each, secret) for each in details[:5]),
    )


def is_absent(failure: Failure) -> bool:
    """Whether it says for certain that the pod doesn't exist: any other 404 may be a route that is gone."""
    return failure.is_json and failure.status in (200, 404, 500) and failure.says(*_NOT_FOUND)


def is_shut(failure: Failure) -> bool:
    """Whether this API isn't there (any more), rather than what was asked of it."""
    if failure.status in (405, 410, 501):
        return True
    return failure.status == 404 and not is_absent(failure) and not failure.is_json


def of_read(failure: Failure) -> errors.CloudError:
    """For reads and for writes that may be repeated."""
    common = _common(failure)
    if common is not None:
        return common
    if is_absent(failure):
        return errors.InstanceGone(CLOUD, f"there is no such pod: {failure.text}")
    if failure.status == 403 and failure.is_json:
        return errors.CredentialsRefused(CLOUD, f"the key may not do this: {failure.text} (HTTP 403)")
    return errors.CloudDown(CLOUD, f"answered {shown(failure)}")


def of_rent(failure: Failure) -> errors.CloudError:
    """For a create. `OfferGone` stands for stock that ran out, whatever the status."""
    if failure.is_json and failure.says(*CAPACITY):
        return errors.OfferGone(CLOUD, f"none left: {failure.text}")
    common = _common(failure)
    if common is not None:
        return common
    told = " ".join((failure.text, *failure.details))
    if failure.status == 422 or failure.code in ("GRAPHQL_VALIDATION_FAILED", "BAD_USER_INPUT"):
        return errors.LaunchRefused(CLOUD, f"refused the launch: {told}")
    if failure.is_json and _NOTHING_THERE.search(told.lower()) and failure.status < 500:
        return errors.LaunchRefused(CLOUD, f"refused the launch: {told}")
    if failure.status in (403, 404) and failure.is_json:
        return errors.OfferGone(CLOUD, f"not for this account: {told} (HTTP {failure.status})")
    return errors.OutcomeUnknown(CLOUD, f"the create was answered {shown(failure)}")


def shown(failure: Failure) -> str:
    """Status and text for people."""
    code = f" {failure.code}" if failure.code and failure.code not in failure.text else ""
    return f"HTTP {failure.status}{code}: {failure.text}"


def _common(failure: Failure) -> errors.CloudError | None:
    if failure.status == 429:
        return errors.Throttled(CLOUD, f"asked too often: {failure.text}", max(failure.after_s, 1.0))
    if failure.status == 402 or (failure.is_json and failure.says(*_CREDIT)):
        return errors.CreditExhausted(CLOUD, f"the account can't pay: {failure.text}")
    if failure.status == 401:
        return errors.CredentialsRefused(CLOUD, f"the key was refused: {failure.text} (HTTP 401)")
    refusing = failure.status == 403 or (failure.status == 200 and bool(failure.code))
    if failure.is_json and refusing and failure.says(*_KEY):
        return errors.CredentialsRefused(CLOUD, f"the key may not do this: {failure.text} (HTTP {failure.status})")
    return None


def _told(body: Any) -> tuple[str, list[str]]:
    """Text and details of the shapes that v2 and v1 have, and of those that were seen beside them."""
    if isinstance(body, str):
        return body, []
    if isinstance(body, list):
        return next((text for each in body if (text := _told(each)[0])), ""), []
    if not isinstance(body, dict):
        return "", []
    text = next((str(body[key]) for key in ("detail", "error", "message", "title") if body.get(key)), "")
    listed = body.get("errors")
    return text, [str(each) for each in listed] if isinstance(listed, list) else []


def _of_graphql(answer: Answer, problems: list[Any], secret: str) -> Failure:
    first = problems[0] if isinstance(problems[0], dict) else {"message": str(problems[0])}
    extensions = first.get("extensions")
    code = extensions.get("code") if isinstance(extensions, dict) else None
    text = "; ".join(str(each.get("message")) for each in problems[:3] if isinstance(each, dict)) or str(problems[0])
    return Failure(answer.status, _clean(text, secret), str(code or "")[:80], after_s=answer.after_s)


def _without_json(answer: Answer, secret: str) -> Failure:
    text = _clean(_TAG.sub(" ", answer.body[:20_000].decode(errors="replace")), secret) or "an empty body"
    if 200 <= answer.status < 300:
        text = f"something that is no JSON: {text}"
    return Failure(answer.status, text, is_json=False, after_s=answer.after_s)


def _clean(text: str, secret: str) -> str:
    if secret:
        text = text.replace(secret, "***")
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
