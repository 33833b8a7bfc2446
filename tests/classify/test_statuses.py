"""What each HTTP status says of the money."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from finresilience.classify import http_classifier
from finresilience.classify.statuses import MOVED_NOTHING, STATUSES, WITH_RETRY_AFTER
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Verdict
from tests.classify.raising import saying

# ---------------------------------------------------------------- statuses


def test_every_status_from_400_on_has_a_meaning_and_none_below() -> None:
    assert sorted(STATUSES) == list(range(400, 1000))


@pytest.mark.parametrize(
    "status", [408, 409, 418, 419, 423, 424, 430, 444, 449, 460, 499, 500, 501, 502, 503, 504, 505, 511, 520, 522, 529, 599, 999]
)
def test_a_status_that_may_hide_a_success_is_unknown(status: Any) -> None:
    assert STATUSES[status] is UNKNOWN


@pytest.mark.parametrize("status", [421, 425, 429])
def test_a_status_that_says_not_yet_is_retryable(status: Any) -> None:
    assert STATUSES[status] is RETRYABLE


@pytest.mark.parametrize(
    "status", [400, 401, 402, 403, 404, 405, 406, 407, 410, 411, 412, 413, 414, 415, 416, 417, 422, 426, 428, 431, 451]
)
def test_a_status_that_says_no_is_not_retryable_and_not_the_providers_fault(status: Any) -> None:
    verdict = http_classifier().value(SimpleNamespace(status_code=status))
    assert verdict == Verdict(NON_RETRYABLE, counts_against_provider=False)


@pytest.mark.parametrize("status", [100, 101, 103, 200, 201, 202, 204, 226, 299, 300, 302, 303, 304, 307, 399])
def test_an_answer_below_400_is_ordinary_as_a_value_and_unknown_as_an_error(status: Any) -> None:
    error = saying(RuntimeError(), status_code=status)
    assert http_classifier().value(SimpleNamespace(status_code=status)) is None
    assert http_classifier().error(error) == Verdict(UNKNOWN)


def test_only_503_changes_with_a_retry_after() -> None:
    assert dict(WITH_RETRY_AFTER) == {503: RETRYABLE}
    for status, told in STATUSES.items():
        verdict = http_classifier().value(SimpleNamespace(status_code=status, headers={"Retry-After": "7"}))
        assert verdict is not None
        assert verdict.classification is WITH_RETRY_AFTER.get(status, told)
        assert verdict.retry_after == 7.0


@pytest.mark.parametrize("hint", ["soon", "-1", "nan", ""])
def test_a_503_with_a_hint_that_cannot_be_read_is_a_503_without(hint: Any) -> None:
    assert http_classifier().value(SimpleNamespace(status_code=503, headers={"Retry-After": hint})) == Verdict(UNKNOWN)


def test_what_moved_nothing_is_what_says_so() -> None:
    assert {307, 308, 401, 402, 429} <= MOVED_NOTHING
    assert not {200, 201, 301, 302, 303, 409, 500, 502, 503, 504} & MOVED_NOTHING
