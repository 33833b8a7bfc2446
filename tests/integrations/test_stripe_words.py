"""What Stripe's answers tell about the money, by type, code and header, before the SDK makes anything of them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from finresilience.integrations._stripe_words import StripeAnswer, advice, stripe_classifier
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Verdict
from tests.laws.sabotage import kills

NO = Verdict(NON_RETRYABLE)
NOBODY_KNOWS = Verdict(UNKNOWN)
YES, NEVER = {"Stripe-Should-Retry": "true"}, {"Stripe-Should-Retry": "false"}

ANSWERS = [
    (200, {}, {}, None),
    (400, {"type": "invalid_request_error", "code": "parameter_missing"}, {}, NO),
    (400, {"type": "idempotency_error"}, {}, NO),
    (400, {"code": "rate_limit"}, {}, Verdict(RETRYABLE)),
    (400, {"code": "lock_timeout"}, {}, Verdict(RETRYABLE)),
    (401, {"type": "invalid_request_error"}, {}, NO),
    (402, {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds"}, {}, NO),
    (402, {"type": "card_error", "code": "card_declined", "decline_code": "try_again_later"}, {}, NO),
    (402, {"type": "card_error", "code": "processing_error"}, {}, NO),
    (
        402,
        {"type": "card_error", "code": "card_declined", "decline_code": "duplicate_transaction"},
        {},
        Verdict(UNKNOWN, counts_against_provider=False),
    ),
    (403, {}, {}, NO),
    (404, {"code": "resource_missing"}, {}, NO),
    (409, {"type": "idempotency_error", "code": "idempotency_key_in_use"}, {}, NOBODY_KNOWS),
    (409, {"code": "idempotency_key_in_use"}, {}, NOBODY_KNOWS),
    (409, {}, {}, NOBODY_KNOWS),
    (409, {}, YES, NOBODY_KNOWS),
    (409, {}, NEVER, Verdict(UNKNOWN, counts_against_provider=False)),
    (429, {"code": "rate_limit"}, {}, Verdict(RETRYABLE)),
    (429, {"code": "rate_limit"}, {"Retry-After": "3"}, Verdict(RETRYABLE, retry_after=3.0)),
    (429, {"code": "lock_timeout"}, YES, Verdict(RETRYABLE)),
    (429, {}, NEVER, NO),
    (400, {}, YES, NOBODY_KNOWS),
    (400, {}, NEVER, NO),
    (500, {"type": "api_error"}, {}, NOBODY_KNOWS),
    (500, {}, YES, NOBODY_KNOWS),
    (500, {}, NEVER, NOBODY_KNOWS),
    (502, "<html>", {}, NOBODY_KNOWS),
    (503, {}, {"Retry-After": "3"}, Verdict(RETRYABLE, retry_after=3.0)),
    (503, {}, {"Retry-After": "3", **YES}, Verdict(UNKNOWN, retry_after=3.0)),
]
IDS = [f"{number}: {status}" for number, (status, *_) in enumerate(ANSWERS)]


def body_of(error):
    return error.encode() if isinstance(error, str) else json.dumps({"error": error}).encode()


@pytest.mark.parametrize(("status", "error", "headers", "verdict"), ANSWERS, ids=IDS)
def test_an_answer_is_told_by_its_type_its_code_and_its_header(status, error, headers, verdict):
    assert stripe_classifier().value(StripeAnswer(body_of(error), status, headers)) == verdict


@pytest.mark.parametrize(("status", "error", "headers", "verdict"), ANSWERS, ids=IDS)
def test_no_answer_of_stripe_after_which_money_may_have_moved_is_called_harmless(status, error, headers, verdict):
    told = stripe_classifier().value(StripeAnswer(body_of(error), status, headers))
    if status in {409, 500, 502}:
        assert told.classification is UNKNOWN


@pytest.mark.parametrize("name", ["stripe-should-retry", "Stripe-Should-Retry", "STRIPE-SHOULD-RETRY"])
def test_the_header_is_found_however_it_is_written(name):
    assert advice(StripeAnswer(b"", 409, {name: "true"})) == "true"


def test_the_header_is_read_on_a_bare_response_of_any_client_too():
    assert stripe_classifier().value(SimpleNamespace(status_code=400, headers=NEVER)) == NO
    assert stripe_classifier().value(SimpleNamespace(status_code=400, headers=YES)) == NOBODY_KNOWS


@pytest.mark.parametrize("body", [b"", b"[]", b'"error"', b'{"error": "invalid_client"}', b"\xff", b"[" * 100_000, None, object()])
def test_a_body_that_says_nothing_leaves_the_word_to_the_status(body):
    assert stripe_classifier().value(StripeAnswer(body, 402, {})) == NO
    assert stripe_classifier().value(StripeAnswer(body, 500, {})) == NOBODY_KNOWS


@pytest.mark.parametrize("headers", [None, 7, [], {"Stripe-Should-Retry": 1}])
def test_headers_that_are_none_say_nothing(headers):
    assert advice(SimpleNamespace(headers=headers)) is None


def test_an_answer_shows_its_status_only_and_closes_what_it_holds():
    class Stream:
        closed = False

        def close(self):
            self.closed = True

    answer = StripeAnswer(Stream(), 500, {"Authorization": "Bearer sk_live_1"})
    answer.close()
    StripeAnswer(b"", 500, {}).close()
    assert (repr(answer), answer.body.closed) == ("<StripeAnswer 500>", True)


def a_conflict_is_a_no(patch):
    from finresilience.classify import http

    patch.setattr(http, "STATUSES", {**http.STATUSES, 409: NON_RETRYABLE})


def test_the_law_of_harmless_answers_is_awake():
    conflict = next(row for row in ANSWERS if row[:3] == (409, {}, {}))
    kills(a_conflict_is_a_no, test_no_answer_of_stripe_after_which_money_may_have_moved_is_called_harmless, *conflict)
