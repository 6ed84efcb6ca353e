"""Turns what Vast says when it refuses into the errors of the seam: pure, one decision table for reads, one for rents.

Vast has no one shape for errors (JSON with `msg`, `message` or `detail`, plain text, HTML; even HTTP 200 with
`success: false`), so the text counts as much as the status. A rent is refused for certain only where that is known.
"""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from bareboat.core import errors

CLOUD = "vast"
_LONGEST_TEXT = 300
_TAG = re.compile(r"<(?:script|style).*?</(?:script|style)>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_THRESHOLD = re.compile(r"threshold\s*=\s*([0-9.]+)")

_OFFER_GONE = ("no_such_ask", "no longer available")
_CREDIT = ("insufficient_credit", "lacks credit", "insufficient credit", "missing_billing", "spend_rate_limit")
_KEY = ("auth_error", "not_authorized", "invalid user key", "session expired", "requires login")
_TOO_OFTEN = ("too frequent", "rate_limit_exceeded")
_NO_INSTANCE = ("no_such_instance", "not_found", "invalid_id", "invalid_instance_id")
# Not `invalid_args`, which is said of offers and machines too, and has been said of creates that went through.
_OUR_FAULT = frozenset(
    {
        "invalid_request",
        "invalid_price",
        "invalid_image",
        "missing_input",
        "empty_input",
        "label_too_long",
        "no_ssh_key",
        "no_ssh_key_for_vm",
    }
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: nothing is known yet of whether it is good or bad."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that says no, in one form. `text` is fit for people: short, without markup and without the key."""

    status: int
    code: str
    text: str
    is_json: bool = True
    instance_id: str | None = None
    after_s: float = 0.0
    threshold_s: float = 0.0

    def says(self, *phrases: str) -> bool:
        """Whether any of the phrases stands in the code or the text."""
        told = f"{self.code} {self.text}".lower()
        return any(phrase in told for phrase in phrases)


class _Envelope(msgspec.Struct):
    success: Any = None
    error: Any = None
    msg: Any = None
    message: Any = None
    detail: Any = None
    new_contract: Any = None
    retry_after: Any = None


_envelopes = msgspec.json.Decoder(_Envelope)


def of(answer: Answer, secret: str = "") -> Failure | None:
    """The failure that an answer tells of; None when it is a success as far as its envelope goes."""
    if answer.status == 204:
        return None
    try:
        envelope = _envelopes.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _without_envelope(answer, secret)
    refused = envelope.success in (False, "false") or (envelope.error and not envelope.success)
    if 200 <= answer.status < 300 and not refused:
        return None
    text = next((str(part) for part in (envelope.msg, envelope.message, envelope.detail) if part), "")
    code = envelope.error if isinstance(envelope.error, str) else ""
    bought = envelope.new_contract
    return Failure(
        status=answer.status,
        code=code[:80],
        text=_clean(text or code or answer.body.decode(errors="replace"), secret),
        instance_id=str(bought) if isinstance(bought, int | str) and str(bought).isdigit() else None,
        after_s=_seconds(envelope.retry_after),
        threshold_s=_threshold_s(text),
    )


def throttled(failure: Failure) -> bool:
    """Whether it says that we ask too often."""
    return failure.status == 429 or failure.says(*_TOO_OFTEN)


def of_read(failure: Failure) -> errors.CloudError:
    """For reads and for writes that may be repeated."""
    common = _common(failure)
    if common is not None:
        return common
    if failure.status < 500 and failure.says(*_NO_INSTANCE):
        return errors.InstanceGone(CLOUD, f"no such instance: {failure.text}")
    return errors.CloudDown(CLOUD, f"answered {_told(failure)}")


def of_rent(failure: Failure) -> errors.CloudError:
    """For the rent call: anything not known to mean "nothing bought" is `OutcomeUnknown`."""
    if failure.instance_id is not None:
        # A bid below the market answers with an error, and leaves a stopped instance that bills its disk.
        why = f"refused and yet made instance {failure.instance_id}: {_told(failure)}"
        return errors.OutcomeUnknown(CLOUD, why, failure.instance_id)
    if failure.status >= 500:
        return errors.OutcomeUnknown(CLOUD, f"the rent call was answered {_told(failure)}")
    if failure.says(*_OFFER_GONE):
        return errors.OfferGone(CLOUD, f"the offer is gone: {failure.text}")
    common = None if failure.code == "invalid_args" else _common(failure)
    if common is not None:
        return common
    return _of_refused_rent(failure)


def _of_refused_rent(failure: Failure) -> errors.CloudError:
    if not failure.is_json:
        return errors.OutcomeUnknown(CLOUD, f"the rent call was answered {_told(failure)}")
    if failure.status == 403 and failure.code == "invalid_args":
        # A host's account may not rent certain machines (error 403/3586): another offer can do.
        return errors.OfferGone(CLOUD, f"this machine is not for this account: {failure.text}")
    if failure.status == 422 or (failure.status >= 400 and failure.code in _OUR_FAULT):
        return errors.LaunchRefused(CLOUD, f"refused the launch: {failure.text}")
    if failure.status in (404, 410):
        return errors.OfferGone(CLOUD, f"the offer is gone: {failure.text}")
    return errors.OutcomeUnknown(CLOUD, f"the rent call was answered {_told(failure)}")


def _common(failure: Failure) -> errors.CloudError | None:
    if throttled(failure):
        return errors.Throttled(CLOUD, f"asked too often: {failure.text}", max(failure.after_s, failure.threshold_s))
    if failure.status in (402, 411) or failure.says(*_CREDIT):
        return errors.CreditExhausted(CLOUD, f"the account can't pay: {failure.text}")
    if failure.status < 500 and failure.is_json and failure.says(*_KEY):
        return errors.CredentialsRefused(CLOUD, f"the key was refused: {failure.text} (HTTP {failure.status})")
    if failure.status == 401 or (failure.status == 403 and failure.is_json):
        return errors.CredentialsRefused(CLOUD, f"the key may not do this: {failure.text} (HTTP {failure.status})")
    return None


def _without_envelope(answer: Answer, secret: str) -> Failure:
    text = answer.body[:20_000].decode(errors="replace")
    shown = _clean(_TAG.sub(" ", text), secret) or "an empty body"
    if 200 <= answer.status < 300:
        shown = f"something that is no JSON object: {shown}"
    return Failure(status=answer.status, code="", text=shown, is_json=False, threshold_s=_threshold_s(text))


def _seconds(told: Any) -> float:
    return float(told) if isinstance(told, int | float) and not isinstance(told, bool) and 0 < told < 3600 else 0.0


def _threshold_s(text: str) -> float:
    match = _THRESHOLD.search(text)
    try:
        return _seconds(float(match.group(1))) if match else 0.0
    except ValueError:
        return 0.0


def _clean(text: str, secret: str) -> str:
    if secret:
        text = text.replace(secret, "***")
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def _told(failure: Failure) -> str:
    code = f" {failure.code}" if failure.code and failure.code not in failure.text else ""
    return f"HTTP {failure.status}{code}: {failure.text}"
