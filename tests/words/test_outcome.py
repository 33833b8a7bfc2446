"""How a call can end, as a value: nothing is built before somebody looks, and nothing is shown that a log must not have."""

from __future__ import annotations

import gc
import pickle
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from finresilience import Constant, ErrorClassifier, Pipeline, Retry
from finresilience.errors import CircuitOpenError, DeadlineExceededError, RefusedError, ResultError, UnknownOutcomeError
from finresilience.outcome import (
    NON_RETRYABLE,
    Declined,
    Failed,
    Found,
    NotFound,
    Ok,
    Outcome,
    Refused,
    Stale,
    StillUnknown,
    Unknown,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "4111111111111111"
FACTS = ("acme", "open", 3.0, 7, "AcmeDown")


class AcmeError(Exception):
    pass


class Receipt(str):
    """An answer whose text is nobody's business."""

    __slots__ = ()


def doubt(**more: Any) -> UnknownOutcomeError:
    return UnknownOutcomeError("acme", attempts=1, happened="no answer", held_back="Nothing was retried.", **more)


def ends(secret: str = SECRET) -> list[Outcome[Any]]:
    error, answer = AcmeError(secret), Receipt(secret)
    return [
        Ok(answer),
        Declined(error),
        Declined(value=answer),
        Failed(error),
        Failed(value=answer),
        Unknown(error),
        Unknown(lambda: doubt(reference=secret, value=answer)),
        Refused(DeadlineExceededError("acme", 0.1)),
        Refused(CircuitOpenError, FACTS),
    ]


def law_no_end_shows_a_secret(show: Callable[[Any], str]) -> None:
    for end in ends():
        assert SECRET not in show(end)


def test_no_end_shows_a_secret() -> None:
    law_no_end_shows_a_secret(repr)
    law_no_end_shows_a_secret(str)
    law_no_end_shows_a_secret(lambda end: f"{[end]}")
    law_no_end_shows_a_secret(lambda _: repr(Found(Receipt(SECRET))))


def test_the_law_catches_one_that_shows_what_it_holds() -> None:
    with pytest.raises(AssertionError):
        law_no_end_shows_a_secret(lambda end: f"<Ok {end.value!r}>")


def test_an_end_shows_its_kind_and_the_class_of_what_it_holds() -> None:
    assert [repr(end) for end in ends()] == [
        "<Ok Receipt>",
        "<Declined AcmeError>",
        "<Declined Receipt>",
        "<Failed AcmeError>",
        "<Failed Receipt>",
        "<Unknown AcmeError>",
        "<Unknown UnknownOutcomeError>",
        "<Refused DeadlineExceededError>",
        "<Refused CircuitOpenError>",
    ]


def test_an_end_has_slots_and_no_more() -> None:
    everything: list[object] = [*ends(), NotFound(), StillUnknown(), Found(1)]
    assert not any(hasattr(end, "__dict__") for end in everything)


# ---------------------------------------------------------------- unwrap


def test_an_ok_unwraps_to_its_very_answer() -> None:
    answer = Receipt("paid")
    assert Ok(answer).unwrap() is answer
    assert Ok(None).unwrap() is None


@pytest.mark.parametrize("kind", [Declined, Failed])
def test_an_error_unwraps_by_being_raised_as_it_is(kind: Any) -> None:
    error = AcmeError()
    with pytest.raises(AcmeError) as raised:
        kind(error).unwrap()
    assert raised.value is error


@pytest.mark.parametrize("kind", [Declined, Failed])
def test_an_answer_unwraps_as_it_came_even_after_somebody_asked_for_its_error(kind: Any) -> None:
    answer = Receipt("no")
    end = kind(value=answer, name="acme")
    assert end.unwrap() is answer
    error = end.error
    assert isinstance(error, ResultError)
    assert (error.name, error.value) == ("acme", answer)
    assert end.error is error
    assert end.unwrap() is answer
    assert (end.value, repr(end)) == (answer, f"<{kind.__name__} ResultError>")


def law_an_error_is_never_unwrapped_to_an_answer(kind: Any) -> None:
    for error in (AcmeError(), ResultError("acme", {"status": "declined"}), ResultError("acme", None)):
        end = kind(error)
        assert end.error is error
        with pytest.raises(type(error)) as raised:
            end.unwrap()
        assert raised.value is error


@pytest.mark.parametrize("kind", [Declined, Failed, Unknown])
def test_an_error_is_never_unwrapped_to_an_answer(kind: Any) -> None:
    law_an_error_is_never_unwrapped_to_an_answer(kind)


class Presuming:
    """The saboteur: it takes every ResultError for one that it built itself."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def unwrap(self) -> None:
        if not isinstance(self.error, ResultError):
            raise self.error


def test_the_law_catches_one_that_presumes() -> None:
    with pytest.raises(pytest.fail.Exception):
        law_an_error_is_never_unwrapped_to_an_answer(Presuming)


def test_a_decline_raised_inside_another_pipeline_is_no_success_outside() -> None:
    rules = ErrorClassifier({dict: NON_RETRYABLE})
    inner, outer = (Pipeline(name, Retry(attempts=2, backoff=Constant(0)), classify=rules, listeners=[]) for name in "io")

    def charge() -> object:
        outcome = inner.outcome(lambda: {"status": "declined"})
        if isinstance(outcome, Declined):
            raise outcome.error
        return "paid"

    assert isinstance(outer.outcome(charge), Declined)
    with pytest.raises(ResultError, match="i was answered with a dict that is not a success"):
        outer.call(charge)


def test_a_refusal_and_a_doubt_unwrap_by_being_raised() -> None:
    with pytest.raises(CircuitOpenError, match="acme was not called"):
        Refused(CircuitOpenError, FACTS).unwrap()
    with pytest.raises(UnknownOutcomeError, match="acme may have happened"):
        Unknown(doubt).unwrap()


@pytest.mark.parametrize("make", [Declined, Failed, Unknown, Refused])
def test_what_was_raised_does_not_keep_its_end_alive(make: Any) -> None:
    """Its traceback keeps the frame of `unwrap`, which must not keep the end: that would be a circle, and hold the call's data."""
    error = DeadlineExceededError("acme", 0.1)
    gone = weakref.ref(error)
    gc.disable()
    try:
        try:
            make(error).unwrap()
        except DeadlineExceededError as raised:
            assert raised is error
        del error
        assert gone() is None
    finally:
        gc.enable()


# ---------------------------------------------------------------- laziness


def test_a_doubt_is_built_once_and_only_when_somebody_looks() -> None:
    built: list[UnknownOutcomeError] = []

    def build() -> UnknownOutcomeError:
        built.append(doubt())
        return built[-1]

    end = Unknown(build)
    assert built == []
    assert end.error is end.error is built[0]
    with pytest.raises(UnknownOutcomeError):
        end.unwrap()
    assert len(built) == 1


def test_a_refusal_is_built_once_and_only_when_somebody_looks() -> None:
    built: list[tuple[object, ...]] = []

    class Refusal(RefusedError):
        def __init__(self, *facts: object) -> None:
            super().__init__(*facts)
            built.append(facts)

    end = Refused(Refusal, ("acme", 1))
    assert built == []
    assert end.error is end.error
    assert built == [("acme", 1)]


def test_the_error_of_an_answer_is_built_once_and_only_when_somebody_looks() -> None:
    end: Declined[str] = Declined(value="no")
    assert repr(end) == "<Declined str>"
    assert end.error is end.error
    assert repr(end) == "<Declined ResultError>"


# ---------------------------------------------------------------- match


def told(end: Outcome[str]) -> str:
    match end:
        case Ok(value):
            return f"ok {value}"
        case Declined(error):
            return f"declined {type(error).__name__}"
        case Failed(error):
            return f"failed {type(error).__name__}"
        case Unknown(error):
            return f"unknown {type(error).__name__}"
        case Refused(error):
            return f"refused {type(error).__name__}"


def test_an_end_can_be_matched_and_nothing_is_left_over() -> None:
    assert [told(end) for end in ends("x")] == [
        "ok x",
        "declined AcmeError",
        "declined ResultError",
        "failed AcmeError",
        "failed ResultError",
        "unknown AcmeError",
        "unknown UnknownOutcomeError",
        "refused DeadlineExceededError",
        "refused CircuitOpenError",
    ]


def test_an_answer_to_an_inquiry_can_be_matched() -> None:
    match Found("receipt"):
        case Found(value):
            assert value == "receipt"
    assert repr(Found(1)) == "<Found int>"
    assert [repr(NotFound()), repr(StillUnknown())] == ["NotFound()", "StillUnknown()"]


def test_an_end_is_one_of_five_and_a_verdict_is_none() -> None:
    kinds = {type(end) for end in ends()}
    assert kinds == {Ok, Declined, Failed, Unknown, Refused}
    assert not isinstance(Verdict(NON_RETRYABLE), tuple(kinds))


def test_an_end_may_travel() -> None:
    for end in (Ok("paid"), Declined(AcmeError("no")), Declined(value="no", name="acme"), Refused(CircuitOpenError, FACTS)):
        travelled = pickle.loads(pickle.dumps(end))
        assert repr(travelled) == repr(end)
    with pytest.raises(CircuitOpenError):
        pickle.loads(pickle.dumps(Refused(CircuitOpenError, FACTS))).unwrap()


def test_two_marks_of_a_fallback_that_say_the_same_are_the_same() -> None:
    assert {Stale(1.5, "Failed Down"), Stale(1.5, "Failed Down")} == {Stale(1.5, "Failed Down")}
    assert len({Stale(1.5, "Failed Down"), Stale(0.0, "Failed Down"), Stale(1.5, "Refused Down")}) == 3
    assert Stale(1.5, "Failed Down") != (1.5, "Failed Down")
