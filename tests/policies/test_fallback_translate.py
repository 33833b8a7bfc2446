"""Translation: the caller's own words for the same end. No word makes an unknown known."""

# A lambda has no place for types.
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import Any

import pytest

from finresilience import (
    CircuitBreaker,
    CircuitOpenError,
    Constant,
    Declined,
    Effect,
    Failed,
    Ok,
    Refused,
    Retry,
    Unknown,
    UnknownOutcomeError,
)
from finresilience.policies.fallback import Fallback
from tests.laws.worlds import Down, Lost, No, Provider
from tests.policies.falling import each_form, ended, notes_of, piped, plainly


class Ours(Exception):
    """The caller's own word."""


def in_our_words(error: Exception) -> Exception:
    return Ours(type(error).__name__)


def translated(translate: Any = in_our_words, *policies: Any, effect: Effect = Effect.UNSAFE, **more: Any) -> Any:
    on_declined = more.pop("on_declined", False)
    return piped(Fallback(translate=translate, on_declined=on_declined), *policies, effect=effect, **more)


@each_form
@pytest.mark.parametrize("effect", Effect)
def test_a_failure_is_raised_in_the_callers_words_from_the_error(form: str, effect: Effect) -> None:
    error = Down()
    with pytest.raises(Ours) as caught:
        plainly(form, translated(effect=effect, key=lambda *_: "pay_1"), Provider(error))
    assert caught.value.__cause__ is error


@each_form
def test_the_end_stays_what_it_was(form: str) -> None:
    breaker = CircuitBreaker("acme", listeners=[])
    assert isinstance(ended(form, translated(), Provider(Down())), Failed)
    assert isinstance(ended(form, translated(), Provider(Lost())), Unknown)
    breaker.force_open()
    assert isinstance(ended(form, translated(in_our_words, breaker), Provider()), Refused)


@each_form
def test_a_refusal_is_raised_in_the_callers_words_from_the_refusal(form: str) -> None:
    breaker = CircuitBreaker("acme", listeners=[])
    breaker.force_open()
    with pytest.raises(Ours) as caught:
        plainly(form, translated(in_our_words, breaker), Provider())
    assert isinstance(caught.value.__cause__, CircuitOpenError)


@each_form
def test_a_no_is_translated_only_where_that_was_asked_for(form: str) -> None:
    with pytest.raises(No):
        plainly(form, translated(), Provider(No()))
    outcome = ended(form, translated(on_declined=True), Provider(No()))
    assert isinstance(outcome, Declined)
    assert isinstance(outcome.error, Ours)


@each_form
def test_an_unknown_in_the_callers_words_is_still_unknown_and_says_from_what(form: str) -> None:
    outcome = ended(form, translated(), Provider(Lost()))
    assert isinstance(outcome, Unknown)
    assert isinstance(outcome.error, Ours)
    assert isinstance(outcome.error.__cause__, UnknownOutcomeError)


@each_form
@pytest.mark.parametrize("known", [Down, No])
def test_an_unknown_cannot_be_called_by_a_known_name(form: str, known: type[Exception]) -> None:
    word = known()
    outcome = ended(form, translated(lambda _: word), Provider(Lost()))
    assert isinstance(outcome, Unknown)
    assert isinstance(outcome.error, UnknownOutcomeError)
    assert "this outcome is unknown, and stays so" in notes_of(outcome.error)[0]
    assert (word.__cause__, word.__suppress_context__) == (None, False)


@each_form
def test_a_guard_outside_still_takes_a_translated_unknown_for_one(form: str) -> None:
    provider = Provider(Lost(), "paid twice")
    inner = translated()
    work = inner(provider.charge if form == "sync" else provider.acharge)
    outer = piped(Fallback(translate=lambda _: None), Retry(attempts=3, backoff=Constant(0)), effect=Effect.UNSAFE)
    outcome = outer.outcome(work) if form == "sync" else ended(form, outer, _Provider(work))
    assert isinstance(outcome, Unknown)
    assert provider.attempts == 1


class _Provider(Provider):
    """A provider that is a guarded function."""

    def __init__(self, work: Any) -> None:
        super().__init__()
        self.acharge = work  # type: ignore[method-assign]  # that is what it is for


@each_form
def test_a_guard_outside_knows_how_often_a_translated_error_was_tried(form: str) -> None:
    provider = Provider(*(Down() for _ in range(10)))
    retry = Retry(attempts=3, backoff=Constant(0))
    work = translated(in_our_words, retry)(provider.charge if form == "sync" else provider.acharge)
    outer = piped(Fallback(translate=lambda _: None), Retry(attempts=3, backoff=Constant(0)), effect=Effect.UNSAFE)
    outcome = outer.outcome(work) if form == "sync" else ended(form, outer, _Provider(work))
    assert isinstance(outcome, Failed)
    assert provider.attempts == 3


@each_form
@pytest.mark.parametrize("answer", ["a text", Ours, KeyboardInterrupt()], ids=repr)
def test_what_is_no_exception_leaves_the_error_as_it_is_with_a_note(form: str, answer: Any) -> None:
    outcome = ended(form, translated(lambda _: answer), Provider(error := Down()))
    assert isinstance(outcome, Failed)
    assert outcome.error is error
    assert "which is no exception, so the error stands" in notes_of(error)[0]


@each_form
@pytest.mark.parametrize("same", [True, False])
def test_none_and_the_error_itself_leave_it_as_it_is_and_are_no_use_of_the_fallback(form: str, same: bool) -> None:
    fallback = Fallback(translate=lambda error: error if same else None)
    outcome = ended(form, piped(fallback, effect=Effect.UNSAFE), Provider(error := Down()))
    assert isinstance(outcome, Failed)
    assert (outcome.error, notes_of(error), fallback.statistics()["used"]) == (error, [], 0)


@each_form
def test_the_error_itself_is_no_translation(form: str) -> None:
    outcome = ended(form, translated(lambda error: error), Provider(error := Down()))
    assert isinstance(outcome, Failed)
    assert (outcome.error, error.__cause__, notes_of(error)) == (error, None, [])


@each_form
def test_a_translation_that_raises_lets_the_error_stand_with_a_note(form: str) -> None:
    def broken(_: Exception) -> Exception:
        raise Ours

    outcome = ended(form, translated(broken), Provider(error := Down()))
    assert isinstance(outcome, Failed)
    assert outcome.error is error
    assert notes_of(error) == ["finresilience: fallback (translate=): translate= raised Ours, so the outcome stands"]


@each_form
def test_a_cause_of_the_callers_own_is_left_alone(form: str) -> None:
    why = ValueError()

    def because(_: Exception) -> Exception:
        ours = Ours()
        ours.__cause__ = why
        return ours

    outcome = ended(form, translated(because), Provider(Down()))
    assert isinstance(outcome, Failed)
    assert outcome.error.__cause__ is why


@each_form
def test_the_cause_of_the_error_may_take_its_place_and_goes_in_no_circle(form: str) -> None:
    outcome = ended(form, translated(lambda error: error.__cause__), Provider(lost := Lost()))
    assert isinstance(outcome, Unknown)
    assert outcome.error is lost
    assert lost.__cause__ is None


@each_form
def test_an_answer_that_says_it_failed_is_raised_in_the_callers_words(form: str) -> None:
    class Busy: ...

    pipeline = translated(in_our_words, Retry(attempts=1, retry_result=lambda answer: isinstance(answer, Busy)))
    with pytest.raises(Ours, match="ResultError"):
        plainly(form, pipeline, Provider(Busy()))


def test_a_translated_call_counts_as_what_it_was() -> None:
    pipeline = translated()
    ended("sync", pipeline, Provider(Down()))
    ended("sync", pipeline, Provider(Lost()))
    assert isinstance(ended("sync", pipeline, Provider("paid")), Ok)
    assert (pipeline.ends.failed, pipeline.ends.unknown, pipeline.ends.ok) == (1, 1, 1)


@pytest.mark.parametrize("lost", [True, False])
def test_a_cause_that_the_callers_exception_has_already_is_left_to_it(lost: bool) -> None:
    cause = KeyError("their own")

    def with_a_cause(_: Exception) -> Exception:
        ours = No() if lost else Ours()  # a No is no word for what nobody knows, and is not taken
        ours.__cause__ = cause
        given.append(ours)
        return ours

    given: list[Exception] = []
    outcome = ended("sync", translated(with_a_cause), Provider(Lost() if lost else Down()))
    assert isinstance(outcome, Unknown if lost else Failed)
    assert given[0].__cause__ is cause
    assert (outcome.error is given[0]) is not lost


def test_a_chain_without_end_is_no_chain_to_the_callers_exception() -> None:
    first, second = Down(), Down()
    first.__cause__, second.__cause__ = second, first
    with pytest.raises(Ours) as caught:
        plainly("sync", translated(), Provider(first))
    assert caught.value.__cause__ is first
