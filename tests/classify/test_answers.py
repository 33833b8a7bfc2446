"""An answer is a value that may say no; everything else that is returned is an ordinary answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from finresilience.classify import ErrorClassifier, http_classifier, payments_classifier
from finresilience.classify.extract import status_of
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Verdict
from tests.classify.raising import AcmeError

NOT_COUNTED = Verdict(UNKNOWN, counts_against_provider=False)


# ---------------------------------------------------------------- answers


PLAIN = [None, True, 402, 1.0, 1j, "402", b"402", bytearray(b"402"), [402], (402,), {"status_code": 402}, {402}, frozenset({402})]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_plain_values_are_ordinary_answers(value: Any) -> None:
    assert payments_classifier().value(value) is None
    assert type(value) in payments_classifier().plain


def test_plain_values_are_asked_where_a_rule_asks_for_them() -> None:
    declined = ErrorClassifier(when=[(lambda answer: answer == "NO", NON_RETRYABLE)])
    assert (declined | http_classifier()).value("NO") == Verdict(NON_RETRYABLE)
    assert (declined | http_classifier()).value("YES") is None
    assert not declined.plain
    assert ErrorClassifier({dict: NON_RETRYABLE}).value({}) == Verdict(NON_RETRYABLE)
    assert ErrorClassifier({bool: NON_RETRYABLE}).value(value=False) == Verdict(NON_RETRYABLE)


def test_a_class_of_answers_may_have_a_rule() -> None:
    class Refusal:
        pass

    assert ErrorClassifier({Refusal: NON_RETRYABLE}).value(Refusal()) == Verdict(NON_RETRYABLE)


def test_a_status_of_something_that_is_no_response_is_its_own_affair() -> None:
    assert status_of(SimpleNamespace(status=404)) is None
    assert status_of(SimpleNamespace(status=404, headers={})) == 404
    assert status_of(SimpleNamespace(http_status=404)) == 404
    assert status_of(SimpleNamespace(response=SimpleNamespace(status_code=404))) == 404


@pytest.mark.parametrize("status", [None, True, 99, 1000, -404, 404.0, "404", b"404"], ids=repr)
def test_a_status_is_a_number_of_three_digits(status: Any) -> None:
    assert status_of(SimpleNamespace(status_code=status, http_status=status, status=status, headers={})) is None


def test_a_status_of_an_error_may_stand_under_any_of_three_names() -> None:
    for name in ("status", "status_code", "http_status"):
        error = AcmeError()
        setattr(error, name, 429)
        assert payments_classifier().error(error) == Verdict(RETRYABLE)
