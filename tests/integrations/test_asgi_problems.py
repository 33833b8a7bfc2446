"""What an HTTP caller hears of an error says no more than is true, and holds no secret."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Unpack

import pytest
from hypothesis import given, strategies as st

from finresilience import (
    NON_RETRYABLE,
    RETRYABLE,
    UNKNOWN,
    CircuitOpenError,
    ConfigurationError,
    DeadlineExceededError,
    Declined,
    ErrorClassifier,
    ExpiredError,
    Failed,
    FinresilienceError,
    MissingKeyError,
    Ok,
    Refused,
    ResultError,
    ThreadLimitError,
    Unknown,
    UnknownOutcomeError,
    http_classifier,
    payments_classifier,
)
from finresilience.errors import AttemptOverError, BulkheadFullError, NoRouteError, RateLimitedError
from finresilience.integrations.headers import HeaderError
from finresilience.integrations.problems import KINDS, TYPES, Problem, ProblemOptions, Problems, problem
from tests.integrations.asgi_calls import Answer, without_addresses
from tests.laws.sabotage import kills

if TYPE_CHECKING:
    from collections.abc import Callable


class CardError(Exception):
    """A provider's no."""

    def __init__(self, status: int = 402, code: str = "card_declined") -> None:
        super().__init__("Your card 4111111111111111 was declined")
        self.http_status, self.code = status, code


class SoftCardError(CardError):
    """A no of a certain kind."""


def unknown(name: str = "acme.charge", reference: str | None = None) -> UnknownOutcomeError:
    return UnknownOutcomeError(name, attempts=1, happened="TimeoutError", held_back="", reference=reference)


ERRORS: dict[str, tuple[Exception, int, str]] = {
    "unknown": (unknown(), 202, "unknown-outcome"),
    "expired": (ExpiredError("acme", 2.0), 504, "expired"),
    "circuit open": (CircuitOpenError("acme", "open", 2.5, 1, None), 503, "refused"),
    "held open": (CircuitOpenError("acme", "isolated", None, 1, None), 503, "refused"),
    "bulkhead": (BulkheadFullError("acme", 5, 0.0), 503, "refused"),
    "threads": (ThreadLimitError("acme", 5), 503, "refused"),
    "no route": (NoRouteError("pay", "all are down"), 503, "refused"),
    "attempt over": (AttemptOverError(), 503, "refused"),
    "rate limit": (RateLimitedError("acme", 1.5), 503, "rate-limited"),
    "deadline": (DeadlineExceededError("acme", 0.25), 503, "deadline-exceeded"),
    "key": (MissingKeyError("acme has no key"), 400, "key-missing"),
    "header": (HeaderError("Idempotency-Key", "is empty"), 400, "bad-header"),
}
SAYS = {202: None, 504: UNKNOWN, 500: UNKNOWN, 503: RETRYABLE, 429: RETRYABLE, 402: NON_RETRYABLE, 400: NON_RETRYABLE}
each_error = pytest.mark.parametrize(("error", "status", "name"), ERRORS.values(), ids=ERRORS)


def told(end: Any, *, sent: bool = False, **options: Unpack[ProblemOptions]) -> Problem:
    found = problem(end, sent=sent, **options)
    assert found is not None
    return found


def heard(answer: Problem) -> object:
    """Return what a caller of ours makes of the answer: a classification, or None where it is an ordinary answer."""
    verdict = http_classifier().value(Answer(answer.status, answer.headers, json.dumps(answer.body).encode()))
    return None if verdict is None else verdict.classification


# ---------------------------------------------------------------- what each error is


@each_error
def test_each_error_of_ours_has_its_answer(error: Exception, status: int, name: str) -> None:
    answer = told(error)
    assert (answer.status, answer.body["type"], answer.body["status"]) == (status, TYPES + name, status)


@each_error
def test_what_a_caller_of_ours_hears_is_what_is_true(error: Exception, status: int, name: str) -> None:
    assert heard(told(error)) == SAYS[status]


@each_error
def test_each_answer_is_a_whole_problem_by_rfc_9457(error: Exception, status: int, name: str) -> None:
    answer = told(error)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert {"type", "title", "status", "detail"} <= answer.body.keys()
    assert all(isinstance(text, str) and text for name, text in answer.body.items() if name != "status")


def test_the_types_are_told_apart() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) == 15


@pytest.mark.parametrize("error", [ValueError("x"), ConfigurationError("x"), ResultError("acme", object()), KeyError(), TimeoutError()])
def test_what_is_not_ours_to_tell_is_not_told(error: Exception) -> None:
    assert problem(error) is None
    assert problem(error, sent=True) is None


# ---------------------------------------------------------------- refusals, and what came before them


@pytest.mark.parametrize(
    ("wait", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.001, "2"), (59.5, "60"), (1e9, "86400"), (math.inf, "3"), (math.nan, "1")]
)
def test_a_caller_is_never_told_to_come_back_too_early(wait: float, header: str) -> None:
    assert told(CircuitOpenError("acme", "open", wait, 1, None), retry_after=3).headers["Retry-After"] == header


@pytest.mark.parametrize("which", ["held open", "bulkhead", "threads", "no route", "deadline"])
def test_a_refusal_that_knows_no_time_says_one_all_the_same(which: str) -> None:
    """Without the header a 503 is read as unknown, and a payment that was surely not sent would be asked about."""
    assert told(ERRORS[which][0], retry_after=7).headers["Retry-After"] == "7"


def law_nobody_is_told_that_nothing_moved_when_something_may_have(of: Callable[..., Problem | None]) -> None:
    for error, *_ in ERRORS.values():
        answer = of(error, sent=True)
        assert answer is not None
        assert heard(answer) in {None, UNKNOWN}, error


def test_nobody_is_told_that_nothing_moved_when_something_may_have() -> None:
    law_nobody_is_told_that_nothing_moved_when_something_may_have(Problems().of)


def test_the_law_catches_a_teller_that_looks_at_the_last_step_only() -> None:
    def forgetful(error: Exception, *, sent: bool) -> Problem | None:
        """The saboteur: the last step was refused, so nothing was done."""
        return Problems().of(error, sent=False)

    with pytest.raises(AssertionError):
        law_nobody_is_told_that_nothing_moved_when_something_may_have(forgetful)


@pytest.mark.parametrize("which", ["circuit open", "rate limit", "deadline", "key", "no route"])
def test_a_refusal_after_something_was_sent_is_incomplete(which: str) -> None:
    answer = told(ERRORS[which][0], sent=True, statuses={RateLimitedError: 429})
    assert (answer.status, answer.body["type"]) == (500, TYPES + "incomplete")
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize("sent", [False, True])
def test_an_unknown_outcome_is_unknown_whatever_came_before(sent: bool) -> None:
    assert told(unknown(), sent=sent) == told(unknown())


# ---------------------------------------------------------------- declines


def test_the_class_of_a_decline_is_a_decline_and_so_is_what_derives_from_it() -> None:
    assert [told(error, declined=(CardError,)).status for error in (CardError(), SoftCardError())] == [402, 402]
    assert problem(CardError()) is None


def test_a_decline_says_that_nothing_moved_even_after_an_earlier_step() -> None:
    assert heard(told(CardError(), sent=True, declined=(CardError,))) is NON_RETRYABLE


def test_a_classifier_tells_declines_from_the_rest() -> None:
    rules = ErrorClassifier({SoftCardError: RETRYABLE, CardError: NON_RETRYABLE})
    assert told(CardError(), classify=rules).status == 402
    assert [problem(error, classify=rules) for error in (SoftCardError(), ValueError("bug"))] == [None, None]


@pytest.mark.parametrize("status", [401, 403, 404, 413])
def test_a_gates_no_is_about_us_and_no_decline_of_the_callers_payment(status: int) -> None:
    gate, outer = CardError(status, "unauthorized"), RuntimeError()
    outer.__cause__ = gate  # as `raise ... from` leaves it
    for error in (gate, outer):
        assert http_classifier().error(error).classification is NON_RETRYABLE
        assert problem(error, classify=http_classifier()) is None


def test_our_own_errors_are_never_asked_about() -> None:
    rules = ErrorClassifier({FinresilienceError: NON_RETRYABLE, ExpiredError: NON_RETRYABLE, UnknownOutcomeError: NON_RETRYABLE})
    assert [told(error, classify=rules).status for error, *_ in ERRORS.values()] == [status for _, status, _ in ERRORS.values()]


def test_an_answer_that_was_raised_is_asked_about_by_itself() -> None:
    rules = ErrorClassifier({CardError: NON_RETRYABLE})
    assert told(ResultError("acme", CardError()), classify=rules).status == 402
    assert problem(ResultError("acme", object()), classify=rules) is None


# ---------------------------------------------------------------- outcomes


@pytest.mark.parametrize(
    ("end", "status", "name"),
    [
        (Declined(CardError()), 402, "declined"),
        (Declined(value={"status": "declined"}), 402, "declined"),
        (Failed(ConnectionError()), 503, "failed"),
        (Unknown(unknown()), 202, "unknown-outcome"),
        (Unknown(ConnectionResetError()), 202, "unknown-outcome"),
        (Refused(CircuitOpenError, ("acme", "open", 2.5, 1, None)), 503, "refused"),
    ],
    ids=str,
)
def test_an_outcome_in_hand_has_its_answer_without_any_rules(end: Any, status: int, name: str) -> None:
    answer = told(end)
    assert (answer.status, answer.body["type"]) == (status, TYPES + name)
    assert heard(answer) == SAYS[status]


def test_a_refused_outcome_after_something_was_sent_is_incomplete() -> None:
    assert told(Refused(CircuitOpenError, ("acme", "open", 2.5, 1, None)), sent=True).status == 500


def test_an_ok_is_no_problem() -> None:
    assert problem(Ok("receipt")) is None


# ---------------------------------------------------------------- no secret goes out

secrets = st.text("0123456789", min_size=12, max_size=19).map(lambda digits: f"4{digits}")


@given(secrets)
def test_no_answer_shows_what_an_error_holds(secret: str) -> None:
    class No(Exception): ...

    caused = unknown(secret, reference=secret)
    caused.__cause__ = No(secret)
    caused.add_note(secret)
    ends = [
        *(caused, ExpiredError(secret, 2.0), CircuitOpenError(secret, secret, 1.0, 1, secret), BulkheadFullError(secret, 5, 0.0)),
        *(ThreadLimitError(secret, 1), NoRouteError(secret, secret), RateLimitedError(secret, 1.0), DeadlineExceededError(secret, 1.0)),
        *(MissingKeyError(secret), No(secret), Declined(value=secret), Failed(No(secret)), Unknown(No(secret))),
    ]
    for end in ends:
        answer = told(end, declined=(No,))
        assert secret not in json.dumps([answer.body, answer.headers])


# ---------------------------------------------------------------- more members


def test_a_status_url_of_yours_is_in_the_body_and_is_the_location() -> None:
    answer = told(unknown(reference="pay_1"), members=lambda error: {"status_url": f"/payments/{getattr(error, 'reference', '')}"})
    assert answer.body["status_url"] == answer.headers["Location"] == "/payments/pay_1"
    assert answer.headers["Retry-After"] == "5"


@pytest.mark.parametrize("url", ["/payments/a b", "/p\r\nSet-Cookie: x=1", "/zahlung/\u00e4", "", 7, None], ids=repr)
def test_what_is_no_url_writes_no_header(url: Any) -> None:
    assert "Location" not in told(unknown(), members=lambda _: {"status_url": url}).headers


def test_a_location_is_given_for_what_can_be_asked_about_only() -> None:
    assert "Location" not in told(CardError(), declined=(CardError,), members=lambda _: {"status_url": "/payments/pay_1"}).headers


def test_no_member_of_yours_takes_the_place_of_what_is_true() -> None:
    answer = told(unknown(), members=lambda _: {"status": 200, "type": "about:blank", "title": "", "detail": "", "instance": "", "code": 7})
    assert answer.body == {**told(unknown()).body, "code": 7}


@pytest.mark.parametrize("gives", [ZeroDivisionError(), {"x": object()}, {"x": math.nan}, 7, None], ids=without_addresses)
def test_a_function_that_fails_costs_nobody_the_answer(gives: Any) -> None:
    def members(error: Exception) -> Any:
        if isinstance(gives, Exception):
            raise gives
        return gives

    assert told(unknown(), members=members) == told(unknown())


# ---------------------------------------------------------------- options


def test_a_limiter_at_ones_own_door_may_say_429() -> None:
    answer = told(RateLimitedError("door", 1.5), statuses={RateLimitedError: 429})
    assert (answer.status, answer.body["status"], answer.headers["Retry-After"], heard(answer)) == (429, 429, "2", RETRYABLE)


def test_the_status_of_the_nearest_class_holds() -> None:
    options: Any = {"declined": (CardError,), "statuses": {SoftCardError: 422, CardError: 400}}
    assert [told(error, **options).status for error in (SoftCardError(), CardError())] == [422, 400]


@pytest.mark.parametrize("which", ["unknown", "expired"])
def test_no_status_can_call_an_unknown_outcome_known(which: str) -> None:
    error = ERRORS[which][0]
    for status in range(200, 600):
        try:
            answer = told(error, statuses={type(error): status})
        except ConfigurationError:
            continue
        assert heard(answer) in {None, UNKNOWN}, status


@pytest.mark.parametrize("kind", [RateLimitedError, CardError, MissingKeyError])
@pytest.mark.parametrize("status", [200, 202, 399])
def test_no_status_can_call_a_no_a_yes(kind: Any, status: int) -> None:
    with pytest.raises(ConfigurationError, match="all is well"):
        Problems(statuses={kind: status})


def believes_any_status(patch: pytest.MonkeyPatch) -> None:
    """The saboteur: whoever sets it up knows best."""
    patch.setattr("finresilience.integrations.problems._true_statuses", dict)


def test_the_law_catches_a_set_up_that_may_lie() -> None:
    kills(believes_any_status, test_no_status_can_call_an_unknown_outcome_known, "unknown")


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {"declined": kind}
            for kind in (Exception, TimeoutError, ValueError, FinresilienceError, ExpiredError, BaseException, "CardError")
        ),
        *({"declined": (CardError, 7)}, {"classify": payments_classifier}, {"members": {}}, {"types": "problems"}, {"types": "a:\n"}),
        *({"types": 7}, {"retry_after": 0}, {"ask_after": math.inf}, {"statuses": {RateLimitedError: 600}}, {"statuses": {7: 400}}),
        *({"statuses": {RateLimitedError: True}}, {"statuses": {RateLimitedError: "429"}}, {"statuses": {UnknownOutcomeError: 503}}),
    ],
    ids=without_addresses,
)
def test_what_cannot_work_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        Problems(**wrong)


def test_one_class_of_declines_may_stand_alone() -> None:
    alone: Any = CardError
    assert Problems(declined=alone).declined == (CardError,)


def test_the_types_may_be_pages_of_your_own() -> None:
    assert told(unknown(), types="https://api.acme.test/problems/").body["type"] == "https://api.acme.test/problems/unknown-outcome"
