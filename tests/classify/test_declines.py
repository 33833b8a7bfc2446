"""What each decline code says of the money: ISO 8583 and Stripe's words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from finresilience.classify import declines_classifier, payments_classifier
from finresilience.classify.declines import ISO_8583, STRIPE
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Verdict
from tests.classify.raising import saying

NOT_NOW = Verdict(RETRYABLE, counts_against_provider=False)
# ---------------------------------------------------------------- declines


@pytest.mark.parametrize("code", ["06", "09", "20", "22", "32", "68", "91", "94", "96"])
def test_a_response_code_from_somebody_who_may_not_know_is_unknown(code: Any) -> None:
    assert declines_classifier().value(SimpleNamespace(response_code=code)) == Verdict(UNKNOWN)


@pytest.mark.parametrize("code", ["19", "90", "issuer_not_available", "processing_error", "reenter_transaction", "try_again_later"])
def test_a_soft_decline_may_be_tried_again_and_is_not_the_providers_fault(code: Any) -> None:
    assert declines_classifier().value(SimpleNamespace(decline_code=code)) == NOT_NOW


@pytest.mark.parametrize("code", ["19", "90"])
def test_the_mere_code_of_an_answer_never_sends_a_payment_again(code: Any) -> None:
    """A receipt may have a `code` too. An error with one, or a response code by its own name, is from a provider."""
    assert declines_classifier().value(SimpleNamespace(code=code)) == Verdict(UNKNOWN, counts_against_provider=False)
    assert declines_classifier().value(SimpleNamespace(response_code=code)) == NOT_NOW
    assert declines_classifier(code_of=lambda answer: answer).value(code) == NOT_NOW
    error = ValueError()
    vars(error)["code"] = code
    assert declines_classifier().error(error) == NOT_NOW


@pytest.mark.parametrize("code", ["04", "05", "14", "41", "43", "51", "54", "59", "61", "65", "75", "92", "R0", "R1", "R3", "1A", "N7"])
def test_a_hard_decline_stays_one(code: Any) -> None:
    assert declines_classifier().value(SimpleNamespace(code=code)) == Verdict(NON_RETRYABLE)


@pytest.mark.parametrize("code", ["00", "08", "10", "11", "16", "85", "87", "succeeded", "200", "0", "1", "51 "])
def test_an_approval_or_a_code_of_another_language_is_an_ordinary_answer(code: Any) -> None:
    assert declines_classifier().value(SimpleNamespace(code=code)) is None


@pytest.mark.parametrize("code", sorted(STRIPE))
def test_a_stripe_like_error_is_told_by_its_code_before_its_402(code: Any) -> None:
    error = saying(RuntimeError(), http_status=402, code="card_declined", decline_code=code)
    assert payments_classifier().error(error).classification is STRIPE[code]


@pytest.mark.parametrize("code", ["12345", "do_not_know", "A7", ""])
def test_a_code_that_nobody_listed_says_nothing(code: str) -> None:
    assert declines_classifier().error(saying(RuntimeError(), decline_code=code)) == Verdict(UNKNOWN)
    assert declines_classifier().value(SimpleNamespace(decline_code=code)) is None


def test_a_new_decline_code_is_told_by_the_code_beside_it() -> None:
    error = saying(RuntimeError(), http_status=402, code="card_declined", decline_code="invented_yesterday")
    assert payments_classifier().error(error) == Verdict(NON_RETRYABLE)


def test_the_two_languages_share_no_word_and_each_word_has_one_meaning() -> None:
    assert not set(ISO_8583) & set(STRIPE)
    assert all(len(code) == 2 for code in ISO_8583)
    assert set(STRIPE.values()) | set(ISO_8583.values()) == {NON_RETRYABLE, RETRYABLE, UNKNOWN}


def test_a_code_may_be_kept_anywhere() -> None:
    def code_of(answer: Any) -> str | None:
        code: str | None = answer.get(39)
        return code

    classifier = declines_classifier(code_of=code_of)
    assert classifier.value({39: "51"}) == Verdict(NON_RETRYABLE)
    assert classifier.value({39: "00"}) is None
    assert classifier.value({}) is None
    assert classifier.value("not an answer of that kind") is None
