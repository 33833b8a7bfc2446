"""Who speaks of a refusal, whose listeners hear it, and what becomes of a value that was in hand already."""

from __future__ import annotations

from typing import Any

import pytest

from finresilience import (
    CallRefused,
    CircuitBreaker,
    ConfigurationError,
    Event,
    ExpiredError,
    Ok,
    Pipeline,
    Retry,
    Timeout,
    UnknownOutcomeError,
    mark_sent,
)
from tests.laws.worlds import Provider, both_loops, on


@both_loops
@pytest.mark.parametrize("form", ["decorated", "outcome", "adecorated", "aoutcome"])
def test_a_refusal_in_a_pipeline_is_told_by_the_pipeline_to_its_listeners_in_every_form(form: str, backend: str) -> None:
    heard, of_the_breaker = list[Event](), list[Event]()
    breaker = CircuitBreaker("acme", listeners=[of_the_breaker.append])
    pipeline = Pipeline("acme.charge", breaker, listeners=[heard.append])
    breaker.trip(seconds=60)
    of_the_breaker.clear()
    provider = Provider()
    forms: dict[str, Any] = {
        "decorated": lambda: pipeline.outcome(pipeline(provider.charge)),
        "outcome": lambda: pipeline.outcome(provider.charge),
        "adecorated": lambda: on(backend, lambda: pipeline.aoutcome(pipeline(provider.acharge))),
        "aoutcome": lambda: on(backend, lambda: pipeline.aoutcome(provider.acharge)),
    }
    forms[form]()
    assert heard == [CallRefused(name="acme.charge", reason="CircuitOpenError", reference=None)]
    assert of_the_breaker == []
    assert pipeline.statistics()["refused"] == 1


@both_loops
def test_a_value_that_a_plain_function_gave_to_an_async_call_is_not_thrown_away(backend: str) -> None:
    for policy in (Pipeline("acme", Timeout(1.0), listeners=[]), Retry(attempts=2, listeners=[]), CircuitBreaker("acme", listeners=[])):
        outcome: Any = on(backend, lambda policy=policy: policy.aoutcome(lambda: "receipt"))
        assert isinstance(outcome, Ok)
        assert outcome.value == "receipt"


def test_one_listener_alone_is_refused_with_the_way_out() -> None:
    one: Any = print
    with pytest.raises(ConfigurationError, match=r"listeners takes several, such as \[log_event, yours\]"):
        CircuitBreaker("acme", listeners=one)


@pytest.mark.parametrize("argument", ["key", "reference"])
def test_an_error_of_our_users_own_key_function_says_whose_it_is_and_that_nothing_was_sent(argument: str) -> None:
    asks: dict[str, Any] = {argument: lambda request: request["payment_id"]}
    provider, pipeline = Provider(), Pipeline("acme", Retry(attempts=2), listeners=[], **asks)
    with pytest.raises(KeyError) as raised:
        pipeline.call(provider.charge, {})
    assert raised.value.__notes__ == [f"finresilience: raised by {argument}= of acme; nothing was sent, so no money moved"]
    assert provider.attempts == 0


@pytest.mark.parametrize("marks", [False, True])
def test_an_expiry_claims_that_the_request_was_sent_only_where_somebody_said_so(marks: bool) -> None:
    def expires() -> None:
        mark_sent()
        raise ExpiredError("inner", 2.0)

    pipeline = Pipeline("acme", Retry(attempts=1), marks_sent=marks, listeners=[])
    with pytest.raises(UnknownOutcomeError) as raised:
        pipeline.call(expires)
    assert ("after the request was sent" in str(raised.value)) is marks


def test_a_pipeline_counts_the_listeners_that_failed() -> None:
    def fails(_: Event) -> None:
        raise ValueError

    breaker = CircuitBreaker("acme", listeners=[])
    pipeline = Pipeline("acme", breaker, listeners=[fails])
    breaker.trip(seconds=60)
    pipeline.outcome(lambda: "ok")
    assert pipeline.statistics()["listener_failures"] == 1
