"""A verdict says one of three things about the money, and takes nothing that only looks like one of them."""

from __future__ import annotations

import copy
import math
import pickle
from datetime import timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given, strategies as st

from finresilience import Constant, ErrorClassifier, Pipeline, Retry, Unknown
from finresilience.errors import ConfigurationError
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Classification, Effect, Verdict

WORDS = list(Classification)
verdicts = st.builds(
    Verdict,
    st.sampled_from(WORDS),
    counts_against_provider=st.none() | st.booleans(),
    retry_after=st.none() | st.floats(0, 1e9),
)


class AcmeError(Exception):
    pass


def test_there_are_three_things_to_say() -> None:
    assert set(Classification) == {RETRYABLE, NON_RETRYABLE, UNKNOWN}


@pytest.mark.parametrize(("word", "counts"), [(RETRYABLE, True), (UNKNOWN, True), (NON_RETRYABLE, False)])
def test_a_decline_is_a_healthy_provider_saying_no(word: Classification, counts: bool) -> None:
    assert Verdict(word).counts_against_provider is counts


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("counts", [True, False])
def test_whether_it_counts_may_be_said(word: Classification, counts: bool) -> None:
    assert Verdict(word, counts_against_provider=counts).counts_against_provider is counts


# ---------------------------------------------------------------- what it refuses


def law_a_wait_that_is_none_is_refused(make: Any, wait: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^retry_after=.* cannot work: give zero or more seconds"):
        make(RETRYABLE, retry_after=wait)


WRONG_WAITS: list[Any] = [math.nan, math.inf, -math.inf, -1.0, -1, -1e-300, True, False, "7", b"7", Decimal(7), timedelta(-1)]


@pytest.mark.parametrize("wait", [*WRONG_WAITS, 10**400], ids=lambda wait: repr(wait)[:20])
def test_a_wait_that_is_none_is_refused(wait: object) -> None:
    law_a_wait_that_is_none_is_refused(Verdict, wait)


class Trusting:
    """The saboteur: it believes what it is told."""

    def __init__(self, classification: Classification, *, retry_after: float | None = None) -> None:
        self.classification, self.retry_after = classification, retry_after


class Comparing(Trusting):
    """Another: it compares, and NaN is not less than anything."""

    def __init__(self, classification: Classification, *, retry_after: float | None = None) -> None:
        super().__init__(classification, retry_after=retry_after)
        if retry_after is not None and retry_after < 0:
            raise ConfigurationError(f"retry_after={retry_after} cannot work: give zero or more seconds")


@pytest.mark.parametrize(("saboteur", "wait"), [(Trusting, -1.0), (Comparing, math.nan), (Comparing, True), (Comparing, math.inf)])
def test_the_law_catches_the_trusting_and_the_comparing(saboteur: type[Trusting], wait: float) -> None:
    with pytest.raises(pytest.fail.Exception):
        law_a_wait_that_is_none_is_refused(saboteur, wait)


@given(st.one_of(st.floats(0, allow_nan=False, allow_infinity=False), st.integers(0, 10**300)))
def test_a_wait_is_that_many_seconds(wait: float) -> None:
    told = Verdict(RETRYABLE, retry_after=wait).retry_after
    assert told == float(wait)
    assert type(told) is float


def test_a_wait_may_be_a_timedelta() -> None:
    wait: Any = timedelta(minutes=1)  # the annotation names what a verdict holds
    assert Verdict(RETRYABLE, retry_after=wait).retry_after == 60.0


@pytest.mark.parametrize("word", ["unknown", "retryable", "UNKNOWN", None, True, Effect.UNSAFE, Classification], ids=repr)
def test_a_word_that_only_looks_like_a_classification_is_refused(word: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"classification=.* give RETRYABLE, NON_RETRYABLE or UNKNOWN"):
        Verdict(word)


@pytest.mark.parametrize("counts", [0, 1, "no", 0.5], ids=repr)
def test_whether_it_counts_is_true_or_false(counts: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"counts_against_provider=.* give True or False"):
        Verdict(RETRYABLE, counts_against_provider=counts)


def test_a_rule_that_says_unknown_by_the_wrong_word_ends_unknown_and_is_not_sent_twice() -> None:
    sent: list[int] = []

    def charge() -> None:
        sent.append(1)
        raise AcmeError

    word: Any = "unknown"
    rules = ErrorClassifier({AcmeError: lambda _: Verdict(word)})
    outcome = Pipeline("acme", Retry(attempts=3, backoff=Constant(0)), classify=rules, listeners=[]).outcome(charge)
    assert isinstance(outcome, Unknown)
    assert len(sent) == 1


# ---------------------------------------------------------------- as a value


@given(verdicts, verdicts)
def test_two_verdicts_are_equal_when_they_say_the_same(one: Verdict, other: Verdict) -> None:
    same = repr(one) == repr(other) and one.retry_after == other.retry_after
    assert (one == other) is same
    assert (hash(one) == hash(other)) or not same


def test_a_verdict_is_no_classification_and_lets_others_compare_themselves() -> None:
    assert Verdict(UNKNOWN) != UNKNOWN
    assert Verdict(UNKNOWN) != "unknown"
    assert Verdict(UNKNOWN) == ANY


@given(verdicts)
def test_a_verdict_may_travel(verdict: Verdict) -> None:
    for travelled in (copy.copy(verdict), copy.deepcopy(verdict), pickle.loads(pickle.dumps(verdict))):
        assert travelled == verdict


def test_a_verdict_shows_what_it_says() -> None:
    assert repr(Verdict(UNKNOWN)) == "<Verdict unknown, counts>"
    assert repr(Verdict(NON_RETRYABLE)) == "<Verdict non_retryable, does not count>"
    assert repr(Verdict(RETRYABLE, retry_after=7)) == "<Verdict retryable, counts, retry after 7 s>"


def test_a_verdict_can_be_matched() -> None:
    match Verdict(RETRYABLE, counts_against_provider=False, retry_after=7.0):
        case Verdict(Classification.RETRYABLE, False, wait):
            assert wait == 7.0
        case _:
            pytest.fail("it did not match")


def test_a_verdict_holds_nothing_else() -> None:
    with pytest.raises(AttributeError):
        Verdict(UNKNOWN).reason = "because"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue] - the act under test


# ---------------------------------------------------------------- effects


@pytest.mark.parametrize("effect", Effect)
def test_only_what_is_unsafe_must_not_be_repeated(effect: Effect) -> None:
    assert effect.repeatable is (effect is not Effect.UNSAFE)
