"""Errors, answers and rules that do anything when they are touched: they took the place of what became of the payment."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import RETRYABLE, UNKNOWN, CircuitBreaker, Effect, ErrorClassifier, Ok, Unknown, Verdict
from finresilience.classify import extract
from finresilience.cores import breaker as cores
from finresilience.policies import call as calls, ending
from tests.laws.sabotage import each_kill, kills
from tests.laws.worlds import Down
from tests.regressions.sending import retrying

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from finresilience import TripRule
    from finresilience.cores.window import Tally

Patch = pytest.MonkeyPatch
TWICE_IS_ONCE = Effect.IDEMPOTENT_BY_NATURE  # so that it is retried, and a note is left on its error


class Lenient(Exception):
    """Whatever it is asked for, it has: nothing."""

    def __getattr__(self, name: str) -> None:
        if not name.startswith("__cause"):
            return


class Hostile(Exception):
    def __getattr__(self, name: str) -> None:
        raise KeyError(name)


class Frozen(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("frozen")

    __notes__ = ("mine",)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride] - as somebody may


class Faceless(Exception):
    @property
    def __dict__(self) -> Any:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride] - as somebody may
        raise KeyError


@pytest.mark.parametrize("effect", [Effect.UNSAFE, TWICE_IS_ONCE])
@pytest.mark.parametrize("kind", [Lenient, Hostile, Frozen, Faceless])
def test_an_error_that_cannot_be_touched_is_still_unknown(kind: type[Exception], effect: Effect) -> None:
    law_what_cannot_be_touched_is_unknown(kind, effect)


def law_what_cannot_be_touched_is_unknown(kind: type[Exception], effect: Effect) -> None:
    def charge() -> None:
        raise kind

    assert isinstance(retrying(effect=effect).outcome(charge), Unknown)


@contextmanager
def _let_out(*_: object) -> Generator[None]:
    try:
        yield
    except Exception as error:
        raise AssertionError from error


def an_error_takes_a_note_whether_it_will_or_not(patch: Patch) -> None:
    patch.setattr(ending, "suppress", _let_out)


def an_error_is_looked_into_whether_it_will_or_not(patch: Patch) -> None:
    def tries_of(error: Exception) -> tuple[int, int]:
        with _let_out():
            tried: tuple[int, int] = error.__dict__.get(calls.TRIES, (1, 0))
            return tried

    patch.setattr(calls, "_tries_of", tries_of)


def attributes_are_simply_read(patch: Patch) -> None:
    """And what cannot be judged then is the worst that it may be: an error that may be repeated, an answer that tells nothing."""
    judged, asked = ErrorClassifier._judged, ErrorClassifier._asked

    def error(self: ErrorClassifier, error: BaseException) -> Verdict:
        try:
            return judged(self, error)
        except KeyError:
            return Verdict(RETRYABLE)

    def value(self: ErrorClassifier, value: object) -> Verdict | None:
        try:
            return asked(self, value)
        except KeyError:
            return Verdict(UNKNOWN)

    def attribute(subject: object, name: str) -> object:
        return getattr(subject, name, None)

    patch.setattr(extract, "attribute", attribute)
    patch.setattr(ErrorClassifier, "error", error)
    patch.setattr(ErrorClassifier, "value", value)


class HostileAnswer:
    def __getattr__(self, name: str) -> None:
        raise KeyError(name)


def test_an_answer_that_cannot_be_asked_is_still_the_answer() -> None:
    answer = HostileAnswer()
    assert retrying().call(lambda: answer) is answer


def test_an_outcome_as_a_value_is_judged_like_any_other() -> None:
    inner = Ok("receipt")
    assert retrying(classify=ErrorClassifier({Ok: UNKNOWN})).outcome(lambda: inner).__class__ is Unknown


def an_outcome_is_passed_on_as_it_is(patch: Patch) -> None:
    judge = ErrorClassifier.value

    def value(self: ErrorClassifier, value: object) -> Verdict | None:
        return None if isinstance(value, Ok) else judge(self, value)

    patch.setattr(ErrorClassifier, "value", value)


def test_a_rule_of_the_callers_own_that_raises_costs_nobody_a_result() -> None:
    class Broken:
        minimum_calls = 1

        def trips(self, _: object) -> str | None:
            raise Down

    breaker = CircuitBreaker("acme", rules=[Broken()], listeners=[])
    assert breaker.call(lambda: {"paid": True}) == {"paid": True}


def a_rule_is_simply_asked(patch: Patch) -> None:
    def asked(rule: TripRule, tally: Tally) -> str | None:
        return rule.trips(tally)

    patch.setattr(cores, "_asked", asked)


def chained(many: int) -> Exception:
    error: Exception = ValueError()
    for _ in range(many):
        further = ValueError()
        further.__context__ = error
        error = further
    return error


def circular() -> Exception:
    first, second = ValueError(), ValueError()
    first.__context__, second.__context__ = second, first
    first.__cause__, second.__cause__ = second, first
    return first


@pytest.mark.parametrize("made", [lambda: chained(100), circular], ids=["long", "circular"])
def test_a_chain_of_errors_beyond_all_measure_ends_somewhere(made: Callable[[], Exception]) -> None:
    def charge() -> None:
        raise made()

    assert isinstance(retrying().outcome(charge), Unknown)


@each_kill(
    *(
        (an_error_takes_a_note_whether_it_will_or_not, law_what_cannot_be_touched_is_unknown, kind, TWICE_IS_ONCE)
        for kind in (Frozen, Faceless)
    ),
    (an_error_is_looked_into_whether_it_will_or_not, law_what_cannot_be_touched_is_unknown, Faceless, Effect.UNSAFE),
    (attributes_are_simply_read, law_what_cannot_be_touched_is_unknown, Hostile, Effect.UNSAFE),
    (attributes_are_simply_read, test_an_answer_that_cannot_be_asked_is_still_the_answer),
    (an_outcome_is_passed_on_as_it_is, test_an_outcome_as_a_value_is_judged_like_any_other),
    (a_rule_is_simply_asked, test_a_rule_of_the_callers_own_that_raises_costs_nobody_a_result),
)
def test_its_saboteur_is_found_out(row: tuple[Any, ...]) -> None:
    kills(*row)
