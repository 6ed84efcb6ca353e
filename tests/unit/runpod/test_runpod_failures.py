"""Every shape in which RunPod refuses, and what each means for a read and for a create."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareboat.clouds.runpod import failures
from bareboat.core import errors

KEY = "rpa_SECRET"
PROBLEM = "There are no longer any instances available with the requested specifications. Please refresh and try again."


def _answer(status: int, body: object) -> failures.Answer:
    return failures.Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode())


def _failure(status: int, body: object) -> failures.Failure:
    failure = failures.of(_answer(status, body), KEY)
    assert failure is not None
    return failure


HTML = b"<html><head><title>Access denied | Error 1010</title></head><body>Error 1010</body></html>"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"title": "Unauthorized", "status": 401, "detail": "missing bearer token"}, errors.CredentialsRefused),
        (401, {"error": "unauthorized"}, errors.CredentialsRefused),
        (200, {"errors": [{"message": "Unauthorized", "extensions": {"code": "RUNPOD"}}]}, errors.CredentialsRefused),
        (403, {"title": "Forbidden", "status": 403, "detail": "access denied"}, errors.CredentialsRefused),
        (403, HTML, errors.CloudDown),
        (402, {"title": "Payment Required", "status": 402, "detail": "pay"}, errors.CreditExhausted),
        (404, {"title": "Not Found", "status": 404, "detail": "pod not found"}, errors.InstanceGone),
        (404, {"title": "Not Found", "status": 404, "detail": "resource not found"}, errors.InstanceGone),
        (404, {"error": "pod not found", "status": 404}, errors.InstanceGone),
        (500, {"error": "pod not found to terminate", "status": 500}, errors.InstanceGone),
        (404, b"404 page not found", errors.CloudDown),
        (404, {"message": "no such route"}, errors.CloudDown),
        (410, {"message": "v1 is retired"}, errors.CloudDown),
        (429, {"title": "Too Many Requests", "detail": "rate limit exceeded"}, errors.Throttled),
        (502, HTML, errors.CloudDown),
        (520, b"", errors.CloudDown),
        (200, b"<html>maintenance</html>", errors.CloudDown),
        (200, {"errors": [{"message": "oops", "extensions": {"code": "INTERNAL_SERVER_ERROR"}}]}, errors.CloudDown),
        (409, {"title": "Conflict", "detail": "pod belongs to a cluster"}, errors.CloudDown),
        (500, "a bare text", errors.CloudDown),
    ],
)
def test_reads(status: int, body: object, kind: type[errors.CloudError]) -> None:
    assert type(failures.of_read(_failure(status, body))) is kind


def _graphql(message: str, code: str = "RUNPOD") -> dict[str, object]:
    return {"errors": [{"message": message, "path": ["x"], "extensions": {"code": code}}], "data": {"x": None}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"title": "Bad Request", "status": 400, "detail": PROBLEM}, errors.OfferGone),
        (500, {"title": "Internal Server Error", "status": 500, "detail": PROBLEM}, errors.OfferGone),
        (500, {"error": "create pod: There are no instances currently available", "status": 500}, errors.OfferGone),
        (500, {"error": "There are not enough free GPUs on the host machine to start this pod."}, errors.OfferGone),
        (200, _graphql("This machine does not have the resources to deploy your pod."), errors.OfferGone),
        (200, _graphql("anything", "SUPPLY_CONSTRAINT"), errors.OfferGone),
        (200, _graphql("could not find any pods with required specifications"), errors.OfferGone),
        (400, {"detail": "Your bid is below the minimum bid of $0.3"}, errors.OfferGone),
        (403, {"title": "Forbidden", "status": 403, "detail": "access denied"}, errors.OfferGone),
        (403, {"detail": "API key lacks permission"}, errors.CredentialsRefused),
        (401, {"error": "unauthorized"}, errors.CredentialsRefused),
        (402, {"detail": "Insufficient balance"}, errors.CreditExhausted),
        (
            200,
            _graphql("Insufficient balance to resume this on-demand pod. You need at least $3."),
            errors.CreditExhausted,
        ),
        (422, {"detail": "Request validation failed.", "errors": ["$: 'x' not allowed"]}, errors.LaunchRefused),
        (200, _graphql('Cannot query field "x".', "GRAPHQL_VALIDATION_FAILED"), errors.LaunchRefused),
        (404, {"detail": "template not found"}, errors.LaunchRefused),
        (400, {"detail": "registry not found"}, errors.LaunchRefused),
        (404, {"detail": "gpu type not found"}, errors.OfferGone),
        (429, {"detail": "rate limit exceeded"}, errors.Throttled),
        (500, {"detail": "Something went wrong. Please try again later or contact support."}, errors.OutcomeUnknown),
        (500, {"error": "failed to read back the new pod"}, errors.OutcomeUnknown),
        (200, _graphql("Something went wrong", "INTERNAL_SERVER_ERROR"), errors.OutcomeUnknown),
        (502, HTML, errors.OutcomeUnknown),
        (500, b"There are no instances currently available", errors.OutcomeUnknown),
        (403, HTML, errors.OutcomeUnknown),
        (200, b"", errors.OutcomeUnknown),
    ],
)
def test_creates(status: int, body: object, kind: type[errors.CloudError]) -> None:
    assert type(failures.of_rent(_failure(status, body))) is kind


def test_what_is_good_is_no_failure() -> None:
    assert failures.of(failures.Answer(204, b"")) is None
    assert failures.of(_answer(201, {"id": "x"})) is None
    assert failures.of(_answer(200, [])) is None
    assert failures.of(_answer(200, {"data": {"pod": None}})) is None


def test_reasons_are_told_and_the_key_is_not() -> None:
    failure = _failure(422, {"detail": f"Request validation failed for {KEY}", "errors": ["$.gpu: wrong", KEY]})
    told = failures.of_rent(failure).why
    assert "$.gpu: wrong" in told and KEY not in told


def test_markup_is_taken_out_and_long_texts_are_cut() -> None:
    told = failures.of_read(_failure(502, HTML + b"x" * 9000)).why
    assert "<" not in told and "Error 1010" in told and len(told) < 500


@pytest.mark.parametrize(
    ("status", "body", "shut"),
    [
        (404, b"404 page not found", True),
        (404, HTML, True),
        (410, {"message": "gone"}, True),
        (405, {"detail": "no"}, True),
        (404, {"detail": "pod not found"}, False),
        (404, {"error": "whatever"}, False),
        (500, b"", False),
    ],
)
def test_an_api_that_is_shut_is_not_a_pod_that_is_gone(status: int, body: object, shut: bool) -> None:
    failure = _failure(status, body)
    assert failures.is_shut(failure) is shut
    assert not (shut and failures.is_absent(failure))


@given(st.integers(200, 599), st.binary(max_size=200))
def test_no_answer_is_without_a_meaning(status: int, body: bytes) -> None:
    failure = failures.of(failures.Answer(status, body), KEY)
    if failure is not None:
        assert isinstance(failures.of_read(failure), errors.CloudError)
        assert isinstance(failures.of_rent(failure), errors.CloudError)
        if status >= 500 and not failure.is_json:
            assert isinstance(failures.of_rent(failure), errors.OutcomeUnknown)
