"""The Stripe SDK as it is installed: its errors, its made-up keys and its own retries are what we take them for."""

from __future__ import annotations

import pytest
import stripe
from stripe._api_requestor import _generate_idempotency_key

from finresilience.context import idempotency_key
from finresilience.integrations.stripe import (
    _MADE_UP,
    ResilientHTTPClient,
    StripeRequest,
    check_sdk_retries,
    stripe_classifier,
)
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Effect, Verdict
from finresilience.policies.pipeline import Pipeline
from finresilience.policies.retry import Retry

ERRORS = [
    (stripe.CardError("no", None, "card_declined", http_status=402), Verdict(NON_RETRYABLE)),
    (stripe.RateLimitError("slow down", http_status=429, headers={"Retry-After": "3"}), Verdict(RETRYABLE, retry_after=3.0)),
    (stripe.RateLimitError("slow down", http_status=400, json_body={"error": {"code": "rate_limit"}}), Verdict(RETRYABLE)),
    (stripe.IdempotencyError("other parameters", http_status=400), Verdict(NON_RETRYABLE)),
    (stripe.IdempotencyError("in use", http_status=409), Verdict(UNKNOWN)),
    (stripe.APIError("in use", http_status=409, json_body={"error": {"code": "idempotency_key_in_use"}}), Verdict(UNKNOWN)),
    (stripe.InvalidRequestError("missing", "amount", http_status=400), Verdict(NON_RETRYABLE)),
    (stripe.AuthenticationError("who?", http_status=401), Verdict(NON_RETRYABLE)),
    (stripe.PermissionError("no", http_status=403), Verdict(NON_RETRYABLE)),
    (stripe.APIError("oops", http_status=500), Verdict(UNKNOWN)),
    (stripe.APIError("oops", http_status=500, headers={"stripe-should-retry": "false"}), Verdict(UNKNOWN)),
    (stripe.APIConnectionError("lost"), Verdict(UNKNOWN)),
]


@pytest.mark.parametrize(("error", "verdict"), ERRORS, ids=[f"{n}: {type(error).__name__}" for n, (error, _) in enumerate(ERRORS)])
def test_an_error_of_the_sdk_is_told_by_its_type_its_code_and_its_header(error, verdict):
    assert stripe_classifier().error(error) == verdict


def test_a_lost_connection_is_told_by_what_the_http_client_said():
    import requests
    import urllib3

    refused = requests.ConnectionError(urllib3.exceptions.MaxRetryError(None, "/", urllib3.exceptions.NewConnectionError(None, "refused")))
    lost = stripe.APIConnectionError("lost")
    lost.__cause__ = refused
    assert stripe_classifier().error(lost) == Verdict(RETRYABLE)
    lost.__cause__ = requests.ReadTimeout()
    assert stripe_classifier().error(lost) == Verdict(UNKNOWN)


def test_the_keys_that_the_sdk_makes_up_are_known_for_what_they_are():
    assert all(_MADE_UP.fullmatch(_generate_idempotency_key()) for _ in range(100))
    assert not _MADE_UP.fullmatch("pay_1:stripe")


class Inside(stripe.HTTPClient):
    """Answers every request, and keeps what it was asked."""

    name = "inside"

    def __init__(self):
        super().__init__()
        self.asked = []

    def request(self, method, url, headers, post_data=None):
        self.asked.append((method, url, headers))
        return b'{"id": "ch_1"}', 200, {}

    def close(self):
        self.asked.clear()


def keys_sent(pipeline, **options):
    inside = Inside()
    client = stripe.StripeClient("sk_test_1", http_client=ResilientHTTPClient(pipeline, client=inside))
    client.v1.charges.create({"amount": 5000, "currency": "usd"}, options)
    return [headers["Idempotency-Key"] for _, _, headers in inside.asked]


def test_without_a_key_of_yours_the_made_up_one_is_kept():
    (key,) = keys_sent(Pipeline("stripe"))
    assert _MADE_UP.fullmatch(key)


def test_a_key_in_the_air_or_of_the_pipeline_is_better_than_a_made_up_one():
    with idempotency_key("pay_1"):
        assert keys_sent(Pipeline("stripe")) == ["pay_1:stripe:POST /v1/charges"]
    assert keys_sent(Pipeline("stripe", key=lambda request: "pay_2")) == ["pay_2:stripe:POST /v1/charges"]


def test_a_key_that_you_give_the_sdk_is_better_than_any():
    with idempotency_key("pay_1"):
        assert keys_sent(Pipeline("stripe"), idempotency_key="pay_3") == ["pay_3"]


def test_a_pipelines_functions_are_given_the_request():
    seen = []
    keys_sent(Pipeline("stripe", key=lambda request: "pay_1", reference=seen.append))
    assert [repr(request) for request in seen] == ["<StripeRequest POST /v1/charges>"]
    assert isinstance(seen[0], StripeRequest)
    assert seen[0].body == "amount=5000&currency=usd"


def test_only_the_clients_that_were_used_are_closed():
    inside = Inside()
    inside.asked.append("anything")
    ResilientHTTPClient(Pipeline("stripe")).close()
    ResilientHTTPClient(Pipeline("stripe"), client=inside).close()
    assert inside.asked == []


def test_the_sdks_own_retries_are_warned_of_once_where_it_is_guarded_from_outside(caplog, monkeypatch):
    pipeline = Pipeline("stripe", Retry(attempts=3), effect=Effect.READ)
    retrying, plain = (stripe.StripeClient("sk_test_1", max_network_retries=retries) for retries in (4, 0))
    check_sdk_retries(pipeline, plain)
    assert caplog.records == []
    check_sdk_retries(pipeline, retrying)
    check_sdk_retries(pipeline, retrying)
    assert ["max_network_retries=4" in record.getMessage() for record in caplog.records] == [True]
    assert pipeline.explain().attempts == 15
    assert "the client inside makes 5 attempts by itself" in str(pipeline.explain())
    other = Pipeline("other")
    monkeypatch.setattr(stripe, "max_network_retries", 2)
    check_sdk_retries(other)
    assert other.explain().attempts == 3
