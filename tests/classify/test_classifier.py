"""The laws of the classifier: first match wins, nobody's message is read, and what it remembers has a bound."""

from __future__ import annotations

import itertools
import sys
import threading
import uuid
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finresilience.classify import ErrorClassifier, Rule, http_classifier, payments_classifier, sql_classifier
from finresilience.classify.classifier import MAX_MEMO
from finresilience.errors import (
    ConfigurationError,
    ExpiredError,
)
from finresilience.outcome import NON_RETRYABLE, RETRYABLE, UNKNOWN, Verdict
from tests.classify.raising import AcmeDown, AcmeError, AcmeSomewhatDown, exploding, raised_from, saying

NOT_COUNTED = Verdict(UNKNOWN, counts_against_provider=False)


# ---------------------------------------------------------------- messages


class SubstringClassifier:
    """The saboteur: it looks for numbers and words in messages, as people do."""

    def error(self, error: Any) -> Any:
        text = str(error).lower()
        if any(word in text for word in ("429", "503", "refused", "timeout")):
            return Verdict(RETRYABLE)
        return Verdict(NON_RETRYABLE) if "insufficient" in text or "402" in text else Verdict(UNKNOWN)


def law_messages_change_nothing(classifier: Any, kind: Any, message: Any) -> None:
    assert classifier.error(kind(message)) == classifier.error(kind(""))


MESSAGES = st.one_of(
    st.text(),
    st.uuids().map(lambda key: f"payment {key} failed"),
    st.sampled_from(
        ["HTTP 503", "connection refused", "429 Too Many Requests", "402 insufficient funds", "[Errno 24] too many open files"]
    ),
)


@pytest.mark.parametrize("classifier", [payments_classifier(), http_classifier(), sql_classifier(), ErrorClassifier()])
@given(kind=st.sampled_from([RuntimeError, OSError, ValueError, AcmeError, ConnectionResetError, ExpiredError.__base__]), message=MESSAGES)
def test_a_message_changes_nothing(classifier: Any, kind: Any, message: Any) -> None:
    law_messages_change_nothing(classifier, kind, message)


def test_a_uuid_with_503_in_a_message_changes_nothing() -> None:
    key = next(key for n in itertools.count() if "503" in str(key := uuid.UUID(int=n * 7**40 % 2**128)))
    law_messages_change_nothing(payments_classifier(), RuntimeError, f"charge {key} failed")
    with pytest.raises(AssertionError):
        law_messages_change_nothing(SubstringClassifier(), RuntimeError, f"charge {key} failed")


def test_the_words_of_a_message_are_not_even_built() -> None:
    class Secretive(AcmeError):
        def __str__(self) -> str:
            read.append(self)
            return "HTTP 402"

        __repr__ = __str__

    read: list[Secretive] = []
    assert payments_classifier().error(Secretive()) == Verdict(UNKNOWN)
    assert read == []


# ---------------------------------------------------------------- order


def law_the_most_specific_class_wins_whatever_the_order_of_the_rules(make: Any) -> None:
    for rules in itertools.permutations([(AcmeError, UNKNOWN), (AcmeDown, RETRYABLE), (Exception, NON_RETRYABLE)]):
        classifier = make(dict(rules))
        assert classifier.error(AcmeSomewhatDown()).classification is RETRYABLE
        assert classifier.error(AcmeError()).classification is UNKNOWN
        assert classifier.error(ValueError()).classification is NON_RETRYABLE


def test_the_most_specific_class_wins_whatever_the_order_of_the_rules() -> None:
    law_the_most_specific_class_wins_whatever_the_order_of_the_rules(ErrorClassifier)


class AsWritten:
    """The saboteur: an except clause after the other, in the order in which they were written."""

    def __init__(self, rules: dict[type[Exception], Any]) -> None:
        self.rules = rules

    def error(self, error: Exception) -> Verdict:
        return next(Verdict(told) for kind, told in self.rules.items() if isinstance(error, kind))


def test_the_law_of_the_most_specific_catches_one_that_goes_by_the_order() -> None:
    with pytest.raises(AssertionError):
        law_the_most_specific_class_wins_whatever_the_order_of_the_rules(AsWritten)


def test_a_class_that_is_given_by_its_name_is_not_imported() -> None:
    rules = ErrorClassifier({"antigravity.AntigravityError": RETRYABLE})
    stranger = type("AntigravityError", (AcmeError,), {"__module__": "antigravity"})
    assert rules.error(stranger()) == Verdict(RETRYABLE)
    assert rules.error(AcmeError()) == Verdict(UNKNOWN)
    assert "antigravity" not in sys.modules


def test_a_class_may_be_given_by_its_name() -> None:
    name = f"{AcmeDown.__module__}.{AcmeDown.__qualname__}"
    assert ErrorClassifier({name: RETRYABLE}).error(AcmeSomewhatDown()) == Verdict(RETRYABLE)
    assert ErrorClassifier({"elsewhere.AcmeDown": RETRYABLE}).error(AcmeDown()) == Verdict(UNKNOWN)


def test_type_is_asked_before_code_before_status_before_predicate() -> None:
    error = saying(AcmeDown(), code="51", status_code=402)
    rules: list[tuple[dict[str, Any], float]] = [
        ({"types": {AcmeDown: Verdict(RETRYABLE, retry_after=1.0)}}, 1.0),
        ({"codes": {"51": Verdict(RETRYABLE, retry_after=2.0)}}, 2.0),
        ({"status": {402: Verdict(RETRYABLE, retry_after=3.0)}}, 3.0),
        ({"when": [(bool, Verdict(RETRYABLE, retry_after=4.0)), (bool, UNKNOWN)]}, 4.0),
    ]
    for size in range(1, 5):
        for some in itertools.combinations(rules, size):
            classifier = ErrorClassifier(**{name: value for rule, _ in some for name, value in rule.items()})
            assert classifier.error(error).retry_after == some[0][1]


def test_parts_are_asked_from_left_to_right() -> None:
    down, fine = ErrorClassifier({AcmeDown: RETRYABLE}), ErrorClassifier({AcmeError: NON_RETRYABLE})
    assert (down | fine).error(AcmeDown()).classification is RETRYABLE
    assert (fine | down).error(AcmeDown()).classification is NON_RETRYABLE
    assert (down | fine).error(AcmeError()).classification is NON_RETRYABLE


def test_joining_is_associative_and_leaves_its_parts_alone() -> None:
    one, two, three = ErrorClassifier({AcmeDown: RETRYABLE}), ErrorClassifier({AcmeError: UNKNOWN}), http_classifier()
    for error in (AcmeDown(), AcmeError(), ValueError()):
        assert ((one | two) | three).error(error) == (one | (two | three)).error(error)
    assert one.error(AcmeError()) == Verdict(UNKNOWN)
    with pytest.raises(TypeError):
        one | {AcmeDown: RETRYABLE}  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression] - the act under test


def test_a_rule_may_be_a_function_and_may_say_nothing() -> None:
    asked = []

    def ask(error: Any) -> Any:
        asked.append(error)
        return RETRYABLE if len(asked) > 1 else None

    classifier = ErrorClassifier({AcmeError: ask}, when=[(lambda _: True, ask)])
    assert classifier.error(AcmeError()) == Verdict(RETRYABLE)
    assert len(asked) == 2


def test_the_error_itself_is_asked_before_its_causes_by_all_parts() -> None:
    classifier = ErrorClassifier({AcmeDown: RETRYABLE}) | ErrorClassifier({ValueError: NON_RETRYABLE})
    assert classifier.error(raised_from(ValueError(), AcmeDown())).classification is NON_RETRYABLE
    assert classifier.error(raised_from(RuntimeError(), AcmeDown())).classification is RETRYABLE


def test_the_same_error_is_always_told_the_same() -> None:
    classifier = payments_classifier()
    errors = [AcmeError(), ConnectionRefusedError(), raised_from(AcmeError(), TimeoutError()), ExceptionGroup("", [ValueError()])]
    assert [classifier.error(error) for error in errors * 2] == [classifier.error(error) for error in errors] * 2


# ---------------------------------------------------------------- construction


@pytest.mark.parametrize(
    ("rules", "what"),
    [
        ({"types": {"NoModule": RETRYABLE}}, "types takes a class or 'module.Name', not a str"),
        ({"types": {503: RETRYABLE}}, "types takes a class or 'module.Name', not a int"),
        ({"types": {AcmeError: "retryable"}}, "a rule takes a Classification, a Verdict or a function, not a str"),
        ({"types": {AcmeError: None}}, "a rule takes"),
        ({"codes": {51: RETRYABLE}}, "codes takes codes as str, such as '51', not a int"),
        ({"status": {"503": RETRYABLE}}, "status takes HTTP statuses as int, not a str"),
        ({"status": {True: RETRYABLE}}, "status takes"),
        ({"status": {99: RETRYABLE}}, "status takes"),
        ({"status": {1000: RETRYABLE}}, "status takes"),
        ({"when": [exploding]}, "when takes pairs of predicate and rule, not a function"),
        ({"when": [(exploding,)]}, "when takes"),
        ({"when": [("503", RETRYABLE)]}, "when takes"),
        ({"when": [(exploding, 503)]}, "a rule takes"),
        ({"code_of": "code"}, "code_of takes a function, not a str"),
        ({"types": AcmeError}, "types takes a mapping of rules, not a type"),
        ({"codes": ["51"]}, "codes takes a mapping of rules, not a list"),
        ({"status": 503}, "status takes a mapping of rules, not a int"),
        ({"when": exploding}, "when takes pairs of predicate and rule, not a function"),
        ({"clock": 7.0}, "clock takes a Clock, not a float"),
    ],
    ids=range(19),
)
def test_a_rule_of_the_wrong_kind_is_refused_at_construction(rules: Any, what: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"ErrorClassifier: {what}"):
        ErrorClassifier(**rules)


def test_changing_what_it_was_made_from_changes_nothing() -> None:
    rules: dict[type[object] | str, Rule] = {AcmeDown: RETRYABLE}
    classifier = ErrorClassifier(rules)
    rules.clear()
    assert classifier.error(AcmeDown()) == Verdict(RETRYABLE)


# ---------------------------------------------------------------- memory


def test_what_it_remembers_of_classes_is_bounded() -> None:
    classifier = ErrorClassifier({AcmeError: RETRYABLE})
    for number in range(3 * MAX_MEMO):
        assert classifier.error(type(f"Acme{number}", (AcmeError,), {})()) == Verdict(RETRYABLE)
    assert len(classifier._memo) <= MAX_MEMO


def test_one_classifier_serves_many_threads() -> None:
    classifier = ErrorClassifier({AcmeError: RETRYABLE})
    kinds = [type(f"Acme{number}", (AcmeError,), {}) for number in range(2 * MAX_MEMO)]
    wrong: list[type[Exception]] = []

    def ask() -> Any:
        wrong.extend(kind for kind in kinds if classifier.error(kind()) != Verdict(RETRYABLE))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
