"""A classifier is total: whatever is raised, however it was raised, it has a verdict and never an error of its own."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finresilience.classify import ErrorClassifier, http_classifier, payments_classifier
from finresilience.classify.classifier import MAX_MEMBERS
from finresilience.classify.extract import MAX_LINKS, inner_error
from finresilience.errors import (
    CircuitOpenError,
    ConfigurationError,
    DeadlineExceededError,
    ExpiredError,
    InvalidMoneyError,
    MissingKeyError,
    RefusedError,
    ResultError,
    UnknownOutcomeError,
)
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Verdict
from tests.classify.raising import AcmeDown, AcmeError, exploding, raised_from, saying

NOT_COUNTED = Verdict(UNKNOWN, counts_against_provider=False)


# ---------------------------------------------------------------- totality


def test_what_nobody_classifies_is_unknown_and_counts() -> None:
    assert ErrorClassifier().error(AcmeError()) == Verdict(UNKNOWN)


@pytest.mark.parametrize(
    "kind", [TypeError, AttributeError, AssertionError, NameError, NotImplementedError, InvalidMoneyError, ConfigurationError]
)
def test_our_own_mistakes_are_unknown_and_not_the_providers_fault(kind: Any) -> None:
    assert payments_classifier().error(kind()) == NOT_COUNTED


def test_an_answer_that_cannot_be_read_as_money_is_unknown_unless_you_say_otherwise() -> None:
    """The charge may have been made: only its receipt is odd."""
    assert ErrorClassifier().error(InvalidMoneyError()).classification is UNKNOWN
    assert ErrorClassifier({InvalidMoneyError: NON_RETRYABLE}).error(InvalidMoneyError()) == Verdict(NON_RETRYABLE)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (CircuitOpenError("acme", "open", 3.0, 1, None), Verdict(RETRYABLE, counts_against_provider=False, retry_after=3.0)),
        (DeadlineExceededError("acme", 0.1), Verdict(RETRYABLE, counts_against_provider=False)),
        (MissingKeyError(), Verdict(NON_RETRYABLE)),
        (ExpiredError("acme", 2.0), Verdict(UNKNOWN)),
        (UnknownOutcomeError("acme", attempts=1, happened="", held_back=""), Verdict(UNKNOWN)),
        (ResultError("acme", SimpleNamespace(status_code=402)), Verdict(NON_RETRYABLE)),
        (ResultError("acme", "an ordinary answer"), Verdict(UNKNOWN)),
    ],
    ids=["circuit open", "deadline", "no key", "expired", "unknown", "a declined answer", "an ordinary answer"],
)
def test_our_own_errors_keep_their_meaning_whatever_the_rules(error: Any, verdict: Any) -> None:
    rules = ErrorClassifier({Exception: UNKNOWN}, when=[(lambda _: True, UNKNOWN)])
    assert http_classifier().error(error) == verdict
    if not isinstance(error, ResultError):
        assert rules.error(error) == verdict
        assert rules.error(raised_from(error, ConnectionRefusedError())) == verdict
    assert ErrorClassifier().error(raised_from(AcmeError(), error)).classification in (verdict.classification, UNKNOWN)


def babbling(_: object) -> Any:
    return 51


def lying(_: object) -> Any:
    return Verdict(babbling(_))  # no such verdict can be made


@pytest.mark.parametrize(
    "rules",
    [
        {"types": {AcmeError: exploding}},
        {"codes": {"51": RETRYABLE}, "code_of": exploding},
        {"codes": {"51": RETRYABLE}, "code_of": babbling},
        {"codes": {"51": exploding}},
        {"status": {402: exploding}},
        {"when": [(exploding, RETRYABLE)]},
        {"when": [(bool, exploding)]},
        {"when": [(bool, babbling)]},
        {"when": [(bool, lying)]},
    ],
    ids=range(9),
)
def test_a_rule_that_raises_or_babbles_has_not_matched(rules: Any) -> None:
    error = saying(AcmeError(), code="51", status_code=402)
    classifier = ErrorClassifier(**rules) | ErrorClassifier({AcmeError: NON_RETRYABLE})
    assert classifier.error(error) == Verdict(NON_RETRYABLE)


class Hostile(AcmeError):
    def __getattribute__(self, name: Any) -> Any:
        raise MemoryError(name)


class Unhashable(type):
    __hash__: Any = None


class WithoutHash(AcmeError, metaclass=Unhashable):
    pass


@pytest.mark.parametrize("make", [Hostile, WithoutHash, lambda: raised_from(AcmeError(), Hostile())], ids=["attributes", "class", "cause"])
def test_a_hostile_error_is_unknown(make: Any) -> None:
    assert payments_classifier().error(make()) == Verdict(UNKNOWN)


@pytest.mark.parametrize("hint", [math.inf, math.nan, -1.0, True, "soon"], ids=repr)
def test_a_refusal_stays_one_whatever_it_says_of_the_time(hint: Any) -> None:
    class Shut(RefusedError):
        retry_after: Any = hint  # pyright: ignore[reportIncompatibleMethodOverride] - the act under test

    assert payments_classifier().error(Shut()) == Verdict(RETRYABLE, counts_against_provider=False)
    assert payments_classifier().error(CircuitOpenError("acme", "isolated", math.inf, 1, None)).retry_after is None


def test_an_answer_that_cannot_be_asked_is_an_ordinary_one() -> None:
    class Faceless:
        __class__: Any = property(exploding)  # pyright: ignore[reportIncompatibleMethodOverride] - the act under test

    assert payments_classifier().value(Faceless()) is None

    class Answer:
        @property
        def status_code(self) -> Any:
            raise KeyError

        code = decline_code = status = property(exploding)

    assert payments_classifier().value(Answer()) is None
    assert payments_classifier().value(WithoutHash()) is None


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_a_chain_that_bites_its_tail_ends(cycle: Any) -> None:
    errors = [AcmeError() for _ in range(5)]
    for outer, inner in itertools.pairwise([*cycle, cycle[0]]):
        errors[outer].__cause__ = errors[inner]
    assert payments_classifier().error(errors[cycle[0]]) == Verdict(UNKNOWN)


def test_a_chain_is_followed_only_so_far() -> None:
    chain = [AcmeError() for _ in range(10_000)]
    assert payments_classifier().error(raised_from(*chain)) == Verdict(UNKNOWN)
    near, far = [AcmeError() for _ in range(MAX_LINKS - 1)], [AcmeError() for _ in range(MAX_LINKS)]
    assert payments_classifier().error(raised_from(*near, ConnectionRefusedError())) == Verdict(RETRYABLE)
    assert payments_classifier().error(raised_from(*far, ConnectionRefusedError())) == Verdict(UNKNOWN)


def law_what_was_being_handled_is_not_a_cause(classifier: Any) -> None:
    """The log server refused us while the charge was under way; that says nothing of the charge."""
    try:
        try:
            raise ConnectionRefusedError
        except ConnectionRefusedError:
            raise AcmeError  # noqa: B904 - that is the point
    except AcmeError as error:
        assert inner_error(error) is None
        assert classifier.error(error) == Verdict(UNKNOWN)


def test_what_was_being_handled_is_not_a_cause() -> None:
    law_what_was_being_handled_is_not_a_cause(payments_classifier())


class Rummaging:
    """The saboteur: whatever lies about is a cause."""

    def error(self, error: BaseException) -> Verdict:
        return payments_classifier().error(error.__cause__ or error.__context__ or error)


def test_the_law_of_causes_catches_one_that_rummages() -> None:
    with pytest.raises(AssertionError):
        law_what_was_being_handled_is_not_a_cause(Rummaging())


# ---------------------------------------------------------------- groups


RULES = ErrorClassifier({AcmeDown: NON_RETRYABLE}) | payments_classifier()


def law_a_group_is_unknown(classifier: Any, kinds: list[type[Exception]]) -> None:
    """Whoever raised it cancelled the others, and one of them may have been on its way already."""
    group = ExceptionGroup("", [kind() for kind in kinds])
    assert classifier.error(group).classification is UNKNOWN
    assert classifier.error(raised_from(AcmeError(), ExceptionGroup("", [group]))).classification is UNKNOWN


@given(st.lists(st.sampled_from([ConnectionRefusedError, ConnectionResetError, AcmeDown]), min_size=1))
def test_a_group_is_unknown_even_where_its_errors_agree(kinds: list[type[Exception]]) -> None:
    law_a_group_is_unknown(RULES, kinds)


class Hasty:
    """The saboteur: the first error of a group speaks for all."""

    def error(self, group: ExceptionGroup[Exception]) -> Verdict:
        return RULES.error(group.exceptions[0])


def test_the_law_of_groups_catches_one_that_asks_the_first_only() -> None:
    with pytest.raises(AssertionError):
        law_a_group_is_unknown(Hasty(), [ConnectionRefusedError, ConnectionRefusedError])


def test_a_group_waits_for_the_most_patient_and_counts_if_anything_counts() -> None:
    classifier = ErrorClassifier(
        {AcmeDown: Verdict(RETRYABLE, retry_after=2.0), AcmeError: Verdict(RETRYABLE, counts_against_provider=False)}
    )
    one = CircuitOpenError("acme", "open", 5.0, 1, None)
    assert classifier.error(ExceptionGroup("", [AcmeDown(), one])) == Verdict(UNKNOWN, retry_after=5.0)
    assert classifier.error(ExceptionGroup("", [AcmeError()])) == Verdict(UNKNOWN, counts_against_provider=False)


def test_a_rule_for_a_group_comes_before_its_members() -> None:
    class Broken(ExceptionGroup):
        pass

    assert ErrorClassifier({Broken: NON_RETRYABLE}).error(Broken("", [AcmeDown()])) == Verdict(NON_RETRYABLE)


@pytest.mark.parametrize("shape", ["deep", "wide", "bomb", "inside"])
def test_a_group_beyond_all_measure_is_unknown_at_once(shape: Any) -> None:
    group: ExceptionGroup[Exception] = ExceptionGroup("", [ConnectionRefusedError()])
    if shape == "deep":
        for _ in range(10_000):
            group = ExceptionGroup("", [group])
    elif shape == "wide":
        group = ExceptionGroup("", [ConnectionRefusedError() for _ in range(100_000)])
    elif shape == "bomb":
        for _ in range(20):
            group = ExceptionGroup("", [group] * 50)
    else:
        group = ExceptionGroup("", [raised_from(AcmeError(), group)])
    assert payments_classifier().error(group) == Verdict(UNKNOWN)


def test_a_group_of_as_many_as_are_asked_is_asked() -> None:
    assert payments_classifier().error(ExceptionGroup("", [ConnectionRefusedError()] * MAX_MEMBERS)) == Verdict(UNKNOWN)
    assert payments_classifier().error(ExceptionGroup("", [ConnectionRefusedError()] * (MAX_MEMBERS + 1))) == Verdict(UNKNOWN)
